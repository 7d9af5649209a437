"""Self-attention that knows how far two tokens are apart in the sequence.

Dosovitskiy et al. 2021, appendix D.4, "relative positional embeddings": 1-D
relative attention (Shaw et al. 2018, arXiv:1803.02155), here with the content
query alone. The shift of Huang et al. 2018 (arXiv:1809.04281) orders logits by
key instead of by offset, so that no array of size N^2 D is made.
"""

import keras
from keras import ops

from keras_vit.arguments import Shape, check_num_tokens, check_rank
from keras_vit.layers.attention import SelfAttention
from keras_vit.ops.positions import by_key


@keras.saving.register_keras_serializable(package="keras_vit")
class RelativeAttention(SelfAttention):
    """Self-attention with an embedding for every offset between two tokens.

    A second attention has the same queries and, as keys, embeddings `r` of the
    offsets. Its logits are added before the softmax:

        logits[t, s] = (q_t . k_s + q_t . r[p_t - p_s]) / sqrt(head_dim)

    `p` is the place in the sequence. The table of `r` is the weight
    `offset_table` of shape `(2 * num_tokens - 1, head_dim)`. It holds the
    offsets from `-(num_tokens - 1)` to `num_tokens - 1`, and all heads share
    it. A class token is the token at place 0. In a model, use
    `position=None` for `PatchEncoder`.

    Args:
        num_heads: number of heads.
        head_dim: width of a head, see `SelfAttention`.
        use_bias: whether query, key and value have biases.
        use_key_bias: whether the key has one too.
        use_output_bias: whether the output projection has a bias.
        qk_norm: whether to norm queries and keys, head by head. Both logits
            then use the normed query.
        output_norm: whether to norm the concatenated heads.
        num_kv_heads: heads of keys and values, see `SelfAttention`.
        norm: kind of the norms, `"layer"` or `"rms"`.
        dropout: rate in `[0, 1)` of dropout on the scores.
        epsilon: epsilon of the norms, above 0.
        seed: seed of the dropout.

    Call arguments:
        tokens: tensor of shape `(batch, num_tokens, hidden_dim)`.
        queries: tensor of the shape of `tokens`, at the same places.
            Defaults to `tokens`.
        training: whether dropout is on.
        return_attention_scores: whether to return the scores too.

    Returns:
        A tensor of the shape of `tokens`; with `return_attention_scores=True`
        a pair of it and the scores, of shape `(batch, num_heads, num_tokens,
        num_tokens)`, whose rows sum to 1.

    Raises:
        ValueError: if the number of tokens is not known when the layer is
            built, or is another one when the layer is called.

    Example:

    >>> attention = keras_vit.layers.RelativeAttention(num_heads=4)
    >>> attention(keras.ops.ones((2, 7, 64))).shape
    (2, 7, 64)
    >>> tuple(attention.offset_table.shape)
    (13, 16)

    Reference:
        - [Dosovitskiy et al., 2021](https://arxiv.org/abs/2010.11929),
          appendix D.4
        - [Shaw et al., 2018](https://arxiv.org/abs/1803.02155), section 3
    """

    def build(
        self, tokens_shape: Shape, queries_shape: Shape | None = None
    ) -> None:
        check_rank(self, tokens_shape, 3, "(batch, tokens, hidden_dim)")
        self._num_tokens = tokens_shape[1]
        if self._num_tokens is None:
            raise ValueError(
                "The number of tokens must be known where there is an "
                "embedding for every offset between two of them. "
                f"Received: shape={tuple(tokens_shape)}"
            )
        super().build(tokens_shape, queries_shape)
        head_dim = self._width_of_heads(tokens_shape[-1])
        self.offset_table = self.add_weight(
            name="offset_table",
            shape=(2 * self._num_tokens - 1, head_dim),
            initializer=keras.initializers.RandomNormal(stddev=0.02),
        )

    def _is_plain(self, key):
        return False

    def _logits(self, query, key):
        rule = "the number it was built for"
        for x in (query, key):
            check_num_tokens(self, x.shape, self._num_tokens, rule)
        logits = super()._logits(query, key)
        # The key at place s is t - s away, which falls as s rises.
        table = ops.flip(ops.cast(self.offset_table, query.dtype), axis=0)
        of_offsets = by_key(ops.einsum("bthk,ok->bhto", query, table))
        return logits + ops.cast(of_offsets, logits.dtype) * self.scale
