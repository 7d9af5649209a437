"""A class for every pixel: a Vision Transformer under a dense head.

Each patch token answers for the pixels of its patch: "linear" is the probe of
Strudel et al. 2021 (Segmenter), arXiv:2105.05633, section 3.1; "conv" is the
progressive upsampling of Zheng et al. 2021 (SETR), arXiv:2012.15840, kept
small.
"""

from typing import Literal

import keras

from keras_vit.anatomy import cell_size, image_data_format, only_layer
from keras_vit.arguments import check_choice, check_positive
from keras_vit.layers import (
    CropToImage,
    LayerNorm,
    PatchEncoder,
    Patches,
    TokenGrid,
)
from keras_vit.models.functional import functional
from keras_vit.ops.precision import is_half

DECODERS = ("linear", "conv")


def feature_map(
    backbone: keras.Model, tap: str = "encoder_norm"
) -> keras.Model:
    """Returns the tokens of a Vision Transformer as a map.

    The class token and registers are left out, and each patch token is put
    back in the place of its patch.

    Args:
        backbone: a functional `keras.Model` with a `Patches` and a
            `PatchEncoder` layer: a ViT or a hybrid.
        tap: name of the layer whose tokens are taken.

    Returns:
        A `keras.Model` from images to a map of shape `(batch, rows, columns,
        hidden_dim)`, with the layers and weights of `backbone`. Its last layer
        is named `feature_map`.

    Raises:
        ValueError: if the model has not one of either layer.

    Example:

    >>> backbone = keras_vit.ViT("Ti/16", image_size=(64, 96))
    >>> keras_vit.models.feature_map(backbone).output_shape
    (None, 4, 6, 192)
    """
    encoder = only_layer(backbone, PatchEncoder, "backbone")
    tokens = backbone.get_layer(tap).output
    grid = only_layer(backbone, Patches, "backbone").output
    outputs = TokenGrid(encoder.num_prefix_tokens, name="feature_map")(
        tokens, grid
    )
    name = f"{backbone.name}_feature_map"
    return functional(
        backbone.input, outputs, name=name, dtype=backbone.dtype_policy
    )


def segmentation_model(
    backbone: keras.Model,
    num_classes: int,
    *,
    decoder: Literal["linear", "conv"] = "linear",
    decoder_dim: int = 128,
    tap: str = "encoder_norm",
    name: str | None = None,
) -> keras.Model:
    """Builds a model that gives each pixel a class.

    Images may be of any size that the backbone takes. Logits are those of
    patches, or of the decoder's cells, interpolated between their centres.

    Args:
        backbone: a functional `keras.Model` made by `ViT`, pure or hybrid; its
            head is left out, its layers and weights are shared.
        num_classes: number of classes.
        decoder: `"linear"`, one dense layer on each token; `"conv"`, twice a
            3x3 convolution, a layer norm, GELU and an enlargement by two, then
            the dense layer.
        decoder_dim: channels of the convolutions.
        tap: name of the layer whose tokens are taken.
        name: name of the model. Defaults to one made of the backbone's.

    Returns:
        A `keras.Model` from images to logits of shape `(batch, height, width,
        num_classes)`, channels last whatever the images are.

    Raises:
        ValueError: if an argument breaks its rule, or if the backbone is none
            of that kind.

    Example:

    >>> backbone = keras_vit.ViT("Ti/16", image_size=(64, 96))
    >>> model = keras_vit.segmentation_model(backbone, num_classes=3)
    >>> model.output_shape
    (None, 64, 96, 3)
    >>> objective = keras_vit.recipes.segmentation(num_classes=3)
    >>> model.compile("adam", **objective)
    """
    check_positive("num_classes", num_classes)
    check_choice("decoder", decoder, DECODERS)
    check_positive("decoder_dim", decoder_dim)
    maps = feature_map(backbone, tap)
    # Maps are channels last from `Patches` on.
    common = {
        "data_format": "channels_last",
        "dtype": maps.get_layer(tap).dtype_policy,
    }
    cell = cell_size(backbone)
    x = maps.output
    if decoder == "conv":
        for step in (1, 2):
            x = keras.layers.Conv2D(
                decoder_dim, 3, padding="same", name=f"conv{step}", **common
            )(x)
            x = LayerNorm(name=f"conv{step}_norm", dtype=common["dtype"])(x)
            x = keras.layers.Activation(
                "gelu", name=f"conv{step}_gelu", dtype=common["dtype"]
            )(x)
            if all(edge % 2 == 0 for edge in cell):
                x = keras.layers.UpSampling2D(
                    interpolation="bilinear", name=f"enlarge{step}", **common
                )(x)
                cell = tuple(edge // 2 for edge in cell)
    half = is_half(common["dtype"].compute_dtype)
    common["dtype"] = "float32" if half else common["dtype"]
    x = keras.layers.Dense(
        num_classes,
        kernel_initializer="zeros",
        name="classes",
        dtype=common["dtype"],
    )(x)
    x = keras.layers.UpSampling2D(
        cell, interpolation="bilinear", name="logits", **common
    )(x)
    # Padding, of patches or of convolutions, may have added a margin.
    x = CropToImage(image_data_format(backbone), name="crop")(x, backbone.input)
    name = name or f"{backbone.name}_segmentation"
    return functional(backbone.input, x, name=name, dtype=backbone.dtype_policy)
