"""Places as numbers: fixed vectors, angles, offsets, and logits by offset.

Sine-cosine vectors are those of big_vision (MoCo v3). Rotary angles: Su et al.
2021, arXiv:2104.09864, for a sequence; Heo et al. 2024, arXiv:2403.13298, for
the axes of an image. The order by key: Huang et al. 2018, arXiv:1809.04281.
"""

from typing import Any

import numpy as np
from keras import ops

# The MoCo v3 form that big_vision uses.
SINCOS_TEMPERATURE = 10_000.0


def sincos_2d(
    rows: Any, columns: Any, hidden_dim: int, dtype: str = "float32"
) -> Any:
    """Returns fixed sine-cosine positions of a grid, without any weights.

    With `omega_k = 10000 ** (-k / (D / 4 - 1))`, the vector of row `y` and
    column `x` is `[sin(x omega), cos(x omega), sin(y omega), cos(y omega)]`.

    Args:
        rows: grid rows, an int or a scalar tensor.
        columns: grid columns, an int or a scalar tensor.
        hidden_dim: length D of a vector, a multiple of 4.
        dtype: float dtype of the result.

    Returns:
        A tensor of shape `(rows, columns, hidden_dim)`.

    Reference:
        big_vision, `models/vit.py`, `posemb_sincos_2d`
    """
    quarter = hidden_dim // 4
    exponents = np.arange(quarter) / max(quarter - 1, 1)
    omega = ops.convert_to_tensor(SINCOS_TEMPERATURE**-exponents, dtype)

    def waves(size):
        # On the host where that is possible: some exports have no range.
        arange = np.arange if isinstance(size, int) else ops.arange
        places = ops.convert_to_tensor(arange(size, dtype=dtype))
        angles = ops.expand_dims(places, 1) * omega
        return ops.concatenate([ops.sin(angles), ops.cos(angles)], axis=-1)

    return _concatenate_axes(waves(rows), waves(columns))


def _concatenate_axes(of_rows, of_columns):
    """`(rows, D/2)` and `(columns, D/2)` -> `(rows, columns, D)`, X first."""
    rows, half = ops.shape(of_rows)
    columns, _ = ops.shape(of_columns)
    x = ops.broadcast_to(ops.expand_dims(of_columns, 0), (rows, columns, half))
    y = ops.broadcast_to(ops.expand_dims(of_rows, 1), (rows, columns, half))
    return ops.concatenate([x, y], axis=-1)


def grid_places(
    grid_size: tuple[int, int],
    coordinates: str = "index",
    indexing: str = "ij",
    offset: float = 0.0,
    reference_grid: tuple[int, int] | None = None,
) -> np.ndarray:
    """Returns the two coordinates of every token of a grid.

    With `i` the row or column of a token and `n` the number of them:

        "index":      i + offset, times r / n with r of the reference grid
        "normalized": 2 pi (2 (i + 1/2 + offset) / n - 1)

    Args:
        grid_size: rows and columns.
        coordinates: `"index"` or `"normalized"`.
        indexing: `"ij"` for the row first, `"xy"` for the column first.
        offset: added to rows and columns.
        reference_grid: rows and columns that `"index"` stretches the grid to,
            or `None` for the grid as it is.

    Returns:
        An array of shape `(rows * columns, 2)`, float64; tokens in row order.
    """
    axes = []
    for axis, size in enumerate(grid_size):
        places = np.arange(size) + float(offset)
        if coordinates == "normalized":
            places = 2 * np.pi * (2 * (places + 0.5) / size - 1)
        elif reference_grid is not None:
            places = places * reference_grid[axis] / size
        axes.append(places)
    of_rows, of_columns = np.meshgrid(*axes, indexing="ij")
    pair = (of_rows, of_columns) if indexing == "ij" else (of_columns, of_rows)
    return np.stack(pair, axis=-1).reshape(-1, 2)


def rotary_frequencies(head_dim: int, base: float) -> np.ndarray:
    """Returns `base ** (-k / (head_dim / 4))` for `k` below `head_dim / 4`.

    Args:
        head_dim: width of a head, a multiple of 4.
        base: base of the frequencies, above 0.

    Returns:
        An array of shape `(head_dim / 4,)`, float64.
    """
    quarter = head_dim // 4
    return base ** (-np.arange(quarter) / quarter)


