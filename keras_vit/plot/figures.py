"""What the figures have in common: panels, images, maps of patches on them.

Figures are made without `matplotlib.pyplot`, so that none stays open and no
setting changes. Each has the method by which notebooks show it.
"""

import functools
import io
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

import numpy as np

from keras_vit.extras import require
from keras_vit.introspection.geometry import TokenLayout
from keras_vit.ops.resize import resize_matrix

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.colorbar import Colorbar
    from matplotlib.figure import Figure
    from matplotlib.image import AxesImage

# In inches; at 100 dots an inch as wide as a page on GitHub.
WIDTH = 9.0
DPI = 100
# Okabe and Ito's colours: everyone can tell them apart, also in grey.
BLUE, ORANGE, VERMILION = "#0072B2", "#E69F00", "#D55E00"
GREY = "0.4"


def new_figure(width: float, height: float) -> "Figure":
    """Returns an empty figure of a width and height in inches."""
    matplotlib_figure = require(
        "matplotlib.figure", "viz", "Figures need Matplotlib"
    )
    figure = matplotlib_figure.Figure(
        figsize=(width, height), dpi=DPI, layout="constrained"
    )
    # Without pyplot, Jupyter shows a figure only by this method.
    figure._repr_png_ = functools.partial(png, figure)
    return figure


def png(figure: "Figure") -> bytes:
    """Returns a figure as the bytes of a PNG file."""
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=DPI, bbox_inches="tight")
    return buffer.getvalue()


def panels(
    count: int, per_row: int, aspect: float, extra: float = 0.3
) -> tuple["Figure", np.ndarray]:
    """Returns a figure with a panel for each of `count` pictures.

    Args:
        count: number of panels.
        per_row: panels side by side, at most.
        aspect: height of a picture divided by its width.
        extra: additional height of a row of panels for titles, in inches.

    Returns:
        The figure and an array of shape `(count,)` of its axes, in row order.
    """
    columns = min(count, per_row)
    rows = -(-count // columns)
    # Few panels do not fill the page; a colour bar and labels need an inch.
    edge = min((WIDTH - 1.3) / columns, 2.6)
    figure = new_figure(
        edge * columns + 1.3, rows * (edge * aspect + extra) + 0.8
    )
    axes = figure.subplots(rows, columns, squeeze=False).ravel()
    for axis in axes[count:]:
        axis.remove()
    return figure, axes[:count]


def displayable(images: Any, data_format: str) -> np.ndarray:
    """Returns images in the form that Matplotlib draws.

    Args:
        images: array of rank 4; pixels in [0, 255], or in [-1, 1] or [0, 1]
            for models without rescaling.
        data_format: layout of `images`, `"channels_last"` or
            `"channels_first"`.

    Returns:
        A NumPy array of shape `(batch, height, width, 3)` in [0, 1]. Images
        that do not have 3 channels become grey.
    """
    images = np.asarray(images)
    is_bytes = np.issubdtype(images.dtype, np.integer)
    images = images.astype("float64")
    if data_format == "channels_first":
        images = images.transpose(0, 2, 3, 1)
    if images.shape[-1] != 3:
        grey = images.mean(axis=-1, keepdims=True)
        images = np.repeat(grey, 3, axis=-1)
    if is_bytes or images.max() > 1:
        images = images / 255
    elif images.min() < 0:
        images = (images + 1) / 2
    return np.clip(images, 0, 1)


def show_image(axis: "Axes", pixels: np.ndarray) -> None:
    """Draws an image; one pixel is one unit of the axes."""
    height, width = pixels.shape[:2]
    extent = (0, width, height, 0)
    axis.imshow(pixels, extent=extent, interpolation="nearest")
    axis.set_xticks([0, width])
    axis.set_yticks([0, height])


def show_map(
    axis: "Axes",
    values: np.ndarray,
    layout: TokenLayout,
    pixels: np.ndarray,
    top: float | None,
    over: float = 0.0,
) -> "AxesImage":
    """Draws the value of each patch at the place of the patch.

    Args:
        axis: axes to draw on.
        values: array of shape `(rows, columns)`, or `(rows, columns, 3)` for
            colours.
        layout: the layout of the tokens.
        pixels: the image, as `displayable` returns it.
        top: value of the brightest colour; 0 has the darkest. `None` for
            colours.
        over: how much the image shows through the map, in [0, 1].

    Returns:
        The drawing, with its scale of colours.
    """
    show_image(axis, pixels.mean(axis=-1, keepdims=True).repeat(3, axis=-1))
    limits = axis.get_xlim(), axis.get_ylim()
    (rows, columns), (height, width) = values.shape[:2], layout.cell_size
    shown = axis.imshow(
        values,
        cmap="viridis",
        vmin=0,
        vmax=top,
        alpha=1 - over,
        extent=(0, columns * width, rows * height, 0),
        interpolation="nearest",
    )
    # Patches may extend past the image (padded) or end before it (cropped).
    axis.set(xlim=limits[0], ylim=limits[1])
    return shown


def frame(axis: "Axes", patch: tuple[int, int], layout: TokenLayout) -> None:
    """Draws a frame around a patch."""
    from matplotlib.patches import Rectangle

    (row, column), (height, width) = patch, layout.cell_size
    for color, line in (("black", 3), ("white", 1.5)):
        axis.add_patch(
            Rectangle(
                (column * width, row * height),
                width,
                height,
                fill=False,
                edgecolor=color,
                linewidth=line,
            )
        )


def color_bar(
    figure: "Figure",
    shown: "AxesImage",
    axes: "Iterable[Axes]",
    label: str,
    **options: Any,
) -> "Colorbar":
    """Draws one colour bar for all panels, of the same width for any number.

    Args:
        figure: the figure.
        shown: a drawing with the scale of colours.
        axes: the panels.
        label: meaning of the colours.
        **options: as in `Figure.colorbar`.

    Returns:
        The colour bar.
    """
    height = figure.get_size_inches()[1]
    return figure.colorbar(
        shown, ax=list(axes), label=label, aspect=8 * height, **options
    )


def name_pixels(figure: "Figure", axes: "Iterable[Axes]") -> None:
    """Names the axes of images once for the whole figure."""
    for axis in axes:
        axis.label_outer()
        axis.tick_params(length=2, labelsize=8)
    figure.supxlabel("column (pixels)", fontsize=10)
    figure.supylabel("row (pixels)", fontsize=10)


def smooth(
    values: np.ndarray, layout: TokenLayout, size: tuple[int, int]
) -> np.ndarray:
    """Returns a map of patches as a map of pixels, bilinear between centres.

    Args:
        values: array of shape `(rows, columns)`.
        layout: the layout of the tokens.
        size: height and width of the image in pixels.

    Returns:
        A NumPy array of shape `size`.
    """
    weights = []
    for pixels, cell, cells in zip(size, layout.cell_size, values.shape):
        rows = resize_matrix(cell * cells, cells, "bilinear")
        # Patches may end before the image: its last pixels repeat the edge.
        weights.append(rows[np.minimum(np.arange(pixels), len(rows) - 1)])
    return weights[0] @ values @ weights[1].T


def plain(axis: "Axes") -> None:
    """Removes the upper and right edge of a diagram and adds a light grid."""
    axis.spines[["top", "right"]].set_visible(False)
    axis.grid(color="0.92")
    axis.set_axisbelow(True)
