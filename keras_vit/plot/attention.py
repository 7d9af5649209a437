"""Figures of attention: the paper's 6, 7 (right), 11 and 14, and more."""

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import keras
import numpy as np

from keras_vit.anatomy import image_data_format
from keras_vit.introspection import attention
from keras_vit.introspection.geometry import batch_of, only_image, token_layout
from keras_vit.introspection.scores import block_names
from keras_vit.plot.figures import (
    BLUE,
    GREY,
    ORANGE,
    WIDTH,
    color_bar,
    displayable,
    frame,
    name_pixels,
    new_figure,
    panels,
    plain,
    show_image,
    show_map,
    smooth,
)

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def attention_scores(
    model: keras.Model,
    image: Any,
    block: str | int = -1,
    heads: int | Sequence[int] | None = None,
) -> "Figure":
    """Draws the attention of one block, token by token, head by head.

    Args:
        model: as in `keras_vit.introspection.attention_scores`.
        image: array of shape `(height, width, channels)`, or a batch of one.
        block: name or index of the block.
        heads: list of indices of heads. Defaults to all.

    Returns:
        A `matplotlib.figure.Figure`: one matrix for each head, queries down,
        keys across, all in one scale of colours.

    Example:

    ```python
    keras_vit.plot.attention_scores(model, image, block=0)
    ```
    """
    batch = only_image(model, image)
    ((name, scores),) = attention.attention_scores(model, batch, block)
    scores = scores[0]
    heads = _check_heads(heads, len(scores))
    figure, axes = panels(len(heads), per_row=4, aspect=1.0)
    # A few scores near 1 would leave everything else dark.
    top = np.quantile(scores[heads], 0.99)
    for axis, head in zip(axes, heads):
        shown = axis.imshow(
            scores[head], vmin=0, vmax=top, interpolation="nearest"
        )
        axis.set_title(f"head {head}", fontsize=10)
        axis.label_outer()
    figure.supxlabel("key: token attended to", fontsize=10)
    figure.supylabel("query: token that attends", fontsize=10)
    color_bar(figure, shown, axes, "attention", extend="max")
    figure.suptitle(f"Attention scores of {name}")
    return figure


def attention_from(
    model: keras.Model,
    image: Any,
    patch: tuple[int, int] | None = None,
    block: str | int = -1,
    heads: int | Sequence[int] | None = None,
) -> "Figure":
    """Draws what one patch, or the class token, attends to, head by head.

    Args:
        model: as in `keras_vit.introspection.attention_from`.
        image: array of shape `(height, width, channels)`, or a batch of one.
        patch: row and column of the patch that attends, counted from 0 at the
            top left. Defaults to the class token.
        block: name or index of the block.
        heads: list of indices of heads. Defaults to all.

    Returns:
        A `matplotlib.figure.Figure`: the image with a frame around the patch,
        then one map for each head, all in one scale of colours.

    Example:

    ```python
    keras_vit.plot.attention_from(model, image, patch=(3, 5), block=-1)
    ```
    """
    batch = only_image(model, image)
    layout = token_layout(model, batch)
    maps = attention.attention_from(model, batch, patch, block)[0]
    heads = _check_heads(heads, len(maps))
    pixels = displayable(batch, image_data_format(model))[0]
    height, width = pixels.shape[:2]
    figure, axes = panels(len(heads) + 1, per_row=5, aspect=height / width)
    show_image(axes[0], pixels)
    axes[0].set_title("image", fontsize=10)
    top = maps[heads].max()
    for axis, head in zip(axes[1:], heads):
        shown = show_map(axis, maps[head], layout, pixels, top)
        axis.set_title(f"head {head}", fontsize=10)
    if patch is not None:
        for axis in axes:
            frame(axis, patch, layout)
    name_pixels(figure, axes)
    color_bar(figure, shown, axes, "attention to a patch")
    if not isinstance(block, str):
        block = block_names(model)[block]
    who = "the class token" if patch is None else f"patch {tuple(patch)}"
    figure.suptitle(f"What {who} attends to in {block}")
    return figure


