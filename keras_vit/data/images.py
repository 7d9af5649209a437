"""An image, wherever it comes from, as the pixels that a model takes.

What differs between the libraries that trained public networks (which side is
resized, how it is interpolated, where the crop begins) is what a
`Preprocessing` advises. Pillow reads and resizes, as theirs do.
"""

import math
import os
from collections.abc import Iterable
from typing import Any

import keras
import numpy as np

from keras_vit.anatomy import image_input, preprocessing_of
from keras_vit.arguments import check_pair
from keras_vit.extras import require
from keras_vit.preprocessing import Preprocessing

# Both sides at once, as `ImageFolder` resizes and a size alone asks for.
SQUASH = Preprocessing((0.5,), (0.5,), resize="squash")
# Of so many channels, the modes of Pillow that files are read in.
MODES = {1: "L", 3: "RGB"}
# Modes whose last band is opacity.
TRANSPARENT = ("RGBA", "RGBa", "LA", "La", "PA")
PILLOW = "Image files are read by Pillow"


def load_image(
    source: Any, model_or_size: keras.Model | int | tuple[int, int]
) -> np.ndarray:
    """Reads an image as a model takes it, or in a given size.

    For a model the image is resized and cropped as the library that trained
    its weights does it, see `keras_vit.Preprocessing`, so that pixels are
    equal to theirs. For a size alone both sides are resized, as `ImageFolder`
    does. Pixels stay in [0, 255]: the model scales them itself.

    Files are turned upright as their EXIF orientation says. Grey images,
    palettes and CMYK become RGB; what is transparent is laid on white, as in
    transformers; of 16 bits the upper 8 are kept; of an animation the first
    frame. A model of one channel gets grey images.

    Args:
        source: path of an image file; a `PIL.Image.Image`; or an array of
            shape `(height, width, channels)` or `(height, width)`, integers
            of 8 or 16 bits, booleans, or floats in [0, 255]. More channels
            than three come as an array.
        model_or_size: a `keras.Model` with one image input; or height and
            width in pixels, an int or a pair.

    Returns:
        Array `uint8` of shape `(height, width, channels)`, or `(channels,
        height, width)` for a model with `data_format="channels_first"`.

    Raises:
        ValueError: if an argument breaks its rule, or if the file cannot be
            decoded; the message names the file.
        ImportError: if Pillow is not installed.

    Example:

    >>> model = keras_vit.ViT("Ti/16", image_size=(64, 32), num_classes=10)
    >>> pixels = np.zeros((480, 640, 3), "uint8")
    >>> keras_vit.load_image(pixels, model).shape
    (64, 32, 3)

    ```python
    keras_vit.load_image("zebra.jpg", 224)
    ```
    """
    return load_images([source], model_or_size)[0]


def load_images(
    sources: Iterable[Any], model_or_size: keras.Model | int | tuple[int, int]
) -> np.ndarray:
    """Reads several images, of any sizes, as one batch for a model.

    Args:
        sources: what `load_image` reads, in a list or another iterable.
        model_or_size: as in `load_image`.

    Returns:
        Array `uint8` of shape `(num_images, height, width, channels)`, or
        with channels first, see `load_image`.

    Raises:
        ValueError: as `load_image`, or if there is no image.
        ImportError: if Pillow is not installed.

    Example:

    >>> model = keras_vit.ViT("Ti/16", image_size=32, num_classes=10)
    >>> pictures = [np.zeros((48, 64)), np.zeros((30, 20, 3), "uint8")]
    >>> images = keras_vit.load_images(pictures, model)
    >>> keras_vit.predict(model, images, verbose=0).shape
    (2, 10)
    """
    require("PIL", "data", PILLOW)
    if isinstance(sources, (str, os.PathLike)):
        raise ValueError(
            "`sources` must be a list of images; `load_image` reads one. "
            f"Received: sources={str(sources)!r}"
        )
    size, preprocessing, channels, data_format = _wanted(model_or_size)
    images = [_load(x, size, preprocessing, channels) for x in sources]
    if not images:
        raise ValueError("`sources` must hold at least one image.")
    if len({image.shape for image in images}) > 1:
        raise ValueError(
            "Images of one batch must have equally many channels. Received: "
            f"{sorted({image.shape[-1] for image in images})}"
        )
    images = np.stack(images)
    if data_format == "channels_first":
        images = images.transpose(0, 3, 1, 2)
    return images


