"""`transfer` and `enable_lora`: what changes, what stays, what learns."""

import keras
import numpy as np
import pytest
from helpers import EAGER, outputs_of, randomize, to_numpy

import keras_vit
from keras_vit.ops.resize import resize_grid

IMAGE = (8, 12)
# Kernels of `tiny_vit` (width 16, 4 heads of 4, MLP 32), one block.
INPUTS = 3 * (16 * 4 + 4)  # query, key, value: the last axis is the output
OUTPUT = 4 * 4 + 16
MLP = 2 * (16 + 32)


def values(model):
    return {weight.path: to_numpy(weight).copy() for weight in model.weights}


def images(rng, *size, count=4):
    return rng.uniform(0, 255, (count, *size, 3)).astype("float32")


def fit_once(model, x, classes):
    """Trains a step; returns the paths of the weights that moved."""
    model.compile(keras.optimizers.SGD(0.5), _loss(), **EAGER)
    before = values(model)
    model.fit(x, np.arange(len(x)) % classes, epochs=2, verbose=0)
    after = values(model)
    assert before.keys() == after.keys()
    return {path for path in after if (after[path] != before[path]).any()}


def _loss():
    return keras.losses.SparseCategoricalCrossentropy(from_logits=True)


def by_path(weights):
    return {weight.path for weight in weights}


def size_of(weights):
    return sum(int(np.prod(tuple(weight.shape))) for weight in weights)


def test_new_head_of_zeros_on_the_same_representation(tiny_vit, rng):
    model = tiny_vit()
    before = values(model)
    new = keras_vit.transfer(model, num_classes=3)
    assert new.name == model.name and new.output_shape == (None, 3)
    for path, value in values(new).items():
        if path.startswith("head/"):
            assert not value.any()
        else:
            np.testing.assert_array_equal(value, before[path])
    x = images(rng, *IMAGE)
    expected, given = (
        outputs_of(keras_vit.feature_extractor(m, "pre_logits"), x)
        for m in (model, new)
    )
    np.testing.assert_array_equal(given, expected)
    # Two models: training one leaves the other alone.
    assert {id(w) for w in new.weights}.isdisjoint(id(w) for w in model.weights)
    moved = fit_once(new, x, 3)
    assert {"head/kernel", "patch_encoder/projection/kernel"} <= moved
    for path, value in values(model).items():
        np.testing.assert_array_equal(value, before[path])


def test_new_resolution_as_change_resolution_has_it(tiny_vit):
    model = tiny_vit()
    new = keras_vit.transfer(model, 3, image_size=(16, 8), method="bilinear")
    assert new.input_shape == (None, 16, 8, 3)
    path = "patch_encoder/position_embedding/table"
    old_table, table = values(model)[path], values(new)[path]
    np.testing.assert_array_equal(table[0], old_table[0])
    grid = resize_grid(old_table[1:].reshape(2, 3, 16), (4, 2), "bilinear")
    np.testing.assert_allclose(table[1:], grid.reshape(8, 16), atol=1e-6)


@pytest.mark.parametrize("drop", [True, False])
def test_pre_logits_are_dropped_as_in_the_official_code(drop, tiny_vit, rng):
    model = tiny_vit(representation_dim=7)
    new = keras_vit.transfer(model, 3, drop_pre_logits=drop)
    tap = new.get_layer("pre_logits")
    assert ("pre_logits/kernel" in values(new)) is not drop
    assert new.get_layer("head").kernel.shape[0] == (16 if drop else 7)
    x = images(rng, *IMAGE)
    same = "pooling" if drop else "pre_logits"
    np.testing.assert_array_equal(
        outputs_of(keras.Model(new.input, tap.output), x),
        outputs_of(keras_vit.feature_extractor(model, same), x),
    )


def hybrid():
    variant = keras_vit.Variant(1, 16, 32, 4, patch_size=1, stages=(1,))
    return keras_vit.ViT(variant, image_size=32, num_classes=5)


MODELS = {
    "average": lambda tiny: tiny(pooling="average", num_registers=2),
    "attention": lambda tiny: tiny(pooling="attention"),
    # Its head fits one image size alone; a new one fits the new size.
    "flatten": lambda tiny: tiny(pooling="flatten"),
    "no pooling": lambda tiny: tiny(pooling=None),
    "no head": lambda tiny: tiny(num_classes=None),
    "any size": lambda tiny: tiny(image_size=None, position=None),
    "every layer": lambda tiny: tiny(position_injection="every_layer"),
    "relative": lambda tiny: tiny(position="relative_1d"),
    "channels first": lambda tiny: tiny(data_format="channels_first"),
    "half": lambda tiny: tiny(dtype="mixed_bfloat16"),
    "hybrid": lambda tiny: hybrid(),
    "resnet": lambda tiny: keras_vit.ResNet(
        ((1, 1), 1), image_size=16, num_classes=5
    ),
}


