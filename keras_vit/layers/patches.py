"""Images cut into patches: the first step of a Vision Transformer.

Dosovitskiy et al. 2021, section 3.1. The patches stay a grid, so that no later
step has to guess rows and columns from a count. The projection that follows
belongs to `PatchEncoder`. Both together equal the stride-P convolution of the
official code, whose `(P, P, C, D)` kernel is a reshape of `(P * P * C, D)`.
"""

from typing import Any, Literal, get_args

import keras
from keras import ops

from keras_vit.arguments import (
    DataFormat,
    Shape,
    check_choice,
    check_data_format,
    check_pair,
    check_rank,
)

Remainder = Literal["error", "crop", "pad"]
REMAINDERS = get_args(Remainder)


@keras.saving.register_keras_serializable(package="keras_vit")
class Patches(keras.layers.Layer):
    """Cuts images into a grid of flattened, non-overlapping patches.

    A patch is flattened in the order row, column, channel. The layer has no
    weights. With `patch_size=1` it returns a feature map as a grid of 1x1
    patches: so the feature map of a hybrid enters a transformer.

    Args:
        patch_size: height and width of a patch in pixels; an int stands for
            both.
        remainder: what to do with an image that the patch does not divide:
            `"error"` refuses it, `"crop"` drops the last rows and columns as
            an unpadded convolution does, `"pad"` adds zeros below and to the
            right.
        data_format: `"channels_last"` or `"channels_first"`, the format of the
            images. Defaults to `keras.config.image_data_format()`. The grid of
            patches is channels-last either way.

    Call arguments:
        images: tensor of shape `(batch, height, width, channels)`, or
            `(batch, channels, height, width)` with `"channels_first"`. Height
            and width may be unknown until the call.

    Returns:
        A tensor of shape `(batch, height / patch_height, width / patch_width,
        patch_height * patch_width * channels)`.

    Raises:
        ValueError: if the patch does not divide the image and `remainder` is
            `"error"`, or if an image is smaller than a patch.

    Example:

    >>> images = keras.ops.ones((2, 32, 48, 3))
    >>> keras_vit.layers.Patches(16)(images).shape
    (2, 2, 3, 768)

    Reference:
        - [Dosovitskiy et al., 2021](https://arxiv.org/abs/2010.11929),
          section 3.1
    """

    def __init__(
        self,
        patch_size: int | tuple[int, int],
        remainder: Remainder = "error",
        data_format: DataFormat | None = None,
        **kwargs,
    ):
        super().__init__(**kwargs)
        self.patch_size = check_pair("patch_size", patch_size)
        self.remainder = check_choice("remainder", remainder, REMAINDERS)
        self.data_format = check_data_format(data_format)

    def build(self, input_shape: Shape) -> None:
        self.compute_output_shape(input_shape)

    def call(self, images: Any) -> Any:
        check_rank(self, images.shape, 4, "a batch of images")
        if self.data_format == "channels_first":
            images = ops.transpose(images, (0, 2, 3, 1))
        batch, height, width, channels = ops.shape(images)
        patch_height, patch_width = self.patch_size
        rows, columns = self.grid_size(height, width)

        if self.remainder == "crop":
            images = images[:, : rows * patch_height, : columns * patch_width]
        elif self.remainder == "pad":
            below = rows * patch_height - height
            right = columns * patch_width - width
            images = ops.pad(images, ((0, 0), (0, below), (0, right), (0, 0)))

        # b (h p) (w q) c -> b h w (p q c)
        patches = ops.reshape(
            images, (batch, rows, patch_height, columns, patch_width, channels)
        )
        patches = ops.transpose(patches, (0, 1, 3, 2, 4, 5))
        return ops.reshape(
            patches,
            (batch, rows, columns, patch_height * patch_width * channels),
        )

    def grid_size(self, height: Any, width: Any) -> tuple[Any, Any]:
        """Returns how many rows and columns of patches an image has.

        Args:
            height: rows of pixels: an int, a scalar tensor, or `None`.
            width: columns of pixels, likewise.

        Returns:
            A pair; an entry is `None` where the size is.

        Raises:
            ValueError: if a size is a number that `remainder` refuses.
        """
        return tuple(
            self._count(axis, size, patch)
            for axis, size, patch in zip(
                ("height", "width"), (height, width), self.patch_size
            )
        )

    def _count(self, axis, size, patch):
        if size is None:
            return None
        if isinstance(size, int) and size % patch and self.remainder == "error":
            lower, upper = size // patch * patch, (size // patch + 1) * patch
            nearest = f"{lower} and {upper}" if lower else f"{upper}"
            raise ValueError(
                f"Image {axis} must be a multiple of the patch {axis} "
                f"{patch}. Received: {axis}={size}; the nearest legal "
                f"{'sizes are' if lower else 'size is'} {nearest}. Resize the "
                "image, or pass `remainder='crop'` or `remainder='pad'`."
            )
        if self.remainder == "pad":
            return (size + patch - 1) // patch
        if isinstance(size, int) and size < patch:
            raise ValueError(
                f"Image {axis} must be at least the patch {axis} {patch}. "
                f"Received: {axis}={size}"
            )
        return size // patch

    def compute_output_shape(self, input_shape: Shape) -> Shape:
        check_rank(self, input_shape, 4, "a batch of images")
        if self.data_format == "channels_first":
            batch, channels, height, width = input_shape
        else:
            batch, height, width, channels = input_shape
        if channels is None:
            raise ValueError(
                f"Patches '{self.name}' needs the number of channels. "
                f"Received: shape={tuple(input_shape)}"
            )
        rows, columns = self.grid_size(height, width)
        patch_height, patch_width = self.patch_size
        return (batch, rows, columns, patch_height * patch_width * channels)

    def get_config(self) -> dict[str, Any]:
        return {
            **super().get_config(),
            "patch_size": self.patch_size,
            "remainder": self.remainder,
            "data_format": self.data_format,
        }
