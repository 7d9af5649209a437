"""Folders of KerasHub, by a writer of its layout, and by KerasHub itself."""

import json

import h5py
import numpy as np
import pytest
from helpers import outputs_of, randomize, to_numpy
from opening import opened

import keras_vit
from keras_vit.anatomy import weights_by_path
from keras_vit.checkpoints.containers import open_weights

VARIANT = keras_vit.Variant(2, 32, 64, 4, patch_size=8)
BLOCK = "layers/vi_t_encoder/encoder_layers/vi_t_encoder_block"
FILE = "model.weights.h5"


def names_of(model):
    """From paths of our weights to where KerasHub has them."""
    first = "layers/vi_t_patching_and_embedding/"
    names = {
        "patch_encoder/cls_token": f"{first}vars/0",
        "patch_encoder/position_embedding/table":
            f"{first}position_embedding/vars/0",
        "patch_encoder/projection/kernel": f"{first}patch_embedding/vars/0",
        "patch_encoder/projection/bias": f"{first}patch_embedding/vars/1",
        "encoder_norm/gamma": "layers/vi_t_encoder/layer_norm/vars/0",
        "encoder_norm/beta": "layers/vi_t_encoder/layer_norm/vars/1",
    }  # fmt: skip
    parts = {
        "attention_norm": "layer_norm_1", "mlp_norm": "layer_norm_2",
        "mlp/hidden": "mlp/dense_1", "mlp/output": "mlp/dense_2",
    }  # fmt: skip
    for part in ("query", "key", "value", "output"):
        parts[f"attention/{part}"] = f"mha/{part}_dense"
    for index, number in enumerate(["", "_1"]):
        for ours, theirs in parts.items():
            for place, kinds in enumerate([("kernel", "gamma"),
                                           ("bias", "beta")]):  # fmt: skip
                for kind in kinds:
                    names[f"block_{index:02d}/{ours}/{kind}"] = (
                        f"{BLOCK}{number}/{theirs}/vars/{place}"
                    )
    tops = [
        name
        for name in ("pre_logits", "head")
        if f"{name}/kernel" in weights_by_path(model)
    ]
    for name, dense in zip(tops, ("dense", "dense_1")):
        names[f"{name}/kernel"] = f"task/layers/{dense}/vars/0"
        names[f"{name}/bias"] = f"task/layers/{dense}/vars/1"
    return names


def write(folder, model, task=None):
    """Writes a model as KerasHub's `save_to_preset` does."""
    names = names_of(model)
    task_file = folder / "task.weights.h5"
    with (
        h5py.File(folder / FILE, "w") as file,
        h5py.File(task_file, "w") as top,
    ):
        for path, weight in weights_by_path(model).items():
            array, name = to_numpy(weight), names[path]
            if path == "patch_encoder/projection/kernel":
                array = array.reshape(8, 8, 3, 32)
            if path == "patch_encoder/cls_token":
                array = array.reshape(1, 1, 32)
            inside = file
            if name.startswith("task/"):
                name, inside = name.removeprefix("task/"), top
            inside[name] = array
        top["optimizer/vars/0"] = np.int64(3)
    backbone = {"image_shape": [32, 16, 3], "layer_norm_epsilon": 1e-3}
    backbone = {"class_name": "ViTBackbone", "config": backbone}
    (folder / "config.json").write_text(json.dumps(backbone), "utf-8")
    if "head/kernel" in weights_by_path(model):
        config = {"backbone": backbone, "pooling": "token"} | (task or {})
        task = {"class_name": "ViTImageClassifier", "config": config}
        (folder / "task.json").write_text(json.dumps(task), "utf-8")
    else:
        task_file.unlink()
    converter = {
        "scale": [1 / (255 * x) for x in (0.229, 0.224, 0.225)],
        "offset": [-0.485 / 0.229, -0.456 / 0.224, -0.406 / 0.225],
        "interpolation": "bicubic",
    }
    converter = {"class_name": "ViTImageConverter", "config": converter}
    (folder / "image_converter.json").write_text(json.dumps(converter), "utf-8")


def make(rng, **arguments):
    model = keras_vit.ViT(
        VARIANT,
        **{
            "image_size": (32, 16), "num_classes": None, "activation": "gelu",
            "epsilon": 1e-3, "preprocessing": "imagenet", **arguments,
        },
    )  # fmt: skip
    randomize(model, rng)
    return model


@pytest.mark.parametrize(
    "arguments",
    [
        {},
        {"num_classes": 5},
        {"num_classes": 5, "representation_dim": 24},
        {"pooling": "average"},
    ],
)
def test_a_folder_opens_as_it_was_written(arguments, rng, tmp_path):
    model = make(rng, **arguments)
    task = {}
    if arguments.get("pooling") == "average":
        task = {"pooling": "gap"}
    write(tmp_path, model, task)
    images = rng.integers(0, 256, (2, 32, 16, 3)).astype("uint8")
    same, notes = opened(tmp_path)
    assert notes == ""
    expected = outputs_of(model, images)
    largest = np.abs(expected).max()
    np.testing.assert_allclose(
        outputs_of(same, images), expected, atol=1e-5 * largest
    )
    # The arguments are those of the file, and a load is whole or none.
    keras_vit.load_checkpoint(same, tmp_path)
    other = make(rng, **arguments | {"epsilon": 1e-6})
    with pytest.raises(keras_vit.CheckpointError, match=r"epsilon=0\.001"):
        keras_vit.load_checkpoint(other, tmp_path)


