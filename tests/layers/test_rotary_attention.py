"""Rotary positions in two dimensions against their double loops."""

import numpy as np
import pytest
from helpers import float64_on_jax, outputs_of, randomize, to_numpy
from keras import ops

import keras_vit
from keras_vit import layers


def build(rng, grid_size, num_prefix_tokens=0, **options):
    attention = layers.RotaryAttention(
        2, grid_size, num_prefix_tokens, **options
    )
    tokens = num_prefix_tokens + grid_size[0] * grid_size[1]
    attention.build((None, tokens, 16))
    randomize(attention, rng, scale=0.5)
    return attention


def turn(x, row, column, base):
    """One vector, pair after pair."""
    turned, quarter = x.copy(), len(x) // 4
    for part, place in enumerate((row, column)):
        for k in range(quarter):
            angle = place * base ** (-k / quarter)
            first = 2 * quarter * part + k
            second = first + quarter
            a, b = x[first], x[second]
            turned[first] = a * np.cos(angle) - b * np.sin(angle)
            turned[second] = b * np.cos(angle) + a * np.sin(angle)
    return turned


@pytest.mark.parametrize("policy", ["float32", "float64"])
def test_rotary_attention_is_the_formula(policy, rng):
    rows, columns, prefix, base = 2, 3, 2, 50.0
    tokens = rng.normal(size=(2, prefix + rows * columns, 16)).astype(policy)
    with float64_on_jax():
        attention = build(rng, (rows, columns), prefix, base=base, dtype=policy)
        outputs, scores = attention(
            ops.convert_to_tensor(tokens, policy), return_attention_scores=True
        )
        fused = attention(ops.convert_to_tensor(tokens, policy))
        outputs, scores, fused = map(to_numpy, (outputs, scores, fused))
    q, k, v = (
        np.einsum("btd,dhk->bhtk", tokens, to_numpy(layer.kernel))
        + to_numpy(layer.bias)[:, None]
        for layer in (attention.query, attention.key, attention.value)
    )
    logits = np.empty((2, 2, 8, 8))
    for example, head, t, s in np.ndindex(logits.shape):
        pair = []
        for place, x in ((t, q[example, head, t]), (s, k[example, head, s])):
            if place >= prefix:
                x = turn(x, *divmod(place - prefix, columns), base)
            pair.append(x)
        logits[example, head, t, s] = pair[0] @ pair[1] / np.sqrt(8)
    shares = np.exp(logits - logits.max(-1, keepdims=True))
    shares /= shares.sum(-1, keepdims=True)
    heads = np.einsum("bhts,bhsk->bthk", shares, v)
    expected = np.einsum(
        "bthk,hkd->btd", heads, to_numpy(attention.output_projection.kernel)
    ) + to_numpy(attention.output_projection.bias)
    # Angles in float32 would show in float64.
    atol = {"float32": 1e-5, "float64": 1e-12}[policy]
    np.testing.assert_allclose(scores, shares, atol=atol)
    np.testing.assert_allclose(outputs, expected, atol=10 * atol)
    np.testing.assert_allclose(fused, expected, atol=10 * atol)


def omega(k, dim, base):
    return base ** (-4 * k / dim)


