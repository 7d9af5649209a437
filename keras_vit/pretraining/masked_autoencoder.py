"""Masked autoencoders: an encoder that sees a quarter of the patches.

He et al. 2021, arXiv:2111.06377; the official `models_mae.py`. The encoder is
any Vision Transformer of this library, unchanged.
"""

import keras

from keras_vit.anatomy import find_layers, only_layer
from keras_vit.arguments import check_not_negative, check_positive
from keras_vit.layers import (
    AxialBlock,
    LayerNorm,
    PatchEncoder,
    Patches,
    PositionEmbedding,
    RelativeAttention,
    RelativeBiasAttention,
    RotaryAttention,
    TokenGrid,
    TransformerBlock,
    WindowAttention,
)
from keras_vit.pretraining.corruption import (
    MaskToken,
    PatchMasking,
    SelectTokens,
)
from keras_vit.pretraining.masked_patches import (
    PatchPrediction,
    layers_after_encoder,
    predictions_and_targets,
)

# Layers that know a token by its place in the whole grid.
PLACED = (
    AxialBlock,
    PositionEmbedding,
    RelativeAttention,
    RelativeBiasAttention,
    RotaryAttention,
    WindowAttention,
)


def masked_autoencoder(
    backbone: keras.Model,
    masking: float = 0.75,
    *,
    decoder_dim: int = 512,
    decoder_layers: int = 8,
    decoder_heads: int = 16,
    normalize_pixels: bool = True,
    tap: str = "encoder_norm",
    seed: int | None = None,
    name: str | None = None,
) -> keras.Model:
    """Builds a model that learns to fill in the patches it does not see.

    The encoder takes the prefix tokens and the patches that are kept, a
    quarter of all: sequences are shorter, so a step costs less than one of
    supervised training. A small decoder puts a learned mask token in the place
    of every other patch, adds fixed sine-cosine positions and predicts the
    pixels; the loss is the mean squared error on the masked patches alone.
    The masked patches are drawn anew in every step, of `evaluate` and
    `predict` too.

    Use the model like a `masked_patch_model`: `fit` takes images alone,
    `compile` takes an optimizer, and the layers and weights of `backbone` are
    shared.

    Args:
        backbone: a functional `keras.Model` made by `ViT` for images of one
            size, pure or hybrid, whose blocks take sequences of any length and
            whose positions are added once, in the patch encoder.
        masking: share in `(0, 1)` of the patches that are masked.
        decoder_dim: width of the decoder, a multiple of 4 and of
            `decoder_heads`.
        decoder_layers: blocks of the decoder, 0 or more. The width of an MLP
            is four times `decoder_dim`.
        decoder_heads: heads of the decoder's attention.
        normalize_pixels: whether to bring the pixels of each patch to mean 0
            and standard deviation 1, which gave the paper better
            representations, or to scale them to [-1, 1].
        tap: name of the layer whose tokens the decoder takes.
        seed: int, for the draws.
        name: name of the model. Defaults to the backbone's name and
            `_masked_autoencoder`.

    Returns:
        A `keras.Model` from images to a dict of maps: `predictions` and
        `targets` of shape `(batch, rows, columns, patch_dim)`, a patch in the
        order row, column, channel; `corrupted`, booleans of shape `(batch,
        rows, columns)`, the patches that are masked.

    Raises:
        ValueError: if an argument breaks its rule, or if the backbone is not
            such a model.

    Example:

    >>> variant = keras_vit.Variant(2, 32, 64, 4, patch_size=4)
    >>> backbone = keras_vit.ViT(variant, image_size=32, num_classes=None)
    >>> model = keras_vit.pretraining.masked_autoencoder(
    ...     backbone, decoder_dim=16, decoder_layers=1, decoder_heads=2
    ... )
    >>> recipe = keras_vit.recipes.masked_patches(
    ...     total_steps=1, learning_rate=1.5e-4, weight_decay=0.05
    ... )
    >>> model.compile(**recipe)
    >>> images = np.zeros((4, 32, 32, 3))
    >>> sorted(model.fit(images, verbose=0).history)
    ['loss']

    Reference:
        - [He et al., 2021](https://arxiv.org/abs/2111.06377), section 3;
          `models_mae.py`, `MaskedAutoencoderViT`
    """
    check_positive("decoder_dim", decoder_dim)
    check_not_negative("decoder_layers", decoder_layers)
    check_positive("decoder_heads", decoder_heads)
    encoder = only_layer(backbone, PatchEncoder, "backbone")
    patches = only_layer(backbone, Patches, "backbone").output
    prefix = encoder.num_prefix_tokens
    common = {"dtype": encoder.dtype_policy}

    kept, sources, masked = PatchMasking(masking, seed, name="patch_masking")(
        patches
    )
    x = SelectTokens(prefix, name="kept_tokens", **common)(encoder.output, kept)
    for layer in layers_after_encoder(backbone, tap):
        _check_takes_any_sequence(layer, backbone)
        x = layer(x)

    x = keras.layers.Dense(decoder_dim, name="decoder_embedding", **common)(x)
    mask_token = MaskToken(decoder_dim, name="mask_token", **common)(x)
    x = SelectTokens(prefix, name="decoder_tokens", **common)(
        x, sources, mask_token
    )
    x = PositionEmbedding(
        "sincos_2d",
        tuple(patches.shape[1:3]),
        num_prefix_tokens=prefix,
        name="decoder_positions",
        **common,
    )(x)
    for index in range(decoder_layers):
        x = TransformerBlock(
            decoder_heads,
            4 * decoder_dim,
            name=f"decoder_{index:02d}",
            **common,
        )(x)
    x = LayerNorm(name="decoder_norm", **common)(x)
    x = TokenGrid(prefix, name="token_grid", **common)(x, patches)
    predictions, targets = predictions_and_targets(
        backbone, x, "normalized_pixels" if normalize_pixels else "pixels"
    )
    model = PatchPrediction(
        backbone.input,
        {"predictions": predictions, "targets": targets, "corrupted": masked},
        name=name or f"{backbone.name}_masked_autoencoder",
    )
    model.dtype_policy = backbone.dtype_policy
    return model


def _check_takes_any_sequence(layer, backbone):
    if isinstance(layer, PLACED) or find_layers(layer, PLACED):
        raise ValueError(
            "`backbone` must have its positions in the patch encoder alone, "
            "because the patches that are kept lose their places after it. "
            f"Received: layer '{layer.name}' of class {type(layer).__name__} "
            f"in '{backbone.name}'"
        )
