"""Self-attention inside the windows of a grid of tokens.

With windows of a whole row or column it is axial attention (Ho et al. 2019,
arXiv:1912.12180), which `AxialBlock` uses. With square windows it is the window
attention of Liu et al. 2021 (arXiv:2103.14030), without shifts.
"""

from typing import Any

import keras
from keras import ops

from keras_vit.arguments import (
    Shape,
    check_num_tokens,
    check_pair,
    check_positive,
    check_rank,
)
from keras_vit.layers.attention import SelfAttention
from keras_vit.ops.precision import at_least_float32

_AXES = "(batch, tokens, hidden_dim)"


@keras.saving.register_keras_serializable(package="keras_vit")
class WindowAttention(SelfAttention):
    """Self-attention within windows that do not overlap.

    The tokens are a grid in row order and nothing else. The grid is cut into
    windows of equal size, and a token attends to the tokens of its window: N
    tokens in windows of w cost N w products instead of N^2. The weights are
    those of `SelfAttention`, and all windows share them. With one window as
    large as the grid the output is that of `SelfAttention` too.

    A class token has no window. Leave it out of the model
    (`pooling="average"`).

    Args:
        num_heads: number of heads.
        window_size: rows and columns of a window, which divide those of the
            grid; an int stands for both. `None` in the pair is the whole axis:
            `(1, None)` is attention along rows, `(None, 1)` along columns.
        grid_size: rows and columns of the grid; an int stands for both.
        **kwargs: the other arguments of `SelfAttention` (`head_dim`,
            `use_bias`, `use_output_bias`, `qk_norm`, `dropout`, `epsilon`,
            `seed`) and those of `keras.layers.Layer`.

    Call arguments:
        tokens: tensor of shape `(batch, rows * columns, hidden_dim)`.
        training: whether dropout is on.
        return_attention_scores: whether to return the scores too.

    Returns:
        A tensor of the shape of `tokens`; with `return_attention_scores=True`
        a pair of it and the scores, of shape `(batch, num_windows, num_heads,
        window_tokens, window_tokens)`, whose rows sum to 1. Windows, and
        tokens in a window, are in row order.

    Raises:
        ValueError: if the windows do not divide the grid, or if the number of
            tokens is not `rows * columns`.

    Example:

    >>> attention = keras_vit.layers.WindowAttention(4, (2, 3), (4, 6))
    >>> tokens = keras.ops.ones((2, 24, 64))
    >>> attention(tokens).shape
    (2, 24, 64)
    >>> attention(tokens, return_attention_scores=True)[1].shape
    (2, 4, 4, 6, 6)

    Reference:
        - [Dosovitskiy et al., 2021](https://arxiv.org/abs/2010.11929),
          appendix D.6
    """

    def __init__(
        self,
        num_heads: int,
        window_size: int | tuple[int | None, int | None],
        grid_size: int | tuple[int, int],
        **kwargs,
    ):
        super().__init__(num_heads, **kwargs)
        self.grid_size = check_pair("grid_size", grid_size)
        self.window_size = _check_window(window_size, self.grid_size)

    @property
    def window(self) -> tuple[int, int]:
        """Rows and columns of a window, as numbers."""
        return tuple(
            size or whole
            for size, whole in zip(self.window_size, self.grid_size)
        )

    def _check_grid(self, shape):
        check_rank(self, shape, 3, _AXES)
        rows, columns = self.grid_size
        rule = f"the grid of {rows} x {columns} and no class token"
        check_num_tokens(self, shape, rows * columns, rule)

    def build(self, tokens_shape: Shape) -> None:
        self._check_grid(tokens_shape)
        height, width = self.window
        super().build((None, height * width, tokens_shape[-1]))

    def call(
        self,
        tokens: Any,
        training: bool | None = None,
        return_attention_scores: bool = False,
    ) -> Any:
        self._check_grid(tokens.shape)
        rows, columns = self.grid_size
        height, width = self.window
        down, across = rows // height, columns // width
        hidden_dim = tokens.shape[-1]

        # b (r h c w) d -> (b r c) (h w) d
        x = ops.reshape(tokens, (-1, down, height, across, width, hidden_dim))
        x = ops.transpose(x, (0, 1, 3, 2, 4, 5))
        x = ops.reshape(x, (-1, height * width, hidden_dim))

        x = super().call(
            x,
            training=training,
            return_attention_scores=return_attention_scores,
        )
        if return_attention_scores:
            x, scores = x

        # (b r c) (h w) d -> b (r h c w) d
        x = ops.reshape(x, (-1, down, across, height, width, hidden_dim))
        x = ops.transpose(x, (0, 1, 3, 2, 4, 5))
        x = ops.reshape(x, (-1, rows * columns, hidden_dim))
        if not return_attention_scores:
            return x
        return x, ops.reshape(scores, (-1, *self._scores_shape))

    @property
    def _scores_shape(self):
        (rows, columns), (height, width) = self.grid_size, self.window
        tokens = height * width
        return (rows * columns // tokens, self.num_heads, tokens, tokens)

    def compute_output_shape(self, tokens_shape: Shape) -> Shape:
        return tokens_shape

    def compute_output_spec(
        self,
        tokens: keras.KerasTensor,
        training: bool | None = None,
        return_attention_scores: bool = False,
    ) -> Any:
        output = keras.KerasTensor(tokens.shape, dtype=self.compute_dtype)
        if not return_attention_scores:
            return output
        shape = (tokens.shape[0], *self._scores_shape)
        dtype = at_least_float32(self.compute_dtype)
        return output, keras.KerasTensor(shape, dtype=dtype)

    def get_config(self) -> dict[str, Any]:
        return {
            **super().get_config(),
            "window_size": self.window_size,
            "grid_size": self.grid_size,
        }


def _check_window(window_size, grid_size):
    """Returns the pair, in which `None` stays for a whole axis."""
    pair = window_size
    if not isinstance(pair, (tuple, list)):
        pair = (pair, pair)
    if len(pair) != 2 or window_size is None:
        raise ValueError(
            "`window_size` must be an integer or a pair (rows, columns) of "
            "integers or None, which is the whole axis. "
            f"Received: window_size={window_size!r}"
        )
    pair = tuple(
        None if edge is None else check_positive("window_size", edge)
        for edge in pair
    )
    for axis, edge, whole in zip(("rows", "columns"), pair, grid_size):
        if edge is not None and whole % edge:
            legal = [size for size in range(1, whole + 1) if whole % size == 0]
            rule = "divide the grid"
            if edge > whole:
                rule = "not be larger than the grid"
            raise ValueError(
                f"`window_size` must {rule}: the {whole} {axis} of the grid "
                f"take windows of {', '.join(map(str, legal))} {axis}. "
                f"Received: window_size={window_size!r}, "
                f"grid_size={grid_size!r}"
            )
    return pair
