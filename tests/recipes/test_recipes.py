"""Recipes against the tables of the papers, and that Keras takes them."""

import dataclasses
import json
import re

import keras
import numpy as np
import pytest
from helpers import EAGER

import keras_vit
from keras_vit import recipes
from keras_vit.data.augmentation import AUGMENTATION_LEVELS, AugmentationLevel
from keras_vit.recipes.tables import AugReg
from keras_vit.training.optimizers import SGD, AdamW

RECIPES = {
    "adamw": lambda **options: recipes.adamw(20, **options),
    "pretrain": lambda **options: recipes.pretrain(
        "B/16", "imagenet", 20, warmup_steps=2, **options
    ),
    "augreg": lambda **options: recipes.augreg(
        "Ti/16", 20, warmup_steps=2, **({"one_hot": False} | options)
    ),
    "finetune": lambda **options: recipes.finetune(20, **options),
}


def tiny_model():
    model = keras.Sequential(
        [
            keras.Input((4,)),
            keras.layers.Dense(4, name="block_00"),
            keras.layers.Dense(3, name="head"),
        ]
    )
    return model


def data(one_hot=False):
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 3, 12)
    images = rng.normal(size=(12, 4)).astype("float32")
    return images, np.eye(3, dtype="float32")[labels] if one_hot else labels


def rate(recipe, step):
    config = recipe["optimizer"].get_config()["learning_rate"]
    schedule = keras.optimizers.schedules.deserialize(config)
    return float(schedule(step))


# Table 3: model, data set, epochs, rate, decay, weight decay, dropout.
@pytest.mark.parametrize(
    "variant, dataset, row",
    [
        ("B/32", "jft", ((7,), 8e-4, "linear", 0.1, 0.0, None)),
        ("L/32", "jft", ((7,), 6e-4, "linear", 0.1, 0.0, None)),
        ("L/16", "jft", ((7, 14), 4e-4, "linear", 0.1, 0.0, None)),
        ("H/14", "jft", ((14,), 3e-4, "linear", 0.1, 0.0, None)),
        ("R101x1", "jft", ((7,), 8e-4, "linear", 0.1, 0.0, None)),
        ("R152x2", "jft", ((7,), 6e-4, "linear", 0.1, 0.0, None)),
        ("R50+L/32", "jft", ((7,), 2e-4, "linear", 0.1, 0.0, None)),
        ("R50+L/16", "jft", ((7, 14), 4e-4, "linear", 0.1, 0.0, None)),
        ("B/16", "imagenet-21k", ((90,), 1e-3, "linear", 0.03, 0.1, None)),
        ("L/16", "imagenet-21k", ((30, 90), 1e-3, "linear", 0.03, 0.1, None)),
        ("ViT", "imagenet", ((300,), 3e-3, "cosine", 0.3, 0.1, 1.0)),
    ],
)
def test_pretraining_rows_of_table_3(variant, dataset, row):
    assert dataclasses.astuple(recipes.PRETRAIN[variant, dataset]) == row


def test_fine_tuning_rows_of_table_4():
    table = recipes.FINETUNE
    assert {name: row.steps for name, row in table.items()} == {
        "imagenet": (20_000,),
        "cifar100": (10_000,),
        "cifar10": (10_000,),
        "pets": (500,),
        "flowers": (500,),
        "vtab": (2_500,),
    }
    assert table["imagenet"].learning_rates == (0.003, 0.01, 0.03, 0.06)
    assert table["pets"].learning_rates == (0.001, 0.003, 0.01, 0.03)
    assert table["vtab"].learning_rates == (0.01,)
    splits = [table[k].development for k in ("imagenet", "cifar10", "pets")]
    assert splits == [0.01, 0.02, 0.1]


# Training images of the sets of Table 4, and the bounds of BiT's rule.
@pytest.mark.parametrize(
    "images, row",
    [
        (1, "flowers"),
        (2_040, "flowers"),
        (3_680, "pets"),
        (19_999, "pets"),
        (20_000, "cifar10"),
        (50_000, "cifar100"),
        (499_999, "cifar10"),
        (500_000, "imagenet"),
        (1_281_167, "imagenet"),
    ],
)
def test_row_of_table_4_by_number_of_images(images, row):
    assert recipes.finetuning_for(images) == recipes.FINETUNE[row]
    with pytest.raises(ValueError, match="`num_images`.*Received"):
        recipes.finetuning_for(-images)


def test_augreg_levels_and_rows():
    levels = AUGMENTATION_LEVELS
    assert list(levels) == [
        "none",
        "light1",
        "light2",
        "medium1",
        "medium2",
        "strong1",
        "strong2",
    ]
    assert levels["light1"] == AugmentationLevel(0.0, 2, 0)
    assert levels["medium2"] == AugmentationLevel(0.5, 2, 15)
    assert levels["strong2"] == AugmentationLevel(0.8, 2, 20)
    # The checkpoint L_16-i21k-300ep-lr_0.001-aug_strong1-wd_0.1-do_0.0-sd_0.0,
    # fine-tuned with lr_0.01; its levels in vit_i1k.py and vit_i21k.py.
    assert recipes.AUGREG["L/16"] == AugReg(
        "medium2", "medium2", "strong1", 0.1, 0.0, 0.0, 0.01
    )
    for row in recipes.AUGREG.values():
        assert {row.imagenet, row.imagenet_21k, row.checkpoint} <= {
            None,
            *levels,
        }
        assert row.weight_decay in (0.03, 0.1)
    assert recipes.AUGREG_FINETUNE["pets"].steps == (500, 2_500)
    assert recipes.AUGREG_FINETUNE["imagenet"].learning_rates == (0.01, 0.03)


