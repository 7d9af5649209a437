"""Parameters, multiply-accumulates and memory, against what is published."""

import itertools
import re

import keras
import pytest

import keras_vit
from keras_vit.evaluation.formulas import residual_unit
from keras_vit.layers import (
    MLP,
    AxialBlock,
    PatchEncoder,
    RelativeAttention,
    RotaryAttention,
    SelfAttention,
    SparseAttention,
    TransformerBlock,
    WindowAttention,
)

# fmt: off
# Trainable numbers without head, with 1000 classes at 224 and 384 pixels, with
# 21843 classes, and those with the tanh layer: from the official Flax modules.
OFFICIAL_COUNTS = {
    "Ti/16": (5_524_416, 5_717_416, 5_790_376, 9_740_115, 9_777_171),
    "S/32": (22_493_952, 22_878_952, 22_915_432, 30_903_507, 31_051_347),
    "S/16": (21_665_664, 22_050_664, 22_196_584, 30_075_219, 30_223_059),
    "B/32": (87_455_232, 88_224_232, 88_297_192, 104_252_499, 104_843_091),
    "B/16": (85_798_656, 86_567_656, 86_859_496, 102_595_923, 103_186_515),
    "B/8": (85_807_872, 86_576_872, 87_744_232, 102_605_139, 103_195_731),
    "L/32": (305_510_400, 306_535_400, 306_632_680, 327_899_475, 328_949_075),
    "L/16": (303_301_632, 304_326_632, 304_715_752, 325_690_707, 326_740_307),
    # At 392 pixels: 14 does not divide 384.
    "H/14": (630_764_800, 632_045_800, 632_721_640, 658_745_683, 660_385_363),
    "R+Ti/16": (6_144_704, 6_337_704, 6_355_944, 10_360_403, 10_397_459),
    "R26+S/32": (36_046_912, 36_431_912, 36_468_392, 44_456_467, 44_604_307),
    "R26+B/32": (100_614_976, 101_383_976, 101_456_936, 117_412_243,
                 118_002_835),
    "R50+B/32": (110_176_832, 110_945_832, 111_018_792, 126_974_099, None),
    "R50+B/16": (97_890_112, 98_659_112, 98_950_952, 114_687_379, 115_277_971),
    "R50+L/32": (327_969_856, 328_994_856, 329_092_136, 350_358_931,
                 351_408_531),
    "R50+L/16": (315_458_624, 316_483_624, 316_872_744, 337_847_699, None),
}

# 1e9 multiply-accumulates, and tokens, at 224 and 384 (H/14: 392) pixels.
FORWARD = {
    "Ti/16": (1.254, 4.682, 197, 577),
    "S/32": (1.143, 3.443, 50, 145),
    "S/16": (4.599, 15.490, 197, 577),
    "B/32": (4.409, 13.044, 50, 145),
    "B/16": (17.564, 55.484, 197, 577),
    "B/8": (78.148, 294.045, 785, 2305),
    "L/32": (15.378, 45.276, 50, 145),
    "L/16": (61.555, 191.066, 197, 577),
    "H/14": (167.295, 544.952, 257, 785),
    "R+Ti/16": (0.434, 1.327, 50, 145),
    "R26+S/32": (3.464, 10.264, 50, 145),
    "R26+B/32": (6.711, 19.808, 50, 145),
    "R50+B/32": (8.458, 24.941, 50, 145),
    "R50+B/16": (21.535, 67.156, 197, 577),
    "R50+L/32": (19.413, 57.136, 50, 145),
    "R50+L/16": (65.539, 202.775, 197, 577),
}

# Parameters with post- and with pre-activation; 1e9 multiply-accumulates.
RESNETS = {
    "50x1": (25_557_032, 25_549_352, 4.089),
    "50x2": (98_004_072, 97_988_712, 16.117),
    "101x1": (44_549_160, 44_541_480, 7.801),
    "152x1": (60_192_808, 60_185_128, 11.514),
    "152x2": (236_350_568, 236_335_208, 45.814),
    "200x3": (568_656_040, 568_633_000, 134.347),
    "152x4": (936_563_944, 936_533_224, 182.777),
}