@pytest.mark.parametrize("kind", MODELS)
def test_every_kind_of_model(kind, tiny_vit, rng):
    model = MODELS[kind](tiny_vit)
    size = (16, 24) if kind in ("hybrid", "resnet") else (12, 8)
    new = keras_vit.transfer(model, 3, image_size=size)
    logits = outputs_of(new, np.zeros(_shape(new, size), "float32"))
    assert logits.shape[-1] == 3 and not logits.any()
    assert logits.dtype == np.float32
    old_values = values(model)
    for path, value in values(new).items():
        if not path.startswith("head/") and "table" not in path:
            np.testing.assert_array_equal(value, old_values[path])


def _shape(model, size):
    first = model.input_shape[1] == 3
    return (2, 3, *size) if first else (2, *size, 3)


def test_from_a_keras_file(tiny_vit, tmp_path):
    model = tiny_vit()
    model.save(tmp_path / "model.keras")
    loaded = keras.saving.load_model(tmp_path / "model.keras")
    new = keras_vit.transfer(loaded, 3, image_size=16)
    assert new.output_shape == (None, 3) and new.input_shape[1:3] == (16, 16)
    kernel = "block_01/mlp/hidden/kernel"
    np.testing.assert_array_equal(values(new)[kernel], values(model)[kernel])


def test_ones_own_composition(rng):
    x = inputs = keras.Input((8, 8, 3))
    x = keras_vit.layers.Patches(4)(x)
    x = keras_vit.layers.PatchEncoder(8)(x)
    x = keras_vit.layers.TransformerBlock(2, 16, name="block_00")(x)
    x = keras_vit.layers.TokenPooling(name="pre_logits")(x)
    x = keras.layers.Dense(4, name="my_classes")(x)
    model = keras.Model(inputs, keras.layers.Softmax()(x))
    new = keras_vit.transfer(model, 3, 12, lora_rank=2, name="mine")
    assert new.name == "mine" and new.layers[-1].name == "head"
    assert [w.path for w in new.trainable_weights][-2:] == [
        "head/kernel",
        "head/bias",
    ]


@pytest.mark.parametrize(
    "arguments, frozen",
    [
        ({"freeze_up_to": "pre_logits"}, ("images", "patch", "block", "enc")),
        ({"freeze_up_to": "block_00"}, ("patch_encoder", "block_00")),
        ({"freeze": ["block_01", "encoder_norm"]}, ("block_01", "enc")),
    ],
)
def test_only_what_is_not_frozen_learns(arguments, frozen, tiny_vit, rng):
    model = tiny_vit()
    model.trainable = False  # what it was in the old model does not count
    new = keras_vit.transfer(model, 3, **arguments)
    learning = by_path(new.trainable_weights)
    assert learning == {
        weight.path
        for weight in new.weights
        if not weight.path.startswith(frozen) and "seed" not in weight.path
    }
    moved = fit_once(new, images(rng, *IMAGE), 3)
    assert moved <= learning
    # Keys get no gradient from their biases: softmax drops what is shared.
    assert {p for p in learning - moved if "key/bias" not in p} == set()


def test_lora_and_the_head_alone_learn(tiny_vit, rng):
    model = tiny_vit(dropout=0.1)
    new = keras_vit.transfer(model, 3, lora_rank=2, lora_alpha=4)
    learning = by_path(new.trainable_weights)
    assert learning == {
        path
        for path in by_path(new.weights)
        if "lora_kernel" in path or path.startswith("head/")
    }
    count = 2 * 2 * (INPUTS + OUTPUT + MLP) + 16 * 3 + 3
    assert size_of(new.trainable_weights) == count
    before = keras_vit.feature_extractor(model, "pre_logits")
    after = keras_vit.feature_extractor(new, "pre_logits")
    x = images(rng, *IMAGE)
    np.testing.assert_allclose(  # B is zero: nothing has changed yet
        outputs_of(after, x), outputs_of(before, x), atol=1e-6
    )
    moved = fit_once(new, x, 3)
    assert moved - {p for p in moved if "seed" in p} <= learning
    assert "block_00/mlp/hidden/lora_kernel_b" in moved
    hidden = new.get_layer("block_00").mlp.hidden
    a, b = to_numpy(hidden.lora_kernel_a), to_numpy(hidden.lora_kernel_b)
    plain = to_numpy(hidden.weights[0])
    np.testing.assert_allclose(
        to_numpy(hidden.kernel), plain + 4 / 2 * a @ b, atol=1e-5
    )


