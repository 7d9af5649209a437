"""The part of attention between the projections: `softmax(q k^T) v`.

Vaswani et al. 2017, arXiv:1706.03762, equation 1. A fused kernel runs where the
backend has one that pays. Elsewhere (TensorFlow, and JAX on a CPU) this file
computes the same with the gradient in closed form: with automatic
differentiation a whole training step takes a tenth longer. Where the scores
would fill too much memory, `chunked_attention` takes heads and queries in
blocks.
"""

from typing import Any

import keras
from keras import ops

from keras_vit.ops import plain
from keras_vit.ops.chunked_attention import LARGEST, chunked_attention
from keras_vit.ops.precision import at_least_float32


def attend(
    query: Any, key: Any, value: Any, scale: float, bias: Any = None
) -> Any:
    """Gathers values for each query by its likeness to the keys.

    For each head, with `z = scale * q k^T + bias`:

        output = softmax(z) v

    Args:
        query: tensor of shape `(batch, num_queries, num_heads, head_dim)`.
        key: tensor of shape `(batch, num_tokens, num_heads, head_dim)`.
        value: tensor of the shape of `key`.
        scale: factor of the products.
        bias: tensor of shape `(num_heads, num_queries, num_tokens)`, the same
            for all examples, or `None`.

    Returns:
        A tensor of the shape and dtype of `query`.
    """
    if has_fused_kernel(query):
        if bias is not None:
            bias = ops.expand_dims(ops.cast(bias, query.dtype), axis=0)
        if keras.backend.backend() == "torch":
            import torch

            # Keras' function copies all three first, unnecessarily.
            turned = (x.transpose(1, 2) for x in (query, key, value))
            attention = torch.nn.functional.scaled_dot_product_attention
            output = attention(*turned, attn_mask=bias, scale=scale)
            return output.transpose(1, 2)
        return ops.dot_product_attention(
            query, key, value, bias=bias, scale=scale
        )
    if _has_too_many_scores(query, key):
        return chunked_attention(query, key, value, scale, bias=bias)
    return attend_in_closed_form(query, key, value, scale, bias)


def has_fused_kernel(query: Any) -> bool:
    """Returns whether the backend's fused attention is right and pays.

    TensorFlow has none. JAX has none on a CPU and none in float32. Keras'
    computes float64 in float32. PyTorch's takes 2 to 4 times as long as matrix
    products for bfloat16 on a CPU.

    Args:
        query: tensor, of which dtype and device count.
    """
    if plain.PLAIN_OPS:
        return False
    dtype = keras.backend.standardize_dtype(query.dtype)
    backend = keras.backend.backend()
    if backend == "torch":
        on_cpu = query.device.type == "cpu"
        return dtype == "float32" or (dtype != "float64" and not on_cpu)
    if backend == "jax":
        device = keras.distribution.list_devices()[0]
        return dtype.endswith("float16") and not device.startswith("cpu")
    return False


def _has_too_many_scores(query, key):
    queries, heads, tokens = query.shape[1], query.shape[2], key.shape[1]
    # They are unknown in a graph for images of any size, and symbols in an
    # export by JAX.
    if not (isinstance(queries, int) and isinstance(tokens, int)):
        return False
    return heads * queries * tokens > LARGEST


def attend_in_closed_form(
    query: Any, key: Any, value: Any, scale: float, bias: Any = None
) -> Any:
    """Computes the plain formula, with its gradient in closed form.

    With `p = softmax(z)`, `output = p v`, and for an upstream gradient `g`,
    with `m(.)` the sum over `head_dim`:

        dvalue = p^T g
        dz     = p * (g v^T - m(g * output))

    and `dbias` is the sum of `dz` over the batch.

    The last term is the sum over keys in the gradient of a softmax (Dao et al.
    2022, arXiv:2205.14135, appendix B.2). Of all arrays of the size of the
    scores, the backward pass keeps `p` alone. Or it keeps `e = p s`, see
    `_softmax`: then `output` and `g` are divided by `s` instead of `p`.

    Heads come before tokens inside: XLA takes half the time on a CPU for
    products of matrices that lie side by side.

    Args:
        query: as in `attend`.
        key: as in `attend`.
        value: as in `attend`.
        scale: as in `attend`.
        bias: as in `attend`.

    Returns:
        A tensor of the shape and dtype of `query`.
    """
    dtype = at_least_float32(keras.backend.standardize_dtype(query.dtype))

    @ops.custom_gradient
    def attention(query, key, value, *biases):
        low = query.dtype
        query, key, value = map(_turned, (query * scale, key, value))
        logits = ops.cast(_product("qk,sk->qs", query, key), dtype)
        for bias in biases:
            logits = logits + ops.cast(bias, dtype)
        scores, share = _softmax(logits)
        scores = ops.cast(scores, low)
        output = ops.cast(_product("qs,sk->qk", scores, value), dtype)
        if share is not None:
            output = output * share

        def gradient(*args, upstream=None):
            g = _turned(args[0] if upstream is None else upstream)
            g = ops.cast(g, dtype)
            if share is not None:
                g = g * share
            offset = ops.sum(g * output, axis=-1, keepdims=True)
            g = ops.cast(g, low)
            dvalue = _product("qs,qk->sk", scores, g)
            dlogits = ops.cast(_product("qk,sk->qs", g, value), dtype)
            dlogits = ops.cast(scores, dtype) * (dlogits - offset)
            dbiases = [
                ops.cast(ops.sum(dlogits, axis=0), bias.dtype)
                for bias in biases
            ]
            dlogits = ops.cast(dlogits, low)
            dquery = _product("qs,sk->qk", dlogits, key) * scale
            dkey = _product("qs,qk->sk", dlogits, query)
            dvalue = _turned(dvalue)
            return _turned(dquery), _turned(dkey), dvalue, *dbiases

        return _turned(ops.cast(output, low)), gradient

    return attention(query, key, value, *([] if bias is None else [bias]))


def _softmax(logits):
    """Returns scores and `None`, or `e = exp(z - max z)` and `1 / sum e`.

    TensorFlow and PyTorch have one kernel for the softmax. XLA makes a division
    a pass of its own, which is shorter over rows `head_dim` wide than over
    scores.
    """
    if keras.backend.backend() != "jax":
        return ops.softmax(logits, axis=-1), None
    raised = ops.exp(logits - ops.max(logits, axis=-1, keepdims=True))
    return raised, 1 / ops.sum(raised, axis=-1, keepdims=True)


def _turned(x):
    """(batch, tokens, heads, dim) <-> (batch, heads, tokens, dim)."""
    return ops.transpose(x, (0, 2, 1, 3))


def _product(equation, left, right):
    """Computes an einsum of the last two axes."""
    left_axes, right_axes, axes = equation.replace("->", ",").split(",")
    return ops.einsum(f"bh{left_axes},bh{right_axes}->bh{axes}", left, right)