@pytest.mark.parametrize(
    "pooling, task, said",
    [
        ("token", {"pooling": "gap"}, "averages all tokens"),
        ("average", {"pooling": "token"}, "takes the first patch"),
    ],
)
def test_poolings_that_no_vit_has(pooling, task, said, rng, tmp_path):
    write(tmp_path, make(rng, num_classes=5, pooling=pooling), task)
    with pytest.raises(keras_vit.CheckpointError, match=said):
        keras_vit.from_checkpoint(tmp_path)


def test_a_head_that_ends_in_probabilities(rng, tmp_path):
    write(tmp_path, make(rng, num_classes=5), {"activation": "softmax"})
    _, notes = opened(tmp_path)
    assert "'softmax'" in notes and "logits" in notes


def soft_link(file, elsewhere):
    file["layers/link"] = h5py.SoftLink(f"/{BLOCK}")


def external_link(file, elsewhere):
    file["layers/link"] = h5py.ExternalLink(str(elsewhere), "/data")


def virtual(file, elsewhere):
    layout = h5py.VirtualLayout((4,), "f8")
    layout[:] = h5py.VirtualSource(str(elsewhere), "data", (4,))
    file.create_virtual_dataset("layers/far", layout)


def external_data(file, elsewhere):
    file.create_dataset(
        "layers/far", (4,), "f8", external=[(str(elsewhere), 0, 32)]
    )


def huge(file, elsewhere):
    file.create_dataset("layers/bomb", (2**50,), "f4")


def packed(file, elsewhere):
    file.create_dataset("layers/bomb", data=np.zeros(2**20), compression="gzip")


def whole_numbers(file, elsewhere):
    file["layers/count"] = np.arange(3)


def circle(file, elsewhere):
    file["layers/again"] = file["/"]


@pytest.mark.parametrize(
    "spoil, said",
    [
        (soft_link, "points at something else at 'layers/link'"),
        (external_link, "points at something else at 'layers/link'"),
        (virtual, "'layers/far' elsewhere"),
        (external_data, "'layers/far' elsewhere"),
        (huge, "lies about 'layers/bomb'"),
        (packed, "lies about 'layers/bomb'"),
        (whole_numbers, "no floats at 'layers/count'"),
        (circle, "holds no model"),
    ],
)
def test_what_points_elsewhere_is_not_followed(spoil, said, rng, tmp_path):
    write(tmp_path, make(rng))
    with h5py.File(tmp_path / "elsewhere.h5", "w") as file:
        file["data"] = np.ones(4)
    with h5py.File(tmp_path / FILE, "a") as file:
        spoil(file, tmp_path / "elsewhere.h5")
    with pytest.raises(keras_vit.CheckpointError, match=said):
        open_weights(tmp_path / FILE)


@pytest.mark.parametrize("part", [0.2, 0.9])
def test_truncated(part, rng, tmp_path):
    write(tmp_path, make(rng))
    content = (tmp_path / FILE).read_bytes()
    (tmp_path / FILE).write_bytes(content[: int(len(content) * part)])
    with pytest.raises(keras_vit.CheckpointError, match="truncated or corrupt"):
        keras_vit.from_checkpoint(tmp_path)


def test_weights_that_keras_itself_saved(rng, tmp_path):
    make(rng).save_weights(tmp_path / FILE)
    with pytest.raises(keras_vit.CheckpointError, match="load_weights"):
        keras_vit.from_checkpoint(tmp_path)


@pytest.mark.parametrize("hidden", [None, 24])
def test_keras_hub_agrees(hidden, rng, tmp_path):
    keras_hub = pytest.importorskip("keras_hub")
    backbone = keras_hub.models.ViTBackbone(
        image_shape=(32, 16, 3), patch_size=8, num_layers=2, num_heads=4,
        hidden_dim=32, mlp_dim=64,
    )  # fmt: skip
    converter = keras_hub.layers.ViTImageConverter(
        image_size=(32, 16), scale=1 / 127.5, offset=-1
    )
    module = keras_hub.models.ViTImageClassifier(
        backbone,
        num_classes=5,
        intermediate_dim=hidden,
        preprocessor=keras_hub.models.ViTImageClassifierPreprocessor(converter),
    )
    randomize(module, rng)
    module.save_to_preset(str(tmp_path))
    model, notes = opened(tmp_path)
    assert notes == ""
    images = rng.uniform(0, 255, (2, 32, 16, 3)).astype("float32")
    # A call takes images as they come out of the converter.
    expected = to_numpy(module(images / 127.5 - 1))
    np.testing.assert_allclose(
        outputs_of(model, images), expected, atol=1e-5 * np.abs(expected).max()
    )
