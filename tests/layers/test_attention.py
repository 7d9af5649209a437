"""Known answers of attention."""

import math

import keras
import numpy as np
from helpers import float64_on_jax, randomize, to_numpy
from keras import ops

from keras_vit import layers


def test_equal_tokens_get_equal_attention(rng):
    tokens = np.repeat(rng.normal(size=(1, 1, 8)), 5, axis=1)
    attention = layers.SelfAttention(2)
    _, scores = attention(
        tokens.astype("float32"), return_attention_scores=True
    )
    np.testing.assert_allclose(to_numpy(scores), np.full((1, 2, 5, 5), 0.2))


def one_head_that_reads_the_first_channel():
    """Width 2, one head of width 1: q = k = channel 0, v = channel 1."""
    attention = layers.SelfAttention(1, head_dim=1, use_bias=False)
    attention(np.zeros((1, 2, 2), "float32"))
    attention.query.kernel.assign([[[1.0]], [[0.0]]])
    attention.key.kernel.assign([[[1.0]], [[0.0]]])
    attention.value.kernel.assign([[[0.0]], [[1.0]]])
    attention.output_projection.kernel.assign([[[1.0, 0.0]]])
    return attention


def test_attention_by_hand():
    # Tokens (0, 10) and (ln 3, 20). Scores of token 1: e^0 = 1 to token 0,
    # e^((ln 3)^2) to itself; token 0 has q = 0, hence equal scores.
    attention = one_head_that_reads_the_first_channel()
    tokens = np.array([[[0.0, 10.0], [math.log(3), 20.0]]], "float32")
    outputs, scores = attention(tokens, return_attention_scores=True)
    weight = math.exp(math.log(3) ** 2)
    share = weight / (1 + weight)
    expected = [[[[0.5, 0.5], [1 - share, share]]]]
    np.testing.assert_allclose(to_numpy(scores), expected, rtol=1e-6)
    expected = [[[15.0, 0.0], [10 * (1 - share) + 20 * share, 0.0]]]
    np.testing.assert_allclose(to_numpy(outputs), expected, rtol=1e-6)


def test_asking_for_scores_does_not_change_the_output(rng):
    tokens = rng.normal(size=(2, 7, 8)).astype("float32")
    attention = layers.SelfAttention(2, head_dim=3, qk_norm=True)
    attention(tokens)
    randomize(attention, rng)
    outputs, scores = attention(tokens, return_attention_scores=True)
    np.testing.assert_allclose(
        to_numpy(outputs), to_numpy(attention(tokens)), atol=1e-6
    )
    np.testing.assert_allclose(to_numpy(scores).sum(-1), 1, atol=1e-6)


def test_queries_may_be_other_tokens(rng):
    """Attention of a subset of the tokens is a subset of the attention."""
    tokens = rng.normal(size=(2, 7, 8)).astype("float32")
    attention = layers.SelfAttention(2)
    everything = to_numpy(attention(tokens))
    some = to_numpy(attention(tokens, queries=tokens[:, 2:4]))
    np.testing.assert_allclose(some, everything[:, 2:4], atol=1e-6)


def test_scores_in_a_functional_model(rng):
    tokens = keras.Input((7, 8))
    attention = layers.SelfAttention(2)
    outputs, scores = attention(tokens, return_attention_scores=True)
    assert outputs.shape == (None, 7, 8)
    assert scores.shape == (None, 2, 7, 7)
    model = keras.Model(tokens, [outputs, scores])
    inputs = rng.normal(size=(3, 7, 8)).astype("float32")
    np.testing.assert_allclose(
        model.predict(inputs, verbose=0)[0],
        to_numpy(attention(inputs)),
        atol=1e-6,
    )


def test_large_logits_stay_finite_in_half_precision():
    """float16 ends at 65504; softmax is computed in float32."""
    tokens = np.full((1, 4, 16), 30.0, "float32")
    attention = layers.SelfAttention(1, dtype="mixed_float16")
    _, scores = attention(tokens, return_attention_scores=True)
    assert keras.backend.standardize_dtype(scores.dtype) == "float32"
    assert np.isfinite(to_numpy(scores)).all()


def test_float64_is_computed_in_float64(rng):
    """Against NumPy, far below what float32 could reach."""
    tokens = rng.normal(size=(2, 5, 8))
    with float64_on_jax():
        attention = layers.SelfAttention(2, dtype="float64")
        given = to_numpy(attention(ops.convert_to_tensor(tokens, "float64")))
        query, key, value, out = (
            to_numpy(projection.kernel)
            for projection in (
                attention.query,
                attention.key,
                attention.value,
                attention.output_projection,
            )
        )
    q, k, v = (
        np.einsum("btd,dhk->bthk", tokens, x) for x in (query, key, value)
    )
    logits = np.einsum("bthk,bshk->bhts", q, k) / 2.0
    scores = np.exp(logits - logits.max(-1, keepdims=True))
    scores /= scores.sum(-1, keepdims=True)
    heads = np.einsum("bhts,bshk->bthk", scores, v)
    expected = np.einsum("bthk,hkd->btd", heads, out)
    np.testing.assert_allclose(given, expected, atol=1e-13)


def test_attention_dropout_is_on_in_training_alone(rng):
    tokens = rng.normal(size=(2, 7, 8)).astype("float32")
    attention = layers.SelfAttention(2, dropout=0.5, seed=1)
    still = to_numpy(attention(tokens))
    np.testing.assert_array_equal(to_numpy(attention(tokens)), still)
    assert (to_numpy(attention(tokens, training=True)) != still).all()
