"""`vtab` over tiny tasks: what it asks for, resumes, refuses and learns."""

import inspect
import json
import sys

import numpy as np
import pytest

import keras_vit
from keras_vit.transfer_learning.vtab import _shuffled_passes
from keras_vit.transfer_learning.vtab_tasks import VTABTask

# Runs

THREE = ["dtd", "eurosat", "snorb-elev"]


class Loader:
    """Plain images of many sizes, as bright as their label."""

    def __init__(self, num_classes=2):
        self.num_classes = num_classes
        self.splits = []

    def __call__(self, task, split):
        self.splits.append((task.name, split))
        labels = np.arange(20 if split == "test" else 12) % self.num_classes
        return self.images(labels), labels

    def images(self, labels):
        for row, label in enumerate(labels):
            value = 20 + label * 200 // (self.num_classes - 1)
            yield np.full((5 + row, 7, 3), value, "uint8")


def brightness(task, train, test):
    """A method without a model: the nearest of the mean pixels."""
    assert train.images.dtype == np.uint8 and train.images.shape[1:] == (
        4,
        6,
        3,
    )
    means = [
        train.images[train.labels == label].mean()
        for label in np.unique(train.labels)
    ]
    found = []
    for index in range(len(test)):
        images, labels = test[index]
        pixels = images.reshape(len(images), -1).mean(axis=1)
        nearest = np.abs(pixels[:, None] - means).argmin(axis=1)
        found.append(nearest == labels)
    return np.concatenate(found).mean()


def test_runs_a_method_on_tasks(capsys):
    load = Loader()
    scores = keras_vit.transfer_learning.vtab(
        brightness, (4, 6), tasks=THREE, load=load, batch_size=8
    )
    assert scores.accuracies == dict.fromkeys(THREE, 1.0)
    assert load.splits == [
        (name, split) for name in THREE for split in ("train800val200", "test")
    ]
    lines = capsys.readouterr().out.splitlines()
    assert lines[1] == "[ 2/3] eurosat     100.0 %"


def test_run_goes_on_where_it_was_killed(tmp_path, capsys):
    path = tmp_path / "scores.json"
    done = []

    def killed(task, train, test):
        if task.name == THREE[2]:
            raise KeyboardInterrupt
        done.append(task.name)
        return 0.25

    arguments = {"tasks": THREE, "load": Loader(), "results": path}
    with pytest.raises(KeyboardInterrupt):
        keras_vit.transfer_learning.vtab(killed, (4, 6), **arguments)
    assert json.loads(path.read_text("utf-8"))["accuracies"] == {
        "dtd": 0.25,
        "eurosat": 0.25,
    }
    assert [file.name for file in tmp_path.iterdir()] == [path.name]

    def again(task, train, test):
        done.append(task.name)
        return 0.5

    load = arguments["load"] = Loader()
    scores = keras_vit.transfer_learning.vtab(again, (4, 6), **arguments)
    assert scores.accuracies == {"dtd": 0.25, "eurosat": 0.25, THREE[2]: 0.5}
    assert done == THREE
    assert {name for name, _ in load.splits} == {THREE[2]}
    # A few of the tasks in the file are asked for.
    some = keras_vit.transfer_learning.vtab(
        again, (4, 6), **{**arguments, "tasks": "dtd"}
    )
    assert some.accuracies == {"dtd": 0.25}
    with pytest.raises(ValueError, match=r"`results`.*\[4, 6\].*\[8, 8\]"):
        keras_vit.transfer_learning.vtab(again, 8, **arguments)
    for text in ("{", "[]", "{}"):
        path.write_text(text, encoding="utf-8")
        with pytest.raises(ValueError, match="a file that `vtab` wrote"):
            keras_vit.transfer_learning.vtab(again, (4, 6), **arguments)


def test_failure_names_the_task(tmp_path, capsys):
    def load(task, split):
        if task.name == "eurosat":
            raise OSError("no disk")
        return Loader()(task, split)

    arguments = {"tasks": THREE, "load": load, "results": tmp_path / "a.json"}
    with pytest.raises(OSError, match="no disk") as caught:
        keras_vit.transfer_learning.vtab(brightness, (4, 6), **arguments)
    assert caught.value.__notes__ == ["VTAB task 'eurosat' failed."]
    scores = keras_vit.transfer_learning.vtab(
        brightness, (4, 6), on_error="skip", **arguments
    )
    assert scores.accuracies == {"dtd": 1.0, "snorb-elev": 1.0}
    assert scores.failed == {"eurosat": "OSError: no disk"}
    assert "eurosat     failed: OSError" in capsys.readouterr().out
    # A task that failed is not noted, so it is tried again.
    arguments["load"] = Loader()
    assert (
        len(
            keras_vit.transfer_learning.vtab(
                brightness, (4, 6), **arguments
            ).accuracies
        )
        == 3
    )