def attention_rollout(model: keras.Model, images: Any) -> "Figure":
    """Draws which patches count for the representation of images.

    Args:
        model: as in `keras_vit.introspection.attention_rollout`.
        images: array of shape `(batch, height, width, channels)`, or one
            image without the first axis.

    Returns:
        A `matplotlib.figure.Figure` with one row for each image: the image;
        the image as the paper draws it, lit where the rollout is high; and the
        rollout patch by patch, divided by its mean.

    Example:

    ```python
    keras_vit.plot.attention_rollout(model, images[:3])
    ```

    Reference:
        - [Dosovitskiy et al., 2021](https://arxiv.org/abs/2010.11929),
          figures 6 and 14
    """
    images = batch_of(model, images)
    layout = token_layout(model, images)
    maps = attention.attention_rollout(model, images)
    maps = maps / maps.mean(axis=(1, 2), keepdims=True)
    pixels = displayable(images, image_data_format(model))
    height, width = pixels.shape[1:3]
    figure, axes = panels(3 * len(images), 3, height / width, 0.15)
    for row, image, values in zip(axes.reshape(-1, 3), pixels, maps):
        show_image(row[0], image)
        light = smooth(values, layout, (height, width))
        light = (light - light.min()) / max(np.ptp(light), 1e-9)
        # A fifth of the light stays everywhere, to show what is in the dark.
        show_image(row[1], image * (0.2 + 0.8 * light[..., None]))
        shown = show_map(row[2], values, layout, image, maps.max())
    titles = ("image", "lit by the rollout", "rollout of each patch")
    for axis, title in zip(axes, titles):
        axis.set_title(title, fontsize=10)
    name_pixels(figure, axes)
    color_bar(figure, shown, axes, "rollout / its mean")
    return figure


def attention_distance(
    model: keras.Model, images: Any, batch_size: int = 8
) -> "Figure":
    """Draws how far each head looks, against the depth of its block.

    Args:
        model: as in `keras_vit.introspection.attention_distance`.
        images: array of shape `(batch, height, width, channels)`, or one
            image without the first axis.
        batch_size: number of images whose scores are computed together.

    Returns:
        A `matplotlib.figure.Figure`: one dot for each head, a line through the
        means of the blocks and, dashed, the distance of equal attention to all
        patches.

    Example:

    ```python
    keras_vit.plot.attention_distance(model, images[:128])
    ```

    Reference:
        - [Dosovitskiy et al., 2021](https://arxiv.org/abs/2010.11929),
          figures 7 (right) and 11
    """
    images = batch_of(model, images)
    layout = token_layout(model, images)
    distances = attention.attention_distance(model, images, batch_size)
    patches = math.prod(layout.grid_size)
    uniform = attention.mean_distance(
        np.ones((1, 1, patches, patches)), layout.grid_size, layout.cell_size
    ).item()
    depth = np.arange(1, len(distances) + 1)
    figure = new_figure(WIDTH * 0.7, WIDTH * 0.45)
    axis = figure.subplots()
    axis.axhline(
        uniform,
        color=GREY,
        linestyle="--",
        label=f"all patches alike: {uniform:.1f} px",
    )
    axis.plot(
        np.repeat(depth, distances.shape[1]),
        distances.ravel(),
        "o",
        markersize=5,
        color=BLUE,
        alpha=0.7,
        label="a head",
    )
    means = [np.nanmean(row) for row in distances]
    axis.plot(depth, means, color=ORANGE, label="mean of the heads")
    axis.set_xlabel("depth (number of the block)")
    axis.set_ylabel("mean attention distance (pixels)")
    axis.set_ylim(0, 1.1 * max(uniform, np.nanmax(distances)))
    axis.xaxis.get_major_locator().set_params(integer=True)
    plain(axis)
    figure.legend(loc="outside lower center", ncols=3, frameon=False)
    return figure


def _check_heads(heads, count):
    """Returns the indices of heads as a list, or raises."""
    if heads is None:
        return list(range(count))
    heads = [heads] if isinstance(heads, int) else list(heads)
    if not heads or not all(-count <= head < count for head in heads):
        raise ValueError(
            f"`heads` must be indices of {count} heads. Received: heads={heads}"
        )
    return [head % count for head in heads]
