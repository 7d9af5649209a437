"""The stages of figure 1, each as the layer that stands there by default.

`ViT` puts them together. What its arguments mean for one stage is decided here,
and an argument that no stage would read is refused.
"""

import keras

from keras_vit.arguments import check_choice, check_pair, check_positive
from keras_vit.layers import (
    AttentionPooling,
    AveragePooling,
    PatchEncoder,
    PositionEmbedding,
    RelativeAttention,
    TokenPooling,
    TransformerBlock,
)
from keras_vit.layers.position import POSITIONS as ADDED_POSITIONS
from keras_vit.layers.residual_unit import trunk_arithmetic
from keras_vit.models.ends import identity
from keras_vit.ops.norms import EPSILON
from keras_vit.preprocessing import INCEPTION

RELATIVE = "relative_1d"
POSITIONS = (*ADDED_POSITIONS, RELATIVE, None)
INJECTIONS = ("stem", "every_layer", "every_layer_shared")
POOLINGS = ("token", "average", "attention", "flatten", None)
# What nearly all public checkpoints were pre-trained with. In models for images
# of any size the grid of position tables is the one of these pixels.
DEFAULTS = {
    "image_size": 224,
    "num_classes": 1000,
    "activation": "gelu_tanh",
    "epsilon": EPSILON,
    "trunk": {},
    "preprocessing": INCEPTION,
}


def check_choices(pooling, position, position_injection, image_size):
    """Raises unless pooling and positions are ones that exist together."""
    if not isinstance(pooling, keras.layers.Layer):
        check_choice("pooling", pooling, POOLINGS)
    check_choice("position", position, POSITIONS)
    check_choice("position_injection", position_injection, INJECTIONS)
    if image_size is None and pooling == "flatten":
        raise ValueError(
            "`pooling='flatten'` needs images of one size. "
            f"Received: image_size={image_size}"
        )


def check_nothing_is_void(given):
    """Raises if an argument of `ViT` is given that nothing would read.

    Args:
        given: dict of the arguments by name.
    """
    void = {}
    if given["block"] is not None:
        reason = "the layers that `block` returns have their own"
        void |= dict.fromkeys(("dropout", "stochastic_depth"), reason)
        if given["pooling"] != "attention":
            void["activation"] = reason
        if given["position"] == RELATIVE:
            void["position"] = reason
    if given["patch_encoder"] is not None:
        reason = "the layer `patch_encoder` has its own"
        void["num_registers"] = reason
        if given["position_injection"] == "stem":
            void.setdefault("position", reason)
    if given["position"] in (None, RELATIVE):
        void["position_injection"] = "no positions are added to tokens"
    if given["num_classes"] is None:
        reason = "there is no head, `num_classes` is None"
        void |= dict.fromkeys(("head_bias", "classifier_activation"), reason)
    if given["weights"] is None:
        void["drop_pre_logits"] = "`weights` is None"
    for name, reason in void.items():
        if given[name] != UNSET[name]:
            raise ValueError(
                f"`{name}` must not be given where nothing reads it: {reason}. "
                f"Received: {name}={given[name]!r}"
            )


def check_trunk(trunk, variant):
    """Raises unless these are epsilons of a ResNet, and there is one."""
    if trunk is None:
        return
    known = trunk_arithmetic()
    if not isinstance(trunk, dict) or trunk.keys() - known.keys():
        raise ValueError(
            f"`trunk` must be a dict with some of {', '.join(known)}. "
            f"Received: trunk={trunk!r}"
        )
    if variant.stages is None:
        raise ValueError(
            "`trunk` must not be given where nothing reads it: there is no "
            f"ResNet under {variant}. Received: trunk={trunk!r}"
        )


# The defaults of the arguments that can be void.
UNSET = {
    "activation": None,
    "classifier_activation": None,
    "drop_pre_logits": False,
    "dropout": 0.0,
    "head_bias": 0.0,
    "num_registers": 0,
    "position": "learned_1d",
    "position_injection": "stem",
    "stochastic_depth": 0.0,
}


