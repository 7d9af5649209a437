"""Multi-head self-attention.

Vaswani et al. 2017, arXiv:1706.03762; Dosovitskiy et al. 2021, appendix A,
equations 5 to 8. Kernels have the shapes of the official checkpoints,
`(hidden_dim, num_heads, head_dim)` in and `(num_heads, head_dim, hidden_dim)`
out, so that reading one needs no transposition.

Other attentions are subclasses of `SelfAttention` that change what queries
and keys meet (`_prepare`), or what comes of it (`_logits`, with `_is_plain`):
one core, one set of weights.
"""

import keras
from keras import ops

from keras_vit.arguments import (
    check_above_zero,
    check_positive,
    check_rank,
    check_rate,
)
from keras_vit.keras_gaps import Layer, without_inner_remat
from keras_vit.layers.layer_norm import LayerNorm
from keras_vit.ops.attention import attend
from keras_vit.ops.linear import linear
from keras_vit.ops.norms import EPSILON
from keras_vit.ops.precision import at_least_float32


@keras.saving.register_keras_serializable(package="keras_vit")
class SelfAttention(Layer):
    """Multi-head scaled dot-product attention of tokens to tokens.

    For each head, with `q = x U_q`, `k = x U_k`, `v = x U_v`:

        scores = softmax(q k^T / sqrt(head_dim))
        output = concat_heads(scores v) U_o

    The ordinary path is `attend`, which runs a fused or flash kernel where the
    backend has one. Scores are written out only where they are asked for, or
    where attention dropout needs them.

    Args:
        num_heads: number of heads.
        head_dim: width of a head. Defaults to the width of the tokens divided
            by `num_heads`, which must then be whole.
        use_bias: whether query, key and value have biases.
        use_output_bias: whether the output projection has one.
        qk_norm: whether to layer-norm queries and keys, head by head
            (Dehghani et al. 2023, arXiv:2302.05442).
        dropout: rate in `[0, 1)` of dropout on the scores.
        epsilon: of the layer norms that `qk_norm` brings, above 0.
        seed: int, for the dropout.

    Call arguments:
        tokens: tensor of shape `(batch, num_tokens, hidden_dim)`.
        queries: tensor of shape `(batch, num_queries, hidden_dim)`, the
            tokens that look at `tokens`. Defaults to `tokens` themselves.
        training: whether dropout is on.
        return_attention_scores: whether to return the scores as well.

    Returns:
        A tensor of shape `(batch, num_queries, hidden_dim)`; with
        `return_attention_scores=True` a pair of it and the scores, of shape
        `(batch, num_heads, num_queries, num_tokens)`, whose rows sum to 1.

    Example:

    >>> attention = keras_vit.layers.SelfAttention(num_heads=4)
    >>> tokens = keras.ops.ones((2, 7, 64))
    >>> attention(tokens).shape
    (2, 7, 64)
    >>> _, scores = attention(tokens, return_attention_scores=True)
    >>> scores.shape
    (2, 4, 7, 7)

    Reference:
        - [Dosovitskiy et al., 2021](https://arxiv.org/abs/2010.11929),
          appendix A; Flax, `MultiHeadDotProductAttention`
    """

    def __init__(
        self,
        num_heads,
        *,
        head_dim=None,
        use_bias=True,
        use_output_bias=True,
        qk_norm=False,
        dropout=0.0,
        epsilon=EPSILON,
        seed=None,
        **kwargs,
    ):
        super().__init__(**kwargs)
        self.num_heads = check_positive("num_heads", num_heads)
        self.head_dim = (
            None if head_dim is None else check_positive("head_dim", head_dim)
        )
        self.use_bias = bool(use_bias)
        self.use_output_bias = bool(use_output_bias)
        self.qk_norm = bool(qk_norm)
        self.dropout = check_rate("dropout", dropout)
        self.epsilon = check_above_zero("epsilon", epsilon)
        self.seed = seed

    def build(self, tokens_shape, queries_shape=None):
        check_rank(self, tokens_shape, 3, "(batch, tokens, hidden_dim)")
        hidden_dim = tokens_shape[-1]
        head_dim = self._width_of_heads(hidden_dim)
        heads = (self.num_heads, head_dim)
        self.scale = head_dim**-0.5

        with without_inner_remat():
            for name in ("query", "key", "value"):
                projection = keras.layers.EinsumDense(
                    "btd,dhk->bthk",
                    output_shape=(None, *heads),
                    bias_axes="hk" if self.use_bias else None,
                    kernel_initializer="glorot_uniform",
                    name=name,
                    dtype=self.part_policy(name),
                )
                projection.build(tokens_shape)
                setattr(self, name, projection)
            self.output_projection = keras.layers.EinsumDense(
                "bthk,hkd->btd",
                output_shape=(None, hidden_dim),
                bias_axes="d" if self.use_output_bias else None,
                kernel_initializer="glorot_uniform",
                name="output",
                dtype=self.part_policy("output"),
            )
            self.output_projection.build((*tokens_shape[:2], *heads))
            if self.qk_norm:
                for name in ("query_norm", "key_norm"):
                    norm = LayerNorm(
                        self.epsilon, name=name, dtype=self.dtype_policy
                    )
                    norm.build((*tokens_shape[:2], *heads))
                    setattr(self, name, norm)
            self.score_dropout = keras.layers.Dropout(
                self.dropout, seed=self.seed, dtype=self.dtype_policy
            )

    def _width_of_heads(self, hidden_dim):
        if self.head_dim is None and hidden_dim % self.num_heads:
            raise ValueError(
                "`num_heads` must divide the width of the tokens unless "
                f"`head_dim` is given. Received: num_heads={self.num_heads}, "
                f"hidden_dim={hidden_dim}"
            )
        return self.head_dim or hidden_dim // self.num_heads

    def call(
        self,
        tokens,
        queries=None,
        training=None,
        return_attention_scores=False,
    ):
        check_rank(self, tokens.shape, 3, "(batch, tokens, hidden_dim)")
        query = linear(self.query, tokens if queries is None else queries)
        key = linear(self.key, tokens)
        value = linear(self.value, tokens)
        query, key = self._prepare(query, key)

        dropping = bool(training) and self.dropout > 0
        plain = self._is_plain(key)
        if plain and not return_attention_scores and not dropping:
            x = attend(query, key, value, self.scale)
            return linear(self.output_projection, x)

        scores = ops.softmax(self._logits(query, key), axis=-1)
        kept = ops.cast(scores, value.dtype)
        if dropping:
            kept = self.score_dropout(kept, training=training)
        x = ops.einsum("bhts,bshk->bthk", kept, value)
        x = linear(self.output_projection, x)
        return (x, scores) if return_attention_scores else x

    def _prepare(self, query, key):
        """Queries and keys, `(batch, tokens, heads, dim)`, as they meet."""
        if self.qk_norm:
            query, key = self.query_norm(query), self.key_norm(key)
        return query, key

    def _logits(self, query, key):
        """What softmax takes, `(batch, heads, queries, keys)`."""
        # In at least float32, as in the fused kernels.
        dtype = at_least_float32(self.compute_dtype)
        logits = ops.einsum("bthk,bshk->bhts", query, key)
        return ops.cast(logits, dtype) * self.scale

    def _is_plain(self, key):
        """Whether logits are scaled products alone, as fused kernels have."""
        return True

    def compute_output_shape(self, tokens_shape, queries_shape=None):
        return tokens_shape if queries_shape is None else queries_shape

    def compute_output_spec(
        self,
        tokens,
        queries=None,
        training=None,
        return_attention_scores=False,
    ):
        shape = (tokens if queries is None else queries).shape
        output = keras.KerasTensor(shape, dtype=self.compute_dtype)
        if not return_attention_scores:
            return output
        shape = (shape[0], self.num_heads, shape[1], tokens.shape[1])
        dtype = at_least_float32(self.compute_dtype)
        return output, keras.KerasTensor(shape, dtype=dtype)

    def get_config(self):
        return {
            **super().get_config(),
            "num_heads": self.num_heads,
            "head_dim": self.head_dim,
            "use_bias": self.use_bias,
            "use_output_bias": self.use_output_bias,
            "qk_norm": self.qk_norm,
            "dropout": self.dropout,
            "epsilon": self.epsilon,
            "seed": self.seed,
        }
