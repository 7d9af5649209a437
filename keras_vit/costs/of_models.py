"""The cost of a Keras model that exists, from the shapes of its layers."""

import dataclasses
import math

import keras

from keras_vit.anatomy import find_layers
from keras_vit.costs.formulas import (
    Cost,
    attention,
    attention_pooling,
    convolution,
    dense,
    kept,
    mlp,
    residual_unit,
    transformer_block,
)
from keras_vit.layers import (
    MLP,
    AttentionPooling,
    AveragePooling,
    AxialBlock,
    GroupNorm,
    LayerNorm,
    PatchEncoder,
    Patches,
    RelativeAttention,
    ResidualUnit,
    RotaryAttention,
    SelfAttention,
    SparseAttention,
    StandardizedConv2D,
    TokenPooling,
    TransformerBlock,
    WindowAttention,
)

CONVOLUTIONS = (keras.layers.Conv2D, StandardizedConv2D)
# Their outputs are kept; all their matrices and kernels are elsewhere.
NORMS_AND_POOLINGS = (
    LayerNorm,
    GroupNorm,
    keras.layers.LayerNormalization,
    keras.layers.GroupNormalization,
    keras.layers.MaxPooling2D,
    TokenPooling,
    AveragePooling,
    keras.layers.GlobalAveragePooling2D,
)


def model_cost(model, fused_attention=True):
    """Counts a functional model.

    Args:
        model: a `keras.Model`.
        fused_attention: whether no attention scores are kept.

    Returns:
        A `Cost`.

    Raises:
        ValueError: if a layer with kernels is of a kind not known here, or
            takes images of any size.
    """
    cost = Cost()
    ways_in = (Patches, *CONVOLUTIONS)
    first = next((x for x in model.layers if isinstance(x, ways_in)), None)
    convolves = isinstance(first, CONVOLUTIONS)
    for layer in model.layers:
        if isinstance(layer, keras.Model):
            cost += model_cost(layer, fused_attention)
            continue
        if isinstance(layer, keras.layers.InputLayer):
            if convolves:
                cost += kept(*_known(layer, layer.output.shape[1:]))
            continue
        part = _layer_cost(layer, fused_attention, convolves)
        # The numbers that are there, not those that should be.
        cost += dataclasses.replace(part, parameters=_parameters(layer))
    return cost


def _layer_cost(layer, fused, convolves):
    if isinstance(layer, Patches):
        # Cells of a feature map are kept by the unit that made them.
        same = convolves and layer.patch_size == (1, 1)
        return Cost() if same else kept(*_output(layer))
    if isinstance(layer, NORMS_AND_POOLINGS):
        return kept(*_output(layer))
    if not _parameters(layer):
        return Cost()
    shape = _known(layer, layer.input.shape[1:])
    positions, dim = math.prod(shape[:-1]), shape[-1]
    if isinstance(layer, PatchEncoder):
        hidden_dim = layer.hidden_dim
        cost = dense(positions, dim, hidden_dim) + kept(*_output(layer))
        cost += kept(positions, dim) * layer.norm_before
        return cost + kept(positions, hidden_dim) * layer.norm_after
    if isinstance(layer, TransformerBlock):
        return _block(layer, positions, dim, fused)
    if isinstance(layer, AxialBlock):
        row = _block(layer.row, positions, dim, fused)
        return row + _block(layer.column, positions, dim, fused)
    if isinstance(layer, AttentionPooling):
        return attention_pooling(
            dim,
            _attention(layer.attention, 1, positions, dim, fused),
            _mlp(layer.mlp, 1, dim),
        )
    if isinstance(layer, ResidualUnit):
        grid, channels = _grid(layer, shape)
        return residual_unit(
            grid, channels, layer.filters, layer.strides, layer.preactivation
        )
    if isinstance(layer, CONVOLUTIONS):
        grid, channels = _grid(layer, _output(layer))
        *kernel_size, inputs, _ = layer.kernel.shape
        cost = convolution(grid, kernel_size, inputs, channels)
        return cost + kept(*grid, channels)
    if isinstance(layer, keras.layers.Dense):
        outputs = layer.units
        cost = dense(positions, dim, outputs)
        return cost + kept(positions, outputs)
    if isinstance(layer, keras.layers.EinsumDense):
        return Cost(macs=_einsum(layer, shape)) + kept(*_output(layer))
    if any(weight.name == "kernel" for weight in layer.weights):
        raise ValueError(
            f"The cost of a layer of class {type(layer).__name__} is not "
            f"known. Received: layer '{layer.name}'"
        )
    return Cost()


