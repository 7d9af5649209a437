"""Windows: who sees whom, and what the axial block is made of."""

import keras
import numpy as np
import pytest
from helpers import randomize, to_numpy

from keras_vit import layers

ROWS, COLUMNS = 4, 6


def draw(rng, *shape):
    return rng.normal(size=shape).astype("float32")


def as_grid(tokens):
    return to_numpy(tokens).reshape((-1, ROWS, COLUMNS, tokens.shape[-1]))


def test_one_window_is_full_attention(rng):
    tokens = draw(rng, 2, 24, 8)
    full = layers.SelfAttention(2, qk_norm=True)
    full(tokens)
    randomize(full, rng)
    for window_size in [(ROWS, COLUMNS), (None, None)]:
        windows = layers.WindowAttention(
            2, window_size, (ROWS, COLUMNS), qk_norm=True
        )
        windows(tokens)
        windows.set_weights(full.get_weights())
        np.testing.assert_allclose(
            to_numpy(windows(tokens)), to_numpy(full(tokens)), atol=1e-6
        )


@pytest.mark.parametrize(
    "window_size, height, width",
    [((2, 3), 2, 3), (2, 2, 2), ((1, None), 1, 6), ((None, 1), 4, 1)],
)
def test_every_window_is_attention_by_itself(window_size, height, width, rng):
    """Against `SelfAttention` on one window after the other."""
    tokens = draw(rng, 2, 24, 8)
    full = layers.SelfAttention(2)
    full(tokens)
    randomize(full, rng)
    windows = layers.WindowAttention(2, window_size, (ROWS, COLUMNS))
    windows(tokens)
    windows.set_weights(full.get_weights())
    given, scores = windows(tokens, return_attention_scores=True)
    np.testing.assert_allclose(
        to_numpy(windows(tokens)), to_numpy(given), atol=1e-6
    )
    given, scores = as_grid(given), to_numpy(scores)
    size = height * width
    assert scores.shape == (2, 24 // size, 2, size, size)
    grid, index = as_grid(tokens), 0
    for top in range(0, ROWS, height):
        for left in range(0, COLUMNS, width):
            here = np.s_[:, top : top + height, left : left + width]
            window = grid[here].reshape((2, size, 8))
            expected, shares = full(window, return_attention_scores=True)
            np.testing.assert_allclose(
                given[here].reshape((2, size, 8)),
                to_numpy(expected),
                atol=1e-6,
            )
            np.testing.assert_allclose(
                scores[:, index], to_numpy(shares), atol=1e-6
            )
            index += 1


def test_a_token_is_seen_in_its_window_alone(rng):
    tokens = draw(rng, 1, 24, 8)
    attention = layers.WindowAttention(2, (2, 3), (ROWS, COLUMNS))
    before = as_grid(attention(tokens))
    tokens[0, 2 * COLUMNS + 4] += 1  # row 2, column 4
    moved = (as_grid(attention(tokens)) != before).any((0, 3))
    expected = np.zeros((ROWS, COLUMNS), bool)
    expected[2:4, 3:6] = True
    np.testing.assert_array_equal(moved, expected)


@pytest.mark.parametrize("part, axis", [("row", 2), ("column", 1)])
def test_axial_parts_commute_with_permutations_of_their_axis(part, axis, rng):
    """Attention along a row does not know the order of the columns."""
    grid = draw(rng, 2, ROWS, COLUMNS, 8)
    block = layers.AxialBlock(2, 16, (ROWS, COLUMNS))
    block(grid.reshape((2, 24, 8)))
    randomize(block, rng)
    order = rng.permutation(grid.shape[axis])

    def apply(grid):
        tokens = np.ascontiguousarray(grid).reshape((2, 24, 8))
        return as_grid(getattr(block, part)(tokens))

    np.testing.assert_allclose(
        apply(np.take(grid, order, axis)),
        np.take(apply(grid), order, axis),
        atol=2e-6,
    )


def test_axial_parts_see_their_row_and_their_column(rng):
    tokens = draw(rng, 1, 24, 8)
    changed = tokens.copy()
    changed[0, 2 * COLUMNS + 4] += rng.normal(size=8)
    block = layers.AxialBlock(2, 16, (ROWS, COLUMNS))
    for part, here in [("row", np.s_[2, :]), ("column", np.s_[:, 4])]:
        layer = getattr(block, part)
        block(tokens)
        moved = as_grid(layer(changed)) != as_grid(layer(tokens))
        expected = np.zeros((ROWS, COLUMNS), bool)
        expected[here] = True
        np.testing.assert_array_equal(moved.any((0, 3)), expected)
    # Both together: everything sees everything.
    assert (as_grid(block(changed)) != as_grid(block(tokens))).any(-1).all()


def test_axial_block_is_two_transformer_blocks(rng):
    """Appendix D.6: the depth doubles, and so do the parameters."""
    tokens = draw(rng, 2, 24, 8)
    axial = layers.AxialBlock(2, 16, (ROWS, COLUMNS), name="block_00")
    axial(tokens)
    plain = layers.TransformerBlock(2, 16, name="plain")
    plain(tokens)
    assert axial.count_params() == 2 * plain.count_params()
    ends = [w.path.removeprefix("plain/") for w in plain.trainable_weights]
    assert [w.path for w in axial.trainable_weights] == [
        f"block_00/{part}/{end}" for part in ("row", "column") for end in ends
    ]
    np.testing.assert_array_equal(
        to_numpy(axial(tokens)), to_numpy(axial.column(axial.row(tokens)))
    )


def test_axial_block_hands_training_and_seeds_on(rng):
    tokens = draw(rng, 4, 24, 8)
    for rates in ({"dropout": 0.5}, {"stochastic_depth": 0.5}):
        draws = []
        for seed in (1, 1, 2):
            keras.utils.set_random_seed(0)
            block = layers.AxialBlock(
                2, 16, (ROWS, COLUMNS), seed=seed, **rates
            )
            still = to_numpy(block(tokens))
            np.testing.assert_array_equal(to_numpy(block(tokens)), still)
            draws.append(to_numpy(block(tokens, training=True)))
        np.testing.assert_array_equal(draws[0], draws[1])
        assert (draws[0] != draws[2]).any()
        assert (draws[0] != still).any()


def test_scores_of_windows_in_a_functional_model(rng):
    inputs = keras.Input((24, 8))
    attention = layers.WindowAttention(2, (2, 3), (ROWS, COLUMNS))
    outputs, scores = attention(inputs, return_attention_scores=True)
    assert outputs.shape == (None, 24, 8)
    assert scores.shape == (None, 4, 2, 6, 6)
    model = keras.Model(inputs, scores)
    scores = model.predict(draw(rng, 3, 24, 8), verbose=0)
    assert scores.shape == (3, 4, 2, 6, 6)
    np.testing.assert_allclose(scores.sum(-1), 1, atol=1e-6)


def test_windows_that_do_not_fit_are_refused():
    with pytest.raises(ValueError, match="1, 2, 3, 6 columns.*") as error:
        layers.WindowAttention(2, (2, 4), (4, 6))
    assert "divide the grid" in str(error.value)
    assert str(error.value).endswith(
        "Received: window_size=(2, 4), grid_size=(4, 6)"
    )
    with pytest.raises(ValueError, match="larger than the grid.*1, 2, 4 rows"):
        layers.WindowAttention(2, (8, None), (4, 6))


@pytest.mark.parametrize(
    "layer",
    [
        lambda: layers.WindowAttention(2, 2, (4, 6)),
        lambda: layers.AxialBlock(2, 16, (4, 6)),
    ],
)
def test_tokens_besides_the_grid_are_refused(layer):
    message = r"takes 24 tokens.*4 x 6.*Received: shape=\(1, 25, 8\)"
    tokens = np.zeros((1, 25, 8), "float32")
    with pytest.raises(ValueError, match=message):
        layer()(tokens)  # when built
    layer = layer()
    layer(tokens[:, 1:])
    with pytest.raises(ValueError, match=message):
        layer(tokens)  # when called
