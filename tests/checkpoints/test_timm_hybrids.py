"""Hybrids under timm's names: a ResNet with epsilons of timm's own."""

import warnings

import keras
import numpy as np
import pytest
from helpers import outputs_of, randomize, to_numpy
from opening import assert_agrees, opened
from oracles import import_oracle
from oracles import randomize as randomize_module

import keras_vit
from keras_vit.checkpoints.formats.timm_describe import TRUNK

HYBRIDS = {
    "stem alone": "vit_tiny_r_s16_p8_224",
    "four stages": "vit_small_r26_s32_224",
    "three stages": "vit_base_r50_s16_224",
}


@pytest.fixture
def photographs(rng):
    return rng.integers(0, 256, (2, 64, 64, 3)).astype("uint8")


def small(name, rng, folder):
    """A small hybrid of timm, written as timm does; returns the module."""
    timm = import_oracle("timm")
    from timm.models._hub import save_for_hf

    own = {
        "depth": 1, "embed_dim": 64, "num_heads": 4, "img_size": 64,
        "num_classes": 7,
    }  # fmt: skip
    module = timm.create_model(name, **own)
    randomize_module(module, rng)
    import torch

    with torch.no_grad():
        for key, parameter in module.named_parameters():
            if key.endswith("norm3.weight"):
                # As after training. Else rounding grows from unit to unit.
                parameter.mul_(0.2)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        save_for_hf(module, folder, model_args=own, safe_serialization=True)
    return module


def hybrid(**own):
    variant = keras_vit.Variant(1, 64, 32, 4, 2, stages=own.pop("stages", ()))
    own = {"activation": "gelu", "trunk": TRUNK, **own}
    return keras_vit.ViT(variant, image_size=(32, 48), num_classes=3, **own)


@pytest.mark.parametrize("kind", HYBRIDS)
def test_hybrids_open(kind, rng, tmp_path, photographs, capsys):
    module = small(HYBRIDS[kind], rng, tmp_path)
    model, notes = opened(tmp_path)
    assert not notes
    assert_agrees(model, module, photographs, "inception")
    # The epsilons live in the layers, so they survive saving.
    model.save(tmp_path / "model.keras")
    again = keras.saving.load_model(tmp_path / "model.keras")
    assert_agrees(again, module, photographs, "inception")
    # What it prints makes the same by hand.
    keras_vit.from_checkpoint(tmp_path)
    names = {"keras_vit": keras_vit, "layers": keras_vit.layers}
    by_hand = eval(capsys.readouterr().out, names)
    keras_vit.load_checkpoint(by_hand, tmp_path)
    assert_agrees(by_hand, module, photographs, "inception")


def test_weights_bring_their_epsilons(rng, tmp_path, photographs):
    """And are refused by a model of others."""
    module = small("vit_tiny_r_s16_p8_224", rng, tmp_path)
    variant = keras_vit.Variant(1, 64, 256, 4, 8, stages=())
    sizes = {"num_classes": 7, "image_size": 64}
    model = keras_vit.ViT(variant, weights=tmp_path, **sizes)
    assert_agrees(model, module, photographs, "inception")
    official = keras_vit.ViT(variant, activation="gelu", **sizes)
    with pytest.raises(keras_vit.CheckpointError, match="Build it with `trunk"):
        keras_vit.load_checkpoint(official, tmp_path)


@pytest.mark.parametrize("stages", [(), (2, 2, 2, 2)], ids=str)
def test_timm_opens_an_export(stages, rng, tmp_path):
    timm = import_oracle("timm")
    variant = keras_vit.Variant(1, 64, 96, 4, 1 + (not stages), stages)
    model = keras_vit.ViT(
        variant, image_size=(64, 96), num_classes=3, activation="gelu",
        trunk=TRUNK,
    )  # fmt: skip
    randomize(model, rng)
    for layer in model.layers:
        if isinstance(layer, keras_vit.layers.ResidualUnit):
            layer.norm3.gamma.assign(0.2 * layer.norm3.gamma)
    keras_vit.export_checkpoint(model, tmp_path / "m", format="timm")
    module = timm.create_model(f"local-dir:{tmp_path / 'm'}", pretrained=True)
    images = rng.integers(0, 256, (2, 64, 96, 3)).astype("uint8")
    assert_agrees(model, module.eval(), images, "inception")
    again, _ = opened(tmp_path / "m")
    np.testing.assert_array_equal(
        outputs_of(again, images), outputs_of(model, images)
    )


REFUSED = [
    ("timm", {"trunk": None}, "'epsilon': 1e-06"),
    ("timm", {"trunk": {**TRUNK, "kernel_epsilon": 1e-6}}, "1e-06"),
    ("timm", {"stages": (1,)}, r"stages=\(1,\)"),
    ("official", {"activation": "gelu_tanh"}, "kernel_epsilon.*1e-08"),
]


@pytest.mark.parametrize("format, arguments, message", REFUSED, ids=str)
def test_trunks_that_a_format_lacks(format, arguments, message, tmp_path):
    path = tmp_path / ("m.npz" if format == "official" else "m")
    model = hybrid(**arguments)
    with pytest.raises(ValueError, match=f"format '{format}'.*{message}"):
        keras_vit.export_checkpoint(model, path, format=format)
    assert not list(tmp_path.iterdir())


def test_official_hybrids_are_written_as_before(tmp_path):
    model = hybrid(stages=(1,), trunk=None, activation=None)
    path = keras_vit.export_checkpoint(model, tmp_path / "m.npz")
    again = keras_vit.from_checkpoint(path, verbose=0, file_grid=(4, 6))
    for given, expected in zip(again.weights, model.weights):
        np.testing.assert_array_equal(to_numpy(given), to_numpy(expected))


@pytest.mark.parametrize(
    "variant, trunk, message",
    [
        ("R+Ti/16", {"gamma": 1.0}, "some of epsilon.*gamma"),
        ("R+Ti/16", 1e-5, "trunk=1e-05"),
        ("R26+S/32", {"epsilon": 0.0}, "epsilon=0.0"),
        ("Ti/16", {"epsilon": 1e-5}, "no ResNet"),
    ],
)
def test_bad_trunks(variant, trunk, message):
    with pytest.raises(ValueError, match=message):
        keras_vit.ViT(variant, trunk=trunk)