def test_lora_in_the_upper_half(tiny_vit):
    new = keras_vit.transfer(
        tiny_vit(), 3, freeze_up_to="block_00", lora_rank=1
    )
    assert not [
        p for p in by_path(new.weights) if "block_00/" in p and "lora" in p
    ]
    count = INPUTS + OUTPUT + MLP + 16 * 3 + 3
    assert size_of(new.trainable_weights) == count


def test_a_file_holds_the_merged_model(tiny_vit, rng, tmp_path):
    new = keras_vit.transfer(tiny_vit(), 3, lora_rank=2)
    x = images(rng, *IMAGE)
    fit_once(new, x, 3)
    expected = outputs_of(new, x)
    new.save(tmp_path / "model.keras")
    loaded = keras.saving.load_model(tmp_path / "model.keras")
    assert not [path for path in by_path(loaded.weights) if "lora" in path]
    np.testing.assert_allclose(outputs_of(loaded, x), expected, atol=1e-4)
    # And on with it.
    again = keras_vit.transfer_learning.enable_lora(loaded, 2)
    np.testing.assert_allclose(outputs_of(again, x), expected, atol=1e-4)
    assert "block_00/mlp/hidden/bias" not in by_path(again.trainable_weights)


def test_another_size_merges_lora(tiny_vit, rng):
    model = keras_vit.transfer_learning.enable_lora(tiny_vit(), 2)
    randomize(model, rng)
    same = keras_vit.change_resolution(model, IMAGE)
    assert not [path for path in by_path(same.weights) if "lora" in path]
    x = images(rng, *IMAGE)
    np.testing.assert_allclose(
        outputs_of(same, x), outputs_of(model, x), atol=1e-4
    )


@pytest.mark.parametrize(
    "arguments, message",
    [
        ({"num_classes": 0}, "`num_classes`.*Received: num_classes=0"),
        ({"image_size": (8,)}, "`image_size`.*Received"),
        ({"image_size": 10}, "patch"),
        ({"method": "nearest"}, "`method`.*Received"),
        ({"freeze": "neck"}, "`taps`.*'block_00'.*Received: 'neck'"),
        ({"freeze": "head", "freeze_up_to": "head"}, "Exactly one of"),
        ({"lora_rank": 0}, "`rank`.*Received: rank=0"),
        ({"lora_alpha": 2.0}, "`lora_alpha` needs `lora_rank`"),
        (
            {"freeze_up_to": "pre_logits", "lora_rank": 1},
            "LoRA needs dense layers.*not frozen",
        ),
    ],
)
def test_bad_arguments(arguments, message, tiny_vit):
    with pytest.raises(ValueError, match=message):
        keras_vit.transfer(tiny_vit(), **{"num_classes": 3, **arguments})


def test_models_that_will_not_do(tiny_vit):
    x = inputs = keras.Input((8, 8, 3), name="images")
    x = keras.layers.Flatten(name="flat")(x)
    model = keras.Model(inputs, keras.layers.Dense(3)(x), name="plain")
    with pytest.raises(ValueError, match="'pre_logits'.*'plain'.*'flat'"):
        keras_vit.transfer(model, 3)
    with pytest.raises(ValueError, match="functional `keras.Model`.*None"):
        keras_vit.transfer(None, 3)
    resnet = keras_vit.ResNet(((1,), 1), image_size=16, num_classes=5)
    with pytest.raises(ValueError, match="'block_00'.*'stage1'"):
        keras_vit.transfer(resnet, 3, lora_rank=1)
    twice = keras_vit.transfer_learning.enable_lora(tiny_vit(), 1)
    with pytest.raises(ValueError, match="must not have LoRA yet"):
        keras_vit.transfer_learning.enable_lora(twice, 1)
    with pytest.raises(ValueError, match="`train`.*Received: 'neck'"):
        keras_vit.transfer_learning.enable_lora(tiny_vit(), 1, train="neck")
