"""Multi-head self-attention.

Vaswani et al. 2017, arXiv:1706.03762; Dosovitskiy et al. 2021, appendix A,
equations 5 to 8. Kernels have the shapes of the official checkpoints,
`(hidden_dim, num_heads, head_dim)` in and `(num_heads, head_dim, hidden_dim)`
out, so that reading a checkpoint needs no transposition.

Other attentions are subclasses of `SelfAttention` with the same core and the
same weights. They change queries and keys before the product (`_prepare`), add
to the logits that come of it (`_bias`), or change them (`_logits`, with
`_is_plain`).
"""

from typing import Any

import keras
from keras import ops

from keras_vit.arguments import (
    Shape,
    check_above_zero,
    check_choice,
    check_positive,
    check_rank,
    check_rate,
)
from keras_vit.keras_gaps import Layer, without_inner_remat
from keras_vit.layers.rms_norm import KINDS, make_norm
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

    The ordinary path is `keras_vit.ops.attention.attend`, which runs a fused or
    flash kernel where the backend has one. The scores are stored only where
    they are returned, or where attention dropout needs them.

    Args:
        num_heads: number of heads.
        head_dim: width of a head. Defaults to the width of the tokens divided
            by `num_heads`, which must then be whole.
        use_bias: whether query, key and value have biases.
        use_key_bias: whether the key has one too; BEiT and EVA have none.
        use_output_bias: whether the output projection has a bias.
        qk_norm: whether to norm queries and keys, head by head (Dehghani et
            al. 2023, arXiv:2302.05442).
        output_norm: whether to norm the concatenated heads before the output
            projection (sub-LN, Wang et al. 2022, arXiv:2210.06423).
        num_kv_heads: heads of keys and values, a divisor of `num_heads`, each
            of which serves several heads of queries (Ainslie et al. 2023,
            arXiv:2305.13245). Defaults to `num_heads`.
        norm: kind of these norms, `"layer"` or `"rms"`.
        dropout: rate in `[0, 1)` of dropout on the scores.
        epsilon: epsilon of these norms, above 0.
        seed: seed of the dropout.

    Call arguments:
        tokens: tensor of shape `(batch, num_tokens, hidden_dim)`.
        queries: tensor of shape `(batch, num_queries, hidden_dim)`, the
            tokens that attend to `tokens`. Defaults to `tokens`.
        training: whether dropout is on.
        return_attention_scores: whether to return the scores too.

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
        num_heads: int,
        *,
        head_dim: int | None = None,
        use_bias: bool = True,
        use_key_bias: bool = True,
        use_output_bias: bool = True,
        qk_norm: bool = False,
        output_norm: bool = False,
        num_kv_heads: int | None = None,
        norm: str = "layer",
        dropout: float = 0.0,
        epsilon: float = EPSILON,
        seed: int | None = None,
        **kwargs,
    ):
        super().__init__(**kwargs)
        self.num_heads = check_positive("num_heads", num_heads)
        self.head_dim = (
            None if head_dim is None else check_positive("head_dim", head_dim)
        )
        self.use_bias = bool(use_bias)
        self.use_key_bias = bool(use_key_bias)
        self.use_output_bias = bool(use_output_bias)
        self.qk_norm = bool(qk_norm)
        self.output_norm = bool(output_norm)
        self.num_kv_heads = _check_kv_heads(num_kv_heads, self.num_heads)
        self.norm = check_choice("norm", norm, KINDS)
        self.dropout = check_rate("dropout", dropout)
        self.epsilon = check_above_zero("epsilon", epsilon)
        self.seed = seed

    def build(
        self, tokens_shape: Shape, queries_shape: Shape | None = None
    ) -> None:
        check_rank(self, tokens_shape, 3, "(batch, tokens, hidden_dim)")
        hidden_dim = tokens_shape[-1]
        head_dim = self._width_of_heads(hidden_dim)
        heads = (self.num_heads, head_dim)
        kv_heads = (self.num_kv_heads or self.num_heads, head_dim)
        self.scale = head_dim**-0.5

        with without_inner_remat():
            for name in ("query", "key", "value"):
                bias = self.use_bias and (name != "key" or self.use_key_bias)
                projection = keras.layers.EinsumDense(
                    "btd,dhk->bthk",
                    output_shape=(
                        None,
                        *(heads if name == "query" else kv_heads),
                    ),
                    bias_axes="hk" if bias else None,
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
                    self._add_norm(name, (*tokens_shape[:2], *heads))
            if self.output_norm:
                width = self.num_heads * head_dim
                self._add_norm("joined_norm", (*tokens_shape[:2], width))
            self.score_dropout = keras.layers.Dropout(
                self.dropout, seed=self.seed, dtype=self.dtype_policy
            )

    def _add_norm(self, name, shape):
        norm = make_norm(
            self.norm,
            self.epsilon,
            name={"joined_norm": "output_norm"}.get(name, name),
            dtype=self.dtype_policy,
        )
        norm.build(shape)
        setattr(self, name, norm)

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
        tokens: Any,
        queries: Any = None,
        training: bool | None = None,
        return_attention_scores: bool = False,
    ) -> Any:
        check_rank(self, tokens.shape, 3, "(batch, tokens, hidden_dim)")
        query = linear(self.query, tokens if queries is None else queries)
        key = linear(self.key, tokens)
        value = linear(self.value, tokens)
        query, key = self._prepare(query, key)
        if self.num_kv_heads is not None:
            shared = self.num_heads // self.num_kv_heads
            key, value = (ops.repeat(x, shared, axis=2) for x in (key, value))

        dropping = bool(training) and self.dropout > 0
        plain = self._is_plain(key)
        if plain and not return_attention_scores and not dropping:
            x = attend(query, key, value, self.scale, self._bias())
            return self._project(x)

        scores = ops.softmax(self._logits(query, key), axis=-1)
        kept = ops.cast(scores, value.dtype)
        if dropping:
            kept = self.score_dropout(kept, training=training)
        x = ops.einsum("bhts,bshk->bthk", kept, value)
        x = self._project(x)
        return (x, scores) if return_attention_scores else x

    def _project(self, x):
        """From the values of all heads to tokens."""
        if self.output_norm:
            heads = x.shape[2:]
            shape = (*ops.shape(x)[:2], heads[0] * heads[1])
            joined = self.joined_norm(ops.reshape(x, shape))
            x = ops.reshape(joined, (*shape[:2], *heads))
        return linear(self.output_projection, x)

    def _prepare(self, query, key):
        """Queries and keys, `(batch, tokens, heads, dim)`, for the product."""
        if self.qk_norm:
            query, key = self.query_norm(query), self.key_norm(key)
        return query, key

    def _logits(self, query, key):
        """The input of the softmax, `(batch, heads, queries, keys)`."""
        # In at least float32, as in the fused kernels.
        dtype = at_least_float32(self.compute_dtype)
        logits = ops.einsum("bthk,bshk->bhts", query, key)
        logits = ops.cast(logits, dtype) * self.scale
        bias = self._bias()
        return logits if bias is None else logits + ops.cast(bias, dtype)

    def _bias(self):
        """What is added to logits, `(heads, queries, keys)`, or `None`."""
        return None

    def _is_plain(self, key):
        """Whether logits are what fused kernels compute: products and bias."""
        return True

    def compute_output_shape(
        self, tokens_shape: Shape, queries_shape: Shape | None = None
    ) -> Shape:
        return tokens_shape if queries_shape is None else queries_shape

    def compute_output_spec(
        self,
        tokens: keras.KerasTensor,
        queries: keras.KerasTensor | None = None,
        training: bool | None = None,
        return_attention_scores: bool = False,
    ) -> Any:
        shape = (tokens if queries is None else queries).shape
        output = keras.KerasTensor(shape, dtype=self.compute_dtype)
        if not return_attention_scores:
            return output
        shape = (shape[0], self.num_heads, shape[1], tokens.shape[1])
        dtype = at_least_float32(self.compute_dtype)
        return output, keras.KerasTensor(shape, dtype=dtype)

    def get_config(self) -> dict[str, Any]:
        return {
            **super().get_config(),
            "num_heads": self.num_heads,
            "head_dim": self.head_dim,
            "use_bias": self.use_bias,
            "use_key_bias": self.use_key_bias,
            "use_output_bias": self.use_output_bias,
            "qk_norm": self.qk_norm,
            "output_norm": self.output_norm,
            "num_kv_heads": self.num_kv_heads,
            "norm": self.norm,
            "dropout": self.dropout,
            "epsilon": self.epsilon,
            "seed": self.seed,
        }


def _check_kv_heads(num_kv_heads, num_heads):
    if num_kv_heads is None:
        return None
    check_positive("num_kv_heads", num_kv_heads)
    if num_heads % num_kv_heads:
        raise ValueError(
            "`num_kv_heads` must divide `num_heads`. Received: "
            f"num_kv_heads={num_kv_heads}, num_heads={num_heads}"
        )
    return num_kv_heads
