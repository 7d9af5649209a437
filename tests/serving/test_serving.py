"""Models out to serving: each file, run in its own runtime (faults case 39)."""

import dataclasses
import importlib.util
import json

import keras
import numpy as np
import pytest

import keras_vit
from keras_vit.layers import MLP, SelfAttention, TransformerBlock
from keras_vit.serving.export import PAIRS, RUNTIMES, SUFFIXES

BACKEND = keras.backend.backend()
WRITABLE = [name for name in PAIRS if BACKEND in PAIRS[name]]

# What converters and runtimes say of themselves is not ours to mend.
pytestmark = pytest.mark.filterwarnings("ignore")


def need(format):
    for module in PAIRS[format][BACKEND]:
        if importlib.util.find_spec(module) is None:
            pytest.skip(f"{module} is not installed: keras3-vit[export]")


def everything(tiny_vit):
    """Most layers at once: what converts here converts alone."""

    def block(index):
        if index == 0:
            return TransformerBlock(4, 32, activation="gelu")
        return TransformerBlock(
            attention=SelfAttention(4, qk_norm=True),
            mlp=MLP(32, activation="swiglu"),
            layer_scale=0.1,
        )

    return tiny_vit(
        block=block,
        num_registers=2,
        pooling="attention",
        position="learned_2d",
        representation_dim=8,
    )


@pytest.mark.parametrize("format", WRITABLE)
def test_a_file_computes_what_the_model_does(format, tiny_vit, rng, tmp_path):
    need(format)
    model = everything(tiny_vit)
    path = tmp_path / f"model{SUFFIXES[format]}"
    assert keras_vit.export(model, path, format) == path
    run = RUNTIMES[format](path)
    for batch in (1, 3):  # neither is the batch it was traced with
        images = rng.uniform(0, 255, (batch, 8, 12, 3)).astype("float32")
        expected = keras_vit.predict(model, images, verbose=0)
        np.testing.assert_allclose(run(images), expected, atol=1e-5)
    # Nothing is left beside the file but what belongs to it.
    assert {file.stem for file in tmp_path.iterdir()} == {"model"}


@pytest.mark.parametrize("format", ["saved_model", "onnx"])
def test_a_model_for_any_size_stays_one(format, tiny_vit, rng, tmp_path):
    if BACKEND == "torch":
        with pytest.raises(ValueError, match="images of one size"):
            keras_vit.export(tiny_vit(image_size=None), tmp_path / "model.pt2")
        return
    if (BACKEND, format) == ("jax", "onnx"):
        pytest.skip("jax2onnx has no ranges of unknown size")
    need(format)
    model = tiny_vit(image_size=None)
    path = tmp_path / f"model{SUFFIXES[format]}"
    keras_vit.export(model, path, format, image_size=(8, 12))
    run = RUNTIMES[format](path)
    images = rng.uniform(0, 255, (2, 16, 4, 3)).astype("float32")
    expected = keras_vit.predict(model, images, verbose=0)
    np.testing.assert_allclose(run(images), expected, atol=1e-5)


def metadata(path, format):
    if format == "onnx":
        import onnxruntime

        session = onnxruntime.InferenceSession(str(path))
        (output,) = session.get_outputs()
        assert output.name == "head"
        return session.get_modelmeta().custom_metadata_map
    return json.loads(
        (path / "assets.extra" / "keras_vit.json").read_text("utf-8")
    )


@pytest.mark.parametrize(
    "format", [f for f in ("saved_model", "onnx") if f in WRITABLE]
)
def test_a_file_says_what_it_is_of(format, tiny_vit, tmp_path, rng):
    need(format)
    own = keras_vit.Preprocessing(
        (0.4, 0.5, 0.6), (0.2, 0.3, 0.4), 0.9, "bicubic", "squash"
    )
    model = tiny_vit(preprocessing=own)
    names = ["cat", "dog", "Käfer", "eel", "fox"]
    path = tmp_path / f"model{SUFFIXES[format]}"
    keras_vit.export(keras_vit.name_classes(model, names), path)
    found = {k: json.loads(x) for k, x in metadata(path, format).items()}
    assert found == {
        "image_size": [8, 12],
        "data_format": "channels_last",
        "output": "linear",
        "pixels": [0, 255],
        "preprocessing": json.loads(json.dumps(dataclasses.asdict(own))),
        "class_names": names,
    }
    # The statistics are within, by the formula: prepared by hand, pixels give
    # the same in a model without them.
    plain = tiny_vit(preprocessing=None)
    plain.set_weights(model.get_weights())
    images = rng.uniform(0, 255, (2, 8, 12, 3)).astype("float32")
    prepared = (images / 255 - np.array(own.mean)) / np.array(own.std)
    expected = keras_vit.predict(plain, prepared.astype("float32"), verbose=0)
    given = RUNTIMES[format](path)(images)
    np.testing.assert_allclose(given, expected, atol=1e-4)


@pytest.mark.parametrize("format", [f for f in PAIRS if f not in WRITABLE])
def test_a_pair_that_does_not_exist_names_one_that_does(
    format, tiny_vit, tmp_path
):
    path = tmp_path / f"model{SUFFIXES[format]}"
    (backend, *_) = PAIRS[format]
    with pytest.raises(ValueError, match=f"KERAS_BACKEND={backend}") as error:
        keras_vit.export(tiny_vit(), path, format)
    assert f"backend={BACKEND!r}" in str(error.value)
    assert not list(tmp_path.iterdir())


def test_a_file_that_computes_something_else_is_not_kept(
    tiny_vit, tmp_path, monkeypatch
):
    format = WRITABLE[0]
    need(format)
    path = tmp_path / f"model{SUFFIXES[format]}"
    run = RUNTIMES[format]
    monkeypatch.setitem(
        RUNTIMES, format, lambda path: lambda x: run(path)(x) + 0.1
    )
    model = tiny_vit()
    with pytest.raises(ValueError, match="computes something else"):
        keras_vit.export(model, path)
    assert not list(tmp_path.iterdir())
    keras_vit.export(model, path, tolerance=1)
    assert path.exists()


def test_arguments_are_checked(tiny_vit, tmp_path, monkeypatch):
    model = tiny_vit()
    with pytest.raises(ValueError, match=r"must end in \.onnx"):
        keras_vit.export(model, tmp_path / "model.pb", "onnx")
    with pytest.raises(ValueError, match="`format` must be one of"):
        keras_vit.export(model, tmp_path / "model", "caffe")
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(ImportError, match=r"pip install.*\[export\]"):
        keras_vit.export(model, tmp_path / "model.onnx")
