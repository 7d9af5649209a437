"""Which token stands where: from a sequence back to places in the image."""

import typing
from typing import Any

import keras
import numpy as np

from keras_vit.anatomy import cell_size, only_layer
from keras_vit.arguments import check_pair
from keras_vit.data.checks import check_batch
from keras_vit.layers import PatchEncoder, Patches


class TokenLayout(typing.NamedTuple):
    """The tokens of an image: prefix tokens, then the grid in row order.

    Args:
        grid_size: rows and columns of patches.
        cell_size: height and width in pixels that one patch token stands for:
            those of the patch, in a hybrid times the stride of the ResNet.
        num_prefix_tokens: number of tokens before the grid.
        cls_token: whether the first of them is a class token.
    """

    grid_size: tuple[int, int]
    cell_size: tuple[int, int]
    num_prefix_tokens: int
    cls_token: bool

    @property
    def num_tokens(self) -> int:
        """The number of all tokens, before the grid and in it."""
        return self.num_prefix_tokens + self.grid_size[0] * self.grid_size[1]

    def index(self, patch: tuple[int, int] | None) -> int:
        """Returns the place of a patch in the sequence.

        Args:
            patch: row and column, or `None` for the class token.

        Returns:
            An int.

        Raises:
            ValueError: if there is no such token.
        """
        if patch is None:
            if not self.cls_token:
                raise ValueError(
                    "`patch` must be given for a model without a class token. "
                    "Received: patch=None"
                )
            return 0
        rows, columns = self.grid_size
        pair = np.asarray(patch)
        if (
            pair.shape != (2,)
            or not np.issubdtype(pair.dtype, np.integer)
            or not (0 <= pair[0] < rows and 0 <= pair[1] < columns)
        ):
            raise ValueError(
                "`patch` must be a pair (row, column) of integers in the grid "
                f"of {rows} x {columns}, which starts at (0, 0). "
                f"Received: patch={patch!r}"
            )
        return self.num_prefix_tokens + int(pair[0]) * columns + int(pair[1])


def token_layout(model: keras.Model, images: np.ndarray) -> TokenLayout:
    """Returns the `TokenLayout` of a model for images.

    Args:
        model: a functional `keras.Model` with one `Patches` and one
            `PatchEncoder` layer.
        images: array of images.

    Returns:
        A `TokenLayout`.

    Raises:
        ValueError: if the model does not have one layer of each class.
    """
    patches = only_layer(model, Patches)
    encoder = only_layer(model, PatchEncoder)
    to_patches = keras.Model(model.input, patches.output)
    grid = to_patches.compute_output_shape(tuple(images.shape))[1:3]
    return TokenLayout(
        check_pair("grid_size", tuple(grid)),
        cell_size(model),
        encoder.num_prefix_tokens,
        encoder.cls_token,
    )


def batch_of(model: keras.Model, images: Any) -> np.ndarray:
    """Returns images as an array that the model takes.

    Args:
        model: a `keras.Model`.
        images: images, `(num_images, height, width, channels)`, or one
            without the first axis.

    Returns:
        A NumPy array of rank 4.

    Raises:
        ValueError: if there are no images, or if their shape is not the
            model's.
    """
    images = keras.ops.convert_to_numpy(images)
    if images.ndim == 3:
        images = images[None]
    check_batch(model, images)
    return images


def only_image(model: keras.Model, image: Any) -> np.ndarray:
    """Returns one image as a batch that the model takes, see `batch_of`."""
    batch = batch_of(model, image)
    if len(batch) != 1:
        raise ValueError(
            f"`image` must be one image. Received: shape={batch.shape}"
        )
    return batch
