"""Known answers of the ways from tokens to one vector."""

import numpy as np
from helpers import randomize, to_numpy

from keras_vit import layers


def test_pooling_by_hand():
    tokens = np.array([[[1, 2], [3, 4], [5, 6], [7, 8]]], "float32")
    pool = layers.TokenPooling()
    np.testing.assert_array_equal(to_numpy(pool(tokens)), [[1, 2]])
    pool = layers.TokenPooling(2)
    np.testing.assert_array_equal(to_numpy(pool(tokens)), [[5, 6]])
    pool = layers.AveragePooling()
    np.testing.assert_array_equal(to_numpy(pool(tokens)), [[4, 5]])
    pool = layers.AveragePooling(num_prefix_tokens=2)
    np.testing.assert_array_equal(to_numpy(pool(tokens)), [[6, 7]])


def test_attention_pooling_is_its_parts(rng):
    tokens = rng.normal(size=(3, 5, 8)).astype("float32")
    pool = layers.AttentionPooling(2, 16)
    pool(tokens)
    randomize(pool, rng)
    probe = np.repeat(to_numpy(pool.probe), 3, axis=0)
    x = pool.attention(tokens, queries=probe)
    expected = x + pool.mlp(pool.norm(x))
    np.testing.assert_allclose(
        to_numpy(pool(tokens)), to_numpy(expected)[:, 0], atol=1e-6
    )


def test_attention_pooling_does_not_care_about_order(rng):
    tokens = rng.normal(size=(2, 5, 8)).astype("float32")
    pool = layers.AttentionPooling(2, 16)
    np.testing.assert_allclose(
        to_numpy(pool(tokens)), to_numpy(pool(tokens[:, ::-1])), atol=1e-6
    )
