"""Crops and mirrors of small images, which move pixels and change none."""

import numpy as np
import pytest

from keras_vit.data import ArrayDataset, CropAndFlip


def windows(image, padding):
    """All results there may be: every shift, mirrored or not."""
    pad = ((padding, padding), (padding, padding), (0, 0))
    padded = np.pad(image, pad, mode="reflect")
    height, width, _ = image.shape
    for top in range(2 * padding + 1):
        for left in range(2 * padding + 1):
            window = padded[top : top + height, left : left + width]
            yield window.tobytes()
            yield window[:, ::-1].tobytes()


def test_every_result_is_a_window_and_all_of_them_come(rng):
    image = rng.integers(0, 256, (4, 5, 3)).astype("uint8")
    augmented, labels = CropAndFlip(1)(np.stack([image] * 1000), "labels")
    assert labels == "labels" and augmented.dtype == np.uint8
    # 18 windows; one is missed by 1000 draws with a chance of e^-57 * 18.
    assert {x.tobytes() for x in augmented} == set(windows(image, 1))


def test_batches_depend_on_seed_epoch_and_index_alone(rng):
    images = rng.integers(0, 256, (6, 8, 8, 1)).astype("uint8")

    def batch(index, seed=0, epoch=0):
        data = ArrayDataset(
            images, np.arange(6), 3, CropAndFlip(2), seed=seed, epoch=epoch
        )
        return data[index][0]

    np.testing.assert_array_equal(batch(1), batch(1))
    assert (batch(1) != batch(1, seed=1)).any()
    assert (batch(1) != batch(1, epoch=1)).any()


@pytest.mark.parametrize("padding", [-1, 4])
def test_padding_must_be_less_than_the_edges(padding):
    with pytest.raises(ValueError, match="`padding` must be"):
        CropAndFlip(padding)(np.zeros((1, 4, 8, 3)), None)