def test_task_of_ones_own():
    task = VTABTask("shades", "natural", "none", 3, "validation", "test")
    scores = keras_vit.transfer_learning.vtab(
        brightness, (4, 6), tasks=task, load=Loader(3), verbose=0
    )
    assert scores.accuracies == {"shades": 1.0}
    assert scores.group_mean("natural") == 1.0


@pytest.mark.parametrize(
    "arguments, words",
    [
        ({"image_size": 0}, "image_size"),
        ({"splits": ("train", "test")}, "splits='train'"),
        ({"on_error": "ignore"}, "on_error='ignore'"),
        ({"data_dir": "data"}, "data_dir='data'"),
        ({"load": lambda task, split: ([], [10])}, r"\[0, 10\).*=10"),
        ({"method": lambda task, train, test: 77.6}, "accuracy.*77.6"),
    ],
)
def test_bad_arguments_are_named(arguments, words):
    arguments = {
        "method": brightness,
        "image_size": (4, 6),
        "tasks": "eurosat",
        "load": Loader(),
        **arguments,
    }
    with pytest.raises(ValueError, match=words):
        keras_vit.transfer_learning.vtab(**arguments)


def test_absence_of_tfds_names_the_extra(monkeypatch):
    monkeypatch.setitem(sys.modules, "tensorflow_datasets", None)
    with pytest.raises(ImportError, match=r"pip install.*\[vtab\]"):
        keras_vit.transfer_learning.vtab(brightness)


# Fine-tuning


def test_defaults_of_fine_tuning_are_table_4():
    row = keras_vit.recipes.FINETUNE["vtab"]
    parameters = inspect.signature(
        keras_vit.transfer_learning.vtab_finetuning
    ).parameters
    assert (parameters["steps"].default,) == row.steps
    assert (parameters["learning_rate"].default,) == row.learning_rates
    assert parameters["batch_size"].default == 512
    size = inspect.signature(keras_vit.transfer_learning.vtab).parameters[
        "image_size"
    ]
    assert (size.default,) == row.image_sizes


def test_batches_come_from_whole_passes():
    rows = _shuffled_passes(10, 34, seed=3)
    assert len(rows) == 34
    passes = [rows[:10], rows[10:20], rows[20:30]]
    assert all(sorted(order) == list(range(10)) for order in passes)
    assert len({tuple(order) for order in passes}) == 3
    assert len(set(rows[30:])) == 4
    np.testing.assert_array_equal(rows, _shuffled_passes(10, 34, seed=3))
    assert rows.tolist() != _shuffled_passes(10, 34, seed=4).tolist()


def test_fine_tuning_learns_and_takes_so_many_steps(tiny_vit):
    models = []

    def build(num_classes):
        models.append(tiny_vit(image_size=8, num_classes=num_classes))
        return models[-1]

    method = keras_vit.transfer_learning.vtab_finetuning(
        build,
        steps=16,
        learning_rate=1.0,
        batch_size=16,
        gradient_accumulation_steps=2,
        verbose=0,
    )
    scores = keras_vit.transfer_learning.vtab(
        method, 8, tasks="camelyon", load=Loader(), verbose=0
    )
    assert scores.accuracies == {"camelyon": 1.0}
    assert models[0].output_shape == (None, 2)
    # Two batches make a step.
    assert int(models[0].optimizer.iterations) == 16


def test_fine_tuning_checks_its_arguments(tiny_vit):
    with pytest.raises(ValueError, match="`batch_size` must be a multiple"):
        keras_vit.transfer_learning.vtab_finetuning(
            tiny_vit, batch_size=10, gradient_accumulation_steps=4
        )
    with pytest.raises(ValueError, match="`learning_rate`"):
        keras_vit.transfer_learning.vtab_finetuning(tiny_vit, learning_rate=0)
    method = keras_vit.transfer_learning.vtab_finetuning(
        lambda num_classes: tiny_vit(image_size=8, num_classes=7), steps=1
    )
    with pytest.raises(ValueError, match="2 classes.*7"):
        keras_vit.transfer_learning.vtab(
            method, 8, tasks="camelyon", load=Loader()
        )