def rotary_angles(places: np.ndarray, head_dim: int, base: float) -> np.ndarray:
    """Returns the angles by which the tokens of a grid are turned.

    With `omega_k = base ** (-k / (head_dim / 4))`, the token with the
    coordinates `(u, v)` has the angles `[u omega, v omega]`.

    Args:
        places: array of shape `(tokens, 2)`, see `grid_places`.
        head_dim: width of a head, a multiple of 4.
        base: base of the frequencies, above 0.

    Returns:
        An array of shape `(tokens, head_dim / 2)`, in radians, float64.
    """
    omega = rotary_frequencies(head_dim, base)
    angles = places[:, :, None] * omega
    return angles.reshape(len(places), -1)


def by_places(
    table: Any, grid_size: tuple[int, int], num_prefix_tokens: int = 0
) -> Any:
    """Brings a table of offsets into the order of queries and keys.

    The rows of the table are the offsets of two cells of the grid, query minus
    key, from `(1 - rows, 1 - columns)` on, columns first. With tokens in front
    of the grid three rows follow: from such a token to the grid, from the grid
    to such a token, and among such tokens.

    Args:
        table: tensor of shape `((2 rows - 1) * (2 columns - 1), heads)`, with
            three rows more if there are tokens before the grid.
        grid_size: rows and columns of the grid.
        num_prefix_tokens: number of tokens before the grid.

    Returns:
        A tensor of shape `(heads, tokens, tokens)`, queries first.
    """
    rows, columns = grid_size
    down, across = 2 * rows - 1, 2 * columns - 1
    heads, cells = table.shape[-1], rows * columns
    # `by_key` counts from the query to the key. No gather: its gradient adds
    # up rows one by one, and its indices are as many as two tokens have pairs.
    x = ops.flip(table[: down * across], axis=0)
    x = ops.reshape(ops.transpose(x), (heads, down, 1, across))
    x = by_key(ops.broadcast_to(x, (heads, down, columns, across)))
    x = ops.transpose(x, (0, 2, 3, 1))
    x = ops.reshape(x, (heads, columns * columns, 1, down))
    x = by_key(ops.broadcast_to(x, (heads, columns * columns, rows, down)))
    x = ops.reshape(x, (heads, columns, columns, rows, rows))
    x = ops.transpose(x, (0, 3, 1, 4, 2))
    x = ops.reshape(x, (heads, cells, cells))
    if not num_prefix_tokens:
        return x

    def constant(row, queries, keys):
        value = ops.reshape(table[row], (heads, 1, 1))
        return ops.broadcast_to(value, (heads, queries, keys))

    prefix = num_prefix_tokens
    of_prefix = [constant(-1, prefix, prefix), constant(-3, prefix, cells)]
    of_grid = [constant(-2, cells, prefix), x]
    return ops.concatenate(
        [ops.concatenate(part, axis=2) for part in (of_prefix, of_grid)],
        axis=1,
    )


def log_offsets(grid_size: tuple[int, int]) -> np.ndarray:
    """Returns `sign(d) log(1 + |d|)` for every offset `d` on a grid.

    Args:
        grid_size: rows and columns of the grid.

    Returns:
        An array of shape `((2 rows - 1) * (2 columns - 1), 2)`, float64, in
        the order of `by_places`: of rows, of columns.
    """
    axes = [np.arange(1 - size, size) for size in grid_size]
    offsets = np.stack(np.meshgrid(*axes, indexing="ij"), axis=-1)
    offsets = offsets.reshape(-1, 2).astype("float64")
    return np.sign(offsets) * np.log1p(np.abs(offsets))


def by_key(logits: Any) -> Any:
    """Brings logits by offset into the order of the keys.

    Args:
        logits: tensor of shape `(batch, heads, N, 2 N - 1)`; column `j` of
            query `t` belongs to the key at `t + j - (N - 1)`.

    Returns:
        A tensor of shape `(batch, heads, N, N)`.
    """
    _, heads, tokens, offsets = logits.shape
    # One more column makes a row 2 N long. Read with rows of 2 N - 1 from
    # element N - 1 on, each row starts one column further left, at key 0.
    x = ops.pad(logits, ((0, 0), (0, 0), (0, 0), (0, 1)))
    x = ops.reshape(x, (-1, heads, tokens * (offsets + 1)))
    x = x[:, :, tokens - 1 : -1]
    x = ops.reshape(x, (-1, heads, tokens, offsets))
    return x[:, :, :, :tokens]
