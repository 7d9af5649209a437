"""The Vision Transformer as a functional Keras model.

Dosovitskiy et al. 2021, arXiv:2010.11929, section 3.1 and figure 1; the
official `vit_jax/models_vit.py`, `VisionTransformer`, whose defaults these
are. Read `ViT` from top to bottom as the figure from bottom to top.
"""

import os
from collections.abc import Callable
from typing import Literal

import keras

from keras_vit.arguments import check_rate
from keras_vit.keras_gaps import without_inner_remat
from keras_vit.layers import Patches
from keras_vit.layers.rms_norm import make_norm
from keras_vit.models import stages
from keras_vit.models.ends import (
    check_arguments,
    choose_preprocessing,
    head,
    identity,
    image_input,
    representation,
)
from keras_vit.models.functional import functional
from keras_vit.models.resnet import resnet_trunk
from keras_vit.preprocessing import Preprocessing
from keras_vit.variants import Variant, parse_variant


def ViT(
    variant: Variant | str,
    *,
    image_size: int | tuple[int, int] | Literal["auto"] | None = "auto",
    num_channels: int = 3,
    num_classes: int | Literal["auto"] | None = "auto",
    pooling: str | keras.layers.Layer | None = "token",
    position: str | None = "learned_1d",
    position_injection: str = "stem",
    num_registers: int = 0,
    representation_dim: int | None = None,
    head_bias: float = 0.0,
    classifier_activation: str | None = None,
    preprocessing: Preprocessing | str | None = "auto",
    remainder: Literal["error", "crop", "pad"] = "error",
    dropout: float = 0.0,
    stochastic_depth: float = 0.0,
    activation: str | None = None,
    epsilon: float | None = None,
    norm: Literal["layer", "rms"] = "layer",
    final_norm: bool = True,
    norm_after_pooling: bool = False,
    trunk: dict[str, float | str] | None = None,
    patch_encoder: keras.layers.Layer | None = None,
    block: Callable[[int], keras.layers.Layer] | None = None,
    weights: str | os.PathLike | None = None,
    drop_pre_logits: bool = False,
    data_format: Literal["channels_last", "channels_first"] | None = None,
    dtype: str | keras.DTypePolicy | None = None,
    name: str | None = None,
    include_rescaling: bool | None = None,
) -> keras.Model:
    """Builds a Vision Transformer.

    The result is a functional `keras.Model`: it trains with `fit`, saves to
    `.keras` and loads under every backend after `import keras_vit`. Its taps
    are layers named `images`, `rescaling`, `patches`, `patch_encoder`,
    `block_00`, `block_01`, ..., `encoder_norm`, `pooling`, `pre_logits` and
    `head`; see `feature_extractor`. With `weights` it starts from a public
    checkpoint, see `presets`.

    Args:
        variant: a name as the paper writes it, `"B/16"` or, for a hybrid
            with a ResNet under the transformer, `"R50+B/16"`; or a
            `keras_vit.Variant` of your own.
        image_size: height and width in pixels, an int or a pair, or `None`
            for images of any size that the patch divides; position tables
            are then those of 224 x 224, resampled for the image at hand.
            `"auto"` is the size that `weights` were trained at if they say,
            else 224.
        num_channels: channels of the images. `weights` for another number are
            adapted, with a warning, see `load_checkpoint`.
        num_classes: number of classes, or `None` to leave the head out.
            `"auto"` is that of the preset named by `weights`, else 1000.
        pooling: `"token"`, the class token; `"average"` of the patch tokens,
            `"attention"` with a learned query, or `"flatten"`, all tokens in
            a row, three forms without a class token; `None`, no pooling and
            no class token: the head sees each patch token by itself; or a
            layer that takes tokens.
        position: `"learned_1d"`, `"learned_2d"`, `"sincos_2d"`,
            `"relative_1d"` (in the attention of every block, see
            `RelativeAttention`), or `None`.
        position_injection: where positions are added: `"stem"`, once;
            `"every_layer"`, in front of every block, each with a table of its
            own; `"every_layer_shared"`, the same table each time. With
            `position` these are the rows of the paper's Table 8.
        num_registers: register tokens, see `PatchEncoder`.
        representation_dim: width of a dense layer with tanh before the head,
            as the paper's pre-training has, or `None`.
        head_bias: start value of the biases of the head, whose kernel starts
            at zero. For a sigmoid loss over many classes, `-log(classes)`.
        classifier_activation: activation of the head, as a Keras name.
            Defaults to none: the model returns logits.
        preprocessing: what the model itself does to pixels in [0, 255]: the
            statistics that its weights were trained with, as `"inception"`
            ([-1, 1]), `"imagenet"`, `"clip"`, `"unit"` ([0, 1]) or a
            `keras_vit.Preprocessing`; `None` for images that come prepared.
            `"auto"` is what `weights` say, else `"inception"`.
        include_rescaling: replaced by `preprocessing`.
        remainder: what happens to an image that the patch does not divide:
            `"error"`, `"crop"` or `"pad"`, see `Patches`.
        dropout: rate in `[0, 1)`, after the positions and in every block.
        stochastic_depth: rate in `[0, 1)` for the last block; it rises
            linearly from 0 at the first.
        activation: of the MLPs, `"gelu_tanh"` as in the official code,
            `"gelu"` for weights of timm and Hugging Face, or `"swiglu"`.
            Defaults to what the weights were trained with, else to
            `"gelu_tanh"`.
        epsilon: of the layer norms: 1e-6 in the official code and timm,
            1e-12 in Hugging Face's ViT. Defaults as `activation`, else to
            1e-6.
        norm: kind of the norms: `"layer"`, or `"rms"` as in AIMv2.
        final_norm: whether a norm follows the blocks; RADIO and InternViT have
            none.
        norm_after_pooling: whether the last layer norm follows the pooling,
            as timm's `fc_norm`, in place of `encoder_norm`.
        trunk: in a hybrid, the epsilons of its ResNet where they are not the
            official ones: a dict with some of `epsilon`, `kernel_epsilon` and
            `kernel_epsilon_in`, see `ResidualUnit`. Defaults as `activation`,
            else to `{}`. For weights of timm, `{"epsilon": 1e-5,
            "kernel_epsilon": 1e-8, "kernel_epsilon_in": "variance"}`.
        patch_encoder: a layer in place of the `PatchEncoder` made of the
            arguments above.
        block: a function from the index of a block, 0 to `num_layers - 1`,
            to the layer that stands there, in place of `TransformerBlock`.
        weights: checkpoint to start from: a file, an address, or a preset
            (`"augreg_i21k"`), as `load_checkpoint` takes them. Position tables
            are resampled for the image size as in the official code, and a
            head for another number of classes is replaced by zeros.
        drop_pre_logits: whether a dense layer before the head that the
            checkpoint has is left out, see `load_checkpoint`.
        data_format: of the images, `"channels_last"` or `"channels_first"`.
            Defaults to `keras.config.image_data_format()`.
        dtype: dtype policy of all layers, by name or as an object. Logits are
            float32 under every half-precision policy.
        name: name of the model. Defaults to one made of the variant.

    Returns:
        A `keras.Model` from images of shape `(batch, height, width,
        num_channels)`, pixels in [0, 255], to logits of shape `(batch,
        num_classes)`.

    Raises:
        ValueError: if an argument breaks its rule.

    Example:

    >>> model = keras_vit.ViT("Ti/16", image_size=(64, 32), num_classes=10)
    >>> model.predict(np.zeros((2, 64, 32, 3)), verbose=0).shape
    (2, 10)

    A block of one's own making:

    >>> def block(index):
    ...     return keras_vit.layers.TransformerBlock(
    ...         num_heads=3, mlp_dim=768, layer_scale=1e-5
    ...     )
    >>> model = keras_vit.ViT("Ti/16", block=block)

    Fine-tuning at a higher resolution:

    ```python
    model = keras_vit.ViT(
        "B/16", image_size=384, num_classes=37, weights="augreg_i21k"
    )
    ```

    Reference:
        - [Dosovitskiy et al., 2021](https://arxiv.org/abs/2010.11929),
          section 3.1
    """
    stages.check_nothing_is_void(locals())
    stages.check_choices(pooling, position, position_injection, image_size)
    check_rate("stochastic_depth", stochastic_depth)
    label = variant if isinstance(variant, str) else "custom"
    variant = parse_variant(variant)
    stages.check_trunk(trunk, variant)
    preprocessing = choose_preprocessing(preprocessing, include_rescaling)
    of_weights = weights is not None and preprocessing == "auto"
    (
        checkpoint,
        preprocessing,
        image_size,
        num_classes,
        activation,
        epsilon,
        trunk,
    ) = stages.settle(
        weights,
        label,
        stages.DEFAULTS,
        preprocessing=preprocessing,
        image_size=image_size,
        num_classes=num_classes,
        activation=activation,
        epsilon=epsilon,
        trunk=trunk,
    )
    if of_weights:
        preprocessing = preprocessing.adapted(num_channels)
    image_size, data_format, dtype = check_arguments(
        image_size, num_classes, data_format, dtype
    )
    relative = position == stages.RELATIVE
    at_stem = position_injection == "stem" and not relative
    if patch_encoder is None:
        patch_encoder = stages.default_patch_encoder(
            variant,
            position if at_stem else None,
            pooling,
            image_size,
            num_registers=num_registers,
            dropout=dropout,
            norm=norm,
            epsilon=epsilon,
            dtype=dtype,
        )
    stages.check_class_token(pooling, patch_encoder)
    prefix = getattr(patch_encoder, "num_prefix_tokens", 0)
    if block is None:
        block = stages.default_block(
            variant,
            relative,
            stochastic_depth,
            activation=activation,
            dropout=dropout,
            norm=norm,
            epsilon=epsilon,
            dtype=dtype,
        )

    images, x = image_input(
        image_size, num_channels, preprocessing, data_format, dtype
    )
    if variant.stages is not None:
        x = resnet_trunk(
            x,
            variant.stages,
            variant.width_factor,
            data_format=data_format,
            dtype=dtype,
            **trunk,
        )
        data_format = "channels_last"
    x = Patches(
        variant.patch_size, remainder, data_format, name="patches", dtype=dtype
    )(x)
    positions = stages.positions_before_blocks(
        None if relative else position,
        position_injection,
        tuple(x.shape[1:3]),
        prefix,
        dtype,
    )
    x = stages.named(patch_encoder, "patch_encoder")(x)
    for index in range(variant.num_layers):
        x = positions(index)(x)
        x = stages.named(block(index), f"block_{index:02d}")(x)
    if norm_after_pooling or not final_norm:
        x = identity("encoder_norm", dtype)(x)
    else:
        x = make_norm(norm, epsilon, name="encoder_norm", dtype=dtype)(x)
    x = stages.pooling_layer(
        pooling, variant, prefix, activation, epsilon, dtype
    )(x)
    if norm_after_pooling:
        x = make_norm(norm, epsilon, name="pooling_norm", dtype=dtype)(x)
    # `keras.RematScope` is for what stands above: a head costs no memory, and
    # the model must not be recomputed as a whole on top of its parts.
    with without_inner_remat():
        x = representation(representation_dim, dtype)(x)
        if num_classes is not None:
            x = head(num_classes, classifier_activation, head_bias, dtype)(x)
        if name is None:
            name = f"vit_{label.lower().replace('/', '_').replace('+', '_')}"
        model = functional(images, x, name=name, dtype=dtype)
    if checkpoint is not None:
        # Most models have no weights to read.
        from keras_vit.checkpoints.load import load_into_new

        load_into_new(model, checkpoint, drop_pre_logits=drop_pre_logits)
    return model
