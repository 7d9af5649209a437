"""What a model is made of: one answer to every question about its layers.

Everything that is done *to* a model (weights in and out, another resolution,
transfer, costs, attention maps) finds its way by layer type and by name, so
that it works on models of your own layers too. The questions and the words of
the errors stand here, and nowhere else.
"""

import collections
import re

import keras
import numpy as np

from keras_vit import keras_gaps
from keras_vit.arguments import spatial
from keras_vit.layers import (
    AttentionPooling,
    AveragePooling,
    ClassNames,
    GroupNorm,
    LayerNorm,
    LogitScale,
    PatchEncoder,
    Patches,
    PixelNormalization,
    StandardizedConv2D,
    TokenPooling,
    TransformerBlock,
)
from keras_vit.preprocessing import Preprocessing
from keras_vit.variants import stride_of

# The name of a block in every model of this library.
BLOCK_NAME = re.compile(r"block_\d+")
# Name of the layer that turns images with channels first around.
TO_CHANNELS_LAST = "channels_last"
# What may follow the names of classes without making others of them.
KEEPS_CLASSES = (
    keras.layers.Activation,
    keras.layers.Softmax,
    keras.layers.Identity,
)
# Names of the layers that bring a border to the pool of a ResNet's root.
ROOT_PADDINGS = {"root_pad": "zeros", "root_max": "ignored"}
# An image size that every stride divides, to find out what the strides are.
PROBE = 1024


def find_layers(model, kind):
    """Returns the layers of a class in a model or layer, however deep.

    Args:
        model: a `keras.Model` or a layer.
        kind: the class, or a tuple of classes.

    Returns:
        A list in the order in which they were made part of the model.
    """
    layers = keras_gaps.flatten_layers(model)
    return [layer for layer in layers if isinstance(layer, kind)]


def only_layer(model, kind, argument="model", deep=False):
    """Returns the one layer of a class that a model must have.

    Args:
        model: a `keras.Model`.
        kind: the class.
        argument: what the caller's argument is called, for the error.
        deep: whether layers inside of layers count.

    Returns:
        A layer.

    Raises:
        ValueError: if there is none, or more than one.
    """
    layers = find_layers(model, kind) if deep else model.layers
    layers = [layer for layer in layers if isinstance(layer, kind)]
    if len(layers) != 1:
        hint = ""
        if not deep and len(find_layers(model, kind)) == 1:
            hint = "It is inside of another layer: pass the inner one. "
        raise ValueError(
            f"`{argument}` must have one layer of class {kind.__name__}. "
            f"{hint}Received: {len(layers)} in '{model.name}'"
        )
    return layers[0]


def check_functional(model, argument="model"):
    """Raises unless a model is a functional one."""
    if not isinstance(model, keras.Model) or not hasattr(model, "input_shape"):
        raise ValueError(
            f"`{argument}` must be a functional `keras.Model`. "
            f"Received: {argument}={model!r}"
        )


def layer_names(model):
    """Returns the names of a model's layers as an error lists them."""
    return listed(layer.name for layer in model.layers)


def listed(names):
    """Returns names as an error lists them."""
    return ", ".join(repr(name) for name in names)


def block_layers(model):
    """Returns the layers named `block_00`, `block_01` and on, in order."""
    return [x for x in model.layers if BLOCK_NAME.fullmatch(x.name)]


def image_data_format(model):
    """Returns how a model wants its images, from the layers that read them.

    Args:
        model: a `keras.Model`.

    Returns:
        `"channels_last"` or `"channels_first"`.
    """
    for layer in find_layers(model, keras.layers.Layer):
        if layer.name == TO_CHANNELS_LAST:
            return "channels_first"
        # Only `Patches` has one that is about images.
        if isinstance(layer, Patches):
            return layer.data_format
    return "channels_last"


def image_input(model):
    """Returns the one image input of a model.

    Args:
        model: a functional `keras.Model`.

    Returns:
        Height and width in pixels, a pair whose entries are `None` where any
        size is taken, and `"channels_last"` or `"channels_first"`.

    Raises:
        ValueError: if the model has no such input, or more than one.
    """
    inputs = [x for x in model.inputs if len(x.shape) == 4]
    if len(inputs) != 1:
        shapes = [x.shape for x in model.inputs]
        raise ValueError(
            "`model` must have one input of shape (batch, height, width, "
            f"channels). Received: {shapes} in '{model.name}'"
        )
    data_format = image_data_format(model)
    return tuple(inputs[0].shape[spatial(data_format)]), data_format


def preprocessing_of(model):
    """Returns what a model does to pixels, a `Preprocessing` or `None`.

    Models made before `PixelNormalization` have `keras.layers.Rescaling`.
    """
    for layer in find_layers(model, keras.layers.Layer):
        if isinstance(layer, PixelNormalization):
            return layer.preprocessing
        if isinstance(layer, keras.layers.Rescaling):
            scale, offset = (np.ravel(x) for x in (layer.scale, layer.offset))
            std = 1 / (255 * scale)
            return Preprocessing(tuple(-offset * std), tuple(std))
    return None


def class_names_of(model):
    """Returns what the classes of a model's output are called, or `None`.

    Args:
        model: a `keras.Model`.

    Returns:
        A tuple of strings, or `None` if the model does not say, or what it
        says is about a part whose output other layers turn into theirs.
    """
    for layer in _from_the_end(model):
        if isinstance(layer, ClassNames):
            return layer.class_names
        if not isinstance(layer, KEEPS_CLASSES):
            break
    return None


def logit_scale_of(model):
    """Returns the `LogitScale` behind the embedding of a model, or `None`."""
    layer = next(_from_the_end(model), None)
    return layer if isinstance(layer, LogitScale) else None


