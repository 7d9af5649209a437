"""A view into a model for notebooks: click on a patch, see where it looks.

It uses only widgets that every notebook has: a grid of transparent buttons,
one for each patch, lies over the image.
"""

import io
import itertools
from typing import TYPE_CHECKING, Any

import keras
import numpy as np

from keras_vit.anatomy import image_data_format
from keras_vit.arguments import check_positive
from keras_vit.extras import require
from keras_vit.introspection.geometry import only_image, token_layout
from keras_vit.introspection.scores import attention_scores, block_names
from keras_vit.plot.figures import displayable

if TYPE_CHECKING:
    from ipywidgets import VBox

MEAN = "mean of all"
# Width of the frame around a patch, in pixels of the screen.
FRAME = 2


def explore(model: keras.Model, image: Any, size: int = 400) -> "VBox":
    """Shows where a patch looks, in any block and head, after a click on it.

    Write it as the last line of a cell in a notebook (JupyterLab, VS Code).
    The image is on the left: a click on a patch chooses it. What the patch
    attends to is on the right, from dark (nothing) to bright (the most in this
    map). Menus choose block and head; a button chooses the class token, where
    there is one.

    The scores of a block are computed when you first choose it, and kept in
    half precision for display: 100 MB for B/16 at 384 x 384 pixels.

    Args:
        model: as in `keras_vit.introspection.attention_scores`, with one
            `Patches` and one `PatchEncoder`.
        image: array of shape `(height, width, channels)`, or a batch of one.
        size: width of the image on the screen, in pixels.

    Returns:
        An `ipywidgets.VBox`.

    Raises:
        ValueError: as in `keras_vit.introspection.attention_scores`.
        ImportError: if ipywidgets or Matplotlib is not installed.

    Example:

    ```python
    keras_vit.explore(model, image)
    ```
    """
    ipywidgets = require(
        "ipywidgets", "notebooks", "`explore` needs ipywidgets"
    )
    require("matplotlib", "notebooks", "`explore` needs Matplotlib")
    check_positive("size", size)
    batch = only_image(model, image)
    layout = token_layout(model, batch)
    scores_of = _ScoresOnDemand(model, batch)
    names = block_names(model)
    pixels = displayable(batch, image_data_format(model))[0]
    rows, columns = layout.grid_size
    # What the patches cover, with the padding and without what is cropped.
    covered = _fit(
        pixels, rows * layout.cell_size[0], columns * layout.cell_size[1]
    )
    screen = (round(size * covered.shape[0] / covered.shape[1]), size)

    blocks = ipywidgets.Dropdown(
        options=names, value=names[-1], description="block"
    )
    heads = ipywidgets.Dropdown(options=[MEAN], description="head")
    cls_token = ipywidgets.Button(
        description="class token", disabled=not layout.cls_token
    )
    caption = ipywidgets.Label()
    edges = {"width": f"{screen[1]}px", "height": f"{screen[0]}px"}
    place = {**edges, "margin": "0", "grid_area": "1 / 1 / 2 / 2"}
    left = ipywidgets.Image(format="png", layout=place)
    right = ipywidgets.Image(format="png", layout={**edges, "margin": "0"})
    state = {"patch": None if layout.cls_token else (0, 0)}

    def draw(*_):
        scores = scores_of(blocks.value)
        head = heads.value
        index = layout.index(state["patch"])
        row = scores[:, index, layout.num_prefix_tokens :].astype("float64")
        row = row.mean(axis=0) if head == MEAN else row[head]
        values = row.reshape(rows, columns)
        left.value = _png(_framed(covered, state["patch"], layout, screen))
        right.value = _png(
            _framed(_colored(values), state["patch"], layout, screen)
        )
        who = "class token"
        if state["patch"] is not None:
            who = f"patch {state['patch']}"
        caption.value = (
            f"{who}: {values.sum():.0%} of its attention goes to patches, "
            f"{values.max():.1%} to the brightest"
        )

    def change_block(*_):
        count = len(scores_of(blocks.value))
        chosen = heads.value
        # New options select the first one, which draws. Keep the chosen head
        # if the block has it.
        heads.unobserve(draw, "value")
        heads.options = [MEAN, *range(count)]
        heads.value = chosen if chosen in heads.options else MEAN
        heads.observe(draw, "value")
        draw()

    def choose(patch):
        state["patch"] = patch
        draw()

    # All buttons share one style and one layout, because each is an object in
    # the browser too.
    style = ipywidgets.ButtonStyle(button_color="transparent")
    cell = ipywidgets.Layout(
        width="100%", height="100%", margin="0", padding="0", min_width="0"
    )
    buttons = []
    for patch in itertools.product(range(rows), range(columns)):
        button = ipywidgets.Button(
            tooltip=f"patch {patch}", style=style, layout=cell
        )
        button.on_click(lambda _, patch=patch: choose(patch))
        buttons.append(button)
    over = ipywidgets.GridBox(
        buttons,
        layout={
            **place,
            "grid_template_columns": f"repeat({columns}, minmax(0, 1fr))",
            "grid_template_rows": f"repeat({rows}, minmax(0, 1fr))",
            "grid_gap": "0",
            "overflow": "hidden",
        },
    )
    clickable = ipywidgets.GridBox(
        [left, over],
        layout={
            **edges,
            "grid_template_columns": f"{screen[1]}px",
            "grid_template_rows": f"{screen[0]}px",
            "overflow": "hidden",
        },
    )
    blocks.observe(change_block, "value")
    heads.observe(draw, "value")
    cls_token.on_click(lambda _: choose(None))
    change_block()
    between = ipywidgets.Layout(grid_gap="12px")
    return ipywidgets.VBox(
        [
            ipywidgets.HBox([blocks, heads, cls_token]),
            ipywidgets.HBox([clickable, right], layout=between),
            caption,
        ]
    )


