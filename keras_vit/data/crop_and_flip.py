"""The augmentation of small images: a shift of a few pixels, and a flip.

Nearly every training on CIFAR does this (He et al. 2016, arXiv:1512.03385,
section 4.2). It runs on the host in NumPy and takes less time than a step.
"""

from typing import Any

import numpy as np

from keras_vit.arguments import check_not_negative


class CropAndFlip:
    """Shifts each image of a batch at random, and flips half of them.

    Each image is padded with its own reflection, and a random window of the
    image's size is cut out. With probability 1/2 it is flipped left to right.
    Labels pass through. Use it as the `augment` of `ArrayDataset`, which seeds
    it anew for each batch.

    Args:
        padding: the most pixels an image moves in each direction, 0 or more
            and less than its edges.
        seed: integer of 0 or more.

    Call arguments:
        images: array of shape `(batch, height, width, channels)`.
        labels: anything.

    Returns:
        The images, with the same shape and dtype, and the labels.

    Raises:
        ValueError: if `padding` is negative or as large as an edge.

    Example:

    >>> augment = keras_vit.data.CropAndFlip(padding=4)
    >>> images, labels = augment(np.zeros((2, 32, 32, 3), "uint8"), [0, 1])
    >>> images.shape
    (2, 32, 32, 3)

    Reference:
        - [He et al., 2016](https://arxiv.org/abs/1512.03385), section 4.2
    """

    def __init__(self, padding: int = 4, seed: int = 0):
        self.padding = check_not_negative("padding", padding)
        self.reseed(check_not_negative("seed", seed))

    def reseed(self, *entropy: int) -> None:
        """Starts the random draws anew from these integers of 0 or more."""
        self.rng = np.random.default_rng(entropy)

    def __call__(
        self, images: np.ndarray, labels: Any
    ) -> tuple[np.ndarray, Any]:
        images = np.asarray(images)
        count, height, width, _ = images.shape
        pad = self.padding
        if pad >= min(height, width):
            raise ValueError(
                "`padding` must be less than the edges of the images. "
                f"Received: padding={pad}, images of shape {images.shape}"
            )
        padded = np.pad(
            images, ((0, 0), (pad, pad), (pad, pad), (0, 0)), mode="reflect"
        )
        top, left = self.rng.integers(0, 2 * pad + 1, (2, count, 1))
        rows = top + np.arange(height)
        columns = left + np.arange(width)
        mirrored = self.rng.random(count) < 0.5
        columns[mirrored] = columns[mirrored, ::-1]
        index = np.arange(count)[:, None, None]
        return padded[index, rows[:, :, None], columns[:, None, :]], labels
