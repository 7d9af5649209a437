"""Figures of filters, positions and tokens: the paper's 7 and 10."""

from typing import TYPE_CHECKING, Any

import keras
import numpy as np

from keras_vit.anatomy import find_layers, image_data_format, only_layer
from keras_vit.introspection import embeddings
from keras_vit.introspection.geometry import batch_of, token_layout
from keras_vit.layers import Patches
from keras_vit.plot.figures import (
    WIDTH,
    color_bar,
    displayable,
    name_pixels,
    new_figure,
    panels,
    show_image,
    show_map,
)

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def filter_components(model: keras.Model, n: int = 28) -> "Figure":
    """Draws the principal components of the filters of the patches.

    Args:
        model: as in `keras_vit.introspection.filter_components`, for images of
            1 or 3 channels and without a ResNet.
        n: number of components.

    Returns:
        A `matplotlib.figure.Figure`: the components, each stretched to the
        whole range about grey, which is 0, under its share of the variance.

    Raises:
        ValueError: if the filters are not over pixels of 1 or 3 channels.

    Example:

    ```python
    keras_vit.plot.filter_components(model)
    ```

    Reference:
        - [Dosovitskiy et al., 2021](https://arxiv.org/abs/2010.11929),
          figure 7 (left)
    """
    components, explained = embeddings.filter_components(model, n)
    _, height, width, channels = components.shape
    below = keras.Model(model.input, only_layer(model, Patches).input)
    if channels not in (1, 3) or find_layers(below, keras.layers.Conv2D):
        raise ValueError(
            "Filters must be over pixels of 1 or 3 channels to be drawn. "
            f"Received: filters over {channels} channels in '{model.name}'"
        )
    figure, axes = panels(n, per_row=7, aspect=height / width)
    for axis, component, share in zip(axes, components, explained):
        component = component / np.abs(component).max()
        if channels == 3:
            component = (component + 1) / 2
        shown = axis.imshow(
            component.squeeze(-1) if channels == 1 else component,
            cmap="gray",
            vmin=-1,
            vmax=1,
            interpolation="nearest",
        )
        axis.set_title(f"{share:.1%}", fontsize=9)
        axis.set_xticks([-0.5, width - 0.5], [0, width])
        axis.set_yticks([-0.5, height - 0.5], [0, height])
    name_pixels(figure, axes)
    label = "weight, of each channel" if channels == 3 else "weight"
    bar = color_bar(figure, shown, axes, label, ticks=[-1, 0, 1])
    bar.set_ticklabels(["-max", "0", "max"])
    figure.suptitle("Components of the patch filters, share of the variance")
    return figure


def position_similarity(model: keras.Model) -> "Figure":
    """Draws how similar the position embeddings of all patches are.

    Args:
        model: as in `keras_vit.introspection.position_similarity`.

    Returns:
        A `matplotlib.figure.Figure`: one tile for each patch, at the place of
        the patch; each tile is a map of the similarity to all patches.

    Example:

    ```python
    keras_vit.plot.position_similarity(model)
    ```

    Reference:
        - [Dosovitskiy et al., 2021](https://arxiv.org/abs/2010.11929),
          figures 7 (centre) and 10
    """
    similarity = embeddings.position_similarity(model)
    rows, columns = similarity.shape[:2]
    # An empty line between two tiles.
    tiles = np.full((rows, columns, rows + 1, columns + 1), np.nan)
    tiles[:, :, :rows, :columns] = similarity
    mosaic = tiles.transpose(0, 2, 1, 3).reshape(
        rows * (rows + 1), columns * (columns + 1)
    )[:-1, :-1]
    edge = WIDTH * 0.7
    figure = new_figure(
        edge, (edge - 1.6) * len(mosaic) / mosaic.shape[1] + 0.8
    )
    axis = figure.subplots()
    shown = axis.imshow(mosaic, vmin=-1, vmax=1, interpolation="nearest")
    for ticks, count in ((axis.set_xticks, columns), (axis.set_yticks, rows)):
        every = np.arange(0, count, -(-count // 16))
        ticks(every * (count + 1) + (count - 1) / 2, every)
    axis.tick_params(length=0)
    axis.spines[:].set_visible(False)
    axis.set_xlabel("patch column")
    axis.set_ylabel("patch row")
    axis.set_title("Similarity of position embeddings")
    color_bar(figure, shown, [axis], "cosine similarity")
    return figure


def token_components(
    model: keras.Model, images: Any, tap: str = "encoder_norm"
) -> "Figure":
    """Draws images, and the components of their patch tokens as colours.

    Args:
        model: as in `keras_vit.introspection.token_components`.
        images: array of shape `(batch, height, width, channels)`, or one
            image without the first axis.
        tap: name of the layer whose output the tokens are.

    Returns:
        A `matplotlib.figure.Figure`: each image over its tokens, with the
        first three components as red, green and blue.

    Example:

    ```python
    keras_vit.plot.token_components(model, images[:4])
    ```
    """
    images = batch_of(model, images)
    layout = token_layout(model, images)
    colors = embeddings.token_components(model, images, tap)
    pixels = displayable(images, image_data_format(model))
    height, width = pixels.shape[1:3]
    per_row = min(len(images), 6)
    rows = -(-len(images) // per_row)
    figure, axes = panels(2 * rows * per_row, per_row, height / width, 0.1)
    above, below = axes.reshape(rows, 2, per_row).transpose(1, 0, 2)
    for top, under, image, color in zip(above.flat, below.flat, pixels, colors):
        show_image(top, image)
        show_map(under, color, layout, image, None)
    for axis in (*above.flat[len(images) :], *below.flat[len(images) :]):
        axis.remove()
    name_pixels(figure, [axis for axis in axes if axis.figure is not None])
    figure.suptitle(
        f"Components 1, 2, 3 of the tokens of {tap} as red, green, blue",
        fontsize=11,
    )
    return figure
