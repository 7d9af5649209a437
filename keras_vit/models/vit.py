"""The Vision Transformer as a functional Keras model.

Dosovitskiy et al. 2021, arXiv:2010.11929, section 3.1 and figure 1; the
official `vit_jax/models_vit.py`, `VisionTransformer`, whose defaults these
are. Read `ViT` from top to bottom as the figure from bottom to top.
"""

import math
import warnings

import keras

from keras_vit.arguments import (
    check_choice,
    check_pair,
    check_positive,
    check_rate,
)
from keras_vit.checkpoints.load import Checkpoint, load_checkpoint
from keras_vit.keras_gaps import without_inner_remat
from keras_vit.layers import (
    AttentionPooling,
    AveragePooling,
    LayerNorm,
    PatchEncoder,
    Patches,
    PositionEmbedding,
    RelativeAttention,
    TokenPooling,
    TransformerBlock,
)
from keras_vit.models.ends import check_arguments, head, identity, image_input
from keras_vit.models.resnet import resnet_trunk
from keras_vit.ops.norms import EPSILON
from keras_vit.variants import parse_variant

POOLINGS = ("token", "average", "attention", "flatten", None)
INJECTIONS = ("stem", "every_layer", "every_layer_shared")
# What nearly all public checkpoints were pre-trained with. In models for images
# of any size the grid of position tables is the one of these pixels.
DEFAULTS = {
    "image_size": 224,
    "num_classes": 1000,
    "activation": "gelu_tanh",
    "epsilon": EPSILON,
}


def ViT(
    variant,
    *,
    image_size="auto",
    num_channels=3,
    num_classes="auto",
    pooling="token",
    position="learned_1d",
    position_injection="stem",
    num_registers=0,
    representation_dim=None,
    head_bias=0.0,
    classifier_activation=None,
    include_rescaling=True,
    remainder="error",
    dropout=0.0,
    stochastic_depth=0.0,
    activation=None,
    epsilon=None,
    norm_after_pooling=False,
    patch_encoder=None,
    block=None,
    weights=None,
    drop_pre_logits=False,
    data_format=None,
    dtype=None,
    name=None,
):
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
        num_channels: channels of the images.
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
        include_rescaling: whether the model itself maps pixels from [0, 255]
            to the [-1, 1] that all official weights expect. If not, pass
            images in [-1, 1].
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
        norm_after_pooling: whether the last layer norm follows the pooling,
            as timm's `fc_norm`, in place of `encoder_norm`.
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
    label = variant if isinstance(variant, str) else "custom"
    variant = parse_variant(variant)
    patch_size = check_pair("patch_size", variant.patch_size)
    if not isinstance(pooling, keras.layers.Layer):
        check_choice("pooling", pooling, POOLINGS)
    check_rate("stochastic_depth", stochastic_depth)
    check_choice("position_injection", position_injection, INJECTIONS)
    # What is wrong with them is told before anything is downloaded.
    if image_size not in ("auto", None):
        image_size = check_pair("image_size", image_size)
    if num_classes not in ("auto", None):
        check_positive("num_classes", num_classes)
    if image_size is None and pooling == "flatten":
        raise ValueError(
            "`pooling='flatten'` needs images of one size. "
            f"Received: image_size={image_size}"
        )
    checkpoint = None
    trained_with = DEFAULTS
    if weights is not None:
        checkpoint = Checkpoint.locate(weights, variant=label)
        trained_with = DEFAULTS | checkpoint.facts()
    if image_size == "auto":
        image_size = trained_with["image_size"]
    if num_classes == "auto":
        num_classes = trained_with["num_classes"]
    if activation is None:
        activation = trained_with["activation"]
    if epsilon is None:
        epsilon = trained_with["epsilon"]
    image_size, data_format, dtype = check_arguments(
        image_size, num_classes, data_format, dtype
    )

    images, x = image_input(
        image_size, num_channels, include_rescaling, data_format, dtype
    )
    if variant.stages is not None:
        x = resnet_trunk(
            x,
            variant.stages,
            variant.width_factor,
            data_format=data_format,
            dtype=dtype,
        )
        data_format = "channels_last"
    x = Patches(
        patch_size, remainder, data_format, name="patches", dtype=dtype
    )(x)
    grid_size = tuple(x.shape[1:3])
    relative = position == "relative_1d"
    added_at_stem = position_injection == "stem" and not relative
    if patch_encoder is None:
        patch_encoder = PatchEncoder(
            variant.hidden_dim,
            position=position if added_at_stem else None,
            cls_token=pooling not in POOLINGS[1:],
            num_registers=num_registers,
            dropout=dropout,
            epsilon=epsilon,
            grid_size=None if image_size else _pretraining_grid(variant),
            dtype=dtype,
        )
    x = _named(patch_encoder, "patch_encoder")(x)
    prefix = getattr(patch_encoder, "num_prefix_tokens", 0)

    add_positions = None
    for index in range(variant.num_layers):
        if position is not None and not (added_at_stem or relative):
            if add_positions is None or position_injection == "every_layer":
                add_positions = PositionEmbedding(
                    position,
                    _known_grid(grid_size, position_injection),
                    num_prefix_tokens=prefix,
                    name="positions"
                    if position_injection == "every_layer_shared"
                    else f"block_{index:02d}_positions",
                    dtype=dtype,
                )
            x = add_positions(x)
        if block is not None:
            layer = block(index)
        else:
            depth = index / max(variant.num_layers - 1, 1)
            attention = None
            if relative:
                attention = RelativeAttention(variant.num_heads, dtype=dtype)
            layer = TransformerBlock(
                None if relative else variant.num_heads,
                variant.mlp_dim,
                attention=attention,
                activation=activation,
                dropout=dropout,
                stochastic_depth=stochastic_depth * depth,
                epsilon=epsilon,
                dtype=dtype,
            )
        x = _named(layer, f"block_{index:02d}")(x)
    if norm_after_pooling:
        x = identity("encoder_norm", dtype)(x)
    else:
        x = LayerNorm(epsilon, name="encoder_norm", dtype=dtype)(x)

    pool = _pooling(pooling, variant, prefix, activation, epsilon, dtype)
    x = pool(x)
    if norm_after_pooling:
        x = LayerNorm(epsilon, name="pooling_norm", dtype=dtype)(x)

    if name is None:
        name = f"vit_{label.lower().replace('/', '_').replace('+', '_')}"
    # `keras.RematScope` is for what stands above: a head costs no memory, and
    # the model must not be recomputed as a whole on top of its parts.
    with without_inner_remat():
        if representation_dim is None:
            x = identity("pre_logits", dtype)(x)
        else:
            x = keras.layers.Dense(
                check_positive("representation_dim", representation_dim),
                activation="tanh",
                kernel_initializer="lecun_normal",
                name="pre_logits",
                dtype=dtype,
            )(x)
        if num_classes is not None:
            x = head(num_classes, classifier_activation, head_bias, dtype)(x)
        model = keras.Model(images, x, name=name)
    if checkpoint is not None:
        _load(model, checkpoint, num_classes, drop_pre_logits, image_size)
    return model


