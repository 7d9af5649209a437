"""Models that exist: counted, they cost what arithmetic says."""

import itertools

import keras
import pytest

import keras_vit
from keras_vit.layers import (
    MLP,
    AxialBlock,
    PatchEncoder,
    RelativeAttention,
    RelativeBiasAttention,
    RelativeMLPAttention,
    RotaryAttention,
    SelfAttention,
    SparseAttention,
    TransformerBlock,
    WindowAttention,
)

TINY = keras_vit.Variant(2, 16, 32, 4, patch_size=4)
TINY_HYBRIDS = [
    keras_vit.Variant(2, 16, 32, 4, patch_size=1, stages=(2, 1, 1)),
    keras_vit.Variant(2, 16, 32, 4, patch_size=1, stages=(1, 1, 1, 1)),
    keras_vit.Variant(1, 16, 32, 4, (2, 3), stages=(), width_factor=0.5),
]

# Registers, representation, activation: each value beside each of the others.
PAIRS = [
    (0, None, None),
    (3, 6, None),
    (0, 6, "gelu"),
    (3, None, "gelu"),
    (0, 6, "swiglu"),
    (3, None, "swiglu"),
]


def both(variant, image_size=(8, 12), model=keras_vit.ViT, **options):
    """The cost by arithmetic and that of the model itself."""
    built = model(variant, image_size=image_size, **options)
    counted = keras_vit.cost(built)
    assert counted.parameters == built.count_params()
    return keras_vit.cost(variant, image_size, **options), counted


@pytest.mark.parametrize(
    "pooling", ["token", "average", "attention", "flatten", None]
)
@pytest.mark.parametrize(
    "position", ["learned_1d", "learned_2d", "sincos_2d", None]
)
def test_arithmetic_equals_counting(pooling, position):
    for registers, representation, activation in PAIRS:
        options = {
            "num_classes": None if activation == "gelu" else 5,
            "pooling": pooling,
            "position": position,
            "num_registers": registers,
            "representation_dim": representation,
            "activation": activation,
        }
        arithmetic, counted = both(TINY, **options)
        assert arithmetic == counted, options


@pytest.mark.parametrize("position", ["learned_1d", "learned_2d", "sincos_2d"])
@pytest.mark.parametrize("injection", ["every_layer", "every_layer_shared"])
def test_arithmetic_equals_counting_where_each_block_gets_positions(
    position, injection
):
    for registers, pooling in itertools.product((0, 3), ("token", "average")):
        options = {
            "position": position,
            "position_injection": injection,
            "num_registers": registers,
            "pooling": pooling,
        }
        arithmetic, counted = both(TINY, **options)
        assert arithmetic == counted, options


@pytest.mark.parametrize(
    "pooling", ["token", "average", "attention", "flatten", None]
)
@pytest.mark.parametrize("norm_after_pooling", [False, True])
def test_arithmetic_equals_counting_with_relative_positions(
    pooling, norm_after_pooling
):
    options = {
        "pooling": pooling,
        "norm_after_pooling": norm_after_pooling,
        "num_registers": 2,
    }
    for position in ("relative_1d", "learned_1d"):
        arithmetic, counted = both(TINY, position=position, **options)
        assert arithmetic == counted, position


@pytest.mark.parametrize("remainder", ["crop", "pad"])
@pytest.mark.parametrize("channels", [1, 4])
def test_arithmetic_equals_counting_where_patches_do_not_fit(
    remainder, channels
):
    arithmetic, counted = both(
        keras_vit.Variant(1, 16, 32, 4, patch_size=(4, 3)),
        image_size=(10, 11),
        remainder=remainder,
        num_channels=channels,
    )
    assert arithmetic == counted


@pytest.mark.parametrize("variant", TINY_HYBRIDS)
@pytest.mark.parametrize("data_format", ["channels_last", "channels_first"])
def test_arithmetic_equals_counting_in_hybrids(variant, data_format):
    keras.config.set_image_data_format(data_format)
    # 15 x 21 behind the root: the halves are not whole.
    arithmetic, counted = both(variant, (60, 84), remainder="crop")
    assert arithmetic == counted


