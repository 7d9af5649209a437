"""Names of classes go wherever the model goes, and no further."""

import json

import keras
import numpy as np
import pytest
from helpers import outputs_of

import keras_vit
from keras_vit.anatomy import class_names_of
from keras_vit.checkpoints import class_names
from keras_vit.checkpoints.load import Checkpoint

FIVE = ("ant", "bee", "cat", "dog", "eel")


@pytest.fixture
def named(tiny_vit):
    return keras_vit.name_classes(tiny_vit(), FIVE)


def test_nothing_else_changes(named, tiny_vit, rng):
    images = rng.integers(0, 256, (2, 8, 12, 3)).astype("uint8")
    bare = keras.Model(named.input, named.get_layer("head").output)
    np.testing.assert_array_equal(
        outputs_of(named, images), outputs_of(bare, images)
    )
    assert class_names_of(bare) is None
    assert [w.path for w in named.weights] == [w.path for w in bare.weights]


def saved(model, folder):
    model.save(folder / "model.keras")
    return keras.saving.load_model(folder / "model.keras")


def sequential(model):
    return keras.Sequential([model, keras.layers.Softmax()])


def inside(model):
    images = keras.Input((8, 12, 3))
    return keras.Model(images, model(images))


WAYS = {
    "saving": saved,
    "clone": lambda model, _: keras.models.clone_model(model),
    "change_resolution": lambda model, _: keras_vit.change_resolution(
        model, (16, 12)
    ),
    "Sequential, saved": lambda model, folder: saved(sequential(model), folder),
    "nested, saved": lambda model, folder: saved(inside(model), folder),
    "named anew": lambda model, _: keras_vit.name_classes(
        keras_vit.name_classes(model, "abcde".split() * 5), FIVE
    ),
}


@pytest.mark.parametrize("way", WAYS)
def test_names_stay(way, named, tmp_path):
    again = WAYS[way](named, tmp_path)
    assert class_names_of(again) == FIVE
    assert sum("class_names" in x.name for x in again.layers) <= 1


def test_names_of_another_head_are_not_those(named):
    """Even if it has as many classes."""
    other = keras.Sequential([named, keras.layers.Dense(5)])
    assert class_names_of(other) is None
    assert class_names_of(keras_vit.transfer(named, 5)) is None
    new = keras_vit.transfer(named, 2, class_names=["yes", "no"])
    assert class_names_of(new) == ("yes", "no")


def test_half_precision_does_not_round_logits(tiny_vit):
    model = keras_vit.name_classes(tiny_vit(dtype="mixed_bfloat16"), FIVE)
    assert model.output.dtype == "float32"


@pytest.mark.parametrize(
    "names, said",
    [
        ("abcde", "list of strings"),
        ([1, 2, 3, 4, 5], "list of strings"),
        (["a", "b"], "2 names, 5 classes"),
    ],
)
def test_names_are_checked(names, said, tiny_vit):
    with pytest.raises(ValueError, match=said):
        keras_vit.name_classes(tiny_vit(), names)


@pytest.mark.parametrize("format", ["timm", "huggingface"])
def test_names_in_a_folder_of_weights(format, tmp_path):
    variant = keras_vit.Variant(1, 64, 32, 1, patch_size=16)
    own = {"image_size": 32, "num_classes": 5, "activation": "gelu"}
    model = keras_vit.name_classes(keras_vit.ViT(variant, **own), FIVE)
    keras_vit.export_checkpoint(model, tmp_path, format=format)
    open_ = keras_vit.from_checkpoint
    again = open_(tmp_path, verbose=0, image_size=48)
    assert class_names_of(saved(again, tmp_path)) == FIVE
    again = open_(tmp_path, verbose=0, num_classes=7)
    assert class_names_of(again) is None
    again = open_(tmp_path, verbose=0, num_classes=None)
    assert class_names_of(again) is None


LABELS = {"id2label": {"1": "dog", "0": "cat"}}
SYNSETS = {
    "label_names": ["n1", "n2"],
    "label_descriptions": {"n1": "tench, Tinca tinca"},
}


@pytest.mark.parametrize(
    "config, count, expected",
    [
        (LABELS, 2, ("cat", "dog")),
        (LABELS, 3, None),
        (LABELS, None, None),
        ({"id2label": {"0": "LABEL_0", "1": "LABEL_1"}}, 2, None),
        (SYNSETS, 2, ("tench, Tinca tinca", "n2")),
        ({"pretrained_cfg": {"label_names": ["a", "b"]}}, 2, ("a", "b")),
        ({}, 1000, None),
    ],
)
def test_what_configurations_say(config, count, expected):
    config = json.loads(json.dumps(config))
    assert class_names.of_config(config, count) == expected


@pytest.mark.parametrize(
    "tag, count, third",
    [
        ("augreg2_in21k_ft_in1k", 1000, "great_white_shark"),
        ("clip_in12k_ft_in1k_384", 1000, "great_white_shark"),
        ("in1k", 1000, "great_white_shark"),
        ("orig_in21k", 21843, None),
        ("fb_in22k", 21841, None),
        ("laion2b_ft_1k", 1000, None),
    ],
)
def test_imagenet_of_timm_by_its_tag(tag, count, third):
    config = {"pretrained_cfg": {"tag": tag}}
    names = class_names.of_config(config, count)
    if third or count == 21843:
        assert len(names) == count and third in (None, names[2])
    else:
        assert names is None


def test_imagenet_of_a_preset(tmp_path):
    """Its table says how many classes there are; a file alone says no names."""
    variant = keras_vit.Variant(1, 64, 16, 1, patch_size=16)
    model = keras_vit.ViT(variant, image_size=32, num_classes=1000)
    keras_vit.export_checkpoint(model, tmp_path / "m.npz", format="official")
    found = Checkpoint(tmp_path / "m.npz", num_classes=1000)
    assert found.describe()[0].class_names[2] == "great_white_shark"
    alone = Checkpoint.locate(tmp_path / "m.npz")
    assert alone.describe()[0].class_names is None
