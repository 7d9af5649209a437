"""Where a Vision Transformer looks, and how far.

Dosovitskiy et al. 2021, section 4.5, figures 6, 7 (right), 11 and 14. The host
computes everything from the scores, in float64. Left out: gradients, and the
attention of `AttentionPooling`.
"""

import operator
from collections.abc import Iterable, Sequence
from typing import Any, Literal, overload

import keras
import numpy as np

from keras_vit.arguments import check_pair, check_positive
from keras_vit.introspection.geometry import batch_of, only_image, token_layout
from keras_vit.introspection.scores import attention_scores


def rollout(scores: Iterable[np.ndarray]) -> np.ndarray:
    """Multiplies the attention of all blocks into one matrix.

    The residual branch of a block counts as attention of a token to itself,
    with the same weight as the attention to all tokens:

        A_l = (mean over heads of scores_l + I) / 2, rows normalised
        rollout = A_L ... A_2 A_1

    Args:
        scores: iterable of arrays of shape `(batch, num_heads, num_tokens,
            num_tokens)`, the first block first.

    Returns:
        A NumPy array of shape `(batch, num_tokens, num_tokens)`, float64. Row
        `t` says how much of each token of the input is in token `t` of the
        output, and sums to 1.

    Raises:
        ValueError: if there are no scores, or if they are not square.

    Example:

    >>> keras_vit.introspection.rollout([np.full((1, 3, 2, 2), 0.5)])
    array([[[0.75, 0.25],
            [0.25, 0.75]]])

    Reference:
        - [Abnar and Zuidema, 2020](https://arxiv.org/abs/2005.00928),
          section 3
    """
    product = None
    for array in scores:
        if array.ndim != 4 or array.shape[2] != array.shape[3]:
            raise ValueError(
                "`scores` must be of shape (batch, num_heads, num_tokens, "
                f"num_tokens). Received: shape={array.shape}"
            )
        mixed = array.mean(axis=1, dtype="float64")
        del array  # before the next block makes its own
        mixed = (mixed + np.eye(mixed.shape[-1])) / 2
        mixed /= mixed.sum(axis=-1, keepdims=True)
        product = mixed if product is None else mixed @ product
    if product is None:
        raise ValueError("`scores` must be of one block at least")
    return product


@overload
def attention_rollout(
    model: keras.Model, images: Any, return_matrix: Literal[False] = False
) -> np.ndarray: ...


@overload
def attention_rollout(
    model: keras.Model, images: Any, return_matrix: bool
) -> np.ndarray | tuple[np.ndarray, np.ndarray]: ...


def attention_rollout(
    model: keras.Model, images: Any, return_matrix: bool = False
) -> np.ndarray | tuple[np.ndarray, np.ndarray]:
    """Returns how much each patch counts for the representation of an image.

    The map is the class token's row in the `rollout` of all blocks; in a model
    without a class token, the mean of the rows of all patch tokens. The map
    leaves out the class token and registers, so it sums to less than 1 where
    the model has any. The attention of `AttentionPooling` is not part of it.

    Args:
        model: as in `attention_scores`, with one `Patches` and one
            `PatchEncoder`.
        images: array of shape `(batch, height, width, channels)`, or one
            image without the first axis. The scores of one block for all
            images are in memory at once.
        return_matrix: whether to return the whole rollout as well.

    Returns:
        A NumPy array of shape `(batch, rows, columns)`, float64. With
        `return_matrix=True` a pair: that array, and the rollout of shape
        `(batch, num_tokens, num_tokens)`.

    Raises:
        ValueError: as in `attention_scores`.

    Example:

    >>> model = keras_vit.ViT("Ti/16", image_size=(32, 48))
    >>> images = np.zeros((2, 32, 48, 3))
    >>> keras_vit.introspection.attention_rollout(model, images).shape
    (2, 2, 3)

    Reference:
        - [Dosovitskiy et al., 2021](https://arxiv.org/abs/2010.11929),
          figures 6 and 14, appendix D.8
    """
    images = batch_of(model, images)
    layout = token_layout(model, images)
    pairs = attention_scores(model, images)
    matrix = rollout(map(operator.itemgetter(1), pairs))
    _check_tokens(matrix, layout)
    prefix = layout.num_prefix_tokens
    if layout.cls_token:
        maps = matrix[:, 0, prefix:]
    else:
        maps = matrix[:, prefix:, prefix:].mean(axis=1)
    maps = maps.reshape(-1, *layout.grid_size)
    return (maps, matrix) if return_matrix else maps