def _pooling(pooling, variant, prefix, activation, epsilon, dtype):
    """Returns the layer that a name of a pooling stands for."""
    if isinstance(pooling, keras.layers.Layer):
        return _named(pooling, "pooling")
    common = {"name": "pooling", "dtype": dtype}
    if pooling == "token":
        return TokenPooling(**common)
    if pooling == "average":
        return AveragePooling(prefix, **common)
    if pooling == "attention":
        return AttentionPooling(
            variant.num_heads,
            variant.mlp_dim,
            activation=activation,
            epsilon=epsilon,
            **common,
        )
    if pooling == "flatten":
        return keras.layers.Flatten(data_format="channels_last", **common)
    return identity(**common)


def _known_grid(grid_size, position_injection):
    if None in grid_size:
        raise ValueError(
            "Positions in front of every block need images of one size. "
            f"Received: position_injection={position_injection!r}, "
            "image_size=None"
        )
    return grid_size


def _load(model, checkpoint, num_classes, drop_pre_logits, image_size):
    """Loads weights as asked for by the arguments of the model."""
    load_checkpoint(
        model,
        checkpoint,
        # Without a head there is nothing to ask about.
        reset_head=True if num_classes is None else None,
        drop_pre_logits=drop_pre_logits,
        resize_positions="corner_aligned",
    )
    trained_at = checkpoint.image_size
    if (
        image_size
        and trained_at
        and math.prod(image_size) < math.prod(trained_at)
    ):
        warnings.warn(
            f"These weights were trained at {trained_at} pixels; at "
            f"{image_size} they are less accurate until fine-tuned. Pass "
            f"`image_size={trained_at}` to use them as they are.",
            stacklevel=3,
        )


def _named(layer, name):
    """Gives a layer that is not built yet the name of its place."""
    if layer.built:
        raise ValueError(
            f"The layer for '{name}' must be new: each place of a model has "
            f"weights of its own. Received a layer already built: {layer!r}"
        )
    layer.name = name
    return layer


def _pretraining_grid(variant):
    edges = check_pair("patch_size", variant.patch_size)
    cells = DEFAULTS["image_size"] // variant.stride
    return tuple(max(cells // edge, 1) for edge in edges)
