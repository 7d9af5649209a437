"""Self-attention with rotary positions in two dimensions.

Su et al. 2021, arXiv:2104.09864, for a sequence; Heo et al. 2024,
arXiv:2403.13298, for the axes of an image. Rotations have no weights: the
same kernels serve any grid.
"""

import keras
import numpy as np
from keras import ops

from keras_vit.arguments import (
    check_above_zero,
    check_not_negative,
    check_num_tokens,
    check_pair,
    check_rank,
)
from keras_vit.layers.attention import SelfAttention
from keras_vit.ops.precision import at_least_float32


def rotary_angles(grid_size, head_dim, base):
    """Returns the angles by which the tokens of a grid are turned.

    With `omega_k = base ** (-k / (head_dim / 4))`, the token in row `y` and
    column `x` has the angles `[y omega, x omega]`.

    Args:
        grid_size: rows and columns.
        head_dim: width of a head, a multiple of 4.
        base: of the frequencies, above 0.

    Returns:
        A NumPy array of shape `(rows * columns, head_dim / 2)`, in radians,
        float64; tokens in row order.
    """
    rows, columns = grid_size
    quarter = head_dim // 4
    omega = base ** (-np.arange(quarter) / quarter)
    of_rows = np.arange(rows)[:, None] * omega
    of_columns = np.arange(columns)[:, None] * omega
    return np.concatenate(
        [np.repeat(of_rows, columns, axis=0), np.tile(of_columns, (rows, 1))],
        axis=-1,
    )


@keras.saving.register_keras_serializable(package="keras_vit")
class RotaryAttention(SelfAttention):
    """Self-attention whose queries and keys are turned by their places.

    The first half of a head belongs to the row of a token, the second half to
    its column. Each half is a set of pairs, element `k` with element
    `k + head_dim / 4`, which turns in its plane by the angle

        place * base ** (-k / (head_dim / 4)),   k = 0 ... head_dim / 4 - 1

    so that logits depend on where a token stands only through differences of
    rows and columns. Tokens in front of the grid are not turned. Turned after
    `qk_norm`, in at least float32; values are never turned. No weights
    besides those of `SelfAttention`. In a model, let `PatchEncoder` have
    `position=None`.

    Args:
        num_heads: number of heads.
        grid_size: rows and columns of the grid, an int or a pair.
        num_prefix_tokens: tokens in front of the grid (class token,
            registers).
        base: of the frequencies, above 0. The lowest one is just above
            `1 / base` radians a row or column: 100 is for grids of some tens
            of rows (language models have 10,000).
        **kwargs: the other arguments of `SelfAttention` (`head_dim`,
            `use_bias`, `use_output_bias`, `qk_norm`, `dropout`, `epsilon`,
            `seed`) and those of `keras.layers.Layer`.

    Call arguments:
        tokens: tensor of shape
            `(batch, num_prefix_tokens + rows * columns, hidden_dim)`.
        queries: tensor of the shape of `tokens`, at the same places.
            Defaults to `tokens` themselves.
        training: whether dropout is on.
        return_attention_scores: whether to return the scores as well.

    Returns:
        A tensor of the shape of `tokens`; with `return_attention_scores=True`
        a pair of it and the scores, of shape `(batch, num_heads, num_tokens,
        num_tokens)`, whose rows sum to 1.

    Raises:
        ValueError: if the width of a head is no multiple of 4, or if there
            are other than `num_prefix_tokens + rows * columns` tokens.

    Example:

    >>> attention = keras_vit.layers.RotaryAttention(4, (2, 3), 1)
    >>> attention(keras.ops.ones((2, 7, 64))).shape
    (2, 7, 64)

    Reference:
        - [Su et al., 2021](https://arxiv.org/abs/2104.09864), section 3.2
        - [Heo et al., 2024](https://arxiv.org/abs/2403.13298), "axial
          frequency" and its base of 100
    """

    def __init__(
        self, num_heads, grid_size, num_prefix_tokens=0, base=100.0, **kwargs
    ):
        super().__init__(num_heads, **kwargs)
        self.grid_size = check_pair("grid_size", grid_size)
        self.num_prefix_tokens = check_not_negative(
            "num_prefix_tokens", num_prefix_tokens
        )
        self.base = check_above_zero("base", base)

    def build(self, tokens_shape, queries_shape=None):
        check_rank(self, tokens_shape, 3, "(batch, tokens, hidden_dim)")
        self._check_places(tokens_shape)
        head_dim = self._width_of_heads(tokens_shape[-1])
        if head_dim % 4:
            raise ValueError(
                "`head_dim` must be a multiple of 4: pairs for the row, pairs "
                f"for the column. Received: head_dim={head_dim}"
            )
        super().build(tokens_shape, queries_shape)

        angles = rotary_angles(self.grid_size, head_dim, self.base)
        # Prefix tokens are turned by nothing: cosine 1, sine 0.
        angles = np.pad(angles, ((self.num_prefix_tokens, 0), (0, 0)))
        of_row, of_column = np.split(angles[:, None], 2, axis=-1)
        self._cosines = np.cos(
            np.concatenate([of_row, of_row, of_column, of_column], axis=-1)
        )
        self._sines = np.sin(
            np.concatenate([-of_row, of_row, -of_column, of_column], axis=-1)
        )

    def _check_places(self, shape):
        (rows, columns), prefix = self.grid_size, self.num_prefix_tokens
        rule = f"{prefix} in front of the grid of {rows} x {columns}"
        check_num_tokens(self, shape, prefix + rows * columns, rule)

    def _prepare(self, query, key):
        query, key = super()._prepare(query, key)
        return self._turn(query), self._turn(key)

    def _turn(self, x):
        """Turns each pair `(a, b)` to `(a cos - b sin, b cos + a sin)`."""
        self._check_places(x.shape)
        dtype = at_least_float32(self.compute_dtype)
        cosines = ops.convert_to_tensor(self._cosines, dtype)
        sines = ops.convert_to_tensor(self._sines, dtype)
        turned = ops.cast(x, dtype)
        a, b, c, d = ops.split(turned, 4, axis=-1)
        partners = ops.concatenate([b, a, d, c], axis=-1)
        return ops.cast(turned * cosines + partners * sines, x.dtype)

    def get_config(self):
        return {
            **super().get_config(),
            "grid_size": self.grid_size,
            "num_prefix_tokens": self.num_prefix_tokens,
            "base": self.base,
        }
