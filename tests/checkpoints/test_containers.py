"""Weights in several files, in files of PyTorch, and behind wrappers."""

import json
import pathlib
import pickle

import numpy as np
import pytest
import safetensors.numpy
from helpers import outputs_of

import keras_vit
from keras_vit.checkpoints.containers import open_weights


@pytest.fixture
def exported(tiny_vit, tmp_path):
    """A model, a folder of timm with its weights, and they as arrays."""
    model = tiny_vit(activation="gelu", image_size=8)
    keras_vit.export_checkpoint(model, tmp_path, format="timm")
    file = tmp_path / "model.safetensors"
    return model, file, safetensors.numpy.load_file(file)


def assert_opens(source, model, rng):
    again = keras_vit.from_checkpoint(source, verbose=0)
    images = rng.uniform(0, 255, (2, 8, 8, 3))
    np.testing.assert_array_equal(
        outputs_of(again, images), outputs_of(model, images)
    )


def split(file, arrays, parts=3):
    """Writes `arrays` as Hugging Face does, removing the one file."""
    file.unlink()
    where = {}
    for part in range(parts):
        name = f"model-{part + 1:05d}-of-{parts:05d}.safetensors"
        own = {key: arrays[key] for key in sorted(arrays)[part::parts]}
        safetensors.numpy.save_file(own, file.with_name(name))
        where |= dict.fromkeys(own, name)
    index = file.with_name("model.safetensors.index.json")
    index.write_text(
        json.dumps({"metadata": {}, "weight_map": where}), encoding="utf-8"
    )
    return index


def test_several_files(exported, rng):
    model, file, arrays = exported
    index = split(file, arrays)
    assert_opens(file.parent, model, rng)
    assert_opens(index, model, rng)


def test_a_missing_part_is_named(exported):
    _, file, arrays = exported
    index = split(file, arrays)
    file.with_name("model-00002-of-00003.safetensors").unlink()
    with pytest.raises(keras_vit.CheckpointError, match="00002.*is missing"):
        keras_vit.from_checkpoint(index)


@pytest.mark.parametrize(
    "text",
    ["{", "[]", "{}", '{"weight_map": 3}', '{"weight_map": {"a": 1}}'],
)
def test_an_index_that_is_none(text, tmp_path):
    index = tmp_path / "model.safetensors.index.json"
    index.write_text(text, encoding="utf-8")
    with pytest.raises(keras_vit.CheckpointError, match=r"index\.json"):
        open_weights(index)


@pytest.mark.parametrize("name", ["../b", "/b", "a\\b", "C:b", "..", "."])
def test_an_index_that_points_elsewhere(name, tmp_path):
    index = tmp_path / "model.safetensors.index.json"
    index.write_text(json.dumps({"weight_map": {"a": name}}), "utf-8")
    with pytest.raises(keras_vit.CheckpointError, match="outside its folder"):
        open_weights(index)


def test_an_index_that_lies(exported):
    _, file, arrays = exported
    index = split(file, arrays)
    content = json.loads(index.read_text("utf-8"))
    content["weight_map"]["norm.gain"] = "model-00001-of-00003.safetensors"
    index.write_text(json.dumps(content), encoding="utf-8")
    with pytest.raises(keras_vit.CheckpointError, match="'norm.gain'"):
        open_weights(index)


@pytest.mark.parametrize(
    "wrapper",
    ["module.", "_orig_mod.", "model.", "backbone.", "module.encoder.net."],
)
def test_wrappers(wrapper, exported, rng):
    model, file, arrays = exported
    safetensors.numpy.save_file(
        {wrapper + key: value for key, value in arrays.items()}, file
    )
    with open_weights(file) as opened:
        assert set(opened.shapes) == set(arrays) and not opened.left_out
    assert_opens(file.parent, model, rng)


def test_a_trunk_beside_other_parts(exported, rng):
    """DINO's teacher: the projection head is nobody's."""
    model, file, arrays = exported
    trunk = {f"module.backbone.{key}": x for key, x in arrays.items()}
    head = {"module.head.mlp.0.weight": np.ones((2, 2), "float32")}
    safetensors.numpy.save_file(trunk | head, file)
    with pytest.warns(UserWarning, match="also holds 'head': left out"):
        assert_opens(file.parent, model, rng)


def test_a_second_head_is_named(exported):
    """Two heads for as many classes look alike in a message."""
    model, file, arrays = exported
    second = {
        f"head_dist.{part}": arrays[f"head.{part}"]
        for part in ("weight", "bias")
    }
    safetensors.numpy.save_file(arrays | second, file)
    with pytest.warns(UserWarning, match="distillation token.*'head_dist"):
        keras_vit.load_checkpoint(model, file)


def test_whole_numbers_of_an_optimizer(tiny_vit, tmp_path, rng):
    """big_vision saves the parameters with the state of optax around."""
    model = tiny_vit(image_size=8)
    file = keras_vit.export_checkpoint(model, tmp_path / "m.npz", "big_vision")
    arrays = {f"params/{key}": x for key, x in np.load(file).items()}
    np.savez(file, **arrays, **{"opt/0/count": np.int32(1000)})
    assert_opens(file, model, rng)


@pytest.mark.parametrize("inside", [(), ("state_dict",), ("model", "module")])
def test_files_of_pytorch(inside, exported, rng):
    torch = pytest.importorskip("torch")
    model, file, arrays = exported
    content = {key: torch.from_numpy(value) for key, value in arrays.items()}
    for name in reversed(inside):
        content = {name: content, "epoch": 3, "optimizer": {"lr": 0.1}}
    path = file.with_name("checkpoint.pth")
    torch.save(content, path)
    assert_opens(path, model, rng)


def test_nothing_of_a_pickle_is_run(tmp_path):
    pytest.importorskip("torch")
    ran = tmp_path / "ran"

    class Hostile:
        def __reduce__(self):
            return pathlib.Path.touch, (ran,)

    path = tmp_path / "model.pth"
    path.write_bytes(pickle.dumps({"a": Hostile(), "b": Hostile()}))
    with pytest.raises(keras_vit.CheckpointError, match="could run any"):
        open_weights(path)
    assert not ran.exists()


def test_without_pytorch_it_says_how_to_convert(exported, monkeypatch):
    torch = pytest.importorskip("torch")
    _, file, arrays = exported
    path = file.with_name("model.pth")
    torch.save({k: torch.from_numpy(v) for k, v in arrays.items()}, path)
    monkeypatch.setitem(__import__("sys").modules, "torch", None)
    with pytest.raises(keras_vit.CheckpointError, match="Convert it"):
        open_weights(path)