def mean_distance(
    scores: np.ndarray,
    grid_size: int | tuple[int, int],
    cell_size: int | tuple[int, int],
    num_prefix_tokens: int = 0,
) -> np.ndarray:
    """Returns how far away the patches lie that a patch attends to.

    The distance between the centres of two patches is weighted by attention
    and averaged over all queries. Tokens before the grid have no place: they
    are left out as queries and as keys, and the rest of a row is scaled to sum
    to 1. A query that attends to no patch at all does not count.

    Args:
        scores: array of shape `(batch, num_heads, num_tokens, num_tokens)`.
        grid_size: rows and columns of patches, an int or a pair.
        cell_size: height and width of a patch in pixels, an int or a pair.
        num_prefix_tokens: number of tokens before the grid.

    Returns:
        A NumPy array of shape `(batch, num_heads)`, float64, in pixels; NaN
        for a head without a query that counts.

    Raises:
        ValueError: if the scores are for another number of tokens.

    Example:

    >>> uniform = np.full((1, 1, 196, 196), 1 / 196)
    >>> keras_vit.introspection.mean_distance(uniform, 14, 16).round(3)
    array([[116.492]])
    """
    rows, columns = check_pair("grid_size", grid_size)
    height, width = check_pair("cell_size", cell_size)
    if scores.ndim != 4 or {*scores.shape[2:]} != {
        num_prefix_tokens + rows * columns
    }:
        raise ValueError(
            "`scores` must be between all tokens, "
            f"{num_prefix_tokens} and a grid of {rows} x {columns}. "
            f"Received: shape={scores.shape}"
        )
    y = np.repeat(np.arange(rows) * height, columns)
    x = np.tile(np.arange(columns) * width, rows)
    distances = np.hypot(y[:, None] - y, x[:, None] - x)
    between = scores[:, :, num_prefix_tokens:, num_prefix_tokens:]
    weights = between.sum(axis=-1, dtype="float64")
    sums = np.einsum("bhts,ts->bht", between, distances)
    counts = weights > 0
    means = np.divide(sums, weights, out=np.zeros_like(sums), where=counts)
    queries = counts.sum(axis=-1)
    return np.divide(
        means.sum(axis=-1),
        queries,
        out=np.full(queries.shape, np.nan),
        where=queries > 0,
    )


def attention_distance(
    model: keras.Model, images: Any, batch_size: int = 8
) -> np.ndarray:
    """Returns the mean attention distance of each head, in pixels.

    It corresponds to the size of the receptive field of a convolution: a head
    with a small distance looks at its neighbourhood. It is the mean over all
    patches of all images; see `mean_distance`.

    Args:
        model: as in `attention_scores`, with one `Patches` and one
            `PatchEncoder`.
        images: array of shape `(batch, height, width, channels)`, or one
            image without the first axis. The paper takes 128.
        batch_size: number of images whose scores are computed together.

    Returns:
        A NumPy array of shape `(num_blocks, num_heads)`, float64, in pixels of
        the image that goes into the model; NaN where a block has fewer heads
        than another.

    Raises:
        ValueError: as in `attention_scores`.

    Example:

    >>> model = keras_vit.ViT("Ti/16", image_size=64)
    >>> images = np.zeros((2, 64, 64, 3))
    >>> keras_vit.introspection.attention_distance(model, images).shape
    (12, 3)

    Reference:
        - [Dosovitskiy et al., 2021](https://arxiv.org/abs/2010.11929),
          figures 7 (right) and 11, appendix D.7
    """
    check_positive("batch_size", batch_size)
    images = batch_of(model, images)
    layout = token_layout(model, images)
    of_images = {}
    for start in range(0, len(images), batch_size):
        batch = images[start : start + batch_size]
        for name, scores in attention_scores(model, batch):
            _check_tokens(scores, layout)
            distances = mean_distance(
                scores,
                layout.grid_size,
                layout.cell_size,
                layout.num_prefix_tokens,
            )
            del scores
            of_images.setdefault(name, []).append(distances)
    heads = [
        np.concatenate(arrays).mean(axis=0) for arrays in of_images.values()
    ]
    table = np.full((len(heads), max(map(len, heads))), np.nan)
    for row, values in zip(table, heads):
        row[: len(values)] = values
    return table


def attention_from(
    model: keras.Model,
    image: Any,
    patch: tuple[int, int] | None = None,
    blocks: str | int | Sequence[str | int] | None = None,
) -> np.ndarray:
    """Returns what one token attends to, in every block and head.

    Args:
        model: as in `attention_scores`, with one `Patches` and one
            `PatchEncoder`; all blocks must have the same number of heads.
        image: array of shape `(height, width, channels)`, or a batch of one.
        patch: row and column of the patch that attends, counted from 0 at the
            top left. Defaults to the class token.
        blocks: as in `attention_scores`.

    Returns:
        A NumPy array of shape `(num_blocks, num_heads, rows, columns)`,
        float64: the attention to each patch. A map sums to 1 minus the
        attention to class token and registers.

    Raises:
        ValueError: as in `attention_scores`; if there is no such patch; or if
            `patch` is `None` and the model has no class token.

    Example:

    >>> model = keras_vit.ViT("Ti/16", image_size=(32, 48))
    >>> image = np.zeros((32, 48, 3))
    >>> maps = keras_vit.introspection.attention_from(model, image, (1, 2))
    >>> maps.shape
    (12, 3, 2, 3)
    """
    batch = only_image(model, image)
    layout = token_layout(model, batch)
    index = layout.index(patch)
    maps = []
    for _, scores in attention_scores(model, batch, blocks):
        _check_tokens(scores, layout)
        row = scores[0, :, index, layout.num_prefix_tokens :]
        maps.append(row.astype("float64"))  # a copy, which frees the rest
        del scores, row
    return np.stack(maps).reshape(len(maps), -1, *layout.grid_size)


def _check_tokens(scores, layout):
    if scores.shape[-1] != layout.num_tokens:
        raise ValueError(
            "Every block must have the tokens of the patch encoder, "
            f"{layout.num_tokens}. Received: {scores.shape[-1]} in a block"
        )
