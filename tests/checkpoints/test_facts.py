"""What a configuration beside weights may state, and how to pass it over."""

import json
import pathlib
import re

import numpy as np
import pytest
from helpers import outputs_of

import keras_vit
from keras_vit.checkpoints import facts

NAN, INFINITY = float("nan"), float("inf")
BAD = {
    "id2label": [{"a": "cat"}, {"-1": "cat"}, {"0": 1}, [["cat"]], 0.5],
    "label_names": [True, 0.5, ["cat", 1]],
    "layer_norm_eps": [1e30, INFINITY, NAN, 0, -1e-6, "1e-6", [1e-6], True],
    "hidden_act": [["gelu"], {}, 3, "x" * 300],
    "image_size": [0, -8, 1e999, 8.0, "8", [], [None, 8], [8] * 4, 10**25],
    "num_attention_heads": [0, -1, 2.0, "2", [2], 10**9],
    "model_args": [[1], "x", 3],
    "vision_config": [[1], "x"],
    "model_type": [{"a": 1}, ["vit"]],
}


@pytest.fixture
def folder(tiny_vit, tmp_path):
    """A model, and the folder of transformers that it was written to."""
    model = tiny_vit(activation="gelu", epsilon=1e-12, image_size=8)
    keras_vit.export_checkpoint(model, tmp_path, format="huggingface")
    return model, tmp_path


@pytest.mark.parametrize(
    "name, value",
    [(name, value) for name, values in BAD.items() for value in values],
    ids=lambda x: str(x)[:20],
)
def test_what_cannot_be_is_not_believed(name, value, folder):
    model, folder = folder
    file = folder / "config.json"
    file.write_text(
        json.dumps(json.loads(file.read_text("utf-8")) | {name: value}), "utf-8"
    )
    match = f"{re.escape(str(file))}.*'{name}' must be .*read_config=False"
    with pytest.raises(keras_vit.CheckpointError, match=match):
        keras_vit.from_checkpoint(folder)
    with pytest.raises(keras_vit.CheckpointError, match=match):
        keras_vit.load_checkpoint(model, folder)


@pytest.mark.parametrize(
    "inside", [("model_args",), ("pretrained_cfg",), ("vision_config",)]
)
def test_facts_inside_of_others(inside, folder):
    _, folder = folder
    file = folder / "config.json"
    config = {"image_size": -1}
    for name in inside:
        config = {name: config}
    file.write_text(json.dumps(config), "utf-8")
    with pytest.raises(keras_vit.CheckpointError, match="'image_size' must"):
        keras_vit.from_checkpoint(folder)


def test_statistics_of_images(folder):
    _, folder = folder
    file = folder / "preprocessor_config.json"
    for bad in (
        {"image_mean": [[0.5]]},
        {"image_std": "x"},
        {"image_mean": {"a": 1}},
        {"resample": [2]},
        {"size": "x"},
        {"size": {"shortest_edge": 1e99}},
        {"crop_size": {"height": -1}},
    ):
        file.write_text(json.dumps(bad), "utf-8")
        with pytest.raises(keras_vit.CheckpointError, match="must be"):
            keras_vit.from_checkpoint(folder)


def test_statistics_for_other_channels_than_the_kernel(folder):
    _, folder = folder
    statistics = {"image_mean": [0.1, 0.2, 0.3, 0.4], "image_std": [1.0]}
    file = folder / "preprocessor_config.json"
    file.write_text(json.dumps(statistics), "utf-8")
    with pytest.raises(keras_vit.CheckpointError, match="model.safet.*`mean`"):
        keras_vit.from_checkpoint(folder, verbose=0)


@pytest.mark.parametrize("text", ["{", '{"layer_norm_eps": 1e30}'])
def test_a_configuration_is_passed_over(text, folder, rng):
    model, folder = folder
    for name in ("config.json", "preprocessor_config.json"):
        (folder / name).write_text(text, "utf-8")
    with pytest.raises(keras_vit.CheckpointError, match="read_config=False"):
        keras_vit.from_checkpoint(folder)
    again = keras_vit.from_checkpoint(
        folder,
        num_heads=4,
        preprocessing="inception",
        read_config=False,
        verbose=0,
    )
    keras_vit.load_checkpoint(again, folder, read_config=False)
    images = rng.uniform(0, 255, (2, 8, 8, 3))
    np.testing.assert_array_equal(
        outputs_of(again, images), outputs_of(model, images)
    )


def test_what_published_configurations_state():
    """The extremes among those of timm and transformers."""
    facts.check_facts(
        "config.json",
        {
            "layer_norm_eps": 1e-12,
            "rms_norm_eps": 1e-5,
            "image_size": [2560, 1920],
            "patch_size": [2, 16, 16],
            "hidden_act": None,
            "num_attention_heads": 48,
            "rope_theta": 100,
            "text_config": {"num_heads": "foreign"},
            "pretrained_cfg": {
                "input_size": [3, 1024, 1024],
                "crop_pct": 1.0,
                "mean": [0.0, 0.0, 0.0],
                "std": [0.0039, 1, 1],
                "interpolation": "bicubic",
            },
            "model_args": {
                "img_size": 4096,
                "rope_temperature": 10000.0,
                "rope_grid_offset": -1,
                "ref_feat_shape": [14, 14],
                "global_pool": "",
            },
        },
    )


def test_every_fact_that_formats_read_has_a_range():
    """Names in `.get("...")` of formats, but those that are only compared."""
    compared = {"do_normalize", "do_center_crop", "representation_dim"}
    of_models = {"num_registers", "layer", "norm_after", "file_grid", "epsilon"}
    of_models |= {"activation", "preprocessing", "num_heads", "cls_token"}
    of_models |= {"embedding"}
    of_arrays = {"head/kernel", "pre_logits/kernel"}
    folder = pathlib.Path(facts.__file__).parent
    files = [*folder.glob("formats/*.py"), folder / "configs.py"]
    read = {
        name
        for file in files
        for name in re.findall(
            r'\.get\(\s*"(\w+)"', file.read_text(encoding="utf-8")
        )
    }
    read |= set(
        re.findall(
            r'arguments\["(\w+)"\]',
            (folder / "formats" / "timm_eva.py").read_text(encoding="utf-8"),
        )
    )
    switches = {"use_post_norm", "use_rot_pos_emb", "rope_rotate_half"}
    unknown = read - set(facts.FACTS) - compared - of_models - of_arrays
    assert unknown == switches
