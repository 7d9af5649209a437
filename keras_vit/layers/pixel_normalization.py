"""Pixels on the scale that a network was trained on: the first layer of all.

It is part of the model, so that weights always meet images with the statistics
that they were trained on, wherever their file is opened.
"""

import dataclasses
from typing import Any

import keras
from keras import ops

from keras_vit.arguments import (
    DataFormat,
    Shape,
    check_data_format,
    check_rank,
)
from keras_vit.preprocessing import Preprocessing


@keras.saving.register_keras_serializable(package="keras_vit")
class PixelNormalization(keras.layers.Layer):
    """Brings pixels in [0, 255] to the statistics of a network.

    For each channel,

        y = (x / 255 - mean) / std

    The layer also stores the advice on size and crop that came with the
    statistics. It does not use it itself; `keras_vit.load_image` does.

    Args:
        mean: mean of each channel where white is 1; or one number for all.
        std: standard deviation of each channel, above 0; or one number for
            all.
        crop_fraction: see `keras_vit.Preprocessing`, as the four after it.
        interpolation: likewise.
        resize: likewise.
        crop_rounding: likewise.
        image_size: likewise.
        data_format: `"channels_last"` or `"channels_first"`, the format of the
            images. Defaults to `keras.config.image_data_format()`.

    Call arguments:
        images: tensor of shape `(batch, height, width, channels)`, or
            `(batch, channels, height, width)`, pixels in [0, 255].

    Returns:
        A tensor of the shape of `images`.

    Example:

    >>> layer = keras_vit.layers.PixelNormalization((0.5, 0.5, 0.5), (0.5,) * 3)
    >>> images = keras.ops.full((1, 2, 2, 3), 255.0)
    >>> float(keras.ops.max(layer(images)))
    1.0
    """

    def __init__(
        self,
        mean: float | tuple[float, ...],
        std: float | tuple[float, ...],
        *,
        crop_fraction: float = 1.0,
        interpolation: str = "bilinear",
        resize: str = "shortest",
        crop_rounding: str = "even",
        image_size: int | tuple[int, int] | None = None,
        data_format: DataFormat | None = None,
        **kwargs,
    ):
        super().__init__(**kwargs)
        self.preprocessing = Preprocessing(
            mean,
            std,
            crop_fraction,
            interpolation,
            resize,
            crop_rounding,
            image_size,
        )
        self.data_format = check_data_format(data_format)

    def build(self, input_shape: Shape) -> None:
        check_rank(self, input_shape, 4, "a batch of images")
        at = 1 if self.data_format == "channels_first" else -1
        channels = input_shape[at]
        own = self.preprocessing
        for name in ("mean", "std"):
            count = len(getattr(own, name))
            if count not in (1, channels):
                raise ValueError(
                    f"`{name}` must be one number or one for each of the "
                    f"{channels} channels. Received: {name}="
                    f"{getattr(own, name)}, input shape={tuple(input_shape)}"
                )

    def call(self, images: Any) -> Any:
        check_rank(self, images.shape, 4, "a batch of images")
        images = ops.cast(images, self.compute_dtype)
        own = self.preprocessing
        # One product and one sum on every backend.
        scale = [1 / (255 * std) for std in own.std]
        offset = [-x / std for x, std in zip(self._means(), self._stds())]
        return images * self._factor(scale, images) + self._factor(
            offset, images
        )

    def _means(self):
        own = self.preprocessing
        return own.mean * (len(own.std) if len(own.mean) == 1 else 1)

    def _stds(self):
        own = self.preprocessing
        return own.std * (len(own.mean) if len(own.std) == 1 else 1)

    def _factor(self, numbers, images):
        if len(numbers) == 1:
            return numbers[0]
        factor = ops.convert_to_tensor(numbers, images.dtype)
        if self.data_format == "channels_first":
            factor = ops.reshape(factor, (-1, 1, 1))
        return factor

    def compute_output_shape(self, input_shape: Shape) -> Shape:
        return input_shape

    def get_config(self) -> dict[str, Any]:
        return {
            **super().get_config(),
            **dataclasses.asdict(self.preprocessing),
            "data_format": self.data_format,
        }