# The paper's Table 6: epochs, exaFLOPs as printed, and how far off they are.
TABLE_6 = [
    ("B/32", 7, 55, 0.02),
    ("B/16", 7, 224, 0.005),
    ("L/32", 7, 196, 0.005),
    ("L/16", 7, 783, 0.005),
    ("L/16", 14, 1567, 0.005),
    ("H/14", 14, 4262, 0.005),
    ("50x1", 7, 50, 0.045),
    ("50x2", 7, 199, 0.045),
    ("101x1", 7, 96, 0.045),
    ("152x1", 7, 141, 0.045),
    ("152x2", 7, 563, 0.045),
    ("152x2", 14, 1126, 0.045),
    ("200x3", 14, 3306, 0.045),
    ("R50+B/32", 7, 106, 0.02),
    ("R50+B/16", 7, 274, 0.02),
    ("R50+L/32", 7, 246, 0.02),
    # At 7 epochs the paper prints 859, which is not half of its 1668: its own
    # inconsistency. Half of 1668 is 834, and so is the count.
    ("R50+L/16", 7, 834, 0.02),
    ("R50+L/16", 14, 1668, 0.02),
]
# fmt: on

TINY = keras_vit.Variant(2, 16, 32, 4, patch_size=4)
TINY_HYBRIDS = [
    keras_vit.Variant(2, 16, 32, 4, patch_size=1, stages=(2, 1, 1)),
    keras_vit.Variant(2, 16, 32, 4, patch_size=1, stages=(1, 1, 1, 1)),
    keras_vit.Variant(1, 16, 32, 4, (2, 3), stages=(), width_factor=0.5),
]


def larger(variant):
    return 392 if variant == "H/14" else 384


@pytest.mark.parametrize("variant", OFFICIAL_COUNTS)
def test_official_parameter_counts(variant):
    dim = keras_vit.parse_variant(variant).hidden_dim
    given = (
        {"num_classes": None},
        {},
        {"image_size": larger(variant)},
        {"num_classes": 21843},
        {"num_classes": 21843, "representation_dim": dim},
    )
    for options, official in zip(given, OFFICIAL_COUNTS[variant], strict=True):
        if official is not None:
            assert keras_vit.cost(variant, **options).parameters == official


@pytest.mark.parametrize("variant", FORWARD)
def test_official_macs_and_tokens(variant):
    small = keras_vit.cost(variant)
    large = keras_vit.cost(variant, larger(variant))
    *gmacs, small_tokens, large_tokens = FORWARD[variant]
    computed = [small.macs / 1e9, large.macs / 1e9]
    assert computed == pytest.approx(gmacs, abs=6e-4)
    assert (small.tokens, large.tokens) == (small_tokens, large_tokens)


# fmt: off
@pytest.mark.parametrize(
    "variant, options, gmacs, tokens",
    [("L/16", {"image_size": 512}, 361.99, 1025),
     ("H/14", {"image_size": 518}, 1016.72, 1370)],
)
# fmt: on
def test_macs_of_swag(variant, options, gmacs, tokens):
    cost = keras_vit.cost(variant, **options)
    assert cost.macs / 1e9 == pytest.approx(gmacs, abs=0.006)
    assert cost.tokens == tokens


