"""Self-attention with a learned bias for every offset on the grid.

Liu et al. 2021, arXiv:2103.14030 (Swin), equation 4, here over the whole grid;
Bao et al. 2021, arXiv:2106.08254 (BEiT), with three more rows for a class
token.
"""

from typing import Any

import keras
from keras import ops

from keras_vit.arguments import (
    Shape,
    check_not_negative,
    check_pair,
    check_placed_tokens,
    check_rank,
)
from keras_vit.layers.attention import SelfAttention
from keras_vit.ops.positions import by_places

# From tokens before the grid to it, from it to them, and among them.
PREFIX_ROWS = 3


@keras.saving.register_keras_serializable(package="keras_vit")
class RelativeBiasAttention(SelfAttention):
    """Self-attention that adds a number to each logit, by the two places.

    Each head has one number for every offset between two cells of the grid:

        logits[t, s] = q_t . k_s / sqrt(head_dim) + table[row(t, s)]

    The table is the weight `bias_table` of shape `((2 * rows - 1) * (2 *
    columns - 1), num_heads)`; its rows go from the offset `(1 - rows, 1 -
    columns)`, query minus key, to `(rows - 1, columns - 1)`, columns first.
    Tokens in front of the grid have no place. With them come three more rows:
    from such a token to the grid, from the grid to it, and among such tokens.
    The table starts at zero, which is `SelfAttention`. Unlike
    `RelativeAttention` the bias does not depend on the tokens, so fused
    kernels take it.

    In a model, use `position=None` for `PatchEncoder`, unless the network has
    both. Tokens do not tell their grid, so `grid_size` is needed;
    `change_resolution` replaces it and resamples the table.

    Args:
        num_heads: number of heads.
        grid_size: rows and columns of the grid; an int stands for both.
        num_prefix_tokens: number of tokens before the grid (class token,
            registers).
        **kwargs: the other arguments of `SelfAttention` (`head_dim`,
            `use_bias`, `use_key_bias`, `use_output_bias`, `qk_norm`,
            `dropout`, `epsilon`, `seed` and the rest) and those of
            `keras.layers.Layer`.

    Call arguments:
        tokens: tensor of shape
            `(batch, num_prefix_tokens + rows * columns, hidden_dim)`.
        queries: tensor of the shape of `tokens`, at the same places.
            Defaults to `tokens`.
        training: whether dropout is on.
        return_attention_scores: whether to return the scores too.

    Returns:
        A tensor of the shape of `tokens`; with `return_attention_scores=True`
        a pair of it and the scores, of shape `(batch, num_heads, num_tokens,
        num_tokens)`, whose rows sum to 1.

    Raises:
        ValueError: if the number of tokens is not `num_prefix_tokens + rows *
            columns`.

    Example:

    >>> attention = keras_vit.layers.RelativeBiasAttention(4, (2, 3), 1)
    >>> attention(keras.ops.ones((2, 7, 64))).shape
    (2, 7, 64)
    >>> tuple(attention.bias_table.shape)
    (18, 4)

    Reference:
        - [Bao et al., 2021](https://arxiv.org/abs/2106.08254) (BEiT);
          microsoft/unilm, `beit/modeling_finetune.py`
        - [Liu et al., 2021](https://arxiv.org/abs/2103.14030) (Swin),
          section 3.2
    """

    def __init__(
        self,
        num_heads: int,
        grid_size: int | tuple[int, int],
        num_prefix_tokens: int = 0,
        **kwargs,
    ):
        super().__init__(num_heads, **kwargs)
        self.grid_size = check_pair("grid_size", grid_size)
        self.num_prefix_tokens = check_not_negative(
            "num_prefix_tokens", num_prefix_tokens
        )

    def build(
        self, tokens_shape: Shape, queries_shape: Shape | None = None
    ) -> None:
        check_rank(self, tokens_shape, 3, "(batch, tokens, hidden_dim)")
        check_placed_tokens(self, tokens_shape)
        super().build(tokens_shape, queries_shape)
        self._build_table()

    def _build_table(self):
        rows, columns = self.grid_size
        extra = PREFIX_ROWS if self.num_prefix_tokens else 0
        self.bias_table = self.add_weight(
            name="bias_table",
            shape=((2 * rows - 1) * (2 * columns - 1) + extra, self.num_heads),
            initializer="zeros",
        )

    def _table(self):
        """A row of biases, one a head, for every offset and prefix."""
        return ops.convert_to_tensor(self.bias_table)

    def _prepare(self, query, key):
        for x in (query, key):
            check_placed_tokens(self, x.shape)
        return super()._prepare(query, key)

    def _bias(self):
        return by_places(self._table(), self.grid_size, self.num_prefix_tokens)

    def get_config(self) -> dict[str, Any]:
        return {
            **super().get_config(),
            "grid_size": self.grid_size,
            "num_prefix_tokens": self.num_prefix_tokens,
        }
