"""Position tables and patch kernels at other sizes, in NumPy on the host.

Every method is one matrix for each side: a resampled grid is
`rows @ grid @ columns`. The matrices are made in float64, so the result is that
of the original code to the last digits of float32. `linear_resize_matrix` is
the one that runs inside a graph.
"""

from typing import Any, Literal, get_args

import numpy as np
from keras import ops

from keras_vit.arguments import check_choice

Method = Literal[
    "corner_aligned",
    "bilinear",
    "smooth_bilinear",
    "bicubic",
    "torch_bicubic",
    "corner_aligned_bicubic",
]
METHODS = get_args(Method)


def resize_matrix(
    new_size: int, old_size: int, method: Method = "corner_aligned"
) -> np.ndarray:
    """Returns the matrix that takes `old_size` samples to `new_size`.

    Args:
        new_size: rows of the matrix.
        old_size: columns of the matrix.
        method: `"corner_aligned"` is linear between samples, and the first
            and the last sample keep their places, as in
            `scipy.ndimage.zoom(order=1)` in the official code. `"bilinear"` is
            linear between the centres of pixels, with edges repeated, as timm
            resamples official files; `"smooth_bilinear"` is the same, widened
            against aliasing when the grid shrinks, as in SigLIP 2. `"bicubic"`
            is cubic between the centres of pixels with a = -0.5, widened too,
            as timm resamples all other files. `"torch_bicubic"` is
            cubic between the centres of pixels with a = -0.75, with edges
            repeated and never widened, as in PyTorch's `interpolate`, which
            transformers and Meta's DINO use. `"corner_aligned_bicubic"` is the
            same with first and last sample in their places, as torchvision
            does.

    Returns:
        A float64 array of shape `(new_size, old_size)`, whose rows sum to 1.

    Raises:
        ValueError: if there is no such method.

    Example:

    >>> resize_matrix(3, 2)
    array([[1. , 0. ],
           [0.5, 0.5],
           [0. , 1. ]])
    """
    check_choice("method", method, METHODS)
    places = np.arange(new_size)
    samples = np.arange(old_size)
    if method.startswith("corner_aligned"):
        centres = places * (old_size - 1) / max(new_size - 1, 1)
        if method == "corner_aligned_bicubic":
            return _cubic_with_edges(centres, old_size)
        return _triangle(centres[:, None] - samples)
    scale = old_size / new_size
    centres = (places + 0.5) * scale - 0.5
    if method == "bilinear":
        centres = np.clip(centres, 0, old_size - 1)
        return _triangle(centres[:, None] - samples)
    if method == "torch_bicubic":
        return _cubic_with_edges(centres, old_size)
    width = max(scale, 1.0)
    form = _triangle if method == "smooth_bilinear" else _cubic
    weights = form((centres[:, None] - samples) / width)
    return weights / weights.sum(axis=1, keepdims=True)


def linear_resize_matrix(
    new_size: Any, old_size: int, dtype: str = "float32"
) -> Any:
    """Returns the matrix that stretches `old_size` samples to `new_size`.

    The interpolation is linear and corner-aligned: first and last sample keep
    their places, as in `scipy.ndimage.zoom(order=1)`, with which the official
    code resamples position tables. Row `i` holds the weights of the old samples
    in the new sample `i`: a triangle of width 1 around
    `i * (old_size - 1) / (new_size - 1)`.

    Args:
        new_size: rows of the matrix: an int, or a scalar tensor where a graph
            knows the image size only when it runs.
        old_size: columns of the matrix.
        dtype: float dtype of the matrix.

    Returns:
        A tensor of shape `(new_size, old_size)` whose rows sum to 1.
    """
    if isinstance(new_size, int):
        steps = max(new_size - 1, 1)
    else:
        steps = ops.cast(ops.maximum(new_size - 1, 1), dtype)
    centres = ops.arange(new_size, dtype=dtype) * (old_size - 1) / steps
    samples = ops.arange(old_size, dtype=dtype)
    distances = ops.abs(
        ops.expand_dims(centres, 1) - ops.expand_dims(samples, 0)
    )
    return ops.maximum(1 - distances, 0)


def _triangle(distances):
    return np.maximum(1 - np.abs(distances), 0)


def _cubic(distances, a=-0.5):
    """The cubic convolution kernel of Keys, 1981."""
    x = np.abs(distances)
    near = ((a + 2) * x - (a + 3)) * x * x + 1
    far = ((a * x - 5 * a) * x + 8 * a) * x - 4 * a
    return np.where(x < 1, near, np.where(x < 2, far, 0.0))


def _cubic_with_edges(centres, old_size, a=-0.75):
    """Four taps a sample; a tap outside takes the sample at the edge."""
    matrix = np.zeros((len(centres), old_size))
    first = np.floor(centres).astype(int) - 1
    for tap in range(4):
        weights = _cubic(centres - (first + tap), a)
        columns = np.clip(first + tap, 0, old_size - 1)
        np.add.at(matrix, (np.arange(len(centres)), columns), weights)
    return matrix


