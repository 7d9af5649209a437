"""The weights that come with the package, and what their card says of them."""

import csv
import importlib.util
import json
import pathlib
import subprocess
import sys
import warnings
import zipfile

import keras
import numpy as np
import pytest
from helpers import SHARED, environment
from safetensors import safe_open

import keras_vit
from keras_vit.checkpoints import load

FOLDER = pathlib.Path(keras_vit.__file__).parent / "checkpoints" / "cifar100"
FILE = FOLDER / "model.safetensors"
ROOT = pathlib.Path(__file__).parents[2]

PREDICT = """
import sys
import numpy as np
import keras_vit
model = keras_vit.ViT("R20+Mi/4", weights="cifar100")
images = np.load(sys.argv[1])
np.save(sys.argv[2], keras_vit.predict(model, images, verbose=0))
"""

# An audit hook sees every file that the interpreter or a library opens.
WATCH = """
import sys
opened = []
sys.addaudithook(
    lambda event, args: event == "open" and opened.append(str(args[0]))
)
import keras_vit
keras_vit.presets()
assert len(opened) > 100
assert not [path for path in opened if path.endswith(".safetensors")]
"""


ACCURACY = """
import numpy as np
import keras_vit
_, (images, labels) = keras_vit.data.load("cifar100")
model = keras_vit.ViT("R20+Mi/4", weights="cifar100")
logits = keras_vit.predict(model, images, batch_size=250, verbose=0)
print(float(np.mean(logits.argmax(-1) == labels)))
"""

# Three thousand of the test images: enough for differences of ten points.
FEW_SHOT = """
import keras
import keras_vit
train, (images, labels) = keras_vit.data.load("cifar10")
test = images[:3000], labels[:3000]
keras.utils.set_random_seed(1)
flat = [(x.reshape(len(x), -1) / 255, y) for x, y in (train, test)]
print([
    keras_vit.few_shot(
        model, *data, (5, 25), batch_size=250, verbose=0
    ).accuracies.mean(axis=1).tolist()
    for model, data in (
        (keras_vit.ViT("R20+Mi/4", weights="cifar100"), (train, test)),
        (keras_vit.ViT("R20+Mi/4", image_size=32), (train, test)),
        (None, flat),
    )
])
"""

needs_cifar = pytest.mark.skipif(
    not (SHARED / "data" / "cifar100.npz").is_file(),
    reason="no ../shared/data beside this clone",
)


def model():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        return keras_vit.ViT("R20+Mi/4", weights="cifar100")


def images_like_photos(rng):
    """Large soft patches of colour: random pixels all look alike."""
    coarse = rng.uniform(0, 255, (8, 4, 4, 3))
    return coarse.repeat(8, axis=1).repeat(8, axis=2).astype("float32")


def test_it_is_listed_first_and_is_in_the_package():
    preset = keras_vit.presets()[0]
    assert preset.name == "cifar100:R20+Mi/4"
    assert preset.location == FILE
    assert FILE.stat().st_size <= 6_000_000
    with safe_open(FILE, "np") as arrays:
        names = list(arrays.keys())
        assert {arrays.get_slice(name).get_dtype() for name in names} == {"F16"}
        count = sum(arrays.get_tensor(name).size for name in names)
    assert (
        count
        == json.loads((FOLDER / "settings.json").read_text("utf-8"))[
            "parameters"
        ]
    )


def test_its_size_and_classes_need_not_be_said(tmp_path, monkeypatch):
    monkeypatch.setenv("KERAS_VIT_HOME", str(tmp_path / "cache"))
    network = model()
    assert network.input_shape == (None, 32, 32, 3)
    assert network.output_shape == (None, 100)
    assert not list(tmp_path.iterdir())
    with pytest.warns(UserWarning, match="10 classes"):
        network = keras_vit.ViT(
            "R20+Mi/4", image_size=48, num_classes=10, weights="cifar100"
        )
    assert network.input_shape == (None, 48, 48, 3)
    assert network.output_shape == (None, 10)