def settle(weights, variant, defaults, **arguments):
    """Returns a checkpoint, and arguments of a builder that it decides.

    Args:
        weights: what a builder was given as `weights`, or `None`.
        variant: name of the variant, for presets.
        defaults: dict with what holds where the checkpoint does not say.
        **arguments: what the builder was given; `"auto"`, and `None` for
            `activation`, `epsilon` and `trunk`, are replaced. `image_size` and
            `num_classes` are checked before anything is downloaded.

    Returns:
        A tuple: a `Checkpoint` or `None`, then the arguments in their order.
    """
    if arguments["image_size"] not in ("auto", None):
        check_pair("image_size", arguments["image_size"])
    if arguments["num_classes"] not in ("auto", None):
        check_positive("num_classes", arguments["num_classes"])
    checkpoint, facts = None, defaults
    if weights is not None:
        # Most models have no weights to read.
        from keras_vit.checkpoints.load import Checkpoint

        checkpoint = Checkpoint.locate(weights, variant=variant)
        facts = defaults | checkpoint.facts(arguments.get("activation"))
    for name, value in arguments.items():
        open_ = value is None and name in ("activation", "epsilon", "trunk")
        if value == "auto" or open_:
            arguments[name] = facts[name]
    return checkpoint, *arguments.values()


def named(layer, name):
    """Gives a layer that has no weights yet the name of its place."""
    if layer.built and layer.weights:
        raise ValueError(
            f"The layer for '{name}' must be new: each place of a model has "
            f"weights of its own. Received a layer already built: {layer!r}"
        )
    layer.name = name
    return layer


def default_patch_encoder(
    variant, position, pooling, image_size, **options
) -> PatchEncoder:
    """Returns the layer that makes a sequence of the patches."""
    grid_size = None
    if image_size is None:
        cells = DEFAULTS["image_size"] // variant.stride
        edges = check_pair("patch_size", variant.patch_size)
        grid_size = tuple(max(cells // edge, 1) for edge in edges)
    return PatchEncoder(
        variant.hidden_dim,
        position=position,
        cls_token=pooling == "token" or isinstance(pooling, keras.layers.Layer),
        grid_size=grid_size,
        **options,
    )


def check_class_token(pooling, patch_encoder):
    """Raises if the pooling takes a class token that the encoder lacks."""
    if pooling == "token" and not getattr(patch_encoder, "cls_token", True):
        raise ValueError(
            "`pooling='token'` takes the class token, and `patch_encoder` "
            "makes none. Pass `pooling='average'`, or a PatchEncoder with "
            "`cls_token=True`. Received: pooling='token', "
            f"patch_encoder={patch_encoder!r}"
        )


def positions_before_blocks(position, injection, grid_size, prefix, dtype):
    """Returns a function from the index of a block to what comes before it.

    Args:
        position: kind of the positions, or `None` for nothing.
        injection: one of `INJECTIONS`.
        grid_size: rows and columns of the grid.
        prefix: tokens in front of the grid.
        dtype: dtype policy.

    Returns:
        A function that returns a layer; the same each time if it is shared.
    """
    if position is None or injection == "stem":
        return lambda index: lambda x: x
    if None in grid_size:
        raise ValueError(
            "Positions in front of every block need images of one size. "
            f"Received: position_injection={injection!r}, image_size=None"
        )

    def make(name):
        return PositionEmbedding(
            position,
            grid_size,
            num_prefix_tokens=prefix,
            name=name,
            dtype=dtype,
        )

    if injection == "every_layer_shared":
        shared = make("positions")
        return lambda index: shared
    return lambda index: make(f"block_{index:02d}_positions")


def default_block(variant, relative, stochastic_depth, **options):
    """Returns a function from the index of a block to the block.

    Args:
        variant: the sizes, a `Variant`.
        relative: whether positions are offsets in the attention.
        stochastic_depth: rate of the last block; the first has 0.
        **options: of `TransformerBlock`.

    Returns:
        A function that returns a `TransformerBlock`.
    """

    def block(index):
        depth = index / max(variant.num_layers - 1, 1)
        attention = None
        if relative:
            attention = RelativeAttention(
                variant.num_heads, dtype=options["dtype"]
            )
        return TransformerBlock(
            None if relative else variant.num_heads,
            variant.mlp_dim,
            attention=attention,
            stochastic_depth=stochastic_depth * depth,
            **options,
        )

    return block


def pooling_layer(pooling, variant, prefix, activation, epsilon, dtype):
    """Returns the layer that a name of a pooling stands for."""
    if isinstance(pooling, keras.layers.Layer):
        return named(pooling, "pooling")
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
