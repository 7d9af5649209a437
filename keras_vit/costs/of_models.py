"""The cost of a built Keras model, from the shapes of its layers."""

import dataclasses
import math

import keras

from keras_vit.anatomy import find_layers, image_input
from keras_vit.arguments import spatial
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
    RelativeBiasAttention,
    RelativeMLPAttention,
    ResidualUnit,
    RMSNorm,
    RotaryAttention,
    SelfAttention,
    SparseAttention,
    StandardizedConv2D,
    TokenPooling,
    TransformerBlock,
    WindowAttention,
)

CONVOLUTIONS = (keras.layers.Conv2D, StandardizedConv2D)
# They have no matrices; the backward pass keeps their outputs.
NORMS_AND_POOLINGS = (
    LayerNorm,
    RMSNorm,
    GroupNorm,
    keras.layers.LayerNormalization,
    keras.layers.GroupNormalization,
    keras.layers.MaxPooling2D,
    TokenPooling,
    AveragePooling,
    keras.layers.GlobalAveragePooling2D,
)


def model_cost(
    model: keras.Model,
    fused_attention: bool = True,
    image_size: tuple[int, int] | None = None,
) -> Cost:
    """Counts a functional model.

    Args:
        model: a `keras.Model`.
        fused_attention: whether no attention scores are kept.
        image_size: for a model that takes images of any size, the height and
            width to count it at.

    Returns:
        A `Cost`.

    Raises:
        ValueError: if a layer with kernels is of a class that is not known
            here, or if its shapes depend on an image size that is not given.
    """
    shape_of = _shapes_at(model, image_size) if image_size else _own_shape
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
                cost += kept(*_output(layer, shape_of))
            continue
        part = _layer_cost(layer, fused_attention, convolves, shape_of)
        # The weights that the layer has, not those that the formula expects.
        cost += dataclasses.replace(part, parameters=_parameters(layer))
    return cost


def _own_shape(tensor):
    """Returns the shape of a tensor in the model as it is."""
    return tensor.shape


def _shapes_at(model, image_size):
    """Returns a function from a tensor to its shape at an image size."""
    layers = [x for x in model.layers if not isinstance(x, keras.Model)]
    tensors = {
        id(tensor): tensor
        for layer in layers
        for tensor in keras.tree.flatten([layer.input, layer.output])
    }
    _, data_format = image_input(model)

    def sized(x):
        shape = list(x.shape)
        if len(shape) == 4:
            shape[spatial(data_format)] = image_size
        return tuple(shape)

    every = keras.Model(model.inputs, list(tensors.values()))
    shapes = every.compute_output_shape([sized(x) for x in model.inputs])
    shapes = dict(zip(tensors, shapes))
    return lambda tensor: shapes[id(tensor)]


def _layer_cost(layer, fused, convolves, shape_of):
    if isinstance(layer, Patches):
        # The unit that made the cells of a feature map keeps them.
        same = convolves and layer.patch_size == (1, 1)
        return Cost() if same else kept(*_output(layer, shape_of))
    if isinstance(layer, NORMS_AND_POOLINGS):
        return kept(*_output(layer, shape_of))
    if not _parameters(layer):
        return Cost()
    shape = _known(layer, shape_of(layer.input)[1:])
    positions, dim = math.prod(shape[:-1]), shape[-1]
    if isinstance(layer, PatchEncoder):
        hidden_dim = layer.hidden_dim
        cost = dense(positions, dim, hidden_dim) + kept(
            *_output(layer, shape_of)
        )
        cost += kept(positions, dim) * layer.norm_before
        cost += kept(positions, hidden_dim) * layer.norm_after
        return cost + kept(*_output(layer, shape_of)) * layer.norm_tokens
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
        grid, channels = _grid(layer, _output(layer, shape_of))
        *kernel_size, inputs, _ = layer.kernel.shape
        cost = convolution(grid, kernel_size, inputs, channels)
        return cost + kept(*grid, channels)
    if isinstance(layer, keras.layers.Dense):
        outputs = layer.units
        cost = dense(positions, dim, outputs)
        return cost + kept(positions, outputs)
    if isinstance(layer, keras.layers.EinsumDense):
        return Cost(macs=_einsum(layer, shape)) + kept(
            *_output(layer, shape_of)
        )
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
            "The cost of a model depends on its image size: give "
            f"`image_size`. Received: shape {(None, *shape)} at layer "
            f"'{layer.name}'"
        )
    return shape


def _output(layer, shape_of):
    return _known(layer, shape_of(layer.output)[1:])


def _grid(layer, shape):
    """Returns rows and columns, and channels, of a feature map."""
    # Standardised convolutions have no other layout.
    if getattr(layer, "data_format", "channels_last") == "channels_last":
        return shape[:2], shape[2]
    return shape[1:], shape[0]


def _attention(layer, queries, keys, dim, fused):
    # By exact class: a subclass computes something else.
    windows = 1
    if type(layer) is WindowAttention:
        height, width = layer.window
        queries = keys = height * width
        windows = math.prod(layer.grid_size) // queries
    elif type(layer) not in (
        SelfAttention,
        SparseAttention,
        RelativeAttention,
        RelativeBiasAttention,
        RelativeMLPAttention,
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
    # These have no fused kernel.
    written_out = type(layer) in (SparseAttention, RelativeAttention)
    cost = attention(
        queries,
        keys,
        dim,
        layer.num_heads,
        layer.head_dim,
        fused=fused and not written_out,
        qk_norm=layer.qk_norm,
        output_norm=layer.output_norm,
        num_kv_heads=layer.num_kv_heads,
        offsets=offsets,
    )
    if type(layer) is RelativeMLPAttention:
        # Once for all images, so nothing is kept for each.
        for part in (layer.bias_hidden, layer.bias_output):
            places = math.prod(2 * edge - 1 for edge in layer.grid_size)
            cost += dense(places, *part.kernel.shape)
    return cost * windows


def _mlp(layer, positions, dim):
    if isinstance(layer, MLP):
        return mlp(
            positions,
            dim,
            layer.mlp_dim,
            gated=layer.is_gated,
            normed=layer.norm is not None,
        )
    # A user's own MLP counts if it is made of dense layers.
    parts = [layer, *find_layers(layer, keras.layers.Dense)]
    kernels = [x.kernel for x in parts if isinstance(x, keras.layers.Dense)]
    if len(kernels) != sum(w.name == "kernel" for w in layer.weights):
        raise ValueError(
            f"The cost of an MLP of class {type(layer).__name__} is not known: "
            "not all of its kernels are in dense layers. Received: layer "
            f"'{layer.name}'"
        )
    cost = Cost()
    for kernel in kernels:
        cost += dense(positions, *kernel.shape)
        cost += kept(positions, kernel.shape[-1])
    return cost


def _einsum(layer, shape):
    """Returns the product of the sizes of all letters except the batch."""
    inputs, kernel = layer.equation.split("->")[0].split(",")
    if "." in inputs:
        raise ValueError(
            "The cost of an `EinsumDense` with an ellipsis is not known. "
            f"Received: equation={layer.equation!r} in layer '{layer.name}'"
        )
    sizes = dict(zip(inputs[1:], shape))
    sizes.update(zip(kernel, layer.kernel.shape))
    return math.prod(sizes.values())
