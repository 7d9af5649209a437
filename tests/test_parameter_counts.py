"""Parameters of every variant, exactly as in the official code."""

import pytest

import keras_vit

# Trainable numbers without head, with 1000 classes at 224 and 384 pixels, with
# 21843 classes, and those with the tanh layer: from the official Flax modules.
# fmt: off
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
}
# fmt: on


def count(variant, **arguments):
    """Parameters of a variant; all of its blocks but one are counted only."""
    return keras_vit.cost(variant, **arguments).parameters


@pytest.mark.parametrize("variant", OFFICIAL_COUNTS)
def test_official_parameter_counts(variant):
    large = 392 if variant == "H/14" else 384
    dim = keras_vit.parse_variant(variant).hidden_dim
    counts = (
        count(variant, num_classes=None),
        count(variant),
        count(variant, image_size=large),
        count(variant, num_classes=21843),
        count(variant, num_classes=21843, representation_dim=dim),
    )
    assert counts == OFFICIAL_COUNTS[variant]


# fmt: off
@pytest.mark.parametrize(
    "variant, arguments, official",
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
def test_parameter_counts_of_big_vision(variant, arguments, official):
    assert count(variant, **arguments) == official


def test_a_built_model_has_the_counted_parameters():
    """`cost` by name counts one block for all; here the real thing."""
    assert keras_vit.ViT("Ti/16").count_params() == 5_717_416
