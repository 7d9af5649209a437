"""Attention in blocks of queries equals the formula, gradients as well."""

import keras
import numpy as np
import pytest
from helpers import to_numpy
from keras import ops

from keras_vit.ops.chunked_attention import chunked_attention

SHAPE = (2, 7, 3, 4)


def plain(query, key, value, bias, scale):
    logits = np.einsum("bthk,bshk->bhts", query, key) * scale + bias
    scores = np.exp(logits - logits.max(axis=-1, keepdims=True))
    scores /= scores.sum(axis=-1, keepdims=True)
    return np.einsum("bhts,bshk->bthk", scores, value)


# One query at a time, blocks that do not divide 7, one block for all.
@pytest.mark.parametrize("block_size", [1, 2, 3, 7, 100])
def test_equals_the_formula(block_size, rng):
    query, key, value, bias = (
        rng.normal(size=shape).astype("float32")
        for shape in (SHAPE, (2, 5, 3, 4), (2, 5, 3, 4), (3, 7, 5))
    )
    tensors = [ops.convert_to_tensor(x) for x in (query, key, value)]
    x = chunked_attention(*tensors, 0.5, block_size)
    expected = plain(query, key, value, 0, 0.5)
    np.testing.assert_allclose(to_numpy(x), expected, atol=1e-6)
    x = chunked_attention(
        *tensors, 0.5, block_size, bias=ops.convert_to_tensor(bias)
    )
    expected = plain(query, key, value, bias, 0.5)
    np.testing.assert_allclose(to_numpy(x), expected, atol=1e-6)


class Attention(keras.layers.Layer):
    """All four are weights, so that training shows their gradients."""

    def build(self, shape):
        self.parts = [
            self.add_weight(name=name, shape=(tokens, 3, 4))
            for name, tokens in (("query", 7), ("key", 5), ("value", 5))
        ]
        self.bias = self.add_weight(name="bias", shape=(3, 7, 5))

    def call(self, x):
        batch = ops.shape(x)[0]
        parts = [
            ops.broadcast_to(part, (batch, *part.shape)) for part in self.parts
        ]
        bias = ops.convert_to_tensor(self.bias)
        return chunked_attention(*parts, 0.5, block_size=2, bias=bias)


def test_gradients_are_those_of_the_formula(rng):
    inputs = keras.Input((1,))
    model = keras.Model(inputs, Attention()(inputs))
    start = [rng.normal(size=part.shape) for part in model.weights]
    model.set_weights(start)
    targets = rng.normal(size=SHAPE)

    def loss(parts):
        *parts, bias = parts
        outputs = plain(*(np.stack([part] * 2) for part in parts), bias, 0.5)
        return np.mean((outputs - targets) ** 2)

    # A step of SGD with rate 1 goes by the gradient.
    model.compile(keras.optimizers.SGD(1.0), "mse")
    model.train_on_batch(np.zeros((2, 1)), targets)
    step = 1e-5
    for part, after in enumerate(model.get_weights()):
        for place in [(0, 0, 0), (2, 1, 2), (2, 2, 3)]:
            nudge = [np.zeros_like(weights) for weights in start]
            nudge[part][place] = step
            up = loss([w + n for w, n in zip(start, nudge)])
            down = loss([w - n for w, n in zip(start, nudge)])
            slope = (up - down) / (2 * step)
            assert abs(slope) > 1e-6
            np.testing.assert_allclose(
                start[part][place] - after[place], slope, rtol=1e-3, atol=1e-7
            )