@pytest.mark.parametrize(
    "arguments", [{"image_size": "large"}, {"num_classes": 0}]
)
def test_bad_arguments_are_told_before_a_download(arguments, monkeypatch):
    def fetch(*_):
        raise AssertionError("it was downloaded")

    monkeypatch.setattr(load, "fetch", fetch)
    with pytest.raises(ValueError, match=f"`{next(iter(arguments))}`"):
        keras_vit.ViT("B/16", weights="augreg_i21k", **arguments)


@pytest.mark.parametrize("other", ["tensorflow", "jax", "torch"])
def test_logits_are_the_same_everywhere(other, rng, tmp_path):
    if other == keras.backend.backend():
        pytest.skip("the backend of this process")
    if importlib.util.find_spec(other) is None:
        pytest.skip(f"{other} is not installed")
    images = images_like_photos(rng)
    np.save(tmp_path / "images.npy", images)
    subprocess.run(
        [sys.executable, "-c", PREDICT, "images.npy", "logits.npy"],
        cwd=tmp_path,
        env=environment(other),
        check=True,
        timeout=240,
    )
    expected = keras_vit.predict(model(), images, verbose=0)
    assert expected.std() > 0.5  # it does tell them apart
    given = np.load(tmp_path / "logits.npy")
    np.testing.assert_allclose(given, expected, atol=1e-4)


def test_import_does_not_open_it():
    subprocess.run(
        [sys.executable, "-c", WATCH],
        env=environment(keras.backend.backend()),
        check=True,
        timeout=240,
    )


def test_the_card_has_the_figures_and_the_log_all_epochs():
    figures = json.loads((FOLDER / "figures.json").read_text("utf-8"))
    settings = json.loads((FOLDER / "settings.json").read_text("utf-8"))
    card = (FOLDER / "README.md").read_text("utf-8")
    assert f"| {100 * figures['accuracy']:.2f} % |" in card
    assert figures["accuracy"] >= 0.5
    preset = keras_vit.presets()[0]
    assert preset.accuracy == round(100 * figures["accuracy"], 2)
    for size in (48, 64):
        after = figures[f"{size} pixels"]["after"]
        assert after > figures["accuracy"] - 0.03
        assert f"{100 * after:.1f}" in card
    with (FOLDER / "log.csv").open() as file:
        epochs = [int(row["epoch"]) for row in csv.DictReader(file)]
    assert epochs == list(range(settings["epochs"]))


def run(code):
    """Runs a program like a user's, without what makes tests quick here."""
    output = subprocess.run(
        [sys.executable, "-c", code],
        env=environment(
            keras.backend.backend(), KERAS_VIT_DATA=str(SHARED / "data")
        ),
        check=True,
        stdout=subprocess.PIPE,
        text=True,
        timeout=280,
    ).stdout
    return json.loads(output.splitlines()[-1])


@pytest.mark.slow
@needs_cifar
def test_accuracy_on_the_test_set_is_that_of_the_card():
    accuracy = run(ACCURACY)
    figures = json.loads((FOLDER / "figures.json").read_text("utf-8"))
    assert accuracy >= 0.5
    # Other backends round the last digit otherwise: a few images of 10,000.
    assert abs(accuracy - figures["accuracy"]) <= 0.002


@pytest.mark.slow
@needs_cifar
def test_few_shots_are_worth_more_with_it():
    """Classes that it never saw, against the untrained network and pixels."""
    pretrained, untrained, pixels = np.array(run(FEW_SHOT))
    chance = 0.1
    assert (pretrained - chance >= 2 * (untrained - chance)).all()
    assert (pretrained - chance >= 1.5 * (pixels - chance)).all()
    assert (pretrained >= 1.5 * pixels).all()


@pytest.mark.slow
def test_the_wheel_is_small_and_holds_it(tmp_path):
    pytest.importorskip("hatchling")
    subprocess.run(
        [sys.executable, "-m", "hatchling", "build", "-t", "wheel"]
        + ["-d", str(tmp_path)],
        cwd=ROOT,
        check=True,
        capture_output=True,
        timeout=240,
    )
    (wheel,) = tmp_path.glob("*.whl")
    assert wheel.stat().st_size < 8_000_000
    with zipfile.ZipFile(wheel) as archive:
        inside = "keras_vit/checkpoints/cifar100/"
        assert archive.read(f"{inside}model.safetensors") == FILE.read_bytes()
        assert archive.read(f"{inside}README.md")