def last_activation(model):
    """Returns the activation that a model's output comes from, by its name.

    Args:
        model: a `keras.Model`.

    Returns:
        `"linear"` for logits, `"softmax"`, `"sigmoid"`, or another name.
    """
    for layer in _from_the_end(model):
        if isinstance(layer, keras.layers.Softmax):
            return "softmax"
        name = getattr(getattr(layer, "activation", None), "__name__", "linear")
        if name != "linear" or not isinstance(
            layer, (ClassNames, *KEEPS_CLASSES)
        ):
            return name
    return "linear"


def _from_the_end(model):
    """The layers of a model, the last first, those of models inside too."""
    for layer in reversed(model.layers):
        if isinstance(layer, keras.Model):
            yield from _from_the_end(layer)
        else:
            yield layer


def cell_size(backbone):
    """Height and width in pixels of what one patch token stands for."""
    patches = only_layer(backbone, Patches, "backbone")
    shape = list(backbone.input_shape)
    shape[spatial(image_data_format(backbone))] = (PROBE, PROBE)
    # What lies under the patches, nothing or a ResNet, is a chain of layers.
    for layer in keras.Model(backbone.input, patches.input).layers[1:]:
        shape = layer.compute_output_shape(shape)
    # Behind a ResNet the channels are last.
    cells = shape[spatial(patches.data_format)]
    return tuple(
        patch * PROBE // count
        for patch, count in zip(patches.patch_size, cells)
    )


def weights_by_path(model):
    """Returns the weights of a model by path, random states left out."""
    weights = {}
    for weight in model.weights:
        if "seed_generator" in weight.path:
            continue
        if weight.path in weights:
            raise ValueError(
                "`model` has two weights of one path, so that a file cannot "
                f"tell them apart. Received: {weight.path}"
            )
        weights[weight.path] = weight
    return weights


def patch_size_of(model):
    """Returns height and width of a patch; (1, 1) on a feature map."""
    patches = find_layers(model, Patches)
    return patches[0].patch_size if patches else (1, 1)


def pooling_of(model):
    """Returns the name that `ViT` has for a model's pooling, or `None`."""
    kinds = {
        TokenPooling: "token",
        AveragePooling: "average",
        AttentionPooling: "attention",
    }
    found = [x for x in model.layers if x.name == "pooling"]
    return kinds.get(type(found[0])) if found else None


def trunks_of(model):
    """Returns the epsilons of the ResNet of a model.

    Args:
        model: a `keras.Model`.

    Returns:
        A list of dicts, as `ResidualUnit` takes them: none without a ResNet,
        several if its parts differ.
    """
    norms = {x.epsilon for x in find_layers(model, GroupNorm)}
    kernels = {
        (x.epsilon, x.epsilon_in)
        for x in find_layers(model, StandardizedConv2D)
    }
    return [
        {
            "epsilon": norm,
            "kernel_epsilon": kernel,
            "kernel_epsilon_in": form,
        }
        for norm in sorted(norms)
        for kernel, form in sorted(kernels)
    ]


def stages_of(weights):
    """Returns the units in each stage of the ResNet of a hybrid, or `None`.

    Args:
        weights: dict with the paths of its weights.
    """
    if "root_conv/kernel" not in weights:
        return None
    found = map(re.compile(r"stage(\d+)_unit\d+/conv1/kernel").match, weights)
    count = collections.Counter(int(match[1]) for match in found if match)
    return tuple(count[stage] for stage in sorted(count))


class Anatomy:
    """The sizes of a model, read off its layers.

    Args:
        model: a `keras.Model` made by `ViT`, or of the same layers under the
            same names.
    """

    def __init__(self, model):
        weights = weights_by_path(model)
        self.blocks = find_layers(model, TransformerBlock)
        self.encoder = only_layer(model, PatchEncoder, deep=True)
        self.patch_size = patch_size_of(model)
        first = self.blocks[0]
        self.num_layers = len(self.blocks)
        self.hidden_dim = self.encoder.hidden_dim
        self.num_heads = first.attention.num_heads
        self.mlp_dim = first.mlp.mlp_dim
        self.activation = first.mlp.activation
        self.use_bias = first.attention.use_bias
        self.qk_norm = first.attention.qk_norm
        self.layer_scale = first.layer_scale
        self.epsilons = {norm.epsilon for norm in find_layers(model, LayerNorm)}
        kernel = weights["patch_encoder/projection/kernel"]
        height, width = self.patch_size
        self.num_channels = kernel.shape[0] // (height * width)
        if "root_conv/kernel" in weights:
            *_, self.num_channels, self.root_width = weights[
                "root_conv/kernel"
            ].shape
        head = weights.get("head/kernel")
        self.num_classes = None if head is None else head.shape[-1]
        pre_logits = weights.get("pre_logits/kernel")
        self.representation_dim = (
            None if pre_logits is None else pre_logits.shape[-1]
        )
        self.preprocessing = preprocessing_of(model)
        self.class_names = class_names_of(model)
        self.norm_after_pooling = "pooling_norm/gamma" in weights
        self.stages = stages_of(weights)
        self.trunks = trunks_of(model)
        positions = getattr(self.encoder, "position_embedding", None)
        self.grid_size = None if positions is None else positions.grid_size
        self.pooling = pooling_of(model)

    @property
    def image_size(self):
        """Height and width of the images that the position table is for."""
        stride = 1 if self.stages is None else stride_of(self.stages)
        return [
            cells * edge * stride
            for cells, edge in zip(self.grid_size, self.patch_size)
        ]
