"""From the sequence back to grid and image: the way out to dense prediction.

Both layers take the tensor whose size they match as a second input, so that no
size has to be known beforehand.
"""

from typing import Any

import keras
from keras import ops

from keras_vit.arguments import (
    DataFormat,
    Shape,
    check_data_format,
    check_not_negative,
    check_rank,
    spatial,
)


@keras.saving.register_keras_serializable(package="keras_vit")
class TokenGrid(keras.layers.Layer):
    """Puts each patch token back in the place of its patch.

    Rows and columns are those of a second input, the grid that the tokens
    came from, so that the image size need not be known beforehand.

    Args:
        num_prefix_tokens: number of tokens at the front that belong to no patch
            (class token and registers). They are left out.

    Call arguments:
        tokens: tensor of shape
            `(batch, num_prefix_tokens + rows * columns, hidden_dim)`.
        grid: tensor of shape `(batch, rows, columns, ...)`: the result of
            `Patches`.

    Returns:
        A tensor of shape `(batch, rows, columns, hidden_dim)`.

    Example:

    >>> tokens = keras.ops.ones((2, 1 + 4 * 6, 64))
    >>> grid = keras.ops.ones((2, 4, 6, 768))
    >>> keras_vit.layers.TokenGrid(num_prefix_tokens=1)(tokens, grid).shape
    (2, 4, 6, 64)
    """

    def __init__(self, num_prefix_tokens: int = 0, **kwargs):
        super().__init__(**kwargs)
        self.num_prefix_tokens = check_not_negative(
            "num_prefix_tokens", num_prefix_tokens
        )

    def build(self, tokens_shape: Shape, grid_shape: Shape) -> None:
        check_rank(self, tokens_shape, 3, "(batch, tokens, hidden_dim)")
        check_rank(self, grid_shape, 4, "(batch, rows, columns, patch_dim)")
        rows, columns = grid_shape[1:3]
        tokens = tokens_shape[1]
        if None in (rows, columns, tokens):
            return
        if self.num_prefix_tokens + rows * columns != tokens:
            raise ValueError(
                "`num_prefix_tokens` and the cells of the grid must make up "
                "the tokens. Received: num_prefix_tokens="
                f"{self.num_prefix_tokens}, grid={(rows, columns)}, "
                f"tokens={tokens}"
            )

    def call(self, tokens: Any, grid: Any) -> Any:
        batch, rows, columns = ops.shape(grid)[:3]
        tokens = tokens[:, self.num_prefix_tokens :]
        return ops.reshape(tokens, (batch, rows, columns, tokens.shape[-1]))

    def compute_output_shape(
        self, tokens_shape: Shape, grid_shape: Shape
    ) -> Shape:
        return (*grid_shape[:3], tokens_shape[-1])

    def get_config(self) -> dict[str, Any]:
        return {
            **super().get_config(),
            "num_prefix_tokens": self.num_prefix_tokens,
        }


@keras.saving.register_keras_serializable(package="keras_vit")
class CropToImage(keras.layers.Layer):
    """Cuts off the rows below and the columns at the right that padding added.

    Args:
        data_format: `"channels_last"` or `"channels_first"`, the format of the
            images. Defaults to `keras.config.image_data_format()`.

    Call arguments:
        maps: tensor of shape `(batch, rows, columns, channels)`.
        images: tensor of images, no larger than the maps.

    Returns:
        A tensor of shape `(batch, height, width, channels)`.

    Example:

    >>> maps = keras.ops.ones((1, 8, 8, 5))
    >>> images = keras.ops.ones((1, 7, 6, 3))
    >>> keras_vit.layers.CropToImage()(maps, images).shape
    (1, 7, 6, 5)
    """

    def __init__(self, data_format: DataFormat | None = None, **kwargs):
        super().__init__(**kwargs)
        self.data_format = check_data_format(data_format)

    def build(self, maps_shape: Shape, images_shape: Shape) -> None:
        check_rank(self, maps_shape, 4, "(batch, rows, columns, channels)")
        check_rank(self, images_shape, 4, "a batch of images")
        size = images_shape[spatial(self.data_format)]
        for edge, image in zip(maps_shape[1:3], size):
            if None not in (edge, image) and edge < image:
                raise ValueError(
                    "The maps must cover the whole image, as those of a model "
                    "with `remainder='crop'` do not. Received: maps of "
                    f"{tuple(maps_shape[1:3])}, images of {tuple(size)}"
                )

    def call(self, maps: Any, images: Any) -> Any:
        height, width = ops.shape(images)[spatial(self.data_format)]
        return maps[:, :height, :width]

    def compute_output_shape(
        self, maps_shape: Shape, images_shape: Shape
    ) -> Shape:
        size = images_shape[spatial(self.data_format)]
        return (maps_shape[0], *size, maps_shape[3])

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "data_format": self.data_format}
