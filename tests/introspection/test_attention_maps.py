"""Rollout, distance and the probe of one patch, where the answer is known."""

import numpy as np
import pytest

import keras_vit
from keras_vit.introspection import (
    attention_distance,
    attention_from,
    attention_rollout,
    attention_scores,
    mean_distance,
    rollout,
)


def stochastic(rng, *shape):
    array = rng.uniform(size=shape)
    return array / array.sum(axis=-1, keepdims=True)


@pytest.fixture
def images(rng):
    return rng.uniform(0, 255, (2, 8, 12, 3))


@pytest.fixture
def uniform_vit(randomized):
    """Builds models whose queries are zero: attention to all tokens alike."""

    def build(image_size, **arguments):
        variant = keras_vit.Variant(**{"num_layers": 1, **arguments})
        model = keras_vit.ViT(variant, image_size=image_size, num_registers=1)
        query = randomized(model).get_layer("block_00").attention.query
        for weight in query.weights:
            weight.assign(np.zeros(weight.shape))
        return model

    return build


def test_rollout_of_identity_is_identity():
    identity = np.broadcast_to(np.eye(5), (2, 3, 5, 5))
    np.testing.assert_array_equal(rollout([identity] * 4)[1], np.eye(5))


def test_rollout_is_the_product_from_last_to_first(rng):
    first, second, third = (stochastic(rng, 1, 2, 4, 4) for _ in range(3))
    a, b, c = (
        (x[0].mean(axis=0) + np.eye(4)) / 2 for x in (first, second, third)
    )
    product = rollout([first, second, third])
    np.testing.assert_allclose(product[0], c @ b @ a, rtol=1e-14)
    assert not np.allclose(product[0], a @ b @ c, atol=1e-3)
    np.testing.assert_allclose(product.sum(axis=-1), 1, rtol=1e-14)


def test_rollout_follows_a_token_through_two_blocks():
    """Token 2 looks at 1 in the second block, 1 had looked at 0 before."""
    first, second = np.eye(3), np.eye(3)
    first[1], second[2] = [1, 0, 0], [0, 1, 0]
    product = rollout([first[None, None], second[None, None]])[0]
    np.testing.assert_allclose(product[2], [0.25, 0.25, 0.5])


@pytest.mark.parametrize("scores", [[], [np.ones((2, 3, 3))]])
def test_rollout_refuses_what_is_no_scores(scores):
    with pytest.raises(ValueError, match="`scores` must be"):
        rollout(scores)


@pytest.mark.parametrize(
    "arguments, prefix, cls_token",
    [
        ({"num_registers": 1}, 2, True),
        ({"pooling": "average"}, 0, False),
        ({"pooling": "average", "num_registers": 2}, 2, False),
    ],
)
def test_rollout_of_a_model(arguments, prefix, cls_token, tiny_vit, images):
    model = tiny_vit(**arguments)
    expected = np.eye(prefix + 6)
    for _, scores in attention_scores(model, images):
        mean = scores.astype("float64").mean(axis=1)
        expected = (mean + np.eye(prefix + 6)) / 2 @ expected
    maps, matrix = attention_rollout(model, images, return_matrix=True)
    np.testing.assert_allclose(matrix, expected, rtol=1e-6)
    rows = expected[:, :1] if cls_token else expected[:, prefix:]
    rows = rows[:, :, prefix:].mean(axis=1)
    assert maps.shape == (2, 2, 3) and maps.dtype == "float64"
    np.testing.assert_allclose(maps[1, 1, 2], rows[1, 5], rtol=1e-6)
    np.testing.assert_allclose(maps.reshape(2, 6), rows, rtol=1e-6)


@pytest.mark.parametrize(
    "grid, patch, expected", [(14, 16, 116.492), (7, 32, 115.503)]
)
def test_distance_of_uniform_attention(grid, patch, expected):
    tokens = grid * grid
    uniform = np.full((1, 2, tokens, tokens), 1 / tokens)
    np.testing.assert_allclose(
        mean_distance(uniform, grid, patch), expected, atol=5e-4
    )


def test_distance_of_a_model_with_uniform_attention(uniform_vit):
    model = uniform_vit(
        224, hidden_dim=8, mlp_dim=8, num_heads=2, patch_size=32
    )
    images = np.zeros((2, 224, 224, 3))
    np.testing.assert_allclose(
        attention_distance(model, images, batch_size=1),
        np.full((1, 2), 115.503),
        atol=5e-4,
    )


