"""Known answers of `Patches`, by hand."""

import keras
import numpy as np
import pytest
from helpers import to_numpy

from keras_vit.layers import PatchEncoder, Patches


def image(height, width, channels=1):
    size = height * width * channels
    return np.arange(size, dtype="float32").reshape(1, height, width, channels)


def test_patches_of_counted_pixels():
    #  0  1 |  2  3 |  4  5
    #  6  7 |  8  9 | 10 11
    # ---------------------
    # 12 13 | 14 15 | 16 17
    # 18 19 | 20 21 | 22 23
    patches = to_numpy(Patches(2)(image(4, 6)))
    expected = [
        [[0, 1, 6, 7], [2, 3, 8, 9], [4, 5, 10, 11]],
        [[12, 13, 18, 19], [14, 15, 20, 21], [16, 17, 22, 23]],
    ]
    np.testing.assert_array_equal(patches, [expected])


def test_rectangular_patches_and_channel_order():
    # One row of two patches of 1x2 pixels with 2 channels each.
    patches = to_numpy(Patches((1, 2))(image(1, 4, 2)))
    np.testing.assert_array_equal(patches, [[[[0, 1, 2, 3], [4, 5, 6, 7]]]])


def test_crop_drops_and_pad_adds_at_the_end():
    cropped = to_numpy(Patches(2, remainder="crop")(image(3, 5)))
    np.testing.assert_array_equal(cropped, [[[[0, 1, 5, 6], [2, 3, 7, 8]]]])
    padded = to_numpy(Patches(2, remainder="pad")(image(3, 3)))
    expected = [[[0, 1, 3, 4], [2, 0, 5, 0]], [[6, 7, 0, 0], [8, 0, 0, 0]]]
    np.testing.assert_array_equal(padded, [expected])


def test_patch_size_one_keeps_a_feature_map_as_it_is(rng):
    features = rng.normal(size=(2, 3, 4, 5)).astype("float32")
    np.testing.assert_array_equal(to_numpy(Patches(1)(features)), features)


def test_channels_first_gives_the_same_patches(rng):
    images = rng.normal(size=(2, 4, 6, 3)).astype("float32")
    first = Patches(2, data_format="channels_first")
    np.testing.assert_array_equal(
        to_numpy(first(images.transpose(0, 3, 1, 2))),
        to_numpy(Patches(2)(images)),
    )


def test_data_format_defaults_to_that_of_keras():
    keras.config.set_image_data_format("channels_first")
    assert Patches(2).data_format == "channels_first"


def test_projected_patches_equal_the_official_convolution(rng):
    """The `(P, P, C, D)` kernel of a checkpoint is a reshape of ours."""
    images = rng.normal(size=(2, 6, 9, 3)).astype("float32")
    convolution = keras.layers.Conv2D(
        8,
        3,
        strides=3,
        data_format="channels_last",
        bias_initializer="random_normal",
    )
    expected = to_numpy(convolution(images))
    encoder = PatchEncoder(8, position=None, cls_token=False)
    patches = Patches(3)(images)
    encoder(patches)
    kernel, bias = (to_numpy(w) for w in convolution.weights)
    encoder.projection.kernel.assign(kernel.reshape(27, 8))
    encoder.projection.bias.assign(bias)
    np.testing.assert_allclose(
        to_numpy(encoder(patches)), expected.reshape(2, 6, 8), atol=1e-5
    )


@pytest.mark.parametrize(
    "size, message",
    [
        ((8, 9), "width=9; the nearest legal sizes are 8 and 12"),
        ((6, 8), "height=6; the nearest legal sizes are 4 and 8"),
        ((3, 8), "height=3; the nearest legal size is 4"),
    ],
)
def test_an_image_that_the_patch_does_not_divide_is_refused(size, message):
    with pytest.raises(ValueError, match=message):
        Patches(4)(image(*size))
    with pytest.raises(ValueError, match=message):
        Patches(4)(keras.KerasTensor((None, *size, 1)))


def test_a_refusal_comes_at_every_call_not_only_the_first():
    patches = Patches(4)
    patches(image(8, 8))
    with pytest.raises(ValueError, match="height=9"):
        patches(image(9, 8))


def test_an_image_smaller_than_a_patch_has_nothing_to_crop():
    with pytest.raises(ValueError, match="at least the patch height 4"):
        Patches(4, remainder="crop")(image(3, 8))


def test_unknown_sizes_stay_unknown():
    shape = Patches(4).compute_output_shape((None, None, 8, 3))
    assert shape == (None, None, 2, 48)
    with pytest.raises(ValueError, match="needs the number of channels"):
        Patches(4).compute_output_shape((None, 8, 8, None))
