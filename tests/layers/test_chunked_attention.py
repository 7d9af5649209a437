"""Attention in blocks of queries equals the formula, gradients as well."""

import keras
import numpy as np
import pytest
from conftest import to_numpy
from keras import ops

from keras_vit.layers.chunked_attention import chunked_attention

SHAPE = (2, 7, 3, 4)


def plain(query, key, value, scale):
    logits = np.einsum("bthk,bshk->bhts", query, key) * scale
    scores = np.exp(logits - logits.max(axis=-1, keepdims=True))
    scores /= scores.sum(axis=-1, keepdims=True)
    return np.einsum("bhts,bshk->bthk", scores, value)


# One query at a time, blocks that do not divide 7, one block for all.
@pytest.mark.parametrize("block_size", [1, 2, 3, 7, 100])
def test_equals_the_formula(block_size, rng):
    query, key, value = (
        rng.normal(size=shape).astype("float32")
        for shape in (SHAPE, (2, 5, 3, 4), (2, 5, 3, 4))
    )
    x = chunked_attention(
        *map(ops.convert_to_tensor, (query, key, value)), 0.5, block_size
    )
    expected = plain(query, key, value, 0.5)
    np.testing.assert_allclose(to_numpy(x), expected, atol=1e-6)


class Attention(keras.layers.Layer):
    """Queries that are weights, so that training shows their gradient."""

    def build(self, shape):
        self.query = self.add_weight(name="query", shape=shape[1:])

    def call(self, x):
        query = ops.broadcast_to(self.query, ops.shape(x))
        return chunked_attention(query, x, x, 0.5, block_size=2)


def test_gradient_is_that_of_the_formula(rng):
    x = rng.normal(size=SHAPE).astype("float32")
    inputs = keras.Input(SHAPE[1:])
    model = keras.Model(inputs, Attention()(inputs))
    start = rng.normal(size=SHAPE[1:])
    model.set_weights([start])

    def loss(query):
        return np.mean(plain(np.stack([query] * 2), x, x, 0.5) ** 2)

    # A step of SGD with rate 1 goes by the gradient.
    model.compile(keras.optimizers.SGD(1.0), "mse")
    model.train_on_batch(x, np.zeros(SHAPE, "float32"))
    moved = start - model.get_weights()[0]
    step = 1e-5
    for place in [(0, 0, 0), (3, 1, 2), (6, 2, 3)]:
        nudge = np.zeros(SHAPE[1:])
        nudge[place] = step
        slope = (loss(start + nudge) - loss(start - nudge)) / (2 * step)
        assert abs(slope) > 1e-6
        np.testing.assert_allclose(moved[place], slope, rtol=1e-3, atol=1e-7)
