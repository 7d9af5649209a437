"""Known answers of attention, MLP, pooling and what stands on branches."""

import math

import keras
import numpy as np
import pytest
from helpers import EAGER, float64_on_jax, randomize, to_numpy
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


def test_block_hands_training_to_its_parts(rng):
    """Dropout inside the MLP and the attention of a block is on in `fit`."""
    tokens = rng.normal(size=(2, 7, 8)).astype("float32")
    for part in (
        {"num_heads": 2, "mlp": layers.MLP(6, dropout=0.5)},
        {"attention": layers.SelfAttention(2, dropout=0.5), "mlp_dim": 6},
        {"num_heads": 2, "mlp_dim": 6, "dropout": 0.5},
        {"num_heads": 2, "mlp_dim": 6, "stochastic_depth": 0.5},
    ):
        block = layers.TransformerBlock(**part)
        still = to_numpy(block(tokens))
        np.testing.assert_array_equal(to_numpy(block(tokens)), still)
        draws = [to_numpy(block(tokens, training=True)) for _ in range(5)]
        assert any((draw != still).any() for draw in draws), part


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


def test_layer_norm_by_hand():
    # Mean 2, variance 1: (1, 3) -> (-1, 1), up to epsilon.
    norm = layers.LayerNorm(epsilon=3.0)
    given = to_numpy(norm(np.array([[1.0, 3.0]], "float32")))
    np.testing.assert_allclose(given, [[-0.5, 0.5]], rtol=1e-6)
    assert layers.LayerNorm().epsilon == 1e-6  # Flax, not Keras' 1e-3


def test_layer_norm_gradient_is_that_of_keras(rng):
    """The closed form against Keras' layer, differentiated by the backend."""
    x = rng.normal(size=(4, 3, 6)).astype("float32")
    targets = rng.normal(size=(4, 3, 6)).astype("float32")
    ours = layers.LayerNorm(1e-5)
    theirs = keras.layers.LayerNormalization(epsilon=1e-5)
    results = []
    for norm in (ours, theirs):
        inputs = keras.Input((3, 6))
        # A layer in front of it, so that the gradient to its input counts.
        before = keras.layers.Dense(6, kernel_initializer="identity")
        model = keras.Model(inputs, norm(before(inputs)))
        norm.gamma.assign(np.linspace(0.5, 2, 6))
        norm.beta.assign(np.linspace(-1, 1, 6))
        model.compile(optimizer=keras.optimizers.SGD(1.0), loss="mse", **EAGER)
        model.train_on_batch(x, targets)
        results.append([to_numpy(w) for w in model.weights])
    for given, expected in zip(*results):
        np.testing.assert_allclose(given, expected, atol=1e-5)


def test_stochastic_depth_keeps_the_expectation():
    branch = np.ones((20_000, 1, 2), "float32")
    kept = to_numpy(layers.StochasticDepth(0.25, seed=3)(branch, training=True))
    # A branch is dropped whole, or divided by its probability of staying.
    assert set(np.unique(kept)) == {0.0, np.float32(1 / 0.75)}
    assert (kept[:, 0, 0] == kept[:, 0, 1]).all()
    # Standard error of the mean: sqrt(0.25 / 0.75 / 20000) = 0.004.
    assert abs(kept.mean() - 1) < 0.02


def test_layer_scale_multiplies_channels():
    scale = layers.LayerScale(0.5)
    given = to_numpy(scale(np.array([[2.0, 4.0]], "float32")))
    np.testing.assert_array_equal(given, [[1.0, 2.0]])


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


def test_block_with_zero_branches_is_the_identity(rng):
    tokens = rng.normal(size=(2, 5, 8)).astype("float32")
    block = layers.TransformerBlock(2, 16, layer_scale=0.0)
    np.testing.assert_array_equal(to_numpy(block(tokens)), tokens)


def test_initial_values_are_those_of_the_official_code():
    encoder = layers.PatchEncoder(64)
    encoder(np.zeros((1, 16, 16, 48), "float32"))
    assert not to_numpy(encoder.cls_token_weight).any()
    assert not to_numpy(encoder.projection.bias).any()
    table = to_numpy(encoder.position_embedding.table)
    assert abs(table.std() - 0.02) < 0.001  # 16,448 draws: error 0.0001
    kernel = to_numpy(encoder.projection.kernel)
    assert abs(kernel.std() - 48**-0.5) < 0.01  # LeCun: variance 1 / fan-in

    block = layers.TransformerBlock(4, 256)
    block(np.zeros((1, 2, 64), "float32"))
    limit = math.sqrt(6 / (64 + 64))  # Xavier: uniform up to this
    query = to_numpy(block.attention.query.kernel)
    assert 0.98 * limit < abs(query).max() <= limit
    limit = math.sqrt(6 / (64 + 256))
    hidden = to_numpy(block.mlp.hidden.kernel)
    assert 0.98 * limit < abs(hidden).max() <= limit
    assert 0 < to_numpy(block.mlp.hidden.bias).std() < 2e-6
    assert not to_numpy(block.attention.query.bias).any()
