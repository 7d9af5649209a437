"""What version 0.1.0 wrote still loads, and computes what it did then.

The files in `v0_1_0` and what they were made of: `write.py`. The numbers were
computed on JAX.
"""

import json
import pathlib
import subprocess
import sys
import zipfile

import keras
import numpy as np
import pytest

import keras_vit

FOLDER = pathlib.Path(__file__).parent / "v0_1_0"
EXPECTED = np.load(FOLDER / "expected.npz")
REGISTERED = (FOLDER / "registered.txt").read_text("utf-8").split()
FILES = sorted(path.stem for path in FOLDER.glob("*.keras"))
OF_KERAS_HUB = "hub_backbone"
MODELS = [name for name in FILES if name != OF_KERAS_HUB]
COMPILED = [name for name in MODELS if f"{name}/optimizer" in EXPECTED]
STEPPED = [name for name in COMPILED if f"{name}/labels" in EXPECTED]

# Largest errors, in units of the largest number that is expected.
FLOAT32 = 1e-5
TOLERANCES = {
    # Eight and eleven bits: backends round in other places.
    "mixed_bfloat16": 0.03,
    "compiled_mixed_float16": 3e-3,
    # A number that lies between two of 255 levels may fall to either.
    "int8": 0.01,
    "int4": 0.01,
}
# Adam divides by small gradients, and with them by their rounding.
ANOTHER_STEP = 1e-4


def expected_of(name):
    """What is stored for a file, by the name of what it is."""
    prefix = f"{name}/"
    return {
        key.removeprefix(prefix): EXPECTED[key]
        for key in EXPECTED.files
        if key.startswith(prefix)
    }


def load(name):
    model = keras.saving.load_model(FOLDER / f"{name}.keras", safe_mode=True)
    if keras.backend.backend() != "jax":
        # Compiled for JAX. To trace takes seconds, and a C++ compiler.
        model.jit_compile = False
        model.run_eagerly = True
    return model


def outputs_of(model, images):
    if keras.backend.backend() == "jax":
        return model.predict_on_batch(images)
    outputs = model(images, training=False)
    return keras.tree.map_structure(keras.ops.convert_to_numpy, outputs)


def assert_close(given, expected, tolerance):
    assert given.shape == expected.shape
    atol = tolerance * np.abs(expected).max()
    np.testing.assert_allclose(given, expected, rtol=0, atol=atol)


def check_outputs(model, expected, tolerance=FLOAT32):
    outputs = outputs_of(model, expected["images"].astype("float32"))
    if "by_draw" in expected:
        # One patch of two is drawn in each image.
        drawn = outputs["corrupted"][:, 0].argmax(axis=-1)
        predictions = expected["by_draw"][drawn, np.arange(len(drawn))]
        assert_close(outputs["predictions"], predictions, tolerance)
        assert_close(outputs["targets"], expected["targets"], tolerance)
        assert outputs["corrupted"].sum() == len(drawn)
    elif isinstance(outputs, dict):
        parts = {f"outputs/{key}": value for key, value in outputs.items()}
        assert parts.keys() == {x for x in expected if x.startswith("outputs")}
        for key, value in parts.items():
            assert_close(value, expected[key], tolerance)
    else:
        assert_close(outputs, expected["outputs"], tolerance)


@pytest.mark.parametrize("name", MODELS)
def test_model_loads_and_computes_what_it_did(name):
    expected = expected_of(name)
    model = load(name)
    if "counts" in expected:
        counts = [len(model.weights), len(model.trainable_weights)]
        assert counts == list(expected["counts"])
    check_outputs(model, expected, TOLERANCES.get(name, FLOAT32))


@pytest.mark.parametrize("name", COMPILED)
def test_optimizer_comes_back(name):
    model = load(name)
    numbers = [
        keras.ops.convert_to_numpy(variable).ravel()
        for variable in model.optimizer.variables
    ]
    given = np.concatenate(numbers).astype("float32")
    np.testing.assert_array_equal(given, EXPECTED[f"{name}/optimizer"])


@pytest.mark.parametrize("name", STEPPED)
def test_training_goes_on(name):
    """Loss, metrics, schedule, decay and rates of layers are in the step."""
    expected = expected_of(name)
    tolerance = max(TOLERANCES.get(name, FLOAT32), ANOTHER_STEP)
    model = load(name)
    images = expected["images"].astype("float32")
    logs = model.train_on_batch(images, expected["labels"], return_dict=True)
    logs = {f"logs/{key}": np.array(value) for key, value in logs.items()}
    assert logs.keys() == {key for key in expected if key.startswith("logs/")}
    for key, value in logs.items():
        assert_close(value, expected[key], tolerance)
    assert_close(outputs_of(model, images), expected["next_outputs"], tolerance)


@pytest.mark.parametrize(
    "file",
    [
        "vit.weights.h5",
        "checkpoints/official.npz",
        "checkpoints/big_vision.npz",
        "checkpoints/timm/model.safetensors",
        "checkpoints/huggingface/model.safetensors",
    ],
)
def test_weights_load_into_a_model_built_anew(file):
    variant = keras_vit.Variant(2, 8, 16, 2, patch_size=4)
    model = keras_vit.ViT(variant, image_size=(8, 12), num_classes=3)
    if file.endswith(".weights.h5"):
        model.load_weights(FOLDER / file)
    else:
        keras_vit.load_checkpoint(model, FOLDER / file)
    check_outputs(model, expected_of("weights"))


def test_backbone_of_keras_hub_loads():
    pytest.importorskip("keras_hub")
    import keras_vit.hub

    model = load(OF_KERAS_HUB)
    assert isinstance(model, keras_vit.hub.Backbone)
    check_outputs(model, expected_of(OF_KERAS_HUB))


def test_each_class_is_still_registered():
    """By `import keras_vit` alone, hence in a process of its own."""
    code = f"""
import keras, keras_vit
for name in {REGISTERED}:
    thing = keras.saving.get_registered_object(name)
    assert thing is not None, name
    assert "keras_vit>" + thing.__name__ == name, thing
"""
    subprocess.run([sys.executable, "-c", code], check=True, timeout=120)


def test_each_registered_class_is_in_a_file():
    def named_in(value):
        if isinstance(value, dict):
            named = {value.get("registered_name")}
            return named.union(*map(named_in, value.values()))
        if isinstance(value, list):
            return set().union(*map(named_in, value))
        return set()

    named = set()
    for name in MODELS:
        with zipfile.ZipFile(FOLDER / f"{name}.keras") as archive:
            named |= named_in(json.loads(archive.read("config.json")))
    assert {x for x in named if x and x.startswith("keras_vit>")} == set(
        REGISTERED
    )