def test_augreg_is_what_the_names_of_the_checkpoints_say():
    name = re.compile(
        r"-i21k-300ep-lr_0\.001-aug_(?P<level>\w+)-wd_(?P<decay>[\d.]+)"
        r"-do_(?P<dropout>[\d.]+)-sd_(?P<depth>[\d.]+)"
        r"--imagenet2012-steps_20k-lr_(?P<rate>[\d.]+)-res_384\.npz"
    )
    facts = {}
    for preset in keras_vit.presets("augreg_i1k"):
        level, *numbers = name.search(preset.address).groups()
        facts[preset.variant] = (level, *map(float, numbers))
    assert facts == {
        variant: (
            row.checkpoint,
            row.weight_decay,
            row.dropout,
            row.stochastic_depth,
            row.learning_rate,
        )
        for variant, row in recipes.AUGREG.items()
    }
    # The same checkpoints before their fine-tuning.
    before = {p.variant: p.address for p in keras_vit.presets("augreg_i21k")}
    for preset in keras_vit.presets("augreg_i1k"):
        stem, _ = preset.address.split("--")
        assert before[preset.variant] == f"{stem}.npz"


def test_tables_cannot_be_changed():
    with pytest.raises(dataclasses.FrozenInstanceError):
        recipes.FINETUNE["pets"].steps = (1,)


def test_pretrain_on_jft_decays_linearly_to_the_official_floor():
    recipe = recipes.pretrain("L/16", "jft", total_steps=100_000)
    config = recipe["optimizer"].get_config()
    assert isinstance(recipe["optimizer"], AdamW)
    assert (config["beta_1"], config["beta_2"]) == (0.9, 0.999)
    assert config["weight_decay"] == 0.1
    assert config["global_clipnorm"] is None
    assert rate(recipe, 5_000) == pytest.approx(0.5 * rate_at(5_000), rel=1e-5)
    assert rate(recipe, 10_000) == pytest.approx(4e-4, rel=1e-5)
    assert rate(recipe, 55_000) == pytest.approx((4e-4 + 1e-5) / 2, rel=1e-5)
    assert rate(recipe, 100_000) == pytest.approx(1e-5, rel=1e-4)


def rate_at(step):
    # Before the end of the warm-up the linear decay is still at its peak.
    return 4e-4 if step <= 10_000 else None


def test_pretrain_on_imagenet_clips_and_ends_at_zero():
    recipe = recipes.pretrain("S/16", "imagenet", total_steps=93_900)
    config = recipe["optimizer"].get_config()
    assert config["global_clipnorm"] == 1.0
    assert config["weight_decay"] == 0.3
    assert rate(recipe, 10_000) == pytest.approx(3e-3, rel=1e-5)
    assert rate(recipe, 93_900) == pytest.approx(0.0, abs=1e-9)


def test_one_decay_step_in_each_convention():
    """0.1 of the tables is the 1e-4 of big_vision at rate 1e-3."""
    recipe = recipes.augreg("B/16", total_steps=20_000)
    config = recipe["optimizer"].get_config()
    assert config["weight_decay"] * 1e-3 == pytest.approx(1e-4)
    optimizer = AdamW(1e-3, weight_decay=config["weight_decay"])
    kernel = keras.Variable(np.full((2, 2), 5.0, "float32"), name="kernel")
    optimizer.build([kernel])
    optimizer.apply([keras.ops.zeros((2, 2))])
    np.testing.assert_allclose(
        keras.ops.convert_to_numpy(kernel.value), 5.0 * (1 - 1e-4), rtol=1e-6
    )


def test_augreg_reads_its_table():
    def decay(variant, dataset):
        recipe = recipes.augreg(variant, 20_000, dataset, level="none")
        return recipe["optimizer"].get_config()["weight_decay"]

    assert decay("S/16", "imagenet-21k") == 0.03
    assert decay("S/16", "imagenet") == 0.1
    recipe = recipes.augreg("S/16", 20_000)
    assert isinstance(recipe["loss"], keras.losses.CategoricalCrossentropy)
    assert recipe["optimizer"].get_config()["global_clipnorm"] == 1.0
    assert rate(recipe, 10_000) == pytest.approx(1e-3, rel=1e-5)
    assert rate(recipe, 15_000) == pytest.approx(5e-4, rel=1e-5)


