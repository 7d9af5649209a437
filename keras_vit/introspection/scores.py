"""The attention scores of a model, block by block.

A model does not return scores, and its fused attention never computes them. A
second pass runs the blocks one at a time, so that memory holds the scores of
one block only; the model does not change.
"""

import inspect
import numbers
from collections.abc import Iterator, Sequence
from typing import Any

import keras
import numpy as np
from keras import ops

from keras_vit.anatomy import find_layers
from keras_vit.introspection.geometry import batch_of
from keras_vit.layers import (
    AttentionPooling,
    SelfAttention,
    TransformerBlock,
    WindowAttention,
)


def attention_scores(
    model: keras.Model,
    images: Any,
    blocks: str | int | Sequence[str | int] | None = None,
) -> Iterator[tuple[str, np.ndarray]]:
    """Yields the attention scores of one block after another.

    The iterator computes the scores of a block when it reaches the block, and
    does not keep them: at 384 x 384 pixels one block of B/16 has 16 MB of them
    an image. `dict` of the result keeps all.

    Args:
        model: a functional `keras.Model` of `TransformerBlock`s or of
            attention layers: a ViT, a hybrid, or a model built on one.
        images: array of shape `(batch, height, width, channels)`, or one
            image without the first axis.
        blocks: name or index of a block, or a list of them; indices may count
            from the end. Defaults to all. The result has the order of the
            model.

    Returns:
        An iterator of pairs: the name of the block, and its scores, a NumPy
        array of shape `(batch, num_heads, num_tokens, num_tokens)` in at least
        float32. Row `t` is what token `t` attends to and sums to 1. The class
        token and registers come first, patches follow in row order.

    Raises:
        ValueError: if images have another shape than the model takes, if there
            is no such block, or if one of `blocks` has no scores between all
            tokens (`AxialBlock`, `WindowAttention`).

    Example:

    >>> model = keras_vit.ViT("Ti/16", image_size=(32, 48))
    >>> images = np.zeros((2, 32, 48, 3))
    >>> scores = keras_vit.introspection.attention_scores(model, images)
    >>> for name, array in scores:
    ...     last = name, array.shape
    >>> last
    ('block_11', (2, 3, 7, 7))
    """
    images = batch_of(model, images)
    every = _attention_blocks(model)
    chosen = _choose(every, blocks)
    for block in chosen:
        _check_scores(block)
    last = every.index(chosen[-1])
    return (
        # No name is bound to the scores, so nothing here keeps them alive.
        (block.name, _scores(block, tokens))
        for block, tokens in walk(model, every[: last + 1], images)
        if block in chosen
    )


def walk(
    model: keras.Model, blocks: Sequence[keras.layers.Layer], images: Any
) -> Iterator[tuple[keras.layers.Layer, Any]]:
    """Yields the blocks, each with the tokens that go into it.

    Args:
        model: a functional `keras.Model`.
        blocks: layers of the model, in its order.
        images: array that the model takes.

    Yields:
        Pairs of a block and a tensor of shape `(batch, num_tokens,
        hidden_dim)`.
    """
    before = tokens = None
    for block in blocks:
        if before is not None and block.input is before.output:
            tokens = before(tokens, training=False)
        else:
            # The first block, or one with layers before it (positions, a
            # residual sum), whose inputs are known only from the images.
            to_block = keras.Model(model.input, block.input)
            tokens = to_block(images, training=False)
        # Otherwise PyTorch keeps the activations of every block.
        tokens = ops.stop_gradient(tokens)
        yield block, tokens
        before = block


def block_names(model: keras.Model) -> list[str]:
    """Returns the names of the blocks of `attention_scores`, in order."""
    return [block.name for block in _attention_blocks(model)]


def _attention_blocks(model):
    """Returns the layers of the model that have attention."""
    kinds = (
        TransformerBlock,
        SelfAttention,
        keras.layers.MultiHeadAttention,
        keras.layers.GroupQueryAttention,
    )
    blocks = [
        layer
        for layer in model.layers
        if not isinstance(layer, AttentionPooling)
        and (isinstance(layer, kinds) or find_layers(layer, kinds))
    ]
    if not blocks:
        raise ValueError(
            "`model` must have blocks with attention. Received: "
            f"'{model.name}', which has none"
        )
    return blocks


def _choose(blocks, chosen):
    """Returns the blocks of the given names or indices, in their order."""
    if chosen is None:
        return blocks
    if isinstance(chosen, (str, numbers.Integral)):
        chosen = [chosen]
    names = [block.name for block in blocks]
    indices = set()
    for one in chosen:
        if isinstance(one, str) and one in names:
            indices.add(names.index(one))
        elif isinstance(one, numbers.Integral) and -len(names) <= one < len(
            names
        ):
            indices.add(int(one) % len(names))
        else:
            raise ValueError(
                f"`blocks` must be names or indices of {len(names)} blocks, "
                f"{', '.join(names)}. Received: {one!r}"
            )
    if not indices:
        raise ValueError("`blocks` must name a block. Received: an empty list")
    return [blocks[index] for index in sorted(indices)]


def _check_scores(block):
    """Raises if a block has no scores between all of its tokens."""
    if isinstance(block, keras.Model):
        reason = "is a model: pass it in place of the one around it"
    elif not isinstance(block, (TransformerBlock, SelfAttention)):
        reason = "is neither a `TransformerBlock` nor an attention layer"
        if find_layers(block, WindowAttention):
            reason = "attends inside of windows"
    else:
        attention = getattr(block, "attention", block)
        taken = inspect.signature(attention.call).parameters
        if isinstance(attention, WindowAttention):
            reason = "attends inside of windows"
        elif "return_attention_scores" not in taken:
            reason = (
                f"has attention of class {type(attention).__name__}, which "
                "does not take `return_attention_scores`"
            )
        elif not isinstance(block.input, keras.KerasTensor):
            reason = "has queries and keys from different tokens"
        else:
            return
    raise ValueError(
        "There are no scores between all tokens in the block "
        f"'{block.name}' ({type(block).__name__}): it {reason}"
    )


def _scores(block, tokens):
    """Returns the scores of a block for its input, as an array."""
    attention = block
    if isinstance(block, TransformerBlock):
        attention = block.attention
        if not block.norm_after:
            tokens = block.attention_norm(tokens)
    _, scores = attention(tokens, training=False, return_attention_scores=True)
    return ops.convert_to_numpy(scores)