def resize_grid(
    grid: np.ndarray,
    new_size: tuple[int, int],
    method: Method = "corner_aligned",
) -> np.ndarray:
    """Resamples a grid of vectors.

    Args:
        grid: array of shape `(rows, columns, hidden_dim)`.
        new_size: the new rows and columns.
        method: see `resize_matrix`.

    Returns:
        An array of shape `(*new_size, hidden_dim)` and the dtype of `grid`.

    Example:

    >>> resize_grid(np.zeros((14, 14, 8)), (24, 10)).shape
    (24, 10, 8)
    """
    rows = resize_matrix(new_size[0], grid.shape[0], method)
    columns = resize_matrix(new_size[1], grid.shape[1], method)
    resized = np.einsum("Hh,hwd->Hwd", rows, grid.astype("float64"))
    resized = np.einsum("Ww,Hwd->HWd", columns, resized)
    return resized.astype(grid.dtype)


def resize_offset_table(
    table: np.ndarray,
    old_grid: tuple[int, int],
    new_grid: tuple[int, int],
    method: Method = "corner_aligned",
) -> np.ndarray:
    """Resamples a table with a row for every offset between two cells.

    The offsets of a larger grid are not those of a smaller one stretched: one
    cell to the left stays one cell to the left. So BEiT gives the old offsets
    new places, whose distances grow from 1 as a geometric series, until the
    outermost of both grids meet, and is linear between them. A smaller grid
    takes them at the ratio 1.01, the least.

    Args:
        table: array of shape `((2 rows - 1) * (2 columns - 1) + more, heads)`
            in the order of `by_places`. Further rows are kept.
        old_grid: rows and columns of the table's grid.
        new_grid: the new rows and columns.
        method: `"torch_bicubic"` is for transformers, which stretches these
            tables, `"bilinear"`; all others stand for BEiT's way, as in timm.

    Returns:
        An array of the dtype of `table`.

    Reference:
        microsoft/unilm, `beit/run_class_finetuning.py`; timm,
        `layers/pos_embed_rel.py`, `resize_rel_pos_bias_table`
    """
    rows, columns = (
        resize_matrix(2 * new - 1, 2 * old - 1, "bilinear")
        if method == "torch_bicubic"
        else _geometric_matrix(new, old)
        for new, old in zip(new_grid, old_grid)
    )
    count = rows.shape[1] * columns.shape[1]
    grid = table[:count].astype("float64")
    grid = grid.reshape(rows.shape[1], columns.shape[1], -1)
    grid = np.einsum("Hh,hwd->Hwd", rows, grid)
    grid = np.einsum("Ww,Hwd->HWd", columns, grid)
    resized = grid.reshape(-1, table.shape[1]).astype(table.dtype)
    return np.concatenate([resized, table[count:]])


def _geometric_matrix(new_size, old_size):
    """From the offsets of `old_size` cells to those of `new_size`."""
    reach = new_size - 1
    low, high = 1.01, 1.5
    while high - low > 1e-6:
        ratio = (low + high) / 2
        outermost = (ratio ** (old_size - 1) - 1) / (ratio - 1)
        low, high = (low, ratio) if outermost > reach else (ratio, high)
    positive = np.cumsum(ratio ** np.arange(old_size - 1))
    places = np.concatenate([-positive[::-1], [0.0], positive])
    wanted = np.arange(-reach, reach + 1)
    columns = [np.interp(wanted, places, one) for one in np.eye(len(places))]
    return np.stack(columns, axis=1)


def resize_patch_kernel(
    kernel: np.ndarray,
    old_patch: tuple[int, int],
    new_patch: tuple[int, int],
    method: Method = "bilinear",
) -> np.ndarray:
    """Resamples a patch projection so that resized patches give equal tokens.

    If `B` resizes a patch of the old size to the new one, the new kernel is
    `pinv(B^T) w`. For larger patches `<pinv(B^T) w, B x> = <w, x>` exactly; for
    smaller patches it is the closest kernel there is. Both `B` and its
    pseudo-inverse factor into one matrix for each side.

    Args:
        kernel: array of shape `(height * width * channels, hidden_dim)`.
        old_patch: height and width of a patch in pixels.
        new_patch: the new height and width.
        method: how pixels are resized, see `resize_matrix`.

    Returns:
        An array of shape `(new height * new width * channels, hidden_dim)`.

    Reference:
        - [Beyer et al., 2023](https://arxiv.org/abs/2212.08013) (FlexiViT),
          section 3.4; big_vision, `models/proj/flexi/vit.py`
    """
    hidden_dim = kernel.shape[-1]
    pixels = kernel.astype("float64").reshape(*old_patch, -1)
    rows, columns = (
        np.linalg.pinv(resize_matrix(new, old, method).T)
        for new, old in zip(new_patch, old_patch)
    )
    pixels = np.einsum("Hh,hwd->Hwd", rows, pixels)
    pixels = np.einsum("Ww,Hwd->HWd", columns, pixels)
    return pixels.reshape(-1, hidden_dim).astype(kernel.dtype)
