"""Low-rank adaptation (LoRA) of the transformer blocks, by Keras' own means.

Hu et al. 2021, arXiv:2106.09685: a kernel is frozen, and a product of two thin
matrices beside it learns. Keras has this in each dense layer; the function
here finds the dense layers of the blocks and freezes the rest of the model.
"""

from collections.abc import Sequence

import keras

from keras_vit.anatomy import block_layers, find_layers, listed
from keras_vit.arguments import check_above_zero, check_positive

DENSE = (keras.layers.Dense, keras.layers.EinsumDense)


def enable_lora(
    model: keras.Model,
    rank: int,
    alpha: float | None = None,
    train: str | Sequence[str] = ("head",),
) -> keras.Model:
    """Lets the blocks of a model learn by LoRA alone, in place.

    Every `Dense` and `EinsumDense` in the layers named `block_00`, `block_01`
    and so on, the projections of attention and MLP, computes

        y = x (W + alpha / rank * A B) + b

    with `W` and `b` frozen, `A` random and `B` zero, so the outputs change
    only with training. Besides `A` and `B` only the layers named in `train`
    learn. Frozen blocks get no LoRA: for LoRA in the upper half call `freeze`
    first. Compile the model afterwards.

    A kernel of shape `(in, out)` gets `rank * (in + out)` weights. Keras
    counts the last axis of a kernel as its output: those of query, key and
    value, `(hidden_dim, num_heads, head_dim)`, get
    `rank * (hidden_dim * num_heads + head_dim)`.

    `model.save` merges `A B` into the kernels. The file holds the plain model,
    which gives the same outputs and learns as a whole. Call this function
    again to go on with LoRA.

    Args:
        model: a functional `keras.Model` with layers named like blocks.
        rank: width of `A`, above 0.
        alpha: factor of the product, above 0. Defaults to `rank`.
        train: name or names of the layers that learn as a whole.

    Returns:
        The same model.

    Raises:
        ValueError: if the model has no dense layer in a block that is not
            frozen, has LoRA already, or lacks a layer named in `train`.

    Example:

    >>> model = keras_vit.ViT("Ti/16", image_size=32, num_classes=10)
    >>> model = keras_vit.transfer_learning.enable_lora(model, rank=4)
    >>> len(model.trainable_weights)  # 12 blocks of 6 pairs, and the head
    146

    Reference:
        - [Hu et al., 2021](https://arxiv.org/abs/2106.09685), section 4
    """
    rank = check_positive("rank", rank)
    alpha = rank if alpha is None else check_above_zero("alpha", alpha)
    names = [layer.name for layer in model.layers]
    train = [train] if isinstance(train, str) else list(train)
    unknown = [name for name in train if name not in names]
    if unknown:
        raise ValueError(
            "`train` must name layers of the model, which are "
            f"{listed(names)}. Received: {listed(unknown)}"
        )
    blocks = [layer for layer in block_layers(model) if layer.trainable]
    dense = [layer for block in blocks for layer in find_layers(block, DENSE)]
    if not dense:
        raise ValueError(
            "LoRA needs dense layers in layers named 'block_00', 'block_01', "
            "... that are not frozen. Received: a model with layers "
            f"{listed(names)}"
        )
    if any(layer.lora_enabled for layer in dense):
        raise ValueError(
            "`model` must not have LoRA yet; save and load it to merge what "
            f"it learnt. Received: '{model.name}'"
        )
    for layer in dense:
        layer.enable_lora(rank, lora_alpha=alpha)
    learning = {
        id(weight)
        for layer in dense
        for weight in (layer.lora_kernel_a, layer.lora_kernel_b)
    }
    for name in train:
        learning |= {id(x) for x in model.get_layer(name).trainable_weights}
    # By weight, not by layer: a frozen layer would take its LoRA with it.
    for weight in model.trainable_weights:
        weight.trainable = id(weight) in learning
    return model
