"""Attention to the k tokens that matter most to a query.

Explicit Sparse Transformer: Zhao et al. 2019, arXiv:1912.11637. All scores are
computed before the small ones are dropped. So this concentrates attention; it
does not save time or memory.
"""

from typing import Any

import keras
from keras import ops

from keras_vit.arguments import Shape, check_positive, check_rank
from keras_vit.layers.attention import SelfAttention


@keras.saving.register_keras_serializable(package="keras_vit")
class SparseAttention(SelfAttention):
    """Self-attention in which a query keeps its k largest logits.

    With `logits = q k^T / sqrt(head_dim)`, for each query and head:

        threshold = k-th largest logit of the row
        scores = softmax(logits where logits >= threshold, else -inf)

    All logits that tie with the k-th are kept, so a row may keep more than `k`
    (in half precision ties are common). The gradient treats the threshold as a
    constant and flows through the kept logits only. The weights are those of
    `SelfAttention`. Where `k` is the number of tokens, the operations are those
    of `SelfAttention` too.

    Args:
        num_heads: number of heads.
        k: number of tokens that a query keeps, at most all of them.
        **kwargs: the other arguments of `SelfAttention` (`head_dim`,
            `use_bias`, `use_output_bias`, `qk_norm`, `dropout`, `epsilon`,
            `seed`) and those of `keras.layers.Layer`.

    Call arguments:
        tokens: tensor of shape `(batch, num_tokens, hidden_dim)`.
        queries: tensor of shape `(batch, num_queries, hidden_dim)`, the
            tokens that attend to `tokens`. Defaults to `tokens`.
        training: whether dropout is on.
        return_attention_scores: whether to return the scores too.

    Returns:
        A tensor of shape `(batch, num_queries, hidden_dim)`; with
        `return_attention_scores=True` a pair of it and the scores, of shape
        `(batch, num_heads, num_queries, num_tokens)`, whose rows sum to 1,
        with zeros where a token is not kept.

    Raises:
        ValueError: if `k` is larger than the number of tokens. It is raised
            when the layer is built if that number is known then, else when the
            layer is called.

    Example:

    >>> attention = keras_vit.layers.SparseAttention(num_heads=4, k=3)
    >>> tokens = keras.random.normal((2, 7, 64))
    >>> _, scores = attention(tokens, return_attention_scores=True)
    >>> int(keras.ops.sum(scores[0, 0, 0] > 0))
    3

    Reference:
        - [Zhao et al., 2019](https://arxiv.org/abs/1912.11637), section 2
    """

    def __init__(self, num_heads: int, k: int, **kwargs):
        super().__init__(num_heads, **kwargs)
        self.k = check_positive("k", k)

    def build(
        self, tokens_shape: Shape, queries_shape: Shape | None = None
    ) -> None:
        check_rank(self, tokens_shape, 3, "(batch, tokens, hidden_dim)")
        self._check_k(tokens_shape[1])
        super().build(tokens_shape, queries_shape)

    def _check_k(self, num_tokens):
        if num_tokens is not None and self.k > num_tokens:
            raise ValueError(
                "`k` must be at most the number of tokens, "
                f"{num_tokens}. Received: k={self.k}"
            )

    def _is_plain(self, key):
        return key.shape[1] == self.k

    def _logits(self, query, key):
        logits = super()._logits(query, key)
        if self._is_plain(key):
            return logits
        self._check_k(key.shape[1])
        largest, _ = ops.top_k(ops.stop_gradient(logits), self.k)
        return ops.where(logits < largest[..., -1:], float("-inf"), logits)

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "k": self.k}
