"""Known answers of positions: formulas, and the resampling of the paper."""

import numpy as np
import pytest
import scipy.ndimage
from helpers import to_numpy
from keras import ops

from keras_vit.layers import PatchEncoder, PositionEmbedding
from keras_vit.ops.positions import sincos_2d
from keras_vit.ops.resize import linear_resize_matrix


def test_resize_matrix_by_hand():
    # 2 -> 3 samples: ends stay, the middle is the mean.
    np.testing.assert_allclose(
        to_numpy(linear_resize_matrix(3, 2)), [[1, 0], [0.5, 0.5], [0, 1]]
    )
    np.testing.assert_array_equal(
        to_numpy(linear_resize_matrix(5, 5)), np.eye(5)
    )
    # One sample alone is the first, as in scipy.
    np.testing.assert_array_equal(
        to_numpy(linear_resize_matrix(1, 3)), [[1, 0, 0]]
    )


@pytest.mark.parametrize(
    "old, new", [((3, 3), (5, 5)), ((2, 5), (4, 3)), ((4, 4), (2, 7))]
)
def test_resampling_is_that_of_the_official_code(old, new, rng):
    """`scipy.ndimage.zoom(order=1)`, rows and columns apart."""
    layer = PositionEmbedding("learned_1d", old, num_prefix_tokens=1)
    layer.build((None, None, 6))
    table = rng.normal(size=(1 + old[0] * old[1], 6)).astype("float32")
    layer.table.assign(table)
    grid = table[1:].astype("float64").reshape(*old, 6)
    zoom = (new[0] / old[0], new[1] / old[1], 1)
    expected = scipy.ndimage.zoom(grid, zoom, order=1).reshape(-1, 6)
    given = to_numpy(layer.positions(*new, 6))
    np.testing.assert_array_equal(given[:1], table[:1])
    np.testing.assert_allclose(given[1:], expected, atol=1e-6)


def test_learned_2d_concatenates_column_and_row_vectors():
    layer = PositionEmbedding("learned_2d", (2, 3), num_prefix_tokens=1)
    layer.build((None, 7, 4))
    layer.prefix_table.assign([[9, 9, 9, 9]])
    layer.row_table.assign([[10, 11], [20, 21]])
    layer.column_table.assign([[0, 1], [2, 3], [4, 5]])
    expected = [
        [9, 9, 9, 9],
        [0, 1, 10, 11],
        [2, 3, 10, 11],
        [4, 5, 10, 11],
        [0, 1, 20, 21],
        [2, 3, 20, 21],
        [4, 5, 20, 21],
    ]
    np.testing.assert_array_equal(to_numpy(layer.positions(2, 3, 4)), expected)


def test_learned_2d_resamples_each_axis():
    layer = PositionEmbedding("learned_2d", (2, 2))
    layer.build((None, 4, 4))
    layer.row_table.assign([[0, 0], [4, 8]])
    layer.column_table.assign([[1, 1], [3, 3]])
    positions = to_numpy(layer.positions(3, 2, 4)).reshape(3, 2, 4)
    np.testing.assert_allclose(positions[1, 1], [3, 3, 2, 4])


def test_sincos_is_the_formula():
    rows, columns, dim = 2, 3, 8
    omega = 10_000.0 ** -np.array([0, 1])  # k / (D / 4 - 1) = 0, 1
    given = to_numpy(sincos_2d(rows, columns, dim))
    for y in range(rows):
        for x in range(columns):
            expected = np.concatenate(
                [
                    np.sin(x * omega),
                    np.cos(x * omega),
                    np.sin(y * omega),
                    np.cos(y * omega),
                ]
            )
            np.testing.assert_allclose(given[y, x], expected, atol=1e-6)


def test_sincos_leaves_the_class_token_alone():
    layer = PositionEmbedding("sincos_2d", (2, 2), num_prefix_tokens=1)
    tokens = layer(ops.zeros((1, 5, 8)))
    np.testing.assert_array_equal(to_numpy(tokens)[0, 0], np.zeros(8))
    assert not layer.weights


def encoder_with_counted_weights(grid, **arguments):
    """Projects patches of one number to D=2; all else tells in the output."""
    encoder = PatchEncoder(2, **arguments)
    patches = np.arange(grid[0] * grid[1], dtype="float32")
    patches = patches.reshape(1, *grid, 1)
    encoder(patches)
    encoder.projection.kernel.assign([[1, 2]])
    encoder.projection.bias.assign([0, 100])
    return encoder, patches


def test_patch_encoder_by_hand():
    encoder, patches = encoder_with_counted_weights((1, 2), num_registers=1)
    encoder.cls_token_weight.assign([[[-1, -2]]])
    encoder.register_tokens.assign([[[-5, -6]]])
    encoder.position_embedding.table.assign(
        [[1000, 2000], [3000, 4000], [5000, 6000]]
    )
    expected = [
        [999, 1998],  # class token with its own position
        [-5, -6],  # a register has none
        [0 + 3000, 100 + 4000],
        [1 + 5000, 102 + 6000],
    ]
    np.testing.assert_array_equal(to_numpy(encoder(patches)), [expected])


def test_patch_encoder_whose_class_token_has_no_position():
    encoder, patches = encoder_with_counted_weights(
        (1, 2), num_registers=1, position_of_cls_token=False
    )
    encoder.cls_token_weight.assign([[[-1, -2]]])
    encoder.register_tokens.assign([[[-5, -6]]])
    encoder.position_embedding.table.assign([[3000, 4000], [5000, 6000]])
    expected = [[-1, -2], [-5, -6], [3000, 4100], [5001, 6102]]
    np.testing.assert_array_equal(to_numpy(encoder(patches)), [expected])


def test_patch_encoder_without_class_token_or_position():
    encoder, patches = encoder_with_counted_weights(
        (1, 2), cls_token=False, position=None
    )
    np.testing.assert_array_equal(
        to_numpy(encoder(patches)), [[[0, 100], [1, 102]]]
    )
    assert encoder.num_prefix_tokens == 0


def test_norms_on_both_sides_of_the_projection(rng):
    """vit-pytorch's patch embedding: norm, linear, norm."""
    patches = rng.normal(size=(2, 1, 3, 4)).astype("float32")
    encoder = PatchEncoder(
        6, position=None, cls_token=False, norm_before=True, norm_after=True
    )
    given = to_numpy(encoder(patches))

    def norm(x):
        mean = x.mean(-1, keepdims=True)
        return (x - mean) / np.sqrt(x.var(-1, keepdims=True) + 1e-6)

    kernel = to_numpy(encoder.projection.kernel)
    expected = norm(norm(patches) @ kernel).reshape(2, 3, 6)
    np.testing.assert_allclose(given, expected, atol=2e-5)


def test_another_image_size_resamples_on_the_fly(rng):
    """Positions linear in row and column stay linear on a finer grid."""
    encoder = PatchEncoder(2, cls_token=False)
    encoder(np.zeros((1, 2, 3, 1), "float32"))
    encoder.projection.kernel.assign([[0, 0]])
    grid = np.stack(np.meshgrid([0, 3], [0, 2, 4], indexing="ij"), axis=-1)
    encoder.position_embedding.table.assign(grid.reshape(6, 2))
    finer = to_numpy(encoder(np.zeros((1, 4, 5, 1), "float32")))
    expected = np.stack(
        np.meshgrid([0, 1, 2, 3], [0, 1, 2, 3, 4], indexing="ij"), axis=-1
    )
    np.testing.assert_allclose(finer[0], expected.reshape(20, 2), atol=1e-6)
