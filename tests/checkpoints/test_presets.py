"""The table of public checkpoints, and the names of ImageNet's classes."""

import dataclasses
import json
import re

import keras
import numpy as np
import pytest
from opening import assert_agrees, opened
from oracles import import_oracle, randomize

import keras_vit
from keras_vit.checkpoints import formats, load
from keras_vit.checkpoints.evidence import Evidence

TABLE = keras_vit.presets()
OF_TIMM = [p for p in TABLE if p.address.startswith("hf://timm/")]


def test_names_are_unique_and_addresses_complete():
    assert len({preset.name for preset in TABLE}) == len(TABLE)
    assert len({preset.address for preset in TABLE}) == len(TABLE)
    own = [preset for preset in TABLE if preset not in OF_TIMM]
    assert len(own) == 42
    for preset in own:
        assert preset.license == "Apache-2.0"
        assert preset.plain and preset.measure == "head"
        if preset.address.startswith("gs://"):
            assert preset.address.endswith(".npz")
            assert (preset.activation, preset.epsilon) == ("gelu_tanh", 1e-6)
        elif preset.address.startswith("package://"):
            assert preset.location.is_file()
        else:  # pinned to a commit
            repository, _, commit = preset.address.partition("@")
            assert repository.startswith("hf://google/vit-")
            assert len(commit) == 40 and int(commit, 16)
            assert (preset.activation, preset.epsilon) == ("gelu", 1e-12)


@pytest.mark.parametrize("preset", TABLE, ids=lambda preset: preset.name)
def test_facts_of_a_row(preset):
    assert re.fullmatch(r"https://arxiv\.org/abs/\d{4}\.\d{5}", preset.source)
    assert preset.measure in ("head", "linear", "zero-shot")
    assert preset.accuracy is None or 50 < preset.accuracy < 100
    # An accuracy of a head needs one; a probe is for files without.
    if preset.accuracy is not None:
        assert (preset.num_classes is not None) == (preset.measure == "head")
    if preset.plain:
        keras_vit.variants.parse_variant(preset.variant)


def architecture(preset, timm):
    """The name of the network at timm, and what timm says of it."""
    name = preset.address.removeprefix("hf://timm/")
    stated = timm.models.get_pretrained_cfg(name, allow_unregistered=False)
    assert stated.hf_hub_id == f"timm/{name}"
    if any("QuickGELU" in note for note in stated.notes or ()):
        name = name.replace("_clip_", "_clip_quickgelu_")
    return name, stated


@pytest.mark.parametrize("preset", OF_TIMM, ids=lambda preset: preset.name)
def test_rows_of_timm_are_what_timm_says(preset):
    """Its release, and its network from names and shapes alone."""
    timm = import_oracle("timm")
    import torch

    name, stated = architecture(preset, timm)
    assert stated.license == preset.license.lower()
    assert stated.input_size == (3, preset.image_size, preset.image_size)
    if preset.family.startswith("clip_"):
        assert stated.num_classes in (512, 768, 1024, 1280)
    else:
        assert (stated.num_classes or None) == preset.num_classes

    with torch.device("meta"):
        module = timm.create_model(name)
    shapes = {key: tuple(x.shape) for key, x in module.state_dict().items()}
    config = {
        "architecture": name.partition(".")[0],
        "pretrained_cfg": {"input_size": stated.input_size},
    }
    evidence = Evidence("the file", shapes, config=config)
    form, _ = formats.recognise(shapes)
    found = form.describe(evidence)
    assert found.image_size == (preset.image_size, preset.image_size)
    assert found.activation == preset.activation
    assert found.epsilon == preset.epsilon
    assert found.variant.num_layers == len(module.blocks)
    assert preset.plain == (
        found.pooling == "token"
        and found.final_norm
        and not found.norm_after_pooling
        and found.patch_encoder == {"cls_token": True}
        and found.is_plain()
    )
    if preset.plain:
        assert found.variant == dataclasses.replace(
            keras_vit.variants.parse_variant(preset.variant),
            patch_size=found.variant.patch_size,
        )


def test_builders_refuse_networks_that_they_do_not_make(monkeypatch):
    """Before a download, and with the name of what opens them."""

    def fetch(*_):
        raise AssertionError("it was downloaded")

    monkeypatch.setattr(load, "fetch", fetch)
    for source in ("dinov2", "dinov2:B/14"):
        with pytest.raises(ValueError) as caught:
            keras_vit.ViT("B/14", weights=source)
        assert "from_checkpoint('dinov2:B/14')" in str(caught.value)
        assert f"weights={source!r}" in str(caught.value)


