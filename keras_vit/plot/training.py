"""Figures of data and training: images with labels, curves by epoch."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import keras
import numpy as np

from keras_vit.arguments import check_positive
from keras_vit.plot.figures import (
    BLUE,
    VERMILION,
    WIDTH,
    displayable,
    new_figure,
    panels,
    plain,
)

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def history(
    history: keras.callbacks.History | Mapping[str, Sequence[float]],
) -> "Figure":
    """Draws loss and metrics over the epochs of a training.

    Args:
        history: what `model.fit` returns, or a dict from the name of a
            quantity to its values, one for each epoch; names of validation
            start with `val_`.

    Returns:
        A `matplotlib.figure.Figure`: one panel for each quantity, with
        training and validation, and the last values in the legend.

    Raises:
        ValueError: if `history` has no epoch.

    Example:

    >>> figure = keras_vit.plot.history({"loss": [2, 1], "val_loss": [2, 1.5]})
    >>> figure.axes[0].get_ylabel()
    'loss'
    """
    values = getattr(history, "history", history)
    names = [name for name in values if not name.startswith("val_")]
    names += [
        name[4:]
        for name in values
        if name.startswith("val_") and name[4:] not in values
    ]
    # Keras sorts by the alphabet; the loss comes first here.
    names.sort(key=lambda name: name != "loss")
    if not names or not all(len(values[name]) for name in values):
        raise ValueError(
            "`history` must hold one epoch at least. "
            f"Received: history={values!r}"
        )
    columns = min(len(names), 3)
    rows = -(-len(names) // columns)
    figure = new_figure(max(WIDTH * columns / 3, WIDTH / 2), 3.0 * rows)
    axes = figure.subplots(rows, columns, squeeze=False).ravel()
    for axis in axes[len(names) :]:
        axis.remove()
    for axis, name in zip(axes, names):
        for key, label, color, style in (
            (name, "training", BLUE, "-"),
            (f"val_{name}", "validation", VERMILION, "--"),
        ):
            if key not in values:
                continue
            line = np.asarray(values[key], "float64")
            axis.plot(
                np.arange(1, len(line) + 1),
                line,
                style,
                marker="o" if len(line) == 1 else None,
                color=color,
                label=f"{label}, {line[-1]:.4g}",
            )
        axis.set_xlabel("epoch")
        axis.set_ylabel(name.replace("_", " "))
        axis.xaxis.get_major_locator().set_params(integer=True)
        axis.legend(frameon=False, title="last value", fontsize=9)
        plain(axis)
    return figure


def images(
    images: Any,
    labels: Any | None = None,
    predictions: Any | None = None,
    class_names: Sequence[str] | None = None,
    columns: int = 8,
) -> "Figure":
    """Draws images, each under its label and, where wrong, the prediction.

    `keras.visualization.plot_image_gallery` cannot draw grey images, returns no
    figure and omits images that do not fill its grid.

    Args:
        images: array of shape `(num_images, height, width, channels)`, pixels
            in [0, 255], or floats in [-1, 1] or [0, 1].
        labels: integers of shape `(num_images,)`, the true classes.
        predictions: integers of shape `(num_images,)`, the predicted classes.
        class_names: names of the classes, in the order of the labels.
        columns: number of images side by side.

    Returns:
        A `matplotlib.figure.Figure`.

    Raises:
        ValueError: if there are no images, or if an image does not have
            exactly one label.

    Example:

    >>> (x, y), _ = keras_vit.data.load("digits")
    >>> figure = keras_vit.plot.images(x[:16], y[:16])
    >>> figure.axes[0].get_title() == str(y[0])
    True
    """
    images = np.asarray(images)
    check_positive("columns", columns)
    if images.ndim != 4 or not images.size:
        raise ValueError(
            "`images` must be of shape (num_images, height, width, channels) "
            f"and not empty. Received: shape={images.shape}"
        )
    for name, array in (("labels", labels), ("predictions", predictions)):
        if array is not None and np.shape(array) != images.shape[:1]:
            raise ValueError(
                f"`{name}` must be one integer for each of the {len(images)} "
                f"images. Received: shape={np.shape(array)}"
            )
    pixels = displayable(images, keras.config.image_data_format())
    height, width = pixels.shape[1:3]
    figure, axes = panels(len(pixels), columns, height / width)

    def title(index):
        return str(index if class_names is None else class_names[index])

    for number, (axis, image) in enumerate(zip(axes, pixels)):
        axis.imshow(image, interpolation="nearest")
        axis.set_axis_off()
        label = None if labels is None else int(labels[number])
        predicted = label if predictions is None else int(predictions[number])
        if label is not None and predicted != label:
            axis.set_title(
                f"{title(predicted)}\nnot {title(label)}",
                fontsize=9,
                color=VERMILION,
            )
        elif predicted is not None:
            axis.set_title(title(predicted), fontsize=9)
    return figure