def _block(layer, positions, dim, fused):
    scales = [layer.attention_scale, layer.mlp_scale]
    scaled = sum(scale is not None for scale in scales)
    return kept(positions, dim) * scaled + transformer_block(
        positions,
        dim,
        _attention(layer.attention, positions, positions, dim, fused),
        _mlp(layer.mlp, positions, dim),
    )


def _parameters(layer):
    return sum(
        math.prod(weight.shape)
        for weight in layer.weights
        if "seed_generator" not in weight.path
    )


def _known(layer, shape):
    if None in shape:
        raise ValueError(
            "The cost of a model depends on its image size. Received: "
            f"shape {(None, *shape)} at layer '{layer.name}'"
        )
    return shape


def _output(layer):
    return _known(layer, layer.output.shape[1:])


def _grid(layer, shape):
    """Returns rows and columns, and channels, of a feature map."""
    # Standardised convolutions have no other layout.
    if getattr(layer, "data_format", "channels_last") == "channels_last":
        return shape[:2], shape[2]
    return shape[1:], shape[0]


def _attention(layer, queries, keys, dim, fused):
    # By name: a subclass is there because it computes something else.
    windows = 1
    if type(layer) is WindowAttention:
        height, width = layer.window
        queries = keys = height * width
        windows = math.prod(layer.grid_size) // queries
    elif type(layer) not in (
        SelfAttention,
        SparseAttention,
        RelativeAttention,
        RotaryAttention,
    ):
        raise ValueError(
            "The cost of an attention of class "
            f"{type(layer).__name__} is not known. Received: layer "
            f"'{layer.name}'"
        )
    offsets = 0
    if type(layer) is RelativeAttention:
        offsets = layer.offset_table.shape[0]
    whole = type(layer) in (SelfAttention, WindowAttention, RotaryAttention)
    cost = attention(
        queries,
        keys,
        dim,
        layer.num_heads,
        layer.head_dim,
        # The others write their scores out.
        fused=fused and whole,
        qk_norm=layer.qk_norm,
        offsets=offsets,
    )
    return cost * windows


def _mlp(layer, positions, dim):
    if isinstance(layer, MLP):
        return mlp(positions, dim, layer.mlp_dim, layer.activation)
    # One of the user's own, if it is made of dense layers.
    parts = [layer, *find_layers(layer, keras.layers.Dense)]
    kernels = [x.kernel for x in parts if isinstance(x, keras.layers.Dense)]
    if len(kernels) != sum(w.name == "kernel" for w in layer.weights):
        raise ValueError(
            f"The cost of an MLP of class {type(layer).__name__} is not known: "
            f"not all of its kernels are in dense layers. Received: layer "
            f"'{layer.name}'"
        )
    cost = Cost()
    for kernel in kernels:
        cost += dense(positions, *kernel.shape)
        cost += kept(positions, kernel.shape[-1])
    return cost


def _einsum(layer, shape):
    """Returns the product of the sizes of all letters but the batch."""
    inputs, kernel = layer.equation.split("->")[0].split(",")
    if "." in inputs:
        raise ValueError(
            "The cost of an `EinsumDense` with an ellipsis is not known. "
            f"Received: equation={layer.equation!r} in layer '{layer.name}'"
        )
    sizes = dict(zip(inputs[1:], shape))
    sizes.update(zip(kernel, layer.kernel.shape))
    return math.prod(sizes.values())
