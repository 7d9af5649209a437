"""Parameters, multiply-accumulates and exaFLOPs, as they were published."""

import pytest

import keras_vit

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


def larger(variant):
    return 392 if variant == "H/14" else 384


@pytest.mark.parametrize("variant", OFFICIAL_COUNTS)
def test_official_parameter_counts(variant):
    dim = keras_vit.variants.parse_variant(variant).hidden_dim
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
    computed = keras_vit.costs.exaflops(variant, epochs)
    # Half a unit for the rounding of the table.
    assert abs(computed - printed) <= tolerance * printed + 0.5


def test_attention_share_by_formula():
    """2 N^2 D of 2 N^2 D + N (4 D^2 + 2 D D_mlp) MACs in a block."""
    for variant in ("Ti/16", "B/16", "e/14"):
        size = keras_vit.variants.parse_variant(variant)
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


def test_a_published_model_has_the_computed_parameters():
    built = keras_vit.ViT("Ti/16")
    assert built.count_params() == OFFICIAL_COUNTS["Ti/16"][1]
    assert keras_vit.cost(built) == keras_vit.cost("Ti/16")