@pytest.mark.parametrize("preactivation", [False, True])
@pytest.mark.parametrize("width_factor", [0.5, 1.0])
def test_arithmetic_equals_counting_in_resnets(preactivation, width_factor):
    for stages in [(1,), (2, 1, 1)]:
        arithmetic, counted = both(
            (stages, width_factor),
            image_size=(33, 50),
            model=keras_vit.ResNet,
            num_classes=3,
            preactivation=preactivation,
        )
        assert arithmetic == counted


def test_fused_attention_of_a_model():
    model = keras_vit.ViT(TINY, image_size=8, pooling="attention")
    for fused in (False, True):
        assert keras_vit.cost(model, fused_attention=fused) == keras_vit.cost(
            TINY, 8, pooling="attention", fused_attention=fused
        )


def test_blocks_of_ones_own_making():
    """What a variant has no option for is counted where it stands."""

    def block(index):
        return TransformerBlock(
            attention=SelfAttention(4, head_dim=3, qk_norm=True),
            mlp=(MLP(32), keras.layers.Dense(16))[index],
            layer_scale=0.1,
        )

    encoder = PatchEncoder(16, norm_before=True, norm_after=True)
    built = keras_vit.ViT(
        TINY, image_size=8, block=block, patch_encoder=encoder
    )
    cost = keras_vit.cost(built)
    assert cost.parameters == built.count_params()
    tokens, patches, dim, inner = 5, 4, 16, 12
    attention = 4 * tokens * dim * inner + 2 * tokens**2 * inner
    mlps = tokens * (2 * dim * 32 + dim * dim)
    ends = patches * 48 * dim + dim * 1000
    assert cost.macs == 2 * attention + mlps + ends
    # Norms of queries and keys, two scaled branches.
    more = 2 * tokens * inner + 2 * tokens * dim
    block = tokens * (4 * dim + 4 * inner) + more
    mlps = tokens * (2 * 32 + dim)
    ends = 2 * patches * 48 + patches * dim + 2 * tokens * dim + dim + 1000
    assert cost.activations == 2 * block + mlps + ends


def test_layers_of_keras():
    images = keras.Input((8, 6, 3))
    x = keras.layers.Conv2D(4, 3, strides=2, padding="same")(images)
    x = keras.layers.GroupNormalization(2)(x)
    x = keras.layers.ReLU()(x)
    x = keras.layers.EinsumDense("bhwc,cd->bhwd", (4, 3, 5), bias_axes="d")(x)
    x = keras.layers.GlobalAveragePooling2D()(x)
    model = keras.Model(images, keras.layers.Dense(2)(x))
    cost = keras_vit.cost(model)
    assert cost.parameters == model.count_params()
    assert cost.macs == 12 * 27 * 4 + 12 * 4 * 5 + 5 * 2
    assert cost.activations == 8 * 6 * 3 + 2 * 12 * 4 + 12 * 5 + 5 + 2
    assert cost.tokens == cost.attention_macs == 0
    nested = keras.Sequential([images, model, keras.layers.Dense(7)])
    assert keras_vit.cost(nested).macs == cost.macs + 2 * 7


@pytest.mark.parametrize("variant", [TINY, TINY_HYBRIDS[0]])
def test_a_model_for_any_size_has_a_cost_at_each(variant):
    model = keras_vit.ViT(variant, image_size=None, position="sincos_2d")
    with pytest.raises(ValueError, match="depends on its image size"):
        keras_vit.cost(model)
    for size in (32, (32, 48)):
        arithmetic = keras_vit.cost(variant, size, position="sincos_2d")
        assert keras_vit.cost(model, size) == arithmetic
    assert keras_vit.cost(model, 64).tokens > keras_vit.cost(model, 32).tokens


@pytest.mark.parametrize("data_format", ["channels_last", "channels_first"])
def test_one_free_edge(data_format):
    """A table keeps its own length, whatever it is resampled to."""
    last = data_format == "channels_last"
    images = keras.Input((8, None, 3) if last else (3, 8, None))
    x = keras_vit.layers.Patches(4, data_format=data_format)(images)
    x = PatchEncoder(16, grid_size=(2, 2))(x)
    model = keras.Model(images, keras.layers.Dense(7)(x))
    cost = keras_vit.cost(model, (8, 12))
    assert cost.parameters == model.count_params()
    assert cost.macs == 6 * 48 * 16 + 7 * 16 * 7
    with pytest.raises(ValueError, match="must be a multiple"):
        keras_vit.cost(model, (8, 13))
    with pytest.raises(ValueError, match="8 x any pixels"):
        keras_vit.cost(model, 12)


