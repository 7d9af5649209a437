"""Matrix products and GELU on their fast paths, against the plain formulas."""

import math

import keras
import numpy as np
import pytest
from helpers import to_numpy, value_and_gradients
from keras import ops

from keras_vit.ops.gelu import gelu_exact, gelu_tanh
from keras_vit.ops.linear import linear
from keras_vit.ops.on_tensorflow import fused

# Half a unit in the last place of numbers around 1.
UNIT = {"float32": 2.0**-24, "bfloat16": 2.0**-8}


def plain_tanh(x):
    """GELU in the tanh form and its derivative, in float64."""
    root = math.sqrt(2 / math.pi)
    tanh = np.tanh(root * (x + 0.044715 * x**3))
    slope = root * (1 + 3 * 0.044715 * x**2)
    return (
        x / 2 * (1 + tanh),
        (1 + tanh) / 2 + x / 2 * (1 - tanh**2) * slope,
    )


def plain_exact(x):
    """GELU by the normal distribution and its density, in float64."""
    distribution = np.array([math.erfc(-y / math.sqrt(2)) / 2 for y in x])
    density = np.exp(-(x**2) / 2) / math.sqrt(2 * math.pi)
    return x * distribution, distribution + x * density


def as_in_fit(function):
    """TensorFlow compiles what it does in a graph, and only that."""
    if keras.backend.backend() != "tensorflow":
        return function
    import tensorflow as tf

    return tf.function(function)


@pytest.mark.parametrize("in_graph", [False, True])
@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
@pytest.mark.parametrize(
    "gelu, plain", [(gelu_tanh, plain_tanh), (gelu_exact, plain_exact)]
)
def test_gelu_and_its_slope_equal_the_formula(
    gelu, plain, dtype, training, in_graph
):
    x = ops.convert_to_tensor(np.linspace(-6, 6, 241), dtype)
    exact = to_numpy(ops.cast(x, "float32")).astype("float64")

    def both(x):
        function = lambda x: gelu(x, training)  # noqa: E731
        return value_and_gradients(function, [x], ops.ones_like(x))

    actual = as_in_fit(both)(x) if in_graph else both(x)
    for got, want in zip(actual, plain(exact)):
        assert keras.backend.standardize_dtype(got.dtype) == dtype
        got = to_numpy(ops.cast(got, "float32"))
        # A dozen roundings of terms of the size of x, at most 6; one of the
        # argument of the sigmoid moves it by at most x / 4 of that again.
        bound = 12 * np.maximum(1, np.abs(exact))
        if not training:
            # Automatic: 1 - tanh^2 is off by two units, times x / 2 and the
            # slope of what stands in tanh, at most 1 + x^2 / 8.
            bound += np.abs(exact) * (1 + exact**2 / 8)
        bound *= UNIT[dtype]
        assert (np.abs(got - want) <= bound).all()


def test_tensorflow_compiles_chains_in_graphs_alone(monkeypatch):
    """And leaves them as they are where it has no compiler, or eagerly."""
    if keras.backend.backend() != "tensorflow":
        pytest.skip("the other backends have kernels or compile by themselves")
    import tensorflow as tf

    def kernels():
        """How many compiled functions a new graph of the chain has."""
        chain = fused(lambda x: x * x + 1)
        shape = tf.TensorSpec((None, 4))
        graph = tf.function(chain).get_concrete_function(shape).graph
        nodes = graph.as_graph_def().node
        return sum(n.attr["_XlaMustCompile"].b for n in nodes)

    assert kernels() == 1
    x = ops.convert_to_tensor([[1.0, 2.0, 3.0, 4.0]])
    np.testing.assert_array_equal(
        to_numpy(tf.function(fused(lambda x: x * x + 1))(x)), [[2, 5, 10, 17]]
    )
    monkeypatch.setattr(
        "keras_vit.ops.on_tensorflow._can_compile", lambda: False
    )
    assert kernels() == 0


def dense(dtype):
    return keras.layers.Dense(6, bias_initializer="normal", dtype=dtype)


def heads_out(dtype):
    return keras.layers.EinsumDense(
        "btd,dhk->bthk", (None, 2, 3), bias_axes="hk", dtype=dtype
    )


def heads_in(dtype):
    return keras.layers.EinsumDense(
        "bthk,hkd->btd", (None, 6), bias_axes="d", dtype=dtype
    )


def without_bias(dtype):
    return keras.layers.EinsumDense("btd,dhk->bthk", (None, 2, 3), dtype=dtype)


@pytest.mark.parametrize("make", [dense, heads_out, heads_in, without_bias])
@pytest.mark.parametrize("policy", ["float32", "mixed_bfloat16"])
@pytest.mark.parametrize("activation", [None, lambda x, training: ops.relu(x)])
def test_linear_equals_the_sum_of_products(make, policy, activation, rng):
    layer = make(policy)
    shape = (3, 5, 2, 4) if make is heads_in else (3, 5, 8)
    layer.build(shape)
    for weight in layer.weights:
        weight.assign(rng.normal(0, 0.5, weight.shape))
    low = layer.compute_dtype
    x = ops.convert_to_tensor(rng.normal(0, 1, shape), low)

    class Around(keras.layers.Layer):
        """As in attention: a layer whose dtype policy is that of its parts."""

        def call(self, x):
            return linear(layer, x, activation)

    actual = Around(dtype=policy)(x)

    def as_float64(tensor):
        tensor = ops.cast(ops.cast(tensor, low), "float32")
        return to_numpy(tensor).astype("float64")

    kernel = as_float64(layer.kernel).reshape(8, 6)
    expected = as_float64(x).reshape(3, 5, 8) @ kernel
    if layer.bias is not None:
        expected += as_float64(layer.bias).reshape(6)
    if activation is not None:
        expected = np.maximum(expected, 0)
    assert keras.backend.standardize_dtype(actual.dtype) == low
    actual = as_float64(actual)
    # Eight products of numbers around 1 are added up and rounded.
    bound = 16 * UNIT[low] * np.abs(expected).max()
    np.testing.assert_allclose(
        actual.reshape(3, 5, 6), expected, rtol=0, atol=bound
    )


def test_quantised_and_adapted_layers_are_called_themselves(rng):
    """int8 rounds to 255 levels; LoRA adds `A B` to the kernel."""
    x = ops.convert_to_tensor(rng.normal(0, 1, (3, 5, 8)), "float32")
    for change in ("quantize", "enable_lora"):
        layer = heads_out("float32")
        layer.build((3, 5, 8))
        getattr(layer, change)("int8" if change == "quantize" else 2)
        for weight in layer.trainable_weights:
            weight.assign(rng.normal(0, 0.5, weight.shape))
        np.testing.assert_array_equal(
            to_numpy(linear(layer, x)), to_numpy(layer(x))
        )
