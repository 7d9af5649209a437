"""Class token, register tokens and position table: cut to a model's form.

Three arrays that libraries cut differently. A prefix token (class, register
or distillation token) has a row of the table or has none; as token and row
are only ever added, a row that a model has no place for goes into the token,
and a token without a row gets a row of zeros, exactly. The grid behind the
prefix rows is resampled for a model of another resolution.
"""

import math

import numpy as np

from keras_vit.checkpoints.formats.roles import (
    CLS_TOKEN,
    COLUMNS,
    POSITIONS,
    REGISTERS,
    ROWS,
)
from keras_vit.ops.resize import resize_grid

# A grid of 128 x 128 and its prefix rows, or so many times the model's own.
MOST_ROWS = 128**2 + 64
MOST_TIMES = 16


def most_rows(model_rows):
    """Returns how many rows a table may have that a model takes."""
    return max(MOST_ROWS, MOST_TIMES * model_rows)


def grids_of_file(table_rows, prefixes, model_grid, file_grid=None):
    """Returns the ways to read a flat table as prefix rows and a grid.

    A file does not say for which grid its table is. If the model's own fits
    behind the usual prefix rows it is believed; if not, a square is assumed,
    as every library does. More than one answer means that somebody has to say.

    Args:
        table_rows: rows of the table in the file.
        prefixes: numbers of prefix rows that it may have, the usual one first.
        model_grid: rows and columns of the model's grid.
        file_grid: rows and columns of the file's grid, if known.

    Returns:
        A list of pairs: number of prefix rows, and rows and columns.
    """
    found = []
    prefixes = tuple(prefixes)
    if file_grid is None and table_rows - prefixes[0] == math.prod(model_grid):
        return [(prefixes[0], tuple(model_grid))]
    for prefix in prefixes:
        tokens = table_rows - prefix
        if file_grid is not None:
            candidates = [tuple(file_grid)]
        else:
            edge = math.isqrt(max(tokens, 0))
            candidates = [tuple(model_grid), (edge, edge)]
        for grid in candidates:
            if tokens and math.prod(grid) == tokens:
                if (prefix, grid) not in found:
                    found.append((prefix, grid))
    return found


def with_whole_table(arrays):
    """Returns the arrays of a file with one table of positions, not two.

    Args:
        arrays: dict from role to array. A vector for each row and one for each
            column, `(1, rows, dim)` and `(1, columns, dim)`, are added.
    """
    if ROWS not in arrays:
        return arrays
    rows, columns = (arrays[role].astype("float32") for role in (ROWS, COLUMNS))
    return arrays | {POSITIONS: rows[:, :, None] + columns[:, None]}


def fit(arrays, shapes, model_prefix, file_prefix, grids, method):
    """Returns the arrays in the form of a model.

    Args:
        arrays: dict with the arrays of the file under `CLS_TOKEN`,
            `REGISTERS` and `POSITIONS`, those that it has.
        shapes: dict with the shapes in the model, those that it has.
        model_prefix: prefix rows of the model's table: 1 if the class token
            has a row, else 0.
        file_prefix: prefix rows of the file's table: those of the class
            token, then of the registers.
        grids: the grid of the file and that of the model.
        method: how the grid is resampled, see `resize_grid`.

    Returns:
        A dict like `shapes`, with arrays.
    """
    fitted = {
        role: arrays[role].astype("float32").reshape(shape)
        for role, shape in shapes.items()
        if role != POSITIONS
    }
    if POSITIONS not in shapes:
        return fitted
    table = arrays[POSITIONS].astype("float32")
    dim = shapes[POSITIONS][-1]
    table = table.reshape(-1, dim)
    prefix_rows, grid = table[:file_prefix], table[file_prefix:]
    old_grid, new_grid = grids
    if old_grid != new_grid:
        grid = resize_grid(grid.reshape(*old_grid, dim), new_grid, method)
    kept = np.zeros((model_prefix, dim), "float32")
    if model_prefix and file_prefix:
        kept, prefix_rows = prefix_rows[:1], prefix_rows[1:]
    # What is left goes to the tokens that have no row in the model.
    for role in (CLS_TOKEN, REGISTERS):
        if role == CLS_TOKEN and model_prefix:
            continue
        if role in fitted and len(prefix_rows):
            count = fitted[role].shape[1]
            rows, prefix_rows = prefix_rows[:count], prefix_rows[count:]
            fitted[role] = fitted[role] + rows
    table = np.concatenate([kept, grid.reshape(-1, dim)])
    fitted[POSITIONS] = table.astype("float32")
    return fitted
