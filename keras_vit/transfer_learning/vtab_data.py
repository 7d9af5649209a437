"""Images of the VTAB tasks: read from TensorFlow Datasets, resized on the host.

Test sets have up to 73,728 images, 33 GB at 384 pixels, so images are decoded
when their batch is needed. The official code resizes to a square by bilinear
interpolation without antialiasing (`tf.image.resize` in `data_loader.py`). So
does this, in NumPy, because Pillow's bilinear resize always antialiases.
"""

import io
import os
import types
from collections.abc import Sequence

import keras
import numpy as np

from keras_vit.extras import require
from keras_vit.transfer_learning.vtab_tasks import VTABTask


def load_tfds(
    task: VTABTask, split: str, data_dir: str | os.PathLike | None = None
) -> tuple["EncodedImages", np.ndarray]:
    """Opens a split of a task that TensorFlow Datasets (TFDS) has on disk.

    The files must have a format with random access, ArrayRecord. They are read
    without TensorFlow; for most of the sets TFDS needs TensorFlow to make them.

    Args:
        task: a `VTABTask`.
        split: name of the official split, see `VTABTask`.
        data_dir: folder of TFDS. Defaults to that of TFDS itself.

    Returns:
        `(images, labels)`: a sequence of images, `uint8` of shape `(height,
        width, 3)`, decoded when they are indexed; and the labels, `int64`.

    Raises:
        ImportError: if TFDS or Pillow is not installed.
        FileNotFoundError: if the data set is not there in that format; the
            message says how to make it.

    Example:

    ```python
    from keras_vit.transfer_learning.vtab_data import load_tfds
    from keras_vit.transfer_learning.vtab_tasks import TASKS

    images, labels = load_tfds(TASKS["dtd"], "train800", "~/data")
    ```
    """
    tfds = import_tfds()
    builder = tfds.builder(task.builder, data_dir=data_dir)
    info = builder.info
    counts = {name: part.num_examples for name, part in info.splits.items()}
    if not counts or "array_record" not in {
        known.value for known in info.available_file_formats()
    }:
        place = f", data_dir={str(data_dir)!r}" if data_dir else ""
        raise FileNotFoundError(
            f"'{task.builder}' is not there as ArrayRecord files, in "
            f"{builder.data_path}. To make them: tensorflow_datasets.builder("
            f"'{task.builder}'{place}, file_format='array_record')"
            ".download_and_prepare()"
        )
    source = builder.as_data_source(
        task.instruction(split, counts),
        # Labels are read without decoding an image.
        decoders={"image": tfds.decode.SkipDecoding()},
    )
    labels = [
        task.label(source[row][task.feature]) for row in range(len(source))
    ]
    return EncodedImages(source, task.intensity), np.array(labels, "int64")


def import_tfds() -> types.ModuleType:
    """Returns the module of TFDS, or raises if it or Pillow is absent."""
    require("PIL.Image", "vtab", "The images of VTAB are decoded by Pillow")
    return require(
        "tensorflow_datasets",
        "vtab",
        "The data sets of VTAB are read by tensorflow-datasets",
    )


class EncodedImages:
    """Image files in a data source of TFDS, decoded when indexed."""

    def __init__(self, source: Sequence, intensity: int = 1):
        self.source = source
        self.intensity = intensity

    def __len__(self):
        return len(self.source)

    def __getitem__(self, row):
        from PIL import Image

        # Some files of RGB sets are grey or CMYK.
        with Image.open(io.BytesIO(self.source[row]["image"])) as image:
            pixels = np.asarray(image.convert("RGB"))
        return pixels * np.uint8(self.intensity)


class ResizedImages:
    """Images of any sizes that look like one array, resized when indexed.

    Args:
        images: sequence of images, `uint8` of shape `(height, width,
            channels)`.
        image_size: the new height and width in pixels.
    """

    def __init__(self, images: Sequence, image_size: tuple[int, int]):
        self.images = images
        self.image_size = image_size
        self.channels_first = (
            keras.config.image_data_format() == "channels_first"
        )

    def __len__(self):
        return len(self.images)

    def __getitem__(self, rows):
        images = np.stack(
            [resize(self.images[int(row)], self.image_size) for row in rows]
        )
        return images.transpose(0, 3, 1, 2) if self.channels_first else images


def resize(image: np.ndarray, image_size: tuple[int, int]) -> np.ndarray:
    """Resizes by bilinear interpolation between the centres of pixels.

    Args:
        image: `uint8` of shape `(height, width, channels)`. One channel is
            repeated to three.
        image_size: height and width in pixels. The aspect ratio is not kept.

    Returns:
        An array of `uint8`.

    Raises:
        ValueError: if the image has another rank or dtype.
    """
    image = np.asarray(image)
    if image.ndim != 3 or image.dtype != np.uint8:
        raise ValueError(
            "Images must be uint8 in [0, 255] of shape (height, width, "
            f"channels). Received: shape={image.shape}, dtype={image.dtype}"
        )
    if image.shape[-1] == 1:
        image = np.repeat(image, 3, axis=-1)
    for axis, size in enumerate(image_size):
        image = _resize_axis(image, axis, size)
    return np.rint(image).astype("uint8")


def _resize_axis(image, axis, size):
    # The product with `resize_matrix(size, old, "bilinear")`, by its two
    # entries a row instead of the whole matrix: five times as fast.
    old = image.shape[axis]
    if old == size:
        return image
    centres = (np.arange(size) + 0.5) * (old / size) - 0.5
    below = np.floor(centres).astype(int)
    share = (centres - below).astype("float32")
    share = share.reshape(-1, *[1] * (image.ndim - 1 - axis))
    # Beyond the outermost centres the edge pixels are repeated.
    lower = image.take(below.clip(0), axis).astype("float32")
    upper = image.take((below + 1).clip(None, old - 1), axis)
    return lower + (upper - lower) * share