# fmt: off
@pytest.mark.parametrize(
    "variant, options, official",
    [
        ("B/16", {"pooling": "average"}, 86_566_120),
        ("S/16", {"pooling": "average"}, 22_049_896),
        ("B/32", {"pooling": "average"}, 88_222_696),
        ("S/32", {"pooling": "average"}, 22_878_184),
        ("S/16", {"pooling": "average", "position": "sincos_2d",
                  "representation_dim": 384}, 22_122_472),
        ("B/16", {"pooling": "attention"}, 93_653_224),
        ("H/14", {"pooling": "attention"}, 651_719_400),
        ("So400m/14", {"pooling": "attention"}, 428_833_704),
        ("g/14", {"pooling": "attention"}, 1_037_857_384),
        ("G/14", {"pooling": "attention"}, 1_882_797_416),
        ("e/14", {"pooling": "attention"}, 3_875_135_720),
    ],
)
# fmt: on
def test_parameter_counts_of_big_vision(variant, options, official):
    assert keras_vit.cost(variant, **options).parameters == official


def test_parameter_counts_of_the_official_testing_model():
    """Width 10, one layer: `models_test.py`."""
    variant = keras_vit.Variant(1, 10, 10, 2, patch_size=16)
    assert keras_vit.cost(variant).parameters == 21_390
    assert keras_vit.cost(variant, pooling=None).parameters == 21_370


@pytest.mark.parametrize("variant", RESNETS)
def test_resnets(variant):
    after, before, gmacs = RESNETS[variant]
    cost = keras_vit.cost(variant)
    assert cost.parameters == after
    assert cost.macs / 1e9 == pytest.approx(gmacs, abs=6e-4)
    assert cost.tokens == cost.attention_share == 0
    preactivated = keras_vit.cost(variant, preactivation=True)
    assert preactivated.parameters == before
    assert preactivated.macs == cost.macs


@pytest.mark.parametrize("variant, epochs, printed, tolerance", TABLE_6)
def test_exaflops_of_table_6(variant, epochs, printed, tolerance):
    computed = keras_vit.exaflops(variant, epochs)
    # Half a unit for the rounding of the table.
    assert abs(computed - printed) <= tolerance * printed + 0.5


def test_exaflops_of_other_trainings():
    once = keras_vit.exaflops("S/32", 1, images=1e6)
    assert once == pytest.approx(6e6 * keras_vit.cost("S/32").macs / 1e18)
    model = keras_vit.ViT(TINY, image_size=8)
    assert keras_vit.exaflops(model, 90, 1.28e6) == pytest.approx(
        keras_vit.exaflops(TINY, 90, 1.28e6, image_size=8)
    )


def test_attention_share_by_formula():
    """2 N^2 D of 2 N^2 D + N (4 D^2 + 2 D D_mlp) MACs in a block."""
    for variant in ("Ti/16", "B/16", "e/14"):
        size = keras_vit.parse_variant(variant)
        cost = keras_vit.cost(variant)
        tokens, dim, layers = cost.tokens, size.hidden_dim, size.num_layers
        assert cost.attention_macs == 2 * layers * tokens**2 * dim
        matrices = layers * tokens * dim * (4 * dim + 2 * size.mlp_dim)
        patches = (tokens - 1) * 3 * size.patch_size**2 * dim
        macs = cost.attention_macs + matrices + patches + dim * 1000
        assert cost.macs == macs
        assert cost.attention_share == cost.attention_macs / macs


def test_attention_share_grows_with_resolution():
    sizes = (224, 384, 512)
    shares = [keras_vit.cost("B/16", size).attention_share for size in sizes]
    assert shares == sorted(shares) and 0.04 < shares[0] < shares[-1] < 0.25