# What the public networks do, each as a function of a token's row and column,
# of the grid and of the width of a head: (first element, second, angle).
def eva02(row, column, rows, columns, dim):
    """`VisionRotaryEmbeddingFast`: coordinates of the grid of training."""
    for k in range(dim // 4):
        w = omega(k, dim, 10_000)
        yield 2 * k, 2 * k + 1, row / rows * 16 * w
        yield dim // 2 + 2 * k, dim // 2 + 2 * k + 1, column / columns * 12 * w


def rope_vit(row, column, rows, columns, dim):
    """`compute_axial_cis`: the column first."""
    for k in range(dim // 4):
        yield 2 * k, 2 * k + 1, column * omega(k, dim, 100)
        second = dim // 2 + 2 * k
        yield second, second + 1, row * omega(k, dim, 100)


def perception(row, column, rows, columns, dim):
    """`Rope2D`: the column first, counted from 1 for a class token."""
    for k in range(dim // 4):
        w = omega(k, dim, 10_000)
        yield 2 * k, 2 * k + 1, (column + 1) / columns * 6 * w
        second = dim // 2 + 2 * k
        yield second, second + 1, (row + 1) / rows * 6 * w


def dinov3(row, column, rows, columns, dim):
    """`RopePositionEmbedding`: centres in [-1, 1], in turns."""
    for k in range(dim // 4):
        w = 2 * np.pi * omega(k, dim, 100)
        for first, place in (
            (k, 2 * (row + 0.5) / rows - 1),
            (k + dim // 4, 2 * (column + 0.5) / columns - 1),
        ):
            yield first, first + dim // 2, place * w


PUBLIC = {
    eva02: {
        "base": 10_000.0,
        "pairing": "interleaved",
        "reference_grid": (16, 12),
    },
    rope_vit: {"base": 100.0, "pairing": "interleaved", "indexing": "xy"},
    perception: {
        "base": 10_000.0,
        "pairing": "interleaved",
        "indexing": "xy",
        "grid_offset": 1.0,
        "reference_grid": 6,
    },
    dinov3: {"pairing": "half", "coordinates": "normalized"},
}


def turn_pairs(x, pairs):
    turned = x.copy()
    for first, second, angle in pairs:
        a, b = x[first], x[second]
        turned[first] = a * np.cos(angle) - b * np.sin(angle)
        turned[second] = b * np.cos(angle) + a * np.sin(angle)
    return turned


@pytest.mark.parametrize("network", PUBLIC, ids=lambda x: x.__name__)
@pytest.mark.parametrize("num_kv_heads", [None, 1])
def test_public_definitions(network, num_kv_heads, rng):
    rows, columns, prefix = 3, 5, 2
    attention = build(
        rng,
        (rows, columns),
        prefix,
        num_kv_heads=num_kv_heads,
        **PUBLIC[network],
    )
    query = rng.normal(size=(1, 17, 2, 8)).astype("float32")
    key = rng.normal(size=(1, 17, num_kv_heads or 2, 8)).astype("float32")
    for x, given in zip((query, key), attention._prepare(query, key)):
        given = to_numpy(given)
        np.testing.assert_array_equal(given[:, :prefix], x[:, :prefix])
        for token, head in np.ndindex(15, x.shape[2]):
            pairs = network(*divmod(token, columns), rows, columns, 8)
            np.testing.assert_allclose(
                given[0, prefix + token, head],
                turn_pairs(x[0, prefix + token, head], pairs),
                atol=1e-5,
            )


def test_mixed_frequencies(rng):
    """`compute_mixed_cis` of RoPE-ViT: two frequencies for each pair."""
    rows, columns = 3, 4
    options = {"pairing": "interleaved", "indexing": "xy", "mixed": True}
    attention = build(rng, (rows, columns), 1, **options)
    of_x, of_y = to_numpy(attention.frequencies)
    x = rng.normal(size=(1, 13, 2, 8)).astype("float32")
    given, _ = map(to_numpy, attention._prepare(x, x))
    np.testing.assert_array_equal(given[:, 0], x[:, 0])
    for token, head in np.ndindex(12, 2):
        row, column = divmod(token, columns)
        pairs = [
            (2 * j, 2 * j + 1, column * of_x[head, j] + row * of_y[head, j])
            for j in range(4)
        ]
        np.testing.assert_allclose(
            given[0, 1 + token, head],
            turn_pairs(x[0, 1 + token, head], pairs),
            atol=1e-5,
        )


@pytest.mark.parametrize("mixed", [False, True])
def test_tokens_before_the_grid_may_learn_their_angles(mixed, rng):
    """MLCD's class token; the patches are turned as without."""
    options = {"pairing": "half", "mixed": mixed}
    attention = build(rng, (2, 3), 2, prefix_angles=True, **options)
    plain = build(rng, (2, 3), 2, **options)
    if mixed:
        plain.frequencies.assign(attention.frequencies)
    angles = rng.normal(size=(2, 4))
    attention.angles_of_prefix.assign(angles)
    x = rng.normal(size=(1, 8, 2, 8)).astype("float32")
    given, _ = map(to_numpy, attention._prepare(x, x))
    expected, _ = map(to_numpy, plain._prepare(x, x))
    np.testing.assert_allclose(given[:, 2:], expected[:, 2:], atol=1e-6)
    for token, head in np.ndindex(2, 2):
        pairs = [(k, k + 4, angles[token, k]) for k in range(4)]
        np.testing.assert_allclose(
            given[0, token, head],
            turn_pairs(x[0, token, head], pairs),
            atol=1e-5,
        )


def test_mixed_frequencies_begin_at_right_angles():
    attention = layers.RotaryAttention(3, 2, base=10.0, mixed=True, seed=1)
    attention.build((None, 4, 48))
    of_rows, of_columns = to_numpy(attention.frequencies)
    first = np.stack([of_rows[:, :4], of_columns[:, :4]], -1)
    second = np.stack([of_rows[:, 4:], of_columns[:, 4:]], -1)
    lengths = np.broadcast_to(10.0 ** (-np.arange(4) / 4), (3, 4))
    for axis in (first, second):
        np.testing.assert_allclose(
            np.linalg.norm(axis, axis=-1), lengths, rtol=1e-5
        )
    np.testing.assert_allclose((first * second).sum(-1), 0, atol=1e-6)
    # One direction for all pairs of a head, another for another head.
    directions = first / lengths[..., None]
    np.testing.assert_allclose(
        directions, np.repeat(directions[:, :1], 4, axis=1), atol=1e-6
    )
    assert abs(directions[0] - directions[1]).max() > 0.01


@pytest.mark.parametrize("network", PUBLIC, ids=lambda x: x.__name__)
def test_another_resolution_changes_the_grid_alone(network, rng):
    """A model moved to other images is the model built for them."""
    variant = keras_vit.Variant(1, 16, 8, 2, patch_size=2)

    def make(rows, columns):
        return keras_vit.ViT(
            variant,
            image_size=(2 * rows, 2 * columns),
            num_classes=None,
            patch_encoder=layers.PatchEncoder(16, position=None),
            block=lambda index: layers.TransformerBlock(
                attention=layers.RotaryAttention(
                    2, (rows, columns), 1, **PUBLIC[network]
                ),
                mlp_dim=8,
            ),
        )

    model, expected = make(2, 3), make(4, 5)
    expected.set_weights(model.get_weights())
    moved = keras_vit.change_resolution(model, (8, 10))
    images = rng.uniform(0, 255, (1, 8, 10, 3)).astype("float32")
    np.testing.assert_allclose(
        outputs_of(moved, images), outputs_of(expected, images), atol=1e-6
    )


def test_arguments_that_exclude_each_other():
    with pytest.raises(ValueError, match="`reference_grid` stretches indices"):
        layers.RotaryAttention(
            2, 3, coordinates="normalized", reference_grid=16
        )
    with pytest.raises(ValueError, match="mixed=True, num_kv_heads=1"):
        layers.RotaryAttention(2, 3, mixed=True, num_kv_heads=1)
    with pytest.raises(ValueError, match="num_prefix_tokens=0"):
        layers.RotaryAttention(2, 3, prefix_angles=True)
    with pytest.raises(ValueError, match="`pairing` must be one of"):
        layers.RotaryAttention(2, 3, pairing="halves")


def test_lengths_stay_and_prefix_tokens_do_not_turn(rng):
    attention = build(rng, (3, 4), num_prefix_tokens=2)
    x = rng.normal(size=(2, 14, 2, 8)).astype("float32")
    query, key = (to_numpy(y) for y in attention._prepare(x, 2 * x))
    np.testing.assert_allclose(2 * query, key, rtol=1e-6)
    np.testing.assert_allclose(
        np.linalg.norm(query, axis=-1), np.linalg.norm(x, axis=-1), rtol=1e-6
    )
    # Two prefix tokens, and the corner of the grid, which is place (0, 0).
    np.testing.assert_array_equal(query[:, :3], x[:, :3])
    assert (query[:, 3:] != x[:, 3:]).any(-1).all()


def test_places_matter_through_differences_alone(rng):
    """With equal tokens, a pair's share against one's own tells its offset."""
    rows, columns = 4, 5
    tokens = np.repeat(rng.normal(size=(1, 1, 16)), 20, axis=1)
    attention = build(rng, (rows, columns))
    _, scores = attention(
        tokens.astype("float32"), return_attention_scores=True
    )
    scores = to_numpy(scores)[0]
    ratios = scores / np.einsum("htt->ht", scores)[:, :, None]
    ratios = ratios.reshape((2, rows, columns, rows, columns))
    assert abs(ratios - 1).max() > 0.1
    # Both tokens one row down and two columns to the right.
    np.testing.assert_allclose(
        ratios[:, 1:, 2:, 1:, 2:], ratios[:, :-1, :-2, :-1, :-2], rtol=1e-4
    )


def test_rotary_attention_has_the_weights_of_self_attention(rng):
    attention = build(rng, (2, 3), qk_norm=True)
    full = layers.SelfAttention(2, qk_norm=True)
    full.build((None, 6, 16))
    assert [w.path.split("/", 1)[1:] for w in attention.weights] == [
        w.path.split("/", 1)[1:] for w in full.weights
    ]
    assert attention.count_params() == full.count_params()


def test_turned_after_qk_norm(rng):
    """Else the norm's scale of one channel would mix with its partner's."""
    attention = build(rng, (2, 3), qk_norm=True)
    x = rng.normal(size=(1, 6, 2, 8)).astype("float32")
    query, _ = attention._prepare(x, x)
    normed = to_numpy(attention.query_norm(x))
    for head in range(2):
        for place in range(6):
            expected = turn(normed[0, place, head], *divmod(place, 3), 100.0)
            np.testing.assert_allclose(
                to_numpy(query)[0, place, head], expected, atol=1e-5
            )


def test_angles_stay_exact_in_half_precision(rng):
    """bfloat16 knows 255 and 256, but not 255 times a frequency."""
    attention = layers.RotaryAttention(1, (300, 1), dtype="bfloat16")
    attention.build((None, 300, 4))
    x = np.ones((1, 300, 1, 4), "float32")
    query, _ = attention._prepare(*[ops.cast(x, "bfloat16")] * 2)
    given = to_numpy(ops.cast(query, "float32"))[0, 299, 0]
    expected = turn(x[0, 0, 0], 299, 0, 100.0)
    np.testing.assert_allclose(given, expected, atol=0.01)


def test_heads_and_tokens_that_do_not_fit_are_refused():
    with pytest.raises(ValueError, match="multiple of 4.*head_dim=6"):
        layers.RotaryAttention(2, (2, 3)).build((None, 6, 12))
    message = r"takes 7 tokens, 1 in front.*2 x 3.*shape=\(1, 6, 8\)"
    with pytest.raises(ValueError, match=message):
        layers.RotaryAttention(2, (2, 3), 1)(np.zeros((1, 6, 8), "float32"))
    attention = layers.RotaryAttention(2, (2, 3), 1)
    attention.build((None, None, 8))
    with pytest.raises(ValueError, match="takes 7 tokens"):
        attention(np.zeros((1, 6, 8), "float32"))