def _wanted(model_or_size):
    """Size, advice, channels if they are known, and data format."""
    if not isinstance(model_or_size, keras.Model):
        size = check_pair("model_or_size", model_or_size)
        return size, SQUASH, None, "channels_last"
    model = model_or_size
    size, data_format = image_input(model)
    (images,) = [x for x in model.inputs if len(x.shape) == 4]
    channels = images.shape[1 if data_format == "channels_first" else -1]
    preprocessing = preprocessing_of(model) or SQUASH
    if None in size:
        size = preprocessing.image_size
    if size is None:
        raise ValueError(
            f"'{model.name}' takes images of any size, and nothing says which "
            "its weights are for. Pass height and width in its place."
        )
    return size, preprocessing, channels, data_format


def _load(source, size, preprocessing, channels):
    """One image as an array, channels last."""
    from PIL import Image

    if isinstance(source, (str, os.PathLike)):
        image = read_image(source, _mode(channels))
    elif isinstance(source, Image.Image):
        image = in_mode(source, _mode(channels))
    else:
        pixels = _pixels_of(source)
        if channels in (None, *MODES) and pixels.shape[-1] in (1, 3, 4):
            grey = pixels.shape[-1] == 1
            image = Image.fromarray(pixels[..., 0] if grey else pixels)
            image = in_mode(image, _mode(channels))
        else:
            return _bands(pixels, size, preprocessing, channels)
    pixels = np.asarray(fit(image, size, preprocessing))
    return pixels[..., None] if pixels.ndim == 2 else pixels


def _mode(channels):
    if channels not in (None, *MODES):
        raise ValueError(
            "Image files and PIL images have one channel or three: pass an "
            f"array of shape (height, width, {channels}) to a model of "
            f"{channels} channels."
        )
    return MODES[channels or 3]


def _bands(pixels, size, preprocessing, channels):
    """Any number of channels, each resized by itself."""
    from PIL import Image

    if channels not in (None, pixels.shape[-1]):
        raise ValueError(
            f"The model takes images of {channels} channels. Received: an "
            f"array of shape {pixels.shape}"
        )
    bands = [Image.fromarray(band) for band in np.moveaxis(pixels, -1, 0)]
    return np.stack(
        [
            np.asarray(fit(band, size, preprocessing, index))
            for index, band in enumerate(bands)
        ],
        axis=-1,
    )


def _pixels_of(array):
    """An array as `uint8` of shape `(height, width, channels)`."""
    if not isinstance(array, np.ndarray):
        array = keras.ops.convert_to_numpy(array)
    if array.ndim == 2:
        array = array[..., None]
    if array.ndim != 3 or 0 in array.shape:
        raise ValueError(
            "An image must be a path, a PIL image or an array of shape "
            f"(height, width, channels). Received: shape={array.shape}"
        )
    if array.dtype == bool:
        return array * np.uint8(255)
    if array.dtype == np.uint16:
        return (array >> 8).astype("uint8")
    if array.dtype == np.uint8:
        return array
    low, high = array.min(), array.max()
    # Not `low < 0 or high > 255`, which NaN would pass.
    if not (low >= 0 and high <= 255):
        raise ValueError(
            "Pixels must be in [0, 255]: models scale them by themselves. "
            f"Received: values from {low} to {high}"
        )
    if 0 < high <= 1:
        raise ValueError(
            "Pixels must be in [0, 255], and these look like pixels in "
            f"[0, 1]: multiply them by 255. Received: the largest is {high}"
        )
    return np.rint(array).astype("uint8")


