"""Weights from a model into the same for another size: `carry_weights`.

All go over as they are, but tables whose shape is that of a grid, and patch
kernels if the patch changes.
"""

import keras
import numpy as np

from keras_vit.anatomy import find_layers
from keras_vit.layers import (
    PatchEncoder,
    Patches,
    PositionEmbedding,
    RelativeAttention,
    RelativeBiasAttention,
)
from keras_vit.ops.resize import (
    Method,
    resize_grid,
    resize_offset_table,
    resize_patch_kernel,
)


def carry_weights(
    old: keras.Model, new: keras.Model, method: Method, pixel_method: Method
) -> None:
    """Gives a rebuilt model the weights, tables and kernels resampled.

    Args:
        old: the model that has them.
        new: the same for another size.
        method: how tables are resampled, see `change_resolution`.
        pixel_method: how patch kernels are.

    Raises:
        ValueError: if other weights depend on the size.
    """
    converters = {}
    for source, target in zip(
        find_layers(old, PositionEmbedding), find_layers(new, PositionEmbedding)
    ):
        converters.update(_position_converters(source, target, method))
    for source, target in zip(
        find_layers(old, RelativeAttention), find_layers(new, RelativeAttention)
    ):
        # Offsets reach as far as the sequence: the outermost stay outermost.
        converters[id(source.offset_table)] = _resize_axis(
            target.offset_table.shape[0], method
        )
    for source, target in zip(
        find_layers(old, RelativeBiasAttention),
        find_layers(new, RelativeBiasAttention),
    ):
        converters.update(_offset_converters(source, target, method))
    if find_layers(old, Patches):
        converters.update(_kernel_converters(old, new, pixel_method))
    converters.update(_lora_converters(old))
    pairs = list(zip(_without_lora(old), new.weights, strict=True))
    mis_shaped = [
        f"{source.path}: {tuple(source.shape)} -> {tuple(target.shape)}"
        for source, target in pairs
        if source.shape != target.shape and id(source) not in converters
    ]
    if mis_shaped:
        raise ValueError(
            f"'{old.name}' has weights whose shape depends on the image size "
            f"and that are no position tables: {', '.join(mis_shaped)}"
        )
    for source, target in pairs:
        value = keras.ops.convert_to_numpy(source)
        convert = converters.get(id(source))
        target.assign(value if convert is None else convert(value))


def _position_converters(source, target, method):
    """Functions from old to new tables of a position layer, by weight."""
    if source.grid_size == target.grid_size:
        return {}
    (rows, columns), new_grid = source.grid_size, target.grid_size
    prefix = source.num_prefix_tokens

    def resize_table(table):
        grid = table[prefix:].reshape(rows, columns, -1)
        grid = resize_grid(grid, new_grid, method)
        return np.concatenate(
            [table[:prefix], grid.reshape(-1, table.shape[1])]
        )

    if source.kind == "learned_1d":
        return {id(source.table): resize_table}
    if source.kind == "learned_2d":
        return {
            id(source.row_table): _resize_axis(new_grid[0], method),
            id(source.column_table): _resize_axis(new_grid[1], method),
        }
    return {}


def _offset_converters(source, target, method):
    """A function from the old to the new table of biases, by weight."""
    if source.grid_size == target.grid_size:
        return {}
    return {
        id(weight): lambda table: resize_offset_table(
            table, source.grid_size, target.grid_size, method
        )
        # Where an MLP makes them, there is no table.
        for weight in source.weights
        if weight.name == "bias_table"
    }


def _resize_axis(length, method):
    """A function that resamples a table of vectors along one axis."""

    def resize(table):
        return resize_grid(table[:, None], (length, 1), method)[:, 0]

    return resize


def _kernel_converters(old, new, method):
    old_patch = find_layers(old, Patches)[0].patch_size
    new_patch = find_layers(new, Patches)[0].patch_size
    if old_patch == new_patch:
        return {}
    (encoder,) = find_layers(old, PatchEncoder)
    if encoder.norm_before:
        raise ValueError(
            "`change_patch_size` cannot resize the layer norm before the "
            "projection, whose weights belong to single pixels. Received: "
            "norm_before=True"
        )
    return {
        id(encoder.projection.kernel): lambda kernel: resize_patch_kernel(
            kernel, old_patch, new_patch, method
        )
    }


def _lora_converters(model):
    """Functions to kernels that have their LoRA merged in, by weight."""
    return {
        id(weight): lambda kernel, layer=layer: keras.ops.convert_to_numpy(
            layer.kernel
        )
        for layer in _with_lora(model)
        for weight in layer.weights
        if weight.name == "kernel"
    }


def _without_lora(model):
    added = {
        id(weight)
        for layer in _with_lora(model)
        for weight in (layer.lora_kernel_a, layer.lora_kernel_b)
    }
    return [weight for weight in model.weights if id(weight) not in added]


def _with_lora(model):
    layers = find_layers(model, (keras.layers.Dense, keras.layers.EinsumDense))
    layers = [layer for layer in layers if layer.lora_enabled]
    if any(layer.quantization_mode is not None for layer in layers):
        raise ValueError(
            f"'{model.name}' has LoRA on quantised kernels, which only Keras "
            "can merge: save the model and load it again first."
        )
    return layers


def carry_flags(old: keras.Model, new: keras.Model) -> None:
    """Gives a rebuilt model the trainable flags of layers and weights."""
    layers = zip(
        find_layers(old, keras.layers.Layer),
        find_layers(new, keras.layers.Layer),
    )
    # A parent sets its children, which come after it.
    for source, target in layers:
        if target.trainable != source.trainable:
            target.trainable = source.trainable
    if _with_lora(old):
        # LoRA held single weights still, and it is merged now.
        return
    for source, target in zip(_without_lora(old), new.weights):
        if target.trainable != source.trainable:
            target.trainable = source.trainable
