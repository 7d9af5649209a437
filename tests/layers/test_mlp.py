"""The MLP against its formula."""

import math

import numpy as np
import pytest
from helpers import randomize, to_numpy

from keras_vit import layers


def gelu_tanh(x):
    return 0.5 * x * (1 + np.tanh(np.sqrt(2 / np.pi) * (x + 0.044715 * x**3)))


def gelu(x):
    return 0.5 * x * (1 + np.vectorize(math.erf)(x / math.sqrt(2)))


def silu(x):
    return x / (1 + np.exp(-x))


@pytest.mark.parametrize("activation", ["gelu_tanh", "gelu", "swiglu"])
def test_mlp_is_the_formula(activation, rng):
    x = rng.normal(size=(2, 3, 4)).astype("float32")
    mlp = layers.MLP(5, activation=activation)
    mlp(x)
    randomize(mlp, rng, scale=1)

    def dense(layer, x):
        return x @ to_numpy(layer.kernel) + to_numpy(layer.bias)

    hidden = dense(mlp.hidden, x)
    if activation == "swiglu":
        inner = silu(dense(mlp.gate, x)) * hidden
    else:
        inner = {"gelu": gelu, "gelu_tanh": gelu_tanh}[activation](hidden)
    np.testing.assert_allclose(
        to_numpy(mlp(x)), dense(mlp.output_projection, inner), atol=1e-5
    )