def test_distance_in_a_hybrid_is_in_pixels_of_the_image(uniform_vit):
    model = uniform_vit(
        (16, 24),
        hidden_dim=8,
        mlp_dim=8,
        num_heads=2,
        patch_size=1,
        stages=(1,),
        width_factor=0.5,
    )
    # Its stride is 4: a grid of 4 x 6.
    places = np.stack(np.mgrid[:4, :6], axis=-1).reshape(-1, 2) * 4
    every = np.hypot(*(places[:, None] - places).transpose(2, 0, 1))
    found = attention_distance(model, np.zeros((16, 24, 3)))
    np.testing.assert_allclose(found, np.full((1, 2), every.mean()), rtol=1e-6)


def test_distance_of_a_head_that_looks_one_patch_to_the_side():
    """Patches of 4 x 10 pixels; the class token takes half and has no say."""
    scores = np.zeros((1, 1, 7, 7))
    scores[0, 0, 0, 0] = 1
    for query in range(6):
        neighbour = query + 1 if query % 3 < 2 else query - 1
        scores[0, 0, 1 + query, [0, 1 + neighbour]] = 0.5
    np.testing.assert_allclose(mean_distance(scores, (2, 3), (4, 10), 1), 10)
    # One that looks at itself: half of the mean over two patches.
    scores[0, 0, 1] = np.eye(7)[1]
    expected = 10 * 5 / 6
    found = mean_distance(scores, (2, 3), (4, 10), 1)
    np.testing.assert_allclose(found, expected)
    # One that looks at no patch does not count; if none does, there is none.
    scores[0, 0, 1] = np.eye(7)[0]
    np.testing.assert_allclose(mean_distance(scores, (2, 3), (4, 10), 1), 10)
    scores[0, 0, 1:] = np.eye(7)[0]
    assert np.isnan(mean_distance(scores, (2, 3), (4, 10), 1))


def test_distance_is_the_mean_over_images_whatever_the_batch(tiny_vit, rng):
    model = tiny_vit(num_registers=1)
    images = rng.uniform(0, 255, (3, 8, 12, 3))
    one_by_one = [attention_distance(model, image) for image in images]
    np.testing.assert_allclose(
        attention_distance(model, images, batch_size=2),
        np.mean(one_by_one, axis=0),
        rtol=1e-5,
    )


def test_distance_of_blocks_with_unequal_heads(tiny_vit, images):
    model = tiny_vit(
        block=lambda index: keras_vit.layers.TransformerBlock(4 - index * 2, 8)
    )
    found = attention_distance(model, images)
    np.testing.assert_array_equal(
        np.isnan(found), [[False] * 4, [False, False, True, True]]
    )


def test_distance_refuses_scores_of_another_grid():
    with pytest.raises(ValueError, match="1 and a grid of 2 x 3"):
        mean_distance(np.ones((1, 1, 6, 6)), (2, 3), 4, num_prefix_tokens=1)


@pytest.mark.parametrize("patch, token", [((1, 2), 2 + 5), (None, 0)])
def test_attention_from_is_a_row_of_scores(patch, token, tiny_vit, images):
    model = tiny_vit(num_registers=1)
    found = attention_from(model, images[0], patch)
    assert found.shape == (2, 4, 2, 3)
    scores = dict(attention_scores(model, images[:1]))
    for maps, name in zip(found, ("block_00", "block_01")):
        np.testing.assert_allclose(
            maps.reshape(4, 6), scores[name][0, :, token, 2:], rtol=1e-6
        )
    last = attention_from(model, images[:1], patch, blocks=-1)
    np.testing.assert_array_equal(last, found[1:])


@pytest.mark.parametrize("patch", [(2, 0), (0, 3), (-1, 0), (0.5, 1), 3])
def test_attention_from_refuses_a_patch_that_is_not_there(
    patch, tiny_vit, images
):
    with pytest.raises(ValueError, match="grid of 2 x 3"):
        attention_from(tiny_vit(), images[0], patch)


def test_attention_from_needs_one_image_and_a_token(tiny_vit, images):
    with pytest.raises(ValueError, match="`image` must be one"):
        attention_from(tiny_vit(), images, (0, 0))
    with pytest.raises(ValueError, match="without a class token"):
        attention_from(tiny_vit(pooling="average"), images[0])