def test_layers_not_known():
    x = keras.Input((8, 8, 3))
    depthwise = keras.layers.DepthwiseConv2D(3, name="mixing")
    with pytest.raises(ValueError, match="DepthwiseConv2D.*'mixing'"):
        keras_vit.cost(keras.Model(x, depthwise(x)))
    ellipsis = keras.layers.EinsumDense("...c,cd->...d", (8, 8, 5))
    with pytest.raises(ValueError, match="ellipsis"):
        keras_vit.cost(keras.Model(x, ellipsis(x)))

    class Unheard(SelfAttention):
        """A subclass is there because it computes something else."""

    def block(index):
        return TransformerBlock(attention=Unheard(4), mlp_dim=8)

    with pytest.raises(ValueError, match="attention of class Unheard"):
        keras_vit.cost(keras_vit.ViT(TINY, image_size=8, block=block))

    def block(index):
        mlp = keras.layers.Conv1D(16, 1)
        return TransformerBlock(num_heads=4, mlp=mlp)

    with pytest.raises(ValueError, match="MLP of class Conv1D"):
        keras_vit.cost(keras_vit.ViT(TINY, image_size=8, block=block))


def cost_of(attention, rows=4, columns=6):
    """One block of width 8 and two heads on a grid without class token."""
    tokens = keras.Input((rows * columns, 8))
    block = TransformerBlock(mlp_dim=16, attention=attention)
    return keras_vit.cost(keras.Model(tokens, block(tokens)))


def test_attention_of_other_kinds():
    """Against full attention of 24 tokens: 2 N^2 D for scores and sums."""
    full = cost_of(SelfAttention(2))
    assert full.attention_macs == 2 * 24 * 24 * 8
    # Each token looks at the 6 of its window.
    windows = cost_of(WindowAttention(2, (2, 3), (4, 6)))
    assert windows.attention_macs == 2 * 24 * 6 * 8
    rest = full.macs - full.attention_macs
    assert windows.macs - windows.attention_macs == rest
    # And at 47 offsets, with the query of each head.
    relative = cost_of(RelativeAttention(2))
    assert relative.macs - full.macs == 24 * 47 * 8
    assert relative.parameters - full.parameters == 47 * 4
    # A table is read, not multiplied: 7 x 11 offsets, a number each a head.
    biased = cost_of(RelativeBiasAttention(2, (4, 6)))
    assert biased.macs == full.macs
    assert biased.activations == full.activations
    assert biased.parameters - full.parameters == 77 * 2
    # An MLP from 2 numbers to 3 and from 3 to 2, of 77 offsets.
    made = cost_of(RelativeMLPAttention(2, (4, 6), bias_dim=3))
    assert made.macs - full.macs == 77 * (2 * 3 + 3 * 2)
    assert made.attention_macs == full.attention_macs
    assert made.parameters - full.parameters == 2 * 3 + 3 + 3 * 2 + 2
    # Top-k is taken of all scores, rotary positions take no product of
    # matrices.
    assert cost_of(SparseAttention(2, k=3)).macs == full.macs
    assert cost_of(RotaryAttention(2, (4, 6))).macs == full.macs
    # Written out, scores are kept: 2 heads of 24 x 24.
    sparse = cost_of(SparseAttention(2, k=3))
    assert sparse.activations - full.activations == 2 * 24 * 24


def test_axial_blocks_are_two_blocks():
    tokens = keras.Input((24, 8))
    block = AxialBlock(2, 16, grid_size=(4, 6))
    axial = keras_vit.cost(keras.Model(tokens, block(tokens)))
    full = cost_of(SelfAttention(2))
    assert axial.parameters == 2 * full.parameters
    # Rows of 6 and columns of 4.
    assert axial.attention_macs == 2 * 24 * (6 + 4) * 8
    rest = full.macs - full.attention_macs
    assert axial.macs - axial.attention_macs == 2 * rest
