"""Which patches are corrupted, masked, kept, and what stands in their place."""

import keras
import numpy as np
import pytest
from helpers import randomize, to_numpy

from keras_vit.layers import PatchEncoder
from keras_vit.pretraining import (
    MaskToken,
    PatchCorruption,
    PatchMasking,
    SelectTokens,
)

BATCH, ROWS, COLUMNS = 64, 5, 20
N = ROWS * COLUMNS


@pytest.fixture(scope="module")
def drawn():
    patches = np.zeros((BATCH, ROWS, COLUMNS, 2), "float32")
    sources, corrupted = PatchCorruption(seed=1)(patches)
    shape = (BATCH, ROWS, COLUMNS)
    assert tuple(sources.shape) == tuple(corrupted.shape) == shape
    return (
        to_numpy(sources).reshape(BATCH, N),
        to_numpy(corrupted).reshape(BATCH, N),
    )


def within_six_sigma(count, draws, rate):
    """Whether a count is one that a binomial may well have."""
    deviation = np.abs(count - draws * rate)
    return (deviation < 6 * np.sqrt(draws * rate * (1 - rate))).all()


def test_half_of_the_patches_of_every_image_are_corrupted(drawn):
    _, corrupted = drawn
    assert (corrupted.sum(axis=1) == N // 2).all()
    # Every place as often as any other, and every image by itself.
    assert within_six_sigma(corrupted.sum(axis=0), BATCH, 0.5)
    assert len(np.unique(corrupted, axis=0)) == BATCH


def test_they_are_corrupted_in_the_shares_of_the_paper(drawn):
    sources, corrupted = drawn
    own = np.arange(N)
    total = corrupted.sum()
    masked = sources == N
    swapped = (sources != own) & ~masked
    assert not (masked & ~corrupted).any() and not (swapped & ~corrupted).any()
    unchanged = corrupted & (sources == own)
    for kind, rate in [(masked, 0.8), (swapped, 0.1), (unchanged, 0.1)]:
        assert within_six_sigma(kind.sum(), total, rate)


def test_another_patch_is_any_other_of_the_image_and_never_the_same():
    layer = PatchCorruption(0.75, mask_rate=0.0, swap_rate=1.0, seed=1)
    sources, corrupted = layer(np.zeros((1000, 2, 2, 1)))
    sources = to_numpy(sources).reshape(1000, 4)
    corrupted = to_numpy(corrupted).reshape(1000, 4)
    assert ((sources >= 0) & (sources < 4)).all()
    np.testing.assert_array_equal(sources != np.arange(4), corrupted)
    for place in range(4):
        from_there = np.bincount(
            sources[corrupted[:, place], place], minlength=4
        )
        others = np.delete(from_there, place)
        assert within_six_sigma(others, others.sum(), 1 / 3)


@pytest.mark.parametrize("make", [PatchCorruption, PatchMasking])
def test_seeds_reproduce_and_calls_differ(make):
    patches = np.zeros((4, 4, 4, 1), "float32")
    layer, twin = make(seed=3), make(seed=3)
    first, same, second = layer(patches), twin(patches), layer(patches)
    for given, expected in zip(first, same):
        np.testing.assert_array_equal(to_numpy(given), to_numpy(expected))
    assert (to_numpy(first[0]) != to_numpy(second[0])).any()


def test_a_half_patch_counts_as_one_and_the_grid_may_be_unknown():
    layer = PatchCorruption(0.5)
    inputs = keras.Input((None, None, 2))
    model = keras.Model(inputs, layer(inputs)[1])
    for rows, columns, expected in [(1, 3, 2), (2, 2, 2), (3, 3, 5)]:
        given = model.predict(np.zeros((2, rows, columns, 2)), verbose=0)
        assert given.shape == (2, rows, columns)
        assert (given.sum(axis=(1, 2)) == expected).all()


def test_embeddings_are_replaced_before_positions_are_added(rng):
    """Token by token, with a class token and registers in front."""
    encoder = PatchEncoder(8, num_registers=2)
    patches = rng.normal(size=(2, 2, 3, 5)).astype("float32")
    encoder(patches)
    randomize(encoder, rng)
    mask_token = rng.normal(size=(1, 1, 8)).astype("float32")
    sources = np.array([[0, 6, 2, 1, 4, 6], [5, 1, 2, 3, 6, 0]])
    given = encoder(
        patches,
        sources=sources.reshape(2, 2, 3),
        mask_token=np.repeat(mask_token, 2, axis=0),
    )
    given = to_numpy(given)

    kernel, bias = map(to_numpy, encoder.projection.weights)
    embeddings = patches.reshape(2, 6, 5) @ kernel + bias
    table = to_numpy(encoder.position_embedding.table).reshape(7, 8)
    for image in range(2):
        with_mask = np.concatenate([embeddings[image], mask_token[0]])
        np.testing.assert_allclose(
            given[image, 3:], with_mask[sources[image]] + table[1:], atol=1e-5
        )
    # What stands in front is what it was.
    np.testing.assert_allclose(
        given[:, :3], to_numpy(encoder(patches))[:, :3], atol=1e-6
    )


def test_tokens_are_taken_out_and_put_back_in_their_places(rng):
    tokens = rng.normal(size=(3, 2 + 12, 4)).astype("float32")
    kept, sources, masked = PatchMasking(0.75, seed=1)(np.zeros((3, 3, 4, 1)))
    assert tuple(kept.shape) == (3, 3) and tuple(sources.shape) == (3, 3, 4)
    select = SelectTokens(num_prefix_tokens=2)
    seen = to_numpy(select(tokens, kept))
    assert seen.shape == (3, 2 + 3, 4)
    indices = to_numpy(kept)
    for image in range(3):
        np.testing.assert_array_equal(
            seen[image, 2:], tokens[image, 2:][indices[image]]
        )

    mask_token = np.full((3, 1, 4), 7.0, "float32")
    back = to_numpy(select(seen, sources, mask_token))
    masked = to_numpy(masked).reshape(3, 12)
    assert (masked.sum(axis=1) == 9).all()
    expected = np.where(masked[..., None], 7.0, tokens[:, 2:])
    np.testing.assert_array_equal(back[:, 2:], expected)
    np.testing.assert_array_equal(back[:, :2], tokens[:, :2])


def test_every_patch_is_masked_as_often_as_any_other():
    _, _, masked = PatchMasking(0.75, seed=1)(np.zeros((400, 4, 4, 1)))
    counts = to_numpy(masked).sum(axis=0)
    assert within_six_sigma(counts, 400, 0.75)


@pytest.mark.parametrize(
    "make, message",
    [
        (lambda: PatchCorruption(1.0), "corruption=1.0"),
        (lambda: PatchCorruption(mask_rate=1.1), "mask_rate=1.1"),
        (lambda: PatchCorruption(mask_rate=0.8, swap_rate=0.3), "add up"),
        (lambda: PatchCorruption(0.1)(np.zeros((1, 2, 2, 3))), "0 of 4"),
        (lambda: PatchCorruption(0.9)(np.zeros((1, 2, 2, 3))), "4 of 4"),
        (lambda: PatchCorruption()(np.zeros((1, 4, 3))), "rank 4"),
        (lambda: PatchMasking(-0.1), "masking=-0.1"),
        (lambda: PatchMasking(0.9)(np.zeros((1, 2, 2, 3))), "4 of 4"),
        (lambda: PatchMasking()(np.zeros((1, 4, 3))), "rank 4"),
        (lambda: PatchMasking()(keras.Input((None, 4, 3))), "one size"),
        (lambda: MaskToken(0), "hidden_dim=0"),
        (lambda: SelectTokens(-1), "num_prefix_tokens=-1"),
        (
            lambda: SelectTokens()(np.zeros((2, 8)), np.zeros((2, 1), "int32")),
            "rank 3",
        ),
    ],
)
def test_bad_arguments(make, message):
    with pytest.raises(ValueError, match=message):
        make()


@pytest.mark.parametrize(
    "layer",
    [
        PatchCorruption(0.3, mask_rate=0.5, swap_rate=0.2, seed=1),
        PatchMasking(0.3, seed=1),
        SelectTokens(3),
    ],
)
def test_config_rebuilds_the_layer(layer):
    twin = type(layer).from_config(layer.get_config())
    assert twin.get_config() == layer.get_config()