class _ScoresOnDemand:
    """The scores of one image, each block computed once, when asked for."""

    def __init__(self, model, batch):
        self.pairs = attention_scores(model, batch)
        self.kept = {}

    def __call__(self, name):
        while name not in self.kept:
            block, scores = next(self.pairs)
            self.kept[block] = scores[0].astype("float16")
        return self.kept[name]


def _fit(pixels, height, width):
    """Crops an image, or pads it with black, below and on the right."""
    pixels = pixels[:height, :width]
    below, right = height - pixels.shape[0], width - pixels.shape[1]
    return np.pad(pixels, ((0, below), (0, right), (0, 0)))


def _colored(values):
    """Returns a map as an image, the largest value brightest."""
    import matplotlib

    top = max(values.max(), np.finfo("float64").tiny)
    return matplotlib.colormaps["viridis"](values / top)[..., :3]


def _framed(image, patch, layout, screen):
    """Returns an image enlarged to the screen, with a frame on a patch."""
    height, width = screen
    rows_of = np.arange(height) * image.shape[0] // height
    columns_of = np.arange(width) * image.shape[1] // width
    image = image[rows_of][:, columns_of]
    if patch is None:
        return image
    (top, bottom), (left, right) = (
        (at * size // count, (at + 1) * size // count)
        for at, size, count in zip(patch, screen, layout.grid_size)
    )
    inside = image[top:bottom, left:right]
    # Black around white: one of them shows on any colour.
    kept = inside[2 * FRAME : -2 * FRAME, 2 * FRAME : -2 * FRAME].copy()
    inside[:] = 0
    inside[FRAME:-FRAME, FRAME:-FRAME] = 1
    inside[2 * FRAME : -2 * FRAME, 2 * FRAME : -2 * FRAME] = kept
    return image


def _png(image):
    """Returns an image in [0, 1] as the bytes of a PNG file."""
    import matplotlib.image

    buffer = io.BytesIO()
    matplotlib.image.imsave(buffer, np.clip(image, 0, 1), format="png")
    return buffer.getvalue()
