"""`cost` and `exaflops`: by hand, as they print, and what they refuse."""

import re

import keras
import pytest

import keras_vit
from keras_vit.costs.formulas import residual_unit

TINY = keras_vit.Variant(2, 16, 32, 4, patch_size=4)


def test_exaflops_of_other_trainings():
    once = keras_vit.costs.exaflops("S/32", 1, images=1e6)
    assert once == pytest.approx(6e6 * keras_vit.cost("S/32").macs / 1e18)
    model = keras_vit.ViT(TINY, image_size=8)
    assert keras_vit.costs.exaflops(model, 90, 1.28e6) == pytest.approx(
        keras_vit.costs.exaflops(TINY, 90, 1.28e6, image_size=8)
    )


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


def test_relative_positions_by_hand():
    """7 tokens, 13 offsets, heads of 4: 7 x 13 x 4 products in each of 4."""
    options = {"image_size": (8, 12), "fused_attention": False}
    plain = keras_vit.cost(TINY, position=None, **options)
    relative = keras_vit.cost(TINY, position="relative_1d", **options)
    assert relative.parameters - plain.parameters == 2 * 13 * 4
    assert relative.macs - plain.macs == 2 * 7 * 13 * 4 * 4
    more = relative.attention_macs - plain.attention_macs
    assert more == relative.macs - plain.macs
    assert relative.activations == plain.activations
    # No fused kernel has them: the scores are kept either way.
    options["fused_attention"] = True
    assert keras_vit.cost(TINY, position="relative_1d", **options) == relative


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
    cost = keras_vit.costs.Cost(10, 200, 50, 7, 30)
    assert repr(cost) == (
        "Cost(parameters=10, macs=200, attention_macs=50, tokens=7, "
        "activations=30)"
    )
    assert cost + cost == cost * 2 == keras_vit.costs.Cost(20, 400, 100, 7, 60)
    assert cost.attention_share == 0.25
    assert keras_vit.costs.Cost().attention_share == 0
    assert len({cost, keras_vit.costs.Cost(10, 200, 50, 7, 30)}) == 1
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
        ("B/16", {"image_size": "224"}, ValueError, "`image_size`"),
        ("B/16", {"num_classes": 0}, ValueError, "`num_classes`"),
        ("B/16", {"num_channels": 0}, ValueError, "`num_channels`"),
        ("B/16", {"pooling": "max"}, ValueError, "`pooling`"),
        ("B/16", {"position": "rotary"}, ValueError, "`position`"),
        ("B/16", {"position_injection": "each"}, ValueError,
         "`position_injection`"),
        ("B/16", {"num_registers": -1}, ValueError, "`num_registers`"),
        ("B/16", {"representation_dim": 0}, ValueError, "`representation_dim`"),
        ("B/16", {"activation": "nonsense"}, ValueError, "`activation`"),
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
    for size in (384, 224, (12, 8)):
        with pytest.raises(ValueError, match="8 x 12.*change_resolution") as e:
            keras_vit.cost(model, size)
        assert str(e.value).endswith(f"image_size={size}")
    with pytest.raises(ValueError, match="must be an integer"):
        keras_vit.cost(model, "224")
    with pytest.raises(ValueError, match="8 x 12"):
        keras_vit.costs.exaflops(model, 1, image_size=224)
    with pytest.raises(TypeError, match="num_classes"):
        keras_vit.cost(model, num_classes=5)


def test_a_variant_is_counted_at_224_pixels():
    assert keras_vit.cost("S/32") == keras_vit.cost("S/32", 224)
    assert keras_vit.costs.exaflops("S/32", 1) == keras_vit.costs.exaflops(
        "S/32", 1, image_size=(224, 224)
    )