def test_activations_of_a_tiny_model_by_hand():
    """One block of width 2, MLP 3, one head, on 2 patches of 1 pixel."""
    variant = keras_vit.Variant(1, 2, 3, 1, patch_size=1)
    options = {"image_size": (1, 2), "num_channels": 1, "num_classes": 5}
    patches = 2 * 1
    tokens = 3 * 2
    norms, query_key_value, heads, sums = 2 * 6, 3 * 6, 6, 2 * 6
    hidden = 2 * 3 * 3
    block = norms + query_key_value + heads + hidden + sums
    last_norm, pooled, logits = 6, 2, 5
    by_hand = patches + tokens + block + last_norm + pooled + logits
    assert by_hand == 87
    cost = keras_vit.cost(variant, **options)
    assert cost.activations == by_hand
    assert cost.activation_memory(1) == 87 * 4
    assert cost.activation_memory(8, bytes_per_number=2) == 87 * 8 * 2
    unfused = keras_vit.cost(variant, **options, fused_attention=False)
    assert unfused.activations == by_hand + 3 * 3
    gated = keras_vit.cost(variant, **options, activation="swiglu")
    assert gated.activations == by_hand + 2 * 3 * 3


@pytest.mark.parametrize("preactivation", [False, True])
def test_activations_of_a_residual_unit_by_hand(preactivation):
    """In units of 32 numbers: 4 x 4 cells of 64 channels to 2 x 2 of 128."""
    first, second = 2 * 16, 2 * 4  # convolution and norm, 32 channels
    if preactivation:
        parts = (16 * 2, first, second, 4 * 4)  # norm, ..., the sum
    else:
        # ..., third convolution, projection, the sum
        parts = (first, second, 4 * 4, 4 * 4, 4 * 4)
    cost = residual_unit((4, 4), 64, 32, (2, 2), preactivation)
    assert cost.activations == 32 * sum(parts)


@pytest.mark.skipif(
    keras.backend.backend() != "torch", reason="PyTorch tells what it keeps"
)
@pytest.mark.parametrize(
    "options",
    [{}, {"pooling": "attention", "activation": "swiglu", "num_registers": 4}],
)
def test_activations_are_what_pytorch_keeps(options):
    torch = pytest.importorskip("torch")
    variant = keras_vit.Variant(4, 64, 256, 4, patch_size=8)
    model = keras_vit.ViT(variant, image_size=64, **options)
    weights = {v.value.untyped_storage().data_ptr() for v in model.weights}

    def numbers_kept(batch_size):
        storages = {}

        def pack(x):
            storages[x.untyped_storage().data_ptr()] = x
            return x

        hooks = torch.autograd.graph.saved_tensors_hooks(pack, lambda x: x)
        images = keras.ops.zeros((batch_size, 64, 64, 3))
        with hooks:
            loss = keras.ops.sum(keras.ops.square(model(images)))
        del loss
        return sum(
            x.untyped_storage().nbytes() // 4
            for pointer, x in storages.items()
            if pointer not in weights
        )

    an_image = (numbers_kept(4) - numbers_kept(2)) / 2
    computed = keras_vit.cost(variant, 64, **options).activations
    assert computed <= an_image <= 1.1 * computed


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
    for registers, representation, activation in itertools.product(
        (0, 3), (None, 6), (None, "gelu", "swiglu")
    ):
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
    for size in [(64, 96), (60, 84)]:
        arithmetic, counted = both(variant, size, remainder="crop")
        assert arithmetic == counted, size


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


def test_a_published_model_has_the_computed_parameters():
    arithmetic, counted = both("Ti/16", 224)
    assert arithmetic == counted
    assert counted.parameters == 5_717_416


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


def test_billions_of_parameters_without_a_layer(monkeypatch):
    def refuse(*args, **kwargs):
        raise AssertionError("a layer is made")

    monkeypatch.setattr(keras.layers.Layer, "__init__", refuse)
    monkeypatch.setattr(keras.Model, "__new__", refuse)
    monkeypatch.setattr(keras.Variable, "__init__", refuse)
    assert keras_vit.cost("e/14").parameters == 3_807_214_312
    assert keras_vit.cost("e/14", pooling="attention").macs > 988e9
    assert keras_vit.cost("R50+L/16").tokens == 197
    assert keras_vit.cost("200x3", preactivation=True).macs > 134e9


