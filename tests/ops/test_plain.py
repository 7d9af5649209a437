"""The switch that turns fast paths off."""

import subprocess
import sys

import keras
import numpy as np
import pytest
from helpers import environment, to_numpy
from keras import ops

from keras_vit import layers
from keras_vit.ops import attention, plain
from keras_vit.ops.gelu import gelu_tanh
from keras_vit.ops.linear import linear


@pytest.mark.parametrize(
    "value, expected", [("1", True), ("0", False), ("", False)]
)
def test_the_variable_is_read_at_import(value, expected):
    code = "from keras_vit.ops import plain; print(plain.PLAIN_OPS)"
    run = subprocess.run(
        [sys.executable, "-c", code],
        env=environment(keras.backend.backend(), KERAS_VIT_PLAIN_OPS=value),
        check=True,
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert run.stdout.strip() == str(expected)


def test_it_changes_no_result(rng, monkeypatch):
    block = layers.TransformerBlock(2, 16)
    tokens = rng.normal(size=(2, 5, 8)).astype("float32")
    fast = to_numpy(block(tokens))
    monkeypatch.setattr(plain, "PLAIN_OPS", True)
    np.testing.assert_allclose(to_numpy(block(tokens)), fast, atol=1e-5)


def test_layers_and_the_plain_formula_are_called_themselves(rng, monkeypatch):
    x = ops.convert_to_tensor(rng.normal(size=(2, 3, 8)), "float32")
    layer = keras.layers.Dense(4)
    layer.build(x.shape)
    monkeypatch.setattr(plain, "PLAIN_OPS", True)
    calls = []
    call = layer.call
    monkeypatch.setattr(layer, "call", lambda x: calls.append(x) or call(x))
    linear(layer, x)
    assert len(calls) == 1
    assert not attention.has_fused_kernel(x[:, :, None])


def test_it_calls_no_kernel_of_pytorch(monkeypatch):
    if keras.backend.backend() != "torch":
        pytest.skip("PyTorch's kernels")
    from keras_vit.ops import on_torch

    x = ops.ones((2, 8))
    assert on_torch.suit(x)
    monkeypatch.setattr(plain, "PLAIN_OPS", True)
    assert not on_torch.suit(x)


def test_it_compiles_nothing_for_tensorflow(monkeypatch):
    if keras.backend.backend() != "tensorflow":
        pytest.skip("TensorFlow's compiler")
    import tensorflow as tf

    def kernels():
        shape = tf.TensorSpec((None, 4))
        graph = tf.function(gelu_tanh).get_concrete_function(shape).graph
        nodes = graph.as_graph_def().node
        return sum(n.attr["_XlaMustCompile"].b for n in nodes)

    assert kernels() == 1
    monkeypatch.setattr(plain, "PLAIN_OPS", True)
    assert kernels() == 0
