"""What the figures have in common: panels, images, maps of patches on them.

A figure is made without `matplotlib.pyplot`, so none stays open and no setting
changes; it carries a picture of itself for notebooks to show.
"""

import functools
import io

import numpy as np

# In inches; at 100 dots an inch as wide as a page on GitHub.
WIDTH = 9.0
DPI = 100
# Okabe and Ito's colours, which everyone can tell apart, also in grey.
BLUE, ORANGE, VERMILION = "#0072B2", "#E69F00", "#D55E00"
GREY = "0.4"


def new_figure(width, height):
    """Returns an empty figure of a width and height in inches."""
    try:
        from matplotlib.figure import Figure
    except ImportError as error:
        raise ImportError(
            "Figures need Matplotlib, which is not installed: "
            'pip install "keras-vit[viz]"'
        ) from error
    figure = Figure(figsize=(width, height), dpi=DPI, layout="constrained")
    # Without pyplot Jupyter has no other way to show it.
    figure._repr_png_ = functools.partial(png, figure)
    return figure


def png(figure):
    """Returns a figure as the bytes of a PNG file."""
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=DPI, bbox_inches="tight")
    return buffer.getvalue()


def panels(count, per_row, aspect, extra=0.3):
    """Returns a figure with a panel for each of `count` pictures.

    Args:
        count: number of panels.
        per_row: panels side by side, at most.
        aspect: height of a picture divided by its width.
        extra: inches of height that a row of panels needs besides, for
            titles.

    Returns:
        The figure and an array of shape `(count,)` of its axes, in row order.
    """
    columns = min(count, per_row)
    rows = -(-count // columns)
    # Few panels shall not fill the page; a colour bar and labels need an inch.
    edge = min((WIDTH - 1.3) / columns, 2.6)
    figure = new_figure(
        edge * columns + 1.3, rows * (edge * aspect + extra) + 0.8
    )
    axes = figure.subplots(rows, columns, squeeze=False).ravel()
    for axis in axes[count:]:
        axis.remove()
    return figure, axes[:count]


def displayable(images, data_format):
    """Returns images as Matplotlib wants them.

    Args:
        images: array of rank 4; pixels in [0, 255], or in [-1, 1] or [0, 1]
            for models without rescaling.
        data_format: of the images.

    Returns:
        A NumPy array of shape `(batch, height, width, 3)` in [0, 1]. Images of
        other than 3 channels are grey.
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


def show_image(axis, pixels):
    """Draws an image, a pixel a unit of the axes."""
    height, width = pixels.shape[:2]
    extent = (0, width, height, 0)
    axis.imshow(pixels, extent=extent, interpolation="nearest")
    axis.set_xticks([0, width])
    axis.set_yticks([0, height])


def show_map(axis, values, layout, pixels, top, over=0.0):
    """Draws a value a patch where the patch is, and returns the drawing.

    Args:
        axis: where to draw.
        values: array of shape `(rows, columns)`.
        layout: `TokenLayout`.
        pixels: the image, as `displayable` returns it.
        top: value of the brightest colour; 0 has the darkest.
        over: how much of the image, in [0, 1], is seen through the map.
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
    # Patches may reach over a padded edge, or end before a cropped one.
    axis.set(xlim=limits[0], ylim=limits[1])
    return shown


def frame(axis, patch, layout):
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


def color_bar(figure, shown, axes, label, **options):
    """Draws one colour bar for all panels, as slim beside many as beside one.

    Args:
        figure: the figure.
        shown: a drawing with the scale of colours.
        axes: the panels.
        label: what the colours say.
        **options: of `Figure.colorbar`.
    """
    height = figure.get_size_inches()[1]
    return figure.colorbar(
        shown, ax=list(axes), label=label, aspect=8 * height, **options
    )


def name_pixels(figure, axes):
    """Names the axes of images once for the whole figure."""
    for axis in axes:
        axis.label_outer()
        axis.tick_params(length=2, labelsize=8)
    figure.supxlabel("column (pixels)", fontsize=10)
    figure.supylabel("row (pixels)", fontsize=10)


def smooth(values, layout, size):
    """Returns a map of patches as one of pixels, bilinear between centres.

    Args:
        values: array of shape `(rows, columns)`.
        layout: `TokenLayout`.
        size: height and width of the image in pixels.

    Returns:
        An array of the shape `size`.
    """
    weights = []
    for pixels, cell, cells in zip(size, layout.cell_size, values.shape):
        places = (np.arange(pixels) + 0.5) / cell - 0.5
        places = np.clip(places, 0, cells - 1)
        distances = np.abs(places[:, None] - np.arange(cells))
        weights.append(np.maximum(1 - distances, 0))
    return weights[0] @ values @ weights[1].T


def plain(axis):
    """Leaves of the box around a diagram the two axes, and a light grid."""
    axis.spines[["top", "right"]].set_visible(False)
    axis.grid(color="0.92")
    axis.set_axisbelow(True)
