"""Relative attention (appendix D.4) against its double loop."""

import numpy as np
import pytest
from helpers import randomize, to_numpy

from keras_vit import layers
from keras_vit.ops.positions import by_key


def build(rng, num_tokens=5, **options):
    attention = layers.RelativeAttention(2, **options)
    attention(np.zeros((1, num_tokens, 8), "float32"))
    randomize(attention, rng, scale=0.5)
    return attention


def test_by_key_picks_the_offset_of_each_pair():
    for tokens in (1, 2, 5):
        offsets = np.arange(2 * tokens - 1) - (tokens - 1)
        places = np.arange(tokens)[:, None]
        logits = (100 * places + offsets)[None, None]
        expected = 100 * places + np.arange(tokens) - places
        given = to_numpy(by_key(logits.astype("float32")))
        np.testing.assert_array_equal(given[0, 0], expected)


def test_relative_attention_is_the_formula(rng):
    tokens = rng.normal(size=(3, 5, 8)).astype("float32")
    attention = build(rng, use_bias=False, head_dim=3)
    query, key, value, output = (
        to_numpy(layer.kernel)
        for layer in (
            attention.query,
            attention.key,
            attention.value,
            attention.output_projection,
        )
    )
    q, k, v = (
        np.einsum("btd,dhk->bhtk", tokens, x) for x in (query, key, value)
    )
    table = to_numpy(attention.offset_table)  # row 0: offset -4
    assert table.shape == (9, 3)
    logits = np.empty((3, 2, 5, 5))
    for example, head, t, s in np.ndindex(logits.shape):
        content = q[example, head, t] @ k[example, head, s]
        place = q[example, head, t] @ table[(t - s) + 4]
        logits[example, head, t, s] = (content + place) / np.sqrt(3)
    shares = np.exp(logits)
    shares /= shares.sum(-1, keepdims=True)
    outputs, scores = attention(tokens, return_attention_scores=True)
    np.testing.assert_allclose(to_numpy(scores), shares, atol=1e-5)
    heads = np.einsum("bhts,bhsk->bthk", shares, v)
    expected = np.einsum("bthk,hkd->btd", heads, output)
    expected += to_numpy(attention.output_projection.bias)
    np.testing.assert_allclose(to_numpy(outputs), expected, atol=1e-5)
    np.testing.assert_allclose(to_numpy(attention(tokens)), expected, atol=1e-5)


def test_zero_table_is_self_attention(rng):
    tokens = rng.normal(size=(2, 5, 8)).astype("float32")
    relative = build(rng, qk_norm=True)
    relative.offset_table.assign(np.zeros((9, 4)))
    full = layers.SelfAttention(2, qk_norm=True)
    full(tokens)
    values = {
        w.path.split("/", 1)[1]: to_numpy(w)
        for w in relative.weights
        if w is not relative.offset_table
    }
    # The same weights under the same paths, and one more.
    assert len(values) == len(full.weights)
    for weight in full.weights:
        weight.assign(values[weight.path.split("/", 1)[1]])
    np.testing.assert_allclose(
        to_numpy(relative(tokens)), to_numpy(full(tokens)), atol=1e-6
    )


def test_places_matter_through_offsets_alone(rng):
    """With equal tokens, a pair's share against one's own tells its offset."""
    tokens = np.repeat(rng.normal(size=(1, 1, 8)), 6, axis=1)
    attention = build(rng, num_tokens=6)
    _, scores = attention(
        tokens.astype("float32"), return_attention_scores=True
    )
    scores = to_numpy(scores)[0]
    own = np.einsum("htt->ht", scores)[:, :, None]
    ratios = scores / own
    assert abs(ratios - 1).max() > 0.01
    np.testing.assert_allclose(
        ratios[:, 1:, 1:], ratios[:, :-1, :-1], rtol=1e-5
    )


def test_start_of_the_table_is_that_of_positions():
    attention = layers.RelativeAttention(2)
    attention(np.zeros((1, 50, 128), "float32"))
    table = to_numpy(attention.offset_table)
    assert attention.offset_table.name == "offset_table"
    assert table.shape == (99, 64)
    assert abs(table.std() - 0.02) < 0.001  # 6,336 draws: error 0.0002


def test_number_of_tokens_is_that_of_the_table():
    with pytest.raises(ValueError, match=r"must be known.*\(None, None, 8\)"):
        layers.RelativeAttention(2).build((None, None, 8))
    attention = layers.RelativeAttention(2)
    attention(np.zeros((1, 5, 8), "float32"))
    with pytest.raises(ValueError, match="takes 5 tokens.*Received: shape="):
        attention(np.zeros((1, 6, 8), "float32"))
    with pytest.raises(ValueError, match="takes 5 tokens.*Received: shape="):
        attention(
            np.zeros((1, 5, 8), "float32"),
            queries=np.zeros((1, 1, 8), "float32"),
        )