def read_image(path: str | os.PathLike, mode: str) -> Any:
    """Returns a whole image file as a PIL image, or raises with its path.

    Args:
        path: path of the file.
        mode: Pillow's mode, `"RGB"` or `"L"`.
    """
    require("PIL", "data", PILLOW)
    from PIL import Image

    try:
        with Image.open(path) as image:
            return in_mode(image, mode)
    except MemoryError:
        raise
    except Exception as error:
        # A broken file makes decoders raise almost anything: OSError,
        # SyntaxError, struct.error, IndexError.
        raise ValueError(
            f"Image file {str(path)!r} cannot be decoded: {error}"
        ) from error


def in_mode(image: Any, mode: str) -> Any:
    """Returns a PIL image upright, opaque and in the given mode."""
    from PIL import Image, ImageOps

    image = ImageOps.exif_transpose(image)
    if image.mode == "F":
        raise ValueError("Pixels of an image of floats have no known range.")
    if image.mode.startswith("I"):
        # Pillow would clip 16 bits at 255 instead of scaling them.
        pixels = np.asarray(image) >> 8
        return Image.fromarray(pixels.astype("uint8")).convert(mode)
    if image.mode in TRANSPARENT or "transparency" in image.info:
        image = image.convert("RGBA")
        white = Image.new("RGBA", image.size, (255, 255, 255, 255))
        image = Image.alpha_composite(white, image)
    return image.convert(mode)


def fit(
    image: Any,
    size: tuple[int, int],
    preprocessing: Preprocessing,
    channel: int = 0,
) -> Any:
    """Returns a PIL image resized and cropped as a `Preprocessing` advises.

    Args:
        image: a PIL image of mode `"RGB"` or `"L"`.
        size: height and width in pixels.
        preprocessing: the `Preprocessing`.
        channel: which channel an image of mode `"L"` is, for the border.
    """
    from PIL import Image

    advice = preprocessing
    height, width = _resized((image.height, image.width), size, advice)
    image = image.resize(
        (width, height), Image.Resampling[advice.interpolation.upper()]
    )
    if advice.resize == "longest":
        image = _on_border(image, size, advice.mean, channel)
    top, left = (
        _begin(edge - kept, advice.crop_rounding)
        for edge, kept in zip((image.height, image.width), size)
    )
    return image.crop((left, top, left + size[1], top + size[0]))


def _resized(given, size, advice):
    """Height and width to resize to, as the libraries round them."""
    target = [math.floor(edge / advice.crop_fraction) for edge in size]
    if advice.resize == "squash":
        return tuple(target)
    if advice.resize == "shortest" and target[0] == target[1]:
        short, long = sorted(given)
        long = int(target[0] * long / short)
        return (target[0], long) if given[0] <= given[1] else (long, target[0])
    ratios = [edge / aim for edge, aim in zip(given, target)]
    ratio = max(ratios) if advice.resize == "longest" else min(ratios)
    return tuple(max(round(edge / ratio), 1) for edge in given)


def _begin(surplus, rounding):
    return surplus // 2 if rounding == "down" else round(surplus / 2)


def _on_border(image, size, mean, channel):
    """Fills up with the mean what an image lacks of a size."""
    from PIL import Image

    height, width = (
        max(edge, own) for edge, own in zip(size, (image.height, image.width))
    )
    bands = len(image.getbands())
    fill = [round(255 * x) for x in (mean * bands if len(mean) == 1 else mean)]
    fill = tuple(fill) if bands > 1 else fill[min(channel, len(fill) - 1)]
    whole = Image.new(image.mode, (width, height), fill)
    whole.paste(
        image, ((width - image.width) // 2, (height - image.height) // 2)
    )
    return whole
