"""Attention whose memory does not grow with the square of the tokens.

A kernel without tiling stores all scores: `heads * tokens^2` numbers an image,
4.3 GB for 16,384 tokens and four heads in float32. A query needs one row of
them. Here queries come in blocks, and each block forgets its scores (Rabe and
Staats 2021, arXiv:2112.05682, without the split of the keys, so that the
softmax is the plain one). Heads come one by one: each product is one of two
large matrices, which all cores share.
"""

from typing import Any

import keras
from keras import ops

from keras_vit.ops.precision import at_least_float32

# Blocks pay beyond this number of scores of one image: 2^28 float32 are 1 GiB.
LARGEST = 2**28
# Scores of one block of one head: 2^24 float32 are 64 MiB.
BLOCK = 2**24


def chunked_attention(
    query: Any,
    key: Any,
    value: Any,
    scale: float,
    block_size: int | None = None,
    bias: Any = None,
) -> Any:
    """Computes scaled dot-product attention a block of queries at a time.

        softmax(q k^T * scale + bias) v

    Each row of the result and of the gradient is that of the formula. The
    backward pass computes the scores of a block again. Memory beyond inputs
    and output is `block_size * num_keys` numbers.

    Args:
        query: tensor of shape `(batch, num_queries, heads, dim)`.
        key: tensor of shape `(batch, num_keys, heads, dim)`.
        value: tensor of the shape of `key`.
        scale: factor of the logits.
        block_size: queries in a block. The default makes blocks of about
            `BLOCK` scores.
        bias: tensor of shape `(heads, num_queries, num_keys)`, as many numbers
            as one image has scores, or `None`.

    Returns:
        A tensor of the shape of `query`.
    """
    num_queries, num_keys = query.shape[1], key.shape[1]
    heads, dim = query.shape[2:]
    if block_size is None:
        block_size = max(BLOCK // num_keys, 1)
    blocks = -(-num_queries // block_size)
    # All blocks have one size; zeros follow the last query.
    size = -(-num_queries // blocks)
    padding = blocks * size - num_queries
    padded = ops.pad(query, ((0, 0), (0, padding), (0, 0), (0, 0)))
    dtype = at_least_float32(keras.backend.standardize_dtype(query.dtype))

    def attend(queries, key, value, *biases):
        logits = ops.cast(ops.einsum("qk,sk->qs", queries, key), dtype)
        logits = logits * scale
        for rows in biases:
            logits = logits + ops.cast(rows, dtype)
        scores = ops.cast(ops.softmax(logits, axis=-1), value.dtype)
        return ops.matmul(scores, value)

    attend = keras.remat(attend)

    def attend_in_blocks(head):
        queries, key, value, *indices = head
        blocks = (queries, *(ops.take(bias, i, axis=0) for i in indices))
        return ops.map(lambda x: attend(x[0], key, value, *x[1:]), blocks)

    def by_head(x, *shape):
        turned = ops.transpose(x, (0, 2, 1, 3))
        return ops.reshape(turned, (-1, *shape, dim))

    parts = (
        by_head(padded, blocks, size),
        by_head(key, num_keys),
        by_head(value, num_keys),
    )
    if bias is not None:
        bias = ops.pad(bias, ((0, 0), (0, padding), (0, 0)))
        bias = ops.reshape(bias, (heads, blocks, size, num_keys))
        # All images share it, so they point to its heads.
        parts += (ops.arange(ops.shape(parts[0])[0]) % heads,)
    x = ops.map(attend_in_blocks, parts)
    x = ops.reshape(x, (-1, heads, blocks * size, dim))
    return ops.transpose(x, (0, 2, 1, 3))[:, :num_queries]
