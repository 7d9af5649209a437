"""Components that were planted are found; similarities follow the formula."""

import numpy as np
import pytest
from helpers import to_numpy

import keras_vit
from keras_vit.introspection import (
    filter_components,
    position_similarity,
    token_components,
)
from keras_vit.introspection.embeddings import principal_components


def test_finds_planted_filters(tiny_vit, rng):
    """Filters that vary along three directions, about any mean."""
    model = tiny_vit()  # 16 filters over 4 x 4 x 3 numbers
    planted, _ = np.linalg.qr(rng.normal(size=(48, 3)))
    amounts = rng.normal(size=(16, 3))
    amounts, _ = np.linalg.qr(amounts - amounts.mean(axis=0))
    kernel = planted @ np.diag([3, 2, 1]) @ amounts.T
    kernel += rng.normal(size=(48, 1))
    model.get_layer("patch_encoder").projection.kernel.assign(kernel)

    components, explained = filter_components(model, n=3)
    assert components.shape == (3, 4, 4, 3) and components.dtype == "float64"
    found = components.reshape(3, 48) @ planted
    np.testing.assert_allclose(np.abs(found), np.eye(3), atol=1e-5)
    np.testing.assert_allclose(explained, np.array([9, 4, 1]) / 14, atol=1e-5)
    flat = components.reshape(3, 48)
    assert (flat.max(axis=1) == np.abs(flat).max(axis=1)).all()


def test_components_are_those_of_scikit_learn(rng):
    decomposition = pytest.importorskip("sklearn.decomposition")
    x = rng.normal(size=(50, 7)) @ rng.normal(size=(7, 7))
    scores, components, explained = principal_components(x)
    pca = decomposition.PCA(svd_solver="full").fit(x)
    np.testing.assert_allclose(explained, pca.explained_variance_ratio_)
    np.testing.assert_allclose(np.abs(components), np.abs(pca.components_))
    np.testing.assert_allclose(np.abs(scores), np.abs(pca.transform(x)))


def test_filters_of_rectangular_patches_keep_their_shape():
    variant = keras_vit.Variant(1, 16, 32, 4, patch_size=(2, 3))
    model = keras_vit.ViT(variant, image_size=(4, 9), num_channels=1)
    components, explained = filter_components(model, n=6)
    assert components.shape == (6, 2, 3, 1)
    np.testing.assert_allclose(explained.sum(), 1)
    with pytest.raises(ValueError, match="`n` must be at most 6"):
        filter_components(model, n=7)


@pytest.mark.parametrize("n", [0, 1.5, 17])
def test_refuses_another_number_of_components(n, tiny_vit):
    with pytest.raises(ValueError, match="`n` must be"):
        filter_components(tiny_vit(), n)


@pytest.mark.parametrize("kind", ["learned_1d", "learned_2d", "sincos_2d"])
def test_positions_are_like_themselves(kind, tiny_vit):
    similarity = position_similarity(tiny_vit(position=kind))
    assert similarity.shape == (2, 3, 2, 3)
    matrix = similarity.reshape(6, 6)
    np.testing.assert_allclose(np.diag(matrix), 1, rtol=1e-12)
    np.testing.assert_allclose(matrix, matrix.T, rtol=1e-12)
    assert np.abs(matrix).max() <= 1


@pytest.mark.parametrize("injection", ["stem", "every_layer"])
def test_similarity_is_the_cosine_of_two_rows(injection, tiny_vit):
    model = tiny_vit(position_injection=injection)
    if injection == "stem":
        layer = model.get_layer("patch_encoder").position_embedding
    else:
        layer = model.get_layer("block_00_positions")
    table = to_numpy(layer.table).astype("float64")
    a, b = table[1 + 2], table[1 + 4]  # behind the class token
    expected = a @ b / np.linalg.norm(a) / np.linalg.norm(b)
    similarity = position_similarity(model)
    np.testing.assert_allclose(similarity[0, 2, 1, 1], expected, rtol=1e-12)


def test_similarity_of_fixed_positions_depends_on_distance_alone():
    """sin a sin b + cos a cos b = cos(a - b), in every frequency."""
    variant = keras_vit.Variant(1, 16, 32, 4, patch_size=4)
    model = keras_vit.ViT(variant, image_size=(12, 16), position="sincos_2d")
    similarity = position_similarity(model)
    omega = 10_000.0 ** (-np.arange(4) / 3)
    down, across = 2, 1
    expected = (np.cos(down * omega) + np.cos(across * omega)).mean() / 2
    for row, column in ((0, 0), (0, 2), (0, 1)):
        np.testing.assert_allclose(
            similarity[row, column, row + down, column + across],
            expected,
            atol=1e-6,
        )


def test_zero_positions_are_like_nothing(tiny_vit):
    model = tiny_vit()
    table = model.get_layer("patch_encoder").position_embedding.table
    table.assign(np.zeros(table.shape))
    np.testing.assert_array_equal(position_similarity(model), 0)


@pytest.mark.parametrize("position", [None, "relative_1d"])
def test_refuses_a_model_without_position_vectors(position, tiny_vit):
    with pytest.raises(ValueError, match="`PositionEmbedding`"):
        position_similarity(tiny_vit(position=position))


def test_like_patches_have_like_colors(tiny_vit, rng):
    """Two images of the same patches, arranged in another way."""
    model = tiny_vit(position=None, num_registers=1)
    patches = rng.uniform(0, 255, (6, 4, 4, 3))
    orders = (np.arange(6), rng.permutation(6))
    images = np.stack(
        [
            patches[order].reshape(2, 3, 4, 4, 3).swapaxes(1, 2)
            for order in orders
        ]
    ).reshape(2, 8, 12, 3)
    colors = token_components(model, images)
    assert colors.shape == (2, 2, 3, 3)
    first, second = colors.reshape(2, 6, 3)
    np.testing.assert_allclose(second, first[orders[1]], atol=1e-4)
    flat = colors.reshape(-1, 3)
    np.testing.assert_allclose(flat.min(axis=0), 0, atol=1e-12)
    np.testing.assert_allclose(flat.max(axis=0), 1, atol=1e-12)


def test_patches_that_are_all_alike_have_no_color(tiny_vit):
    model = tiny_vit(position=None)
    colors = token_components(model, np.full((1, 8, 12, 3), 70.0))
    np.testing.assert_array_equal(colors, 0)
