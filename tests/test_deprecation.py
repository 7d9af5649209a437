"""Old names still work, and say what to write."""

import re

import numpy as np
import pytest

import keras_vit
from keras_vit._deprecation import renamed_argument

MOVED = {
    "Cost": "costs.Cost",
    "change_patch_size": "resize.change_patch_size",
    "check_labels": "data.check_labels",
    "datasets": "data",
    "enable_lora": "transfer_learning.enable_lora",
    "masked_patch_model": "pretraining.masked_patch_model",
    "parse_variant": "variants.parse_variant",
    "vtab": "transfer_learning.vtab",
}


@pytest.mark.parametrize("old, new", MOVED.items())
def test_an_old_name_is_the_new_thing(old, new):
    expected = keras_vit
    for part in new.split("."):
        expected = getattr(expected, part)
    with pytest.warns(DeprecationWarning, match=f"is now `keras_vit.{new}`"):
        assert getattr(keras_vit, old) is expected


def test_every_old_name_leads_somewhere():
    names = keras_vit._MOVED
    assert len(names) == 28
    for old in names:
        with pytest.warns(DeprecationWarning):
            assert getattr(keras_vit, old) is not None
    assert not names.keys() & set(keras_vit.__all__)


def test_unknown_names_are_unknown():
    with pytest.raises(AttributeError, match="no attribute 'vit_b16'"):
        keras_vit.vit_b16  # noqa: B018


def test_a_renamed_argument_says_the_new_one():
    with pytest.warns(DeprecationWarning, match="`a` of `f` is now `b`"):
        assert renamed_argument("f", "a", "b", 3) == 3


@pytest.mark.parametrize("given, new", [(True, "'inception'"), (False, "None")])
def test_include_rescaling_is_preprocessing(given, new, tiny_vit):
    match = re.escape(f"is now `preprocessing={new}`")
    with pytest.warns(DeprecationWarning, match=match):
        model = tiny_vit(include_rescaling=given)
    assert ("rescaling" in [x.name for x in model.layers]) == given
    with pytest.raises(ValueError, match="replaced by `preprocessing`.*clip"):
        tiny_vit(include_rescaling="imagenet")


def test_preprocessing_takes_names_and_statistics(tiny_vit):
    own = keras_vit.Preprocessing((0.1, 0.2, 0.3), (0.4, 0.5, 0.6))
    model = tiny_vit(preprocessing=own)
    assert model.get_layer("rescaling").preprocessing == own
    with pytest.raises(ValueError, match="`preprocessing` must be one of"):
        tiny_vit(preprocessing="imagenets")
    with pytest.raises(ValueError, match="one number for each of 4 channels"):
        tiny_vit(preprocessing="clip", num_channels=4)
    for wrong in ((float("nan"), 1, 1), (1e30, 1, 1)):
        with pytest.raises(ValueError, match="`mean` must be numbers"):
            keras_vit.Preprocessing(wrong, np.ones(3))
