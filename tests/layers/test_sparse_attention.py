"""Explicit sparse attention: what is kept, and what gradients reach."""

import keras
import numpy as np
import pytest
from helpers import EAGER, randomize, to_numpy

from keras_vit import layers


def draw(rng, *shape):
    return rng.normal(size=shape).astype("float32")


def twins(rng, tokens, k, **options):
    """A full and a sparse attention with the same weights."""
    full = layers.SelfAttention(2, **options)
    sparse = layers.SparseAttention(2, k, **options)
    full(tokens), sparse(tokens)
    randomize(full, rng, scale=0.5)
    sparse.set_weights(full.get_weights())
    return full, sparse


def test_all_tokens_kept_is_self_attention_to_the_bit(rng):
    tokens = draw(rng, 3, 7, 8)
    full, sparse = twins(rng, tokens, 7, qk_norm=True)
    np.testing.assert_array_equal(
        to_numpy(sparse(tokens)), to_numpy(full(tokens))
    )
    for given, expected in zip(
        sparse(tokens, return_attention_scores=True),
        full(tokens, return_attention_scores=True),
    ):
        np.testing.assert_array_equal(to_numpy(given), to_numpy(expected))


@pytest.mark.parametrize("k", [1, 2, 5, 6])
def test_sparse_attention_is_the_formula(k, rng):
    """The k largest shares of full attention, scaled to sum to 1."""
    tokens = draw(rng, 3, 7, 8)
    full, sparse = twins(rng, tokens, k)
    _, shares = full(tokens, return_attention_scores=True)
    expected = np.zeros_like(to_numpy(shares))
    for place in np.ndindex(expected.shape[:-1]):
        row = to_numpy(shares)[place]
        kept = np.argsort(row)[-k:]
        expected[place][kept] = row[kept] / row[kept].sum()
    outputs, scores = sparse(tokens, return_attention_scores=True)
    np.testing.assert_allclose(to_numpy(scores), expected, atol=1e-6)
    assert (np.count_nonzero(to_numpy(scores), axis=-1) == k).all()
    np.testing.assert_allclose(
        to_numpy(sparse(tokens)), to_numpy(outputs), atol=1e-6
    )
    value = np.einsum(
        "btd,dhk->bthk", tokens, to_numpy(sparse.value.kernel)
    ) + to_numpy(sparse.value.bias)
    heads = np.einsum("bhts,bshk->bthk", expected, value)
    kernel, bias = sparse.output_projection.get_weights()
    np.testing.assert_allclose(
        to_numpy(outputs),
        np.einsum("bthk,hkd->btd", heads, kernel) + bias,
        atol=1e-5,
    )


def test_one_token_kept_is_the_arg_max_exactly(rng):
    tokens = draw(rng, 3, 7, 8)
    full, sparse = twins(rng, tokens, 1)
    _, shares = full(tokens, return_attention_scores=True)
    _, scores = sparse(tokens, return_attention_scores=True)
    expected = np.eye(7)[to_numpy(shares).argmax(-1)]
    np.testing.assert_array_equal(to_numpy(scores), expected)


def test_ties_with_the_kth_are_kept():
    """Two tokens tie for the last place of two: three are kept."""
    attention = layers.SparseAttention(1, 2, head_dim=1, use_bias=False)
    # Channel 0 is query and key: logits of a token are its multiples.
    tokens = np.array([[[1, 0], [2, 0], [1, 0], [0, 0]]], "float32")
    attention(tokens)
    for projection in (attention.query, attention.key):
        projection.kernel.assign([[[1.0]], [[0.0]]])
    _, scores = attention(tokens, return_attention_scores=True)
    e = np.exp(1)
    first = np.array([e, e**2, e, 0]) / (2 * e + e**2)
    np.testing.assert_allclose(to_numpy(scores)[0, 0, 0], first, rtol=1e-6)
    # A query of zero ties with all.
    np.testing.assert_allclose(to_numpy(scores)[0, 0, 3], np.full(4, 0.25))


def step(table, k, rng):
    """One step on a table of tokens in front of the attention."""
    count, dim = table.shape
    inputs = keras.Input((count, dim))
    positions = layers.PositionEmbedding("learned_1d", (count, 1))
    attention = layers.SparseAttention(1, k, use_bias=False)
    model = keras.Model(inputs, attention(positions(inputs)))
    positions.table.assign(table)
    # Queries and keys are the tokens themselves.
    eye = np.eye(dim)[:, None]
    attention.query.kernel.assign(eye)
    attention.key.kernel.assign(eye)
    model.compile(optimizer=keras.optimizers.SGD(1.0), loss="mse", **EAGER)
    targets = draw(rng, 2, count, dim)
    before = [
        to_numpy(w).copy() for w in (positions.table, attention.key.kernel)
    ]
    model.train_on_batch(np.zeros((2, count, dim), "float32"), targets)
    after = [to_numpy(w) for w in (positions.table, attention.key.kernel)]
    return [(a != b).any(-1) for a, b in zip(after, before)]


def test_gradients_reach_what_is_kept_and_nothing_else(rng):
    # Token 1 is the longest and lies ahead of all: the arg-max of all rows.
    table = np.array([[1, 0], [5, 1], [1, -1], [2, 0.5]], "float32")
    rows, keys = step(table, 1, rng)
    # One score is 1 whatever the logits: values alone have a gradient.
    np.testing.assert_array_equal(rows, [False, True, False, False])
    assert not keys.any()
    # Of two, the logits matter: all queries learn, and the key kernel.
    rows, keys = step(table, 2, rng)
    assert rows.all() and keys.all()


def test_too_many_tokens_to_keep_are_refused():
    message = "at most the number of tokens, 7. Received: k=8"
    tokens = np.zeros((1, 8, 8), "float32")
    with pytest.raises(ValueError, match=message):
        layers.SparseAttention(2, 8)(tokens[:, :7])
    attention = layers.SparseAttention(2, 8)
    attention.build((None, None, 8))
    assert tuple(attention(tokens).shape) == (1, 8, 8)
    with pytest.raises(ValueError, match=message):
        attention(tokens[:, :7])


def test_sequences_of_unknown_length(rng):
    """In a graph that is compiled for any number of tokens."""
    inputs = keras.Input((None, 8))
    attention = layers.SparseAttention(2, 3)
    model = keras.Model(inputs, attention(inputs))
    for count in (3, 5):
        tokens = draw(rng, 2, count, 8)
        np.testing.assert_allclose(
            model.predict(tokens, verbose=0),
            to_numpy(attention(tokens)),
            atol=1e-6,
        )