@pytest.mark.parametrize(
    "steps, warmup", [(500, 100), (2_500, 500), (10_000, 500), (20_000, 500)]
)
def test_finetune_warms_up_as_big_vision_does(steps, warmup):
    recipe = recipes.finetune(steps)
    optimizer = recipe["optimizer"]
    assert type(optimizer) is type(keras.optimizers.SGD())
    config = optimizer.get_config()
    assert config["momentum"] == 0.9
    assert config["weight_decay"] is None
    assert config["global_clipnorm"] == 1.0
    assert rate(recipe, warmup) == pytest.approx(0.03, rel=1e-5)
    assert rate(recipe, warmup // 2) == pytest.approx(0.015, rel=1e-5)
    assert rate(recipe, steps) == pytest.approx(0.0, abs=1e-8)


def test_finetune_scales_the_rate_with_the_batch():
    recipe = recipes.finetune(500, 0.01, batch_size=128, warmup_steps=0)
    assert rate(recipe, 0) == pytest.approx(0.01 / 4, rel=1e-5)


def test_steps_are_updates_also_with_accumulation():
    plain = recipes.finetune(100)
    several = recipes.finetune(100, gradient_accumulation_steps=8)
    for step in (0, 10, 20, 60, 100):
        assert rate(several, 8 * step) == pytest.approx(
            rate(plain, step), abs=1e-8
        )
    averaged = recipes.adamw(100, polyak=0.99, gradient_accumulation_steps=4)
    config = averaged["optimizer"].get_config()
    assert config["use_ema"] and config["gradient_accumulation_steps"] == 4
    assert config["ema_momentum"] ** 4 == pytest.approx(0.99)


def test_total_steps_counts_the_partial_batch():
    assert recipes.total_steps(1000, batch_size=256, epochs=3) == 12
    assert recipes.total_steps(1024, batch_size=256, epochs=3) == 12
    with pytest.raises(ValueError, match="`epochs`"):
        recipes.total_steps(1024, batch_size=256, epochs=0)


@pytest.mark.parametrize("name", RECIPES)
def test_compile_takes_the_recipe(name):
    model = tiny_model()
    model.compile(**RECIPES[name](), **EAGER)
    history = model.fit(*data(), batch_size=4, epochs=2, verbose=0).history
    assert np.isfinite(history["loss"]).all()
    assert 0 <= history["accuracy"][-1] <= 1


@pytest.mark.parametrize("name", RECIPES)
def test_compile_takes_every_option(name, tmp_path):
    options = {
        "one_hot": True,
        "label_smoothing": 0.1,
        "polyak": 0.9,
        "clip_norm": 0.5,
        "learning_rate_multipliers": {"block_00": 0.5},
        "gradient_accumulation_steps": 2,
    }
    model = tiny_model()
    recipe = RECIPES[name](**options)
    assert isinstance(recipe["optimizer"], AdamW | SGD)
    model.compile(**recipe, **EAGER)
    model.fit(
        *data(one_hot=True),
        batch_size=4,
        epochs=2,
        verbose=0,
        validation_data=data(one_hot=True),
        callbacks=[keras.callbacks.SwapEMAWeights(swap_on_epoch=True)],
    )
    model.save(tmp_path / "model.keras")
    restored = keras.saving.load_model(tmp_path / "model.keras")
    expected = json.dumps(model.optimizer.get_config(), sort_keys=True)
    received = json.dumps(restored.optimizer.get_config(), sort_keys=True)
    assert received == expected


def test_smoothed_loss_is_that_of_smoothed_labels():
    loss = recipes.adamw(10, one_hot=True, label_smoothing=0.3)["loss"]
    logits = np.array([[2.0, 0.5, -1.0]], "float32")
    log_p = logits - np.log(np.exp(logits).sum())
    expected = -(np.array([[0.8, 0.1, 0.1]]) * log_p).sum()
    labels = np.array([[1.0, 0.0, 0.0]], "float32")
    assert float(loss(labels, logits)) == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize(
    "call, name",
    [
        (lambda: recipes.adamw(10, label_smoothing=0.1), "label_smoothing"),
        (lambda: recipes.adamw(10, warmup_steps=10), "warmup_steps"),
        (lambda: recipes.adamw(10, polyak=1.0), "polyak"),
        (lambda: recipes.adamw(10, clip_norm=0.0), "clip_norm"),
        (lambda: recipes.finetune(0), "steps"),
        (lambda: recipes.finetune(10, batch_size=0), "batch_size"),
        (
            lambda: recipes.finetune(10, gradient_accumulation_steps=1),
            "gradient_accumulation_steps",
        ),
        (lambda: recipes.pretrain("B/16", "cifar10", 10), "dataset"),
        (lambda: recipes.pretrain("R50+L/32", "imagenet", 10), "variant"),
        (lambda: recipes.augreg("H/14", 10), "variant"),
        (lambda: recipes.augreg("B/16", 10, dataset="jft"), "dataset"),
        (lambda: recipes.augreg("R+Ti/16", 10, "imagenet"), "level"),
        (lambda: recipes.augreg("B/16", 10, one_hot=False), "one_hot"),
    ],
)
def test_bad_arguments_are_named(call, name):
    with pytest.raises(ValueError, match=f"`{name}`.*Received"):
        call()