def test_prints_as_a_table():
    lines = str(keras_vit.cost("L/16", 384)).splitlines()
    names = [line[:16].strip() for line in lines]
    assert names == [
        "parameters",
        "MACs",
        "of attention",
        "tokens",
        "activations",
    ]
    numbers = [re.search(r"[\d,]+", line[16:]) for line in lines]
    assert len({number.end() for number in numbers}) == 1
    assert numbers[0].group() == "304,715,752"
    assert "304.72 M" in lines[0] and lines[0].endswith("1.22 GB in float32")
    assert "191.07 G" in lines[1]
    assert lines[2].endswith("8.6 %")
    units = {line.find(short) for line, short in zip(lines, ["M ", "G"])}
    assert len(units) == 1
    assert not any(line.endswith(" ") for line in lines)


def test_a_cost_is_plain_data():
    cost = keras_vit.Cost(10, 200, 50, 7, 30)
    assert repr(cost) == (
        "Cost(parameters=10, macs=200, attention_macs=50, tokens=7, "
        "activations=30)"
    )
    assert cost + cost == cost * 2 == keras_vit.Cost(20, 400, 100, 7, 60)
    assert cost.attention_share == 0.25
    assert keras_vit.Cost().attention_share == 0
    assert len({cost, keras_vit.Cost(10, 200, 50, 7, 30)}) == 1
    with pytest.raises(AttributeError):
        cost.macs = 0


# fmt: off
@pytest.mark.parametrize(
    "variant, options, error, message",
    [
        ("X/16", {}, ValueError, "Known sizes"),
        ("51x1", {}, ValueError, "Known depths"),
        ("R50+B/8", {}, ValueError, "hybrid"),
        ("H/14", {"image_size": 384}, ValueError, "must divide"),
        ("B/16", {"image_size": 8, "remainder": "crop"}, ValueError,
         "must divide"),
        ("B/16", {"image_size": None}, ValueError, "`image_size`"),
        ("B/16", {"num_classes": 0}, ValueError, "`num_classes`"),
        ("B/16", {"num_channels": 0}, ValueError, "`num_channels`"),
        ("B/16", {"pooling": "max"}, ValueError, "`pooling`"),
        ("B/16", {"position": "rotary"}, ValueError, "`position`"),
        ("B/16", {"num_registers": -1}, ValueError, "`num_registers`"),
        ("B/16", {"representation_dim": 0}, ValueError, "`representation_dim`"),
        ("B/16", {"activation": "relu"}, ValueError, "`activation`"),
        ("B/16", {"remainder": "drop"}, ValueError, "`remainder`"),
        (keras_vit.Variant(1, 10, 8, 2, 16), {"position": "sincos_2d"},
         ValueError, "multiple of 4"),
        (keras_vit.Variant(1, 8, 8, 2, 1, (1,), 0.3), {}, ValueError,
         "`width_factor`"),
        ("B/16", {"classes": 10}, TypeError, "classes"),
        ("B/16", {"preactivation": True}, TypeError, "preactivation"),
        ("50x1", {"pooling": "token"}, TypeError, "pooling"),
    ],
)
# fmt: on
def test_rules_of_variants(variant, options, error, message):
    with pytest.raises(error, match=message):
        keras_vit.cost(variant, **options)


def test_a_model_has_its_own_size_and_options():
    model = keras_vit.ViT(TINY, image_size=(8, 12))
    assert keras_vit.cost(model, (8, 12)) == keras_vit.cost(model)
    with pytest.raises(ValueError, match="image_size=384"):
        keras_vit.cost(model, 384)
    with pytest.raises(TypeError, match="num_classes"):
        keras_vit.cost(model, num_classes=5)


@pytest.mark.parametrize("variant", [TINY, TINY_HYBRIDS[0]])
def test_a_model_for_any_size_has_no_cost(variant):
    model = keras_vit.ViT(variant, image_size=None)
    with pytest.raises(ValueError, match="depends on its image size"):
        keras_vit.cost(model)


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