def test_presets_of_the_hub_read_the_configuration_beside(
    tmp_path, monkeypatch, rng
):
    """A tiny file stands for the one of the Hub."""
    timm = import_oracle("timm")
    from safetensors.torch import save_file

    module = timm.create_model(
        "vit_small_patch14_dinov2", embed_dim=64, depth=1, num_heads=2
    )
    randomize(module, rng)
    save_file(module.state_dict(), tmp_path / "model.safetensors")
    config = {
        "architecture": "vit_small_patch14_dinov2",
        "model_args": {"num_heads": 2},
        "pretrained_cfg": {"mean": [0.485, 0.456, 0.406],
                           "std": [0.229, 0.224, 0.225]},
    }  # fmt: skip
    (tmp_path / "config.json").write_text(json.dumps(config), "utf-8")
    asked = []

    def fetch(source, sha256=None):
        asked.append(source)
        return tmp_path / "model.safetensors"

    monkeypatch.setattr(load, "fetch", fetch)
    model, notes = opened("dinov2:S/14")
    assert asked == ["hf://timm/vit_small_patch14_dinov2.lvd142m"]
    assert notes == ""
    images = rng.integers(0, 256, (2, 518, 518, 3)).astype("uint8")
    assert_agrees(model, module, images, "imagenet")


@pytest.mark.parametrize(
    "name, address",
    [
        (
            "augreg_i21k:B/16",
            "gs://vit_models/augreg/B_16-i21k-300ep-lr_0.001-aug_medium1-"
            "wd_0.1-do_0.0-sd_0.0.npz",
        ),
        (
            "augreg_i1k:R50+L/32",
            "gs://vit_models/augreg/R50_L_32-i21k-300ep-lr_0.001-aug_medium1-"
            "wd_0.1-do_0.1-sd_0.1--imagenet2012-steps_20k-lr_0.01-res_384.npz",
        ),
        ("imagenet21k:H/14", "gs://vit_models/imagenet21k/ViT-H_14.npz"),
        (
            "imagenet21k:R50+B/16",
            "gs://vit_models/imagenet21k/R50+ViT-B_16.npz",
        ),
        (
            "imagenet21k+imagenet2012-224:L/16",
            "gs://vit_models/imagenet21k+imagenet2012/ViT-L_16-224.npz",
        ),
        ("sam:B/32", "gs://vit_models/sam/ViT-B_32.npz"),
    ],
)
def test_addresses(name, address):
    found = {preset.name: preset.address for preset in keras_vit.presets()}
    assert found[name] == address


def test_prints_as_a_table_a_person_can_read():
    text = str(keras_vit.presets("augreg_i1k"))
    head, *rows = text.splitlines()
    assert head.split() == [
        "name", "pixels", "classes", "accuracy", "license", "address",
    ]  # fmt: skip
    assert len(rows) == 9
    assert any("augreg_i1k:B/16" in row and "85.49 %" in row for row in rows)
    starts = {row.index("Apache-2.0") for row in rows}
    assert starts == {head.index("license")}


def test_says_what_an_accuracy_is_of():
    text = str(keras_vit.presets("dinov2"))
    (row,) = [row for row in text.splitlines() if "dinov2:g/14" in row]
    assert "86.50 % linear" in row


def test_unknown_families():
    with pytest.raises(ValueError, match="family='dino'"):
        keras_vit.presets("dino")


def test_classes_in_the_order_of_the_heads():
    """Known places: the first, the last, and the zebra between."""
    one_hot = np.eye(1000)[[0, 340, 999]]
    best = [row[0][:2] for row in keras_vit.decode_predictions(one_hot, top=1)]
    assert best == [
        ("n01440764", "tench"),
        ("n02391049", "zebra"),
        ("n15075141", "toilet_tissue"),
    ]
    one_hot = np.zeros((1, 21843))
    one_hot[0, 0] = 2.5
    assert keras_vit.decode_predictions(one_hot, top=1) == [
        [("n00004475", "organism", 2.5)]
    ]


def test_likeliest_first_from_arrays_and_tensors():
    scores = np.linspace(0, 1, 1000)[None]
    for predictions in (scores, keras.ops.convert_to_tensor(scores)):
        (row,) = keras_vit.decode_predictions(predictions)
        assert len(row) == 5
        values = [score for _, _, score in row]
        assert values == sorted(values, reverse=True)
        assert values[0] == 1.0


def test_both_lists_call_a_class_by_the_same_name():
    names = keras_vit.checkpoints.class_names._classes
    small, large = dict(names(1000)), dict(names(21843))
    assert len(small) == 1000 and len(large) == 21843
    # The teddy alone is not among the 21,843.
    assert set(small) - set(large) == {"n04399382"}
    assert all(large.get(key, name) == name for key, name in small.items())


@pytest.mark.parametrize(
    "shape, top, message",
    [
        ((1, 37), 5, r"shape=\(1, 37\)"),
        ((1000,), 5, r"shape=\(1000,\)"),
        ((1, 1000), 0, "top=0"),
        ((1, 1000), 1001, "top=1001"),
    ],
)
def test_bad_predictions(shape, top, message):
    with pytest.raises(ValueError, match=message):
        keras_vit.decode_predictions(np.zeros(shape), top=top)
