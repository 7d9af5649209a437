"""Layer-wise rates and frozen layers, found by the names of the layers."""

import keras
import numpy as np
import pytest
from helpers import EAGER

from keras_vit import recipes
from keras_vit.transfer_learning import freeze, layer_wise_learning_rates

TAPS = [
    "images",
    "rescaling",
    "trunk",
    "patch_encoder",
    "block_00",
    "block_01",
    "block_02",
    "encoder_norm",
    "pooling",
    "head",
]


def tiny_model():
    x = images = keras.Input((4,), name="images")
    x = keras.layers.Rescaling(2.0, name="rescaling")(x)
    for name in TAPS[2:7]:
        x = keras.layers.Dense(4, name=name)(x)
    x = keras.layers.LayerNormalization(name="encoder_norm")(x)
    x = keras.layers.Identity(name="pooling")(x)
    return keras.Model(images, keras.layers.Dense(3, name="head")(x))


def weights_of(model):
    return {w.path: keras.ops.convert_to_numpy(w.value) for w in model.weights}


def test_rates_fall_by_one_factor_a_block():
    # BEiT with three blocks: patches 0.5**4, blocks 0.5**3 .. 0.5**1, head 1.
    assert layer_wise_learning_rates(tiny_model(), decay=0.5) == {
        "trunk": 0.5**4,
        "patch_encoder": 0.5**4,
        "block_00": 0.5**3,
        "block_01": 0.5**2,
        "block_02": 0.5,
        "encoder_norm": 1.0,
        "head": 1.0,
    }


def test_rates_reach_the_updates():
    model = tiny_model()
    rates = layer_wise_learning_rates(model, decay=0.5)
    recipe = recipes.finetune(
        10, 0.1, warmup_steps=0, clip_norm=None, learning_rate_multipliers=rates
    )
    optimizer = recipe["optimizer"]
    optimizer.build(model.trainable_variables)
    before = weights_of(model)
    optimizer.apply(
        [keras.ops.ones(v.shape) for v in model.trainable_variables]
    )
    for path, value in weights_of(model).items():
        expected = 0.1 * rates[path.split("/")[0]]
        np.testing.assert_allclose(before[path] - value, expected, rtol=1e-3)


def test_rates_fit_the_paths_of_a_sequential_model():
    model = keras.Sequential(
        [keras.Input((2,)), keras.layers.Dense(2, name="block_00")],
        name="outer",
    )
    assert model.weights[0].path == "outer/block_00/kernel"
    assert layer_wise_learning_rates(model, 0.5) == {"outer/block_00": 0.5}


def test_rates_need_blocks_and_a_factor():
    with pytest.raises(ValueError, match="'block_00'.*Received.*'dense'"):
        layer_wise_learning_rates(
            keras.Sequential(
                [keras.Input((2,)), keras.layers.Dense(2, name="dense")]
            )
        )
    for decay in (0.0, 1.5):
        with pytest.raises(ValueError, match="`decay`.*Received"):
            layer_wise_learning_rates(tiny_model(), decay)


@pytest.mark.parametrize(
    "arguments, frozen",
    [
        ({"taps": "block_01"}, {"block_01"}),
        ({"taps": ["patch_encoder", "head"]}, {"patch_encoder", "head"}),
        ({"up_to": "block_01"}, set(TAPS[:6])),
        ({"up_to": "images"}, {"images"}),
    ],
)
def test_freeze_holds_the_named_layers_alone(arguments, frozen):
    model = tiny_model()
    assert freeze(model, **arguments) is model
    assert {
        layer.name for layer in model.layers if not layer.trainable
    } == frozen


def test_frozen_layers_stay_through_fit():
    model = freeze(tiny_model(), up_to="block_01")
    model.compile(
        **recipes.adamw(10, weight_decay=0.5, warmup_steps=0), **EAGER
    )
    before = weights_of(model)
    rng = np.random.default_rng(0)
    images = rng.normal(size=(8, 4)).astype("float32")
    model.fit(images, rng.integers(0, 3, 8), epochs=2, verbose=0)
    for path, value in weights_of(model).items():
        frozen = path.split("/")[0] in TAPS[:6]
        assert np.array_equal(value, before[path]) == frozen, path


@pytest.mark.parametrize(
    "arguments, message",
    [
        ({"taps": ["block_01", "block_07"]}, "`taps`.*'block_02'.*'block_07'"),
        ({"up_to": "neck"}, "`up_to`.*'encoder_norm'.*Received: 'neck'"),
        ({}, "Exactly one of `taps` and `up_to`"),
        ({"taps": "head", "up_to": "head"}, "Exactly one of"),
    ],
)
def test_bad_names_are_listed(arguments, message):
    model = tiny_model()
    with pytest.raises(ValueError, match=message):
        freeze(model, **arguments)
    assert all(layer.trainable for layer in model.layers)
