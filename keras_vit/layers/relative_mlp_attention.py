"""Self-attention with a bias that a small MLP makes of each offset.

After the continuous position bias of Liu et al. 2021, arXiv:2111.09883 (Swin
V2), section 3.3, in the form of timm's relative-position ViTs: the logarithm is
not scaled by the window, and the MLP's output is the bias as it is.
"""

from typing import Any

import keras
from keras import ops

from keras_vit.arguments import check_positive
from keras_vit.keras_gaps import without_inner_remat
from keras_vit.layers.relative_bias_attention import (
    PREFIX_ROWS,
    RelativeBiasAttention,
)
from keras_vit.ops.positions import log_offsets


@keras.saving.register_keras_serializable(package="keras_vit")
class RelativeMLPAttention(RelativeBiasAttention):
    """Self-attention that adds a function of the offset to each logit.

    In place of the table of `RelativeBiasAttention` an MLP takes the offset of
    two cells of the grid, `d`, query minus key:

        u = sign(d) log(1 + |d|)
        bias = relu(u W_1 + b_1) W_2 + b_2

    with one output for each head. Its weights know no grid, so they stay as
    they are at another resolution. Tokens in front of the grid have no place:
    to them and from them the bias is zero.

    Args:
        num_heads: number of heads.
        grid_size: rows and columns of the grid; an int stands for both.
        num_prefix_tokens: number of tokens before the grid (class token,
            registers).
        bias_dim: inner width of the MLP.
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

    >>> attention = keras_vit.layers.RelativeMLPAttention(4, (2, 3), 1)
    >>> attention(keras.ops.ones((2, 7, 64))).shape
    (2, 7, 64)

    Reference:
        - [Liu et al., 2021](https://arxiv.org/abs/2111.09883) (Swin V2),
          section 3.3; timm, `layers/pos_embed_rel.py`, `RelPosMlp`
    """

    def __init__(
        self,
        num_heads: int,
        grid_size: int | tuple[int, int],
        num_prefix_tokens: int = 0,
        bias_dim: int = 128,
        **kwargs,
    ):
        super().__init__(num_heads, grid_size, num_prefix_tokens, **kwargs)
        self.bias_dim = check_positive("bias_dim", bias_dim)

    def _build_table(self):
        self._offsets = log_offsets(self.grid_size)
        with without_inner_remat():
            self.bias_hidden = keras.layers.Dense(
                self.bias_dim,
                activation="relu",
                name="bias_hidden",
                dtype=self.part_policy("bias_hidden"),
            )
            self.bias_hidden.build((None, 2))
            self.bias_output = keras.layers.Dense(
                self.num_heads,
                name="bias_output",
                dtype=self.part_policy("bias_output"),
            )
            self.bias_output.build((None, self.bias_dim))

    def _table(self):
        offsets = ops.convert_to_tensor(self._offsets, self.compute_dtype)
        table = self.bias_output(self.bias_hidden(offsets))
        extra = PREFIX_ROWS if self.num_prefix_tokens else 0
        return ops.pad(table, ((0, extra), (0, 0)))

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "bias_dim": self.bias_dim}
