"""What is to be predicted, against colours whose class is known."""

import keras
import numpy as np
import pytest
from helpers import to_numpy

from keras_vit.layers import Patches
from keras_vit.pretraining import PatchTargets


def targets_of(images, kind, patch_size, **arguments):
    images = np.asarray(images, "float32")
    patches = Patches(patch_size, data_format="channels_last")(images)
    return to_numpy(PatchTargets(kind, patch_size, **arguments)(patches))


def constant(*color, size=(8, 8)):
    return np.broadcast_to(np.array(color, "float32"), (1, *size, len(color)))


@pytest.mark.parametrize("patch_size", [4, 14])
@pytest.mark.parametrize(
    "color, label",
    [
        ((0, 0, 0), 0),
        ((255, 255, 255), 511),
        ((255, 0, 0), 7 * 64),
        ((0, 255, 0), 7 * 8),
        ((0, 0, 255), 7),
        # Levels begin at multiples of 32.
        ((31, 32, 63), 0 * 64 + 1 * 8 + 1),
        ((64, 95, 96), 2 * 64 + 2 * 8 + 3),
        ((127, 128, 224), 3 * 64 + 4 * 8 + 7),
        ((31,), 0),
        ((223,), 6),
    ],
)
def test_class_of_a_patch_of_one_colour(color, label, patch_size):
    size = (2 * patch_size, 3 * patch_size)
    given = targets_of(constant(*color, size=size), "mean_color", patch_size)
    np.testing.assert_array_equal(given, np.full((1, 2, 3), label))


@pytest.mark.parametrize("value", range(0, 256, 5))
def test_images_between_minus_one_and_one_have_the_same_classes(value):
    expected = targets_of(constant(value, value, value), "mean_color", 8)
    scaled = constant(value, value, value) / 127.5 - 1
    given = targets_of(scaled, "mean_color", 8, value_range=(-1, 1))
    np.testing.assert_array_equal(given, expected)
    assert expected.item() == value // 32 * 73  # 64 + 8 + 1


def test_it_is_the_mean_that_counts(rng):
    images = rng.integers(0, 256, (3, 12, 16, 3))
    given = targets_of(images, "mean_color", (4, 8))
    means = images.reshape(3, 3, 4, 2, 8, 3).mean(axis=(2, 4))
    expected = (means // 32) @ np.array([64, 8, 1])
    np.testing.assert_array_equal(given, expected)


def test_a_thumbnail_has_its_parts_in_row_order():
    parts = np.arange(16).reshape(4, 4) * 16  # two values to a level
    image = np.kron(parts, np.ones((2, 3)))[None, :, :, None]
    given = targets_of(image, "thumbnail", (8, 12))
    np.testing.assert_array_equal(given, [[[np.arange(16) // 2]]])


def test_pixels_are_on_a_scale_from_minus_one_to_one(rng):
    images = rng.uniform(0, 255, (2, 4, 8, 3))
    given = targets_of(images, "pixels", 4)
    expected = images.reshape(2, 4, 2, 12).transpose(0, 2, 1, 3)
    expected = expected.reshape(2, 1, 2, 48) / 127.5 - 1
    np.testing.assert_allclose(given, expected, atol=1e-5)


def test_normalized_pixels_have_mean_0_and_deviation_1(rng):
    images = rng.uniform(0, 255, (2, 4, 8, 3))
    pixels = targets_of(images, "pixels", 4).astype("float64")
    given = targets_of(images, "normalized_pixels", 4)
    centred = pixels - pixels.mean(axis=-1, keepdims=True)
    variance = pixels.var(axis=-1, ddof=1, keepdims=True)
    expected = centred / np.sqrt(variance + 1e-6)
    np.testing.assert_allclose(given, expected, atol=1e-4)
    flat = targets_of(constant(9, 9, 9), "normalized_pixels", 4)
    np.testing.assert_allclose(flat, 0, atol=1e-3)


@pytest.mark.parametrize("policy", ["mixed_float16", "mixed_bfloat16"])
def test_half_precision_does_not_touch_the_targets(policy, rng):
    images = rng.uniform(0, 255, (8, 8, 8, 3))
    for kind in ("mean_color", "pixels"):
        given = targets_of(images, kind, 4, dtype=policy)
        np.testing.assert_array_equal(given, targets_of(images, kind, 4))


@pytest.mark.parametrize(
    "kind, patch_dim, expected",
    [
        ("mean_color", 48, (512,)),
        ("mean_color", 16, (8,)),
        ("thumbnail", 48, (16, 512)),
        ("pixels", 48, (48,)),
    ],
)
def test_shape_of_a_prediction(kind, patch_dim, expected):
    assert PatchTargets(kind, 4).prediction_shape(patch_dim) == expected


@pytest.mark.parametrize(
    "make, message",
    [
        (lambda: PatchTargets("colour", 4), "kind='colour'"),
        (lambda: PatchTargets("thumbnail", 6), r"patch_size=\(6, 6\)"),
        (lambda: PatchTargets("pixels", 4, (1, 1)), r"value_range=\(1, 1\)"),
        (lambda: PatchTargets("pixels", 4)(np.zeros((1, 2, 3))), "rank 4"),
        (lambda: PatchTargets("pixels", 4)(np.zeros((1, 1, 1, 9))), "9"),
        (
            lambda: PatchTargets("mean_color", 2)(np.zeros((1, 1, 1, 20))),
            "5 channels",
        ),
    ],
)
def test_bad_arguments(make, message):
    with pytest.raises(ValueError, match=message):
        make()


def test_config_rebuilds_the_layer():
    layer = PatchTargets("pixels", (4, 6), (-1, 1), dtype="float64")
    twin = PatchTargets.from_config(layer.get_config())
    assert twin.get_config() == layer.get_config()


def test_sizes_known_only_when_the_graph_runs():
    patches = keras.Input((None, None, 48))
    model = keras.Model(patches, PatchTargets("thumbnail", 4)(patches))
    assert model.output_shape == (None, None, None, 16)
    given = model.predict(np.full((2, 3, 1, 48), 255.0), verbose=0)
    np.testing.assert_array_equal(given, np.full((2, 3, 1, 16), 511))
