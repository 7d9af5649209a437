"""Biases by offset against their double loop."""

import numpy as np
import pytest
from helpers import randomize, to_numpy

from keras_vit import layers

ROWS, COLUMNS = GRID = (2, 3)


def build(layer, rng, prefix, **options):
    attention = layer(2, GRID, prefix, **options)
    attention(np.zeros((1, prefix + ROWS * COLUMNS, 8), "float32"))
    randomize(attention, rng, scale=0.5)
    return attention


def of_table(attention):
    """The bias of two cells by the table, head by head."""
    table = to_numpy(attention.bias_table)
    grid = table[: 3 * 5].reshape(3, 5, 2)
    extra = table[3 * 5 :]

    def bias(query, key):
        if query is None:
            return extra[2 if key is None else 0]
        if key is None:
            return extra[1]
        down, across = query[0] - key[0], query[1] - key[1]
        return grid[down + ROWS - 1, across + COLUMNS - 1]

    return bias


def of_mlp(attention):
    """The same by the formula of timm."""
    first, second = attention.bias_hidden, attention.bias_output

    def bias(query, key):
        if query is None or key is None:
            return np.zeros(2)
        offset = np.subtract(query, key).astype("float64")
        u = np.sign(offset) * np.log(1 + np.abs(offset))
        u = u @ to_numpy(first.kernel) + to_numpy(first.bias)
        return np.maximum(u, 0) @ to_numpy(second.kernel) + to_numpy(
            second.bias
        )

    return bias


@pytest.mark.parametrize(
    "layer, rule",
    [
        (layers.RelativeBiasAttention, of_table),
        (layers.RelativeMLPAttention, of_mlp),
    ],
)
@pytest.mark.parametrize("prefix", [0, 1, 2])
def test_the_formula(layer, rule, prefix, rng):
    attention = build(layer, rng, prefix, use_key_bias=False)
    cells = [None] * prefix + list(np.ndindex(GRID))
    tokens = rng.normal(size=(2, len(cells), 8)).astype("float32")
    plain = layers.SelfAttention(2, use_key_bias=False)
    plain.build(tokens.shape)
    for name in ("query", "key", "value", "output_projection"):
        for to, weight in zip(
            getattr(plain, name).weights, getattr(attention, name).weights
        ):
            to.assign(weight)
    _, scores = plain(tokens, return_attention_scores=True)
    # Scores of the product alone, times the exponential of the bias.
    expected = to_numpy(scores).astype("float64")
    bias = rule(attention)
    for t, s in np.ndindex(len(cells), len(cells)):
        expected[:, :, t, s] *= np.exp(bias(cells[t], cells[s]))
    expected /= expected.sum(-1, keepdims=True)
    output, scores = attention(tokens, return_attention_scores=True)
    np.testing.assert_allclose(to_numpy(scores), expected, atol=1e-5)
    # The fast path makes the same of it.
    np.testing.assert_allclose(
        to_numpy(attention(tokens)), to_numpy(output), atol=1e-5
    )


def test_a_new_table_is_self_attention(rng):
    attention = layers.RelativeBiasAttention(2, GRID)
    tokens = rng.normal(size=(2, 6, 8)).astype("float32")
    output = to_numpy(attention(tokens))
    assert not np.any(to_numpy(attention.bias_table))
    plain = layers.SelfAttention(2)
    plain.build(tokens.shape)
    plain.set_weights(
        [w for w in attention.get_weights() if w.shape != (15, 2)]
    )
    np.testing.assert_allclose(output, to_numpy(plain(tokens)), atol=1e-6)


def test_number_of_tokens_is_that_of_the_grid():
    message = r"takes 7 tokens, 1 in front.*2 x 3.*shape=\(1, 6, 8\)"
    for layer in (layers.RelativeBiasAttention, layers.RelativeMLPAttention):
        with pytest.raises(ValueError, match=message):
            layer(2, GRID, 1)(np.zeros((1, 6, 8), "float32"))
        attention = layer(2, GRID, 1)
        attention.build((None, None, 8))
        with pytest.raises(ValueError, match="takes 7 tokens"):
            attention(np.zeros((1, 6, 8), "float32"))
