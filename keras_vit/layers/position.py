"""The place of a patch: position embeddings over a grid of tokens.

Dosovitskiy et al. 2021, sections 3.1, 3.2 and D.4. A learned table belongs to
one grid. On any other grid it is resampled in two dimensions, inside the graph,
as a product with two small matrices. Relative and rotary positions are no
tables and belong to the attention layers.
"""

from typing import Any, Literal, get_args

import keras
from keras import ops

from keras_vit.arguments import (
    Shape,
    check_choice,
    check_not_negative,
    check_pair,
    check_rank,
)
from keras_vit.ops.positions import _concatenate_axes, sincos_2d
from keras_vit.ops.precision import at_least_float32
from keras_vit.ops.resize import linear_resize_matrix

Position = Literal["learned_1d", "learned_2d", "sincos_2d"]
POSITIONS = get_args(Position)


@keras.saving.register_keras_serializable(package="keras_vit")
class PositionEmbedding(keras.layers.Layer):
    """Adds positions to tokens that come from a grid.

    The tokens are `num_prefix_tokens` tokens without a place in the grid (a
    class token), then the grid in row order. Each prefix token has its own row
    of the table. On another grid than that of the table, the rows of the grid
    are resampled by corner-aligned linear interpolation, in at least float32.
    The rows of prefix tokens stay unchanged.

    Args:
        kind: `"learned_1d"`, one free vector a token; `"learned_2d"`, one
            vector of D/2 for each column and one for each row, concatenated;
            `"sincos_2d"`, fixed.
        grid_size: rows and columns of the grid of the tables; an int stands for
            both.
        num_prefix_tokens: number of tokens before the grid. They have learned
            rows in both learned kinds, and zeros in the fixed kind.

    Call arguments:
        tokens: tensor of shape
            `(batch, num_prefix_tokens + rows * columns, hidden_dim)`.
        grid_size: rows and columns of the present grid, ints or scalar
            tensors. Defaults to the grid of the tables.

    Returns:
        A tensor of the shape of `tokens`.

    Example:

    >>> positions = keras_vit.layers.PositionEmbedding("learned_1d", (2, 3))
    >>> positions(keras.ops.zeros((1, 6, 8))).shape
    (1, 6, 8)
    >>> positions(keras.ops.zeros((1, 20, 8)), grid_size=(4, 5)).shape
    (1, 20, 8)

    Reference:
        - [Dosovitskiy et al., 2021](https://arxiv.org/abs/2010.11929),
          sections 3.2 and D.4
    """

    def __init__(
        self,
        kind: Position,
        grid_size: int | tuple[int, int],
        num_prefix_tokens: int = 0,
        **kwargs,
    ):
        super().__init__(**kwargs)
        self.kind = check_choice("kind", kind, POSITIONS)
        self.grid_size = check_pair("grid_size", grid_size)
        self.num_prefix_tokens = check_not_negative(
            "num_prefix_tokens", num_prefix_tokens
        )

    def build(self, input_shape: Shape) -> None:
        check_rank(self, input_shape, 3, "(batch, tokens, hidden_dim)")
        dim = input_shape[-1]
        divisor = {"learned_1d": 1, "learned_2d": 2, "sincos_2d": 4}[self.kind]
        if dim % divisor:
            raise ValueError(
                f"`hidden_dim` must be a multiple of {divisor} for positions "
                f"of kind {self.kind!r}. Received: hidden_dim={dim}"
            )
        rows, columns = self.grid_size
        if self.kind == "learned_1d":
            self.table = self._add_table(
                "table", self.num_prefix_tokens + rows * columns, dim
            )
        elif self.kind == "learned_2d":
            self.row_table = self._add_table("row_table", rows, dim // 2)
            self.column_table = self._add_table(
                "column_table", columns, dim // 2
            )
            if self.num_prefix_tokens:
                self.prefix_table = self._add_table(
                    "prefix_table", self.num_prefix_tokens, dim
                )

    def _add_table(self, name, rows, dim):
        # N(0, 0.02) as in the official code (and BERT). Not autocast: tables
        # are resampled in float32.
        return self.add_weight(
            name=name,
            shape=(rows, dim),
            initializer=keras.initializers.RandomNormal(stddev=0.02),
            autocast=False,
        )

    def call(
        self, tokens: Any, grid_size: tuple[Any, Any] | None = None
    ) -> Any:
        rows, columns = self.grid_size if grid_size is None else grid_size
        table = self.positions(rows, columns, tokens.shape[-1])
        return tokens + ops.cast(table, tokens.dtype)

    def positions(self, rows: Any, columns: Any, hidden_dim: int) -> Any:
        """Returns the positions of a grid, prefix rows first.

        Args:
            rows: grid rows, an int or a scalar tensor.
            columns: grid columns, an int or a scalar tensor.
            hidden_dim: length of a vector.

        Returns:
            A tensor of shape `(num_prefix_tokens + rows * columns,
            hidden_dim)`, in at least float32.
        """
        dtype = at_least_float32(self.variable_dtype)
        prefix = self.num_prefix_tokens
        if self.kind == "learned_1d":
            table = ops.cast(self.table, dtype)
            if self._is_own_grid(rows, columns):
                return table
            grid = ops.reshape(table[prefix:], (*self.grid_size, hidden_dim))
            grid = self._resize(grid, rows, columns)
            prefix_rows = table[:prefix]
        elif self.kind == "learned_2d":
            of_rows = ops.cast(self.row_table, dtype)
            of_columns = ops.cast(self.column_table, dtype)
            if not self._is_own_grid(rows, columns):
                old_rows, old_columns = self.grid_size
                to_rows = linear_resize_matrix(rows, old_rows, dtype)
                to_columns = linear_resize_matrix(columns, old_columns, dtype)
                of_rows = ops.matmul(to_rows, of_rows)
                of_columns = ops.matmul(to_columns, of_columns)
            grid = _concatenate_axes(of_rows, of_columns)
            if prefix:
                prefix_rows = ops.cast(self.prefix_table, dtype)
        else:
            grid = sincos_2d(rows, columns, hidden_dim, dtype)
            if prefix:
                prefix_rows = ops.zeros((prefix, hidden_dim), dtype)
        grid = ops.reshape(grid, (-1, hidden_dim))
        if not prefix:
            return grid
        return ops.concatenate([prefix_rows, grid], axis=0)

    def _is_own_grid(self, rows, columns):
        # A size that is known only when a graph runs is a tensor: resample.
        known = isinstance(rows, int) and isinstance(columns, int)
        return known and (rows, columns) == self.grid_size

    def _resize(self, grid, rows, columns):
        old_rows, old_columns = self.grid_size
        to_rows = linear_resize_matrix(rows, old_rows, grid.dtype)
        to_columns = linear_resize_matrix(columns, old_columns, grid.dtype)
        grid = ops.einsum("Hh,hwd->Hwd", to_rows, grid)
        return ops.einsum("Ww,Hwd->HWd", to_columns, grid)

    def compute_output_shape(self, tokens_shape: Shape) -> Shape:
        return tokens_shape

    def get_config(self) -> dict[str, Any]:
        return {
            **super().get_config(),
            "kind": self.kind,
            "grid_size": self.grid_size,
            "num_prefix_tokens": self.num_prefix_tokens,
        }
