"""What a Vision Transformer costs: parameters and multiply-accumulates.

Counted from the shapes of a model, on the host: profilers of the backends
disagree with one another by up to a third on the same model, because some
count element-wise work and some do not see fused attention. A
multiply-accumulate (MAC) is one product added to a sum in a matrix product;
papers and libraries that print "GFLOPs" mean either MACs or twice as many.
"""

import dataclasses
import math

import keras

from keras_vit.layers import (
    AttentionPooling,
    PatchEncoder,
    SelfAttention,
    TransformerBlock,
)
from keras_vit.models import ViT
from keras_vit.variants import parse_variant


@dataclasses.dataclass(frozen=True)
class Cost:
    """The cost of a model.

    Args:
        parameters: numbers in all weights, random states left out.
        macs: multiply-accumulates of one forward pass over one image.

    Example:

    >>> Cost(parameters=10, macs=200) + Cost(parameters=1, macs=20) * 2
    Cost(parameters=12, macs=240)
    """

    parameters: int
    macs: int

    def __add__(self, other):
        return Cost(self.parameters + other.parameters, self.macs + other.macs)

    def __mul__(self, times):
        return Cost(self.parameters * times, self.macs * times)


def cost(model, **arguments):
    """Counts the parameters and multiply-accumulates of a model.

    Args:
        model: a functional `keras.Model` made of this library's layers and
            dense layers, for images of one size; or a variant, by name or as
            a `keras_vit.Variant`. Of a variant a model with one block is
            built and its block counted as often as the variant has it, so
            that one of billions of parameters needs no such memory.
        **arguments: of `ViT`, for a variant. All blocks must be alike.

    Returns:
        A `Cost`.

    Raises:
        ValueError: if the model has weights in a layer of a kind not known
            here, or takes images of any size.

    Example:

    >>> keras_vit.cost("B/16")
    Cost(parameters=86567656, macs=17563828224)
    >>> keras_vit.cost("B/16", image_size=384).macs / 1e9
    55.484...
    """
    if isinstance(model, keras.Model):
        return sum(map(_layer_cost, model.layers), Cost(0, 0))
    variant = parse_variant(model)
    model = ViT(dataclasses.replace(variant, num_layers=1), **arguments)
    block = _layer_cost(model.get_layer("block_00"))
    return cost(model) + block * (variant.num_layers - 1)


def _layer_cost(layer):
    parameters = sum(
        math.prod(weight.shape)
        for weight in layer.weights
        if "seed_generator" not in weight.path
    )
    if not parameters:
        return Cost(0, 0)
    shape = layer.input.shape[1:]
    if None in shape:
        raise ValueError(
            "The cost of a model depends on its image size. Received: input "
            f"shape {(None, *shape)} of layer '{layer.name}'"
        )
    return Cost(parameters, _macs(layer, shape))


def _macs(layer, shape):
    positions = math.prod(shape[:-1])
    if isinstance(layer, (keras.layers.Dense, PatchEncoder)):
        return positions * _kernels(layer)
    if isinstance(layer, TransformerBlock):
        attention = _attention_macs(layer.attention, positions, positions)
        return attention + positions * _kernels(layer.mlp)
    if isinstance(layer, AttentionPooling):
        attention = _attention_macs(layer.attention, 1, positions)
        return attention + _kernels(layer.mlp)
    if _kernels(layer):
        raise ValueError(
            f"The cost of a layer of class {type(layer).__name__} is not "
            f"known. Received: layer '{layer.name}'"
        )
    return 0


def _attention_macs(attention, queries, keys):
    if not isinstance(attention, SelfAttention):
        raise ValueError(
            "The cost of an attention of class "
            f"{type(attention).__name__} is not known."
        )
    kernel = math.prod(attention.query.kernel.shape)
    heads_width = math.prod(attention.query.kernel.shape[1:])
    projections = 2 * kernel * (queries + keys)  # q and output; k and v
    # Scores and their product with the values.
    return projections + 2 * queries * keys * heads_width


def _kernels(layer):
    return sum(
        math.prod(weight.shape)
        for weight in layer.weights
        if weight.name == "kernel"
    )
