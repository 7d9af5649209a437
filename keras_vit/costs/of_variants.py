"""The cost of a variant, from its sizes alone.

The arithmetic is that of the layers, but no layer and no weight is made.
"""

from collections.abc import Sequence

from keras_vit.arguments import (
    check_choice,
    check_not_negative,
    check_pair,
    check_positive,
)
from keras_vit.costs.formulas import (
    Cost,
    attention,
    attention_pooling,
    convolution,
    dense,
    kept,
    mlp,
    norm,
    residual_unit,
    strided,
    transformer_block,
)
from keras_vit.layers.mlp import check_activation
from keras_vit.layers.patches import REMAINDERS
from keras_vit.layers.position import POSITIONS
from keras_vit.models.stages import INJECTIONS, POOLINGS
from keras_vit.variants import Variant, parse_resnet, parse_variant, root_width


def vit_cost(
    variant: Variant | str,
    image_size: tuple[int, int],
    fused: bool,
    *,
    num_channels: int = 3,
    num_classes: int | None = 1000,
    pooling: str | None = "token",
    position: str | None = "learned_1d",
    position_injection: str = "stem",
    num_registers: int = 0,
    representation_dim: int | None = None,
    remainder: str = "error",
    activation: str | None = None,
    norm_after_pooling: bool = False,
) -> Cost:
    """Returns the cost of a `ViT`; see `cost`.

    Args:
        variant: a name or a `keras_vit.Variant`.
        image_size: height and width in pixels.
        fused: whether no attention scores are kept.
        num_channels: as in `ViT`, like all that follow.

    Returns:
        A `Cost`.
    """
    variant = parse_variant(variant)
    dim, heads = variant.hidden_dim, variant.num_heads
    check_positive("num_channels", num_channels)
    check_choice("pooling", pooling, POOLINGS)
    check_choice("position", position, (*POSITIONS, "relative_1d", None))
    check_choice("position_injection", position_injection, INJECTIONS)
    check_not_negative("num_registers", num_registers)
    check_choice("remainder", remainder, REMAINDERS)
    activation = check_activation(activation or "gelu_tanh")

    total, grid, channels = Cost(), image_size, num_channels
    if variant.stages is not None:
        total, grid, channels = _trunk_cost(
            image_size, channels, variant.stages, variant.width_factor
        )
    patch_size = check_pair("patch_size", variant.patch_size)
    grid = _grid(grid, patch_size, remainder)
    patches = grid[0] * grid[1]
    patch_dim = patch_size[0] * patch_size[1] * channels
    if variant.stages is None or patch_size != (1, 1):
        total += kept(patches, patch_dim)

    cls_token = int(pooling == "token")
    tokens = cls_token + num_registers + patches
    total += dense(patches, patch_dim, dim) + kept(tokens, dim)
    total += Cost(parameters=(cls_token + num_registers) * dim)
    # Positions that a block adds are for registers too. The sum is kept
    # instead of its terms.
    prefix = cls_token
    prefix += num_registers if position_injection != "stem" else 0
    tables = _position_cost(position, grid, prefix, dim)
    every_layer = position_injection == "every_layer"
    total += tables * (variant.num_layers if every_layer else 1)
    relative = position == "relative_1d"
    block = transformer_block(
        tokens,
        dim,
        attention(
            tokens,
            tokens,
            dim,
            heads,
            # Relative positions have no fused kernel.
            fused=fused and not relative,
            offsets=2 * tokens - 1 if relative else 0,
        ),
        mlp(tokens, dim, variant.mlp_dim, gated=activation == "swiglu"),
    )
    total += block * variant.num_layers
    if not norm_after_pooling:
        total += norm(dim) + kept(tokens, dim)

    positions, width = 1, dim
    if pooling == "attention":
        total += attention_pooling(
            dim,
            attention(1, tokens, dim, heads, fused=fused),
            mlp(1, dim, variant.mlp_dim, gated=activation == "swiglu"),
        )
    elif pooling in ("token", "average"):
        total += kept(dim)
    elif pooling == "flatten":
        width = tokens * dim
    else:
        positions = tokens
    if norm_after_pooling:
        total += norm(width) + kept(positions, width)
    return total + _head_cost(positions, width, representation_dim, num_classes)


def resnet_cost(
    variant: str | tuple[Sequence[int], float],
    image_size: tuple[int, int],
    *,
    num_channels: int = 3,
    num_classes: int | None = 1000,
    preactivation: bool = False,
) -> Cost:
    """Returns the cost of a `ResNet`; see `cost`.

    Args:
        variant: a name, or a pair of stages and width factor.
        image_size: height and width in pixels.
        num_channels: as in `ResNet`, like all that follow.

    Returns:
        A `Cost`.
    """
    stages, width_factor = parse_resnet(variant)
    check_positive("num_channels", num_channels)
    total, grid, channels = _trunk_cost(
        image_size, num_channels, stages, width_factor, preactivation
    )
    if preactivation:
        total += norm(channels) + kept(*grid, channels)
    total += kept(channels)
    return total + _head_cost(1, channels, None, num_classes)


def _trunk_cost(
    image_size, channels, stages, width_factor, preactivation=False
):
    """Returns the cost of stem and stages, their output's grid and channels."""
    width = root_width(width_factor)
    grid = strided(image_size, (2, 2))
    total = kept(*image_size, channels) + kept(*grid, width)
    total += convolution(grid, (7, 7), channels, width)
    if not preactivation:
        total += norm(width) + kept(*grid, width)
    grid, channels = strided(grid, (2, 2)), width
    total += kept(*grid, channels)
    for stage, units in enumerate(stages):
        filters = width * 2**stage
        for unit in range(units):
            strides = (2, 2) if stage and not unit else (1, 1)
            total += residual_unit(
                grid, channels, filters, strides, preactivation
            )
            grid, channels = strided(grid, strides), 4 * filters
    return total, grid, channels


def _position_cost(position, grid, prefix, dim):
    divisor = {"learned_2d": 2, "sincos_2d": 4}.get(position, 1)
    if dim % divisor:
        raise ValueError(
            f"`hidden_dim` must be a multiple of {divisor} for positions of "
            f"kind {position!r}. Received: hidden_dim={dim}"
        )
    rows, columns = grid
    tables = {
        "learned_1d": (prefix + rows * columns) * dim,
        "learned_2d": prefix * dim + (rows + columns) * (dim // 2),
    }
    return Cost(parameters=tables.get(position, 0))


def _head_cost(positions, width, representation_dim, num_classes):
    total = Cost()
    if representation_dim is not None:
        check_positive("representation_dim", representation_dim)
        total += dense(positions, width, representation_dim)
        total += kept(positions, representation_dim)
        width = representation_dim
    if num_classes is not None:
        check_positive("num_classes", num_classes)
        total += dense(positions, width, num_classes)
        total += kept(positions, num_classes)
    return total


def _grid(size, patch_size, remainder):
    """Returns rows and columns of patches, as `Patches` does."""
    if remainder == "pad":
        return strided(size, patch_size)
    grid = tuple(edge // patch for edge, patch in zip(size, patch_size))
    left = tuple(edge % patch for edge, patch in zip(size, patch_size))
    if 0 in grid or (remainder == "error" and any(left)):
        raise ValueError(
            "The patch must divide the image or, in a hybrid, the feature map; "
            "see also `remainder`. Received: a patch of "
            f"{patch_size} for a height and width of {tuple(size)}"
        )
    return grid
