"""Attention whose memory does not grow with the square of the tokens.

A kernel without tiling writes all scores down: `heads * tokens^2` numbers an
image, 4.3 GB for 16,384 tokens and four heads in float32. A query needs one
row of them. Here queries come in blocks, each of which forgets its scores
(Rabe and Staats 2021, arXiv:2112.05682, without the split of the keys, so
that the softmax is the plain one).
"""

import keras
from keras import ops

from keras_vit.layers.base import at_least_float32

# Scores of one image beyond which blocks pay: 2^28 float32 are 1 GiB.
LARGEST = 2**28
# Scores of one block of one image: 2^24 float32 are 64 MiB.
BLOCK = 2**24


def chunked_attention(query, key, value, scale, block_size=None):
    """Scaled dot-product attention, computed a block of queries at a time.

        softmax(q k^T * scale) v

    The result is that of the formula row by row, and so is the gradient; the
    backward pass computes the scores of a block again. Memory beyond inputs
    and output is `batch * heads * block_size * num_keys` numbers.

    Args:
        query: tensor of shape `(batch, num_queries, heads, dim)`.
        key: tensor of shape `(batch, num_keys, heads, dim)`.
        value: tensor of the shape of `key`.
        scale: factor of the logits.
        block_size: queries in a block. Defaults to what makes a block of
            about `BLOCK` scores an image.

    Returns:
        A tensor of the shape of `query`.
    """
    num_queries, num_keys = query.shape[1], key.shape[1]
    if block_size is None:
        block_size = max(BLOCK // (query.shape[2] * num_keys), 1)
    blocks = -(-num_queries // block_size)
    # Blocks of one size, with zeros behind the last query.
    size = -(-num_queries // blocks)
    padding = blocks * size - num_queries
    padded = ops.pad(query, ((0, 0), (0, padding), (0, 0), (0, 0)))
    dtype = at_least_float32(keras.backend.standardize_dtype(query.dtype))

    def attend(queries, key, value):
        logits = ops.einsum("bthk,bshk->bhts", queries, key)
        scores = ops.softmax(ops.cast(logits, dtype) * scale, axis=-1)
        scores = ops.cast(scores, value.dtype)
        return ops.einsum("bhts,bshk->bthk", scores, value)

    attend = keras.remat(attend)
    shape = (-1, blocks, size, *query.shape[2:])
    by_block = ops.transpose(ops.reshape(padded, shape), (1, 0, 2, 3, 4))
    x = ops.map(lambda queries: attend(queries, key, value), by_block)
    x = ops.reshape(
        ops.transpose(x, (1, 0, 2, 3, 4)), (-1, blocks * size, *query.shape[2:])
    )
    return x[:, :num_queries]
