"""`grid_search`: the held-out part, the table, and going on after a kill."""

import math
import weakref

import keras
import numpy as np
import pytest
from helpers import EAGER

import keras_vit
from keras_vit.data.array_dataset import ArrayDataset
from keras_vit.transfer_learning.grid_search import split

IMAGES, CLASSES = 20, 2
GRID = {"learning_rate": (0.001, 0.5), "units": (2,)}


class Builder:
    """Builds models that are cheap to train, and counts them."""

    def __init__(self, classes=CLASSES):
        self.classes, self.calls, self.alive = classes, [], []

    def __call__(self, learning_rate, units=2):
        self.alive.append(sum(model() is not None for model in self.models()))
        self.calls.append((learning_rate, units))
        model = keras.Sequential(
            [
                keras.Input((2, 2, 1)),
                keras.layers.Flatten(),
                keras.layers.Dense(units, name="hidden"),
                keras.layers.Dense(self.classes, name="head"),
            ]
        )
        model.compile(**keras_vit.recipes.finetune(20, learning_rate), **EAGER)
        self.made = [*self.models(), weakref.ref(model)]
        return model

    def models(self):
        return getattr(self, "made", [])


@pytest.fixture(scope="module")
def train():
    rng = np.random.default_rng(0)
    labels = np.arange(IMAGES) % CLASSES
    images = rng.normal(labels[:, None, None, None], 0.1, (IMAGES, 2, 2, 1))
    return images.astype("float32"), labels


def search(build, train, **options):
    options = {
        "grid": GRID,
        "validation_fraction": 0.2,
        "batch_size": 16,
        "epochs": 3,
        "verbose": False,
        **options,
    }
    return keras_vit.transfer_learning.grid_search(build, train, **options)


@pytest.fixture(scope="module")
def finished(train, tmp_path_factory):
    """The file of a search that is over."""
    file = tmp_path_factory.mktemp("search") / "runs.csv"
    search(Builder(), train, file=file)
    return file


def test_split_takes_its_share_of_every_class():
    labels = np.repeat([0, 1, 2], [30, 7, 13])
    kept, held_out = split(labels, 0.1, seed=3)
    np.testing.assert_array_equal(
        np.sort(np.concatenate([kept, held_out])), np.arange(50)
    )
    assert len(held_out) == 5
    counts = np.bincount(labels[held_out], minlength=3)
    for count, n in zip(counts, (30, 7, 13)):
        assert count in (math.floor(0.1 * n), math.ceil(0.1 * n))
    again = split(labels, 0.1, seed=3)
    np.testing.assert_array_equal(again[1], held_out)
    others = {tuple(split(labels, 0.1, seed)[1]) for seed in range(8)}
    assert len(others) > 4
    # The same for the other forms of labels.
    for form in (labels[:, None], np.eye(3)[labels]):
        np.testing.assert_array_equal(split(form, 0.1, seed=3)[1], held_out)


# Table 4's fractions on its own sets: exactly that much of each class.
@pytest.mark.parametrize(
    "classes, images, fraction", [(10, 5000, 0.02), (100, 500, 0.02)]
)
def test_split_of_cifar(classes, images, fraction):
    labels = np.tile(np.arange(classes), images)
    _, held_out = split(labels, fraction)
    assert set(np.bincount(labels[held_out])) == {fraction * images}


@pytest.mark.parametrize("fraction", [0, 1, -0.1, True, 0.001])
def test_split_leaves_images_on_both_sides(fraction):
    with pytest.raises(ValueError, match="`validation_fraction`.*Received"):
        split([0, 1] * 10, fraction)


def test_rows_are_what_single_trainings_give(train, tmp_path):
    build, file = Builder(), tmp_path / "runs.csv"
    found = search(build, train, file=file)
    assert build.calls == [(0.001, 2), (0.5, 2)]
    assert found.model is None
    kept, held_out = split(train[1], 0.2, seed=0)
    for row in found.rows:
        keras.utils.set_random_seed(0)
        model = Builder()(row["learning_rate"])
        model.fit(*(x[kept] for x in train), batch_size=16, epochs=3, verbose=0)
        expected = keras_vit.evaluate(
            model, *(x[held_out] for x in train), verbose=0, return_dict=True
        )
        assert {name: row[name] for name in expected} == pytest.approx(
            expected, abs=1e-6
        )
    # The larger rate learns what the smaller has no time for.
    by_loss = search(Builder(), train, file=file, metric="loss", mode="min")
    assert by_loss.best == {"learning_rate": 0.5, "units": 2}


@pytest.mark.parametrize("mode", ["max", "min"])
def test_of_equally_good_runs_the_first_is_the_best(train, mode):
    class OneRate(Builder):
        """Builds the same model for every rate."""

        def __call__(self, learning_rate, units=2):
            return super().__call__(0.1, units)

    grid = {"learning_rate": (0.2, 0.3, 0.1)}
    found = search(OneRate(), train, grid=grid, metric="loss", mode=mode)
    assert len({row["loss"] for row in found.rows}) == 1
    assert found.best == {"learning_rate": 0.2}


def test_one_model_at_a_time(train):
    build = Builder()
    search(build, train, grid={"learning_rate": (0.1, 0.2, 0.3)})
    assert build.alive == [0, 0, 0]


def test_goes_on_after_a_kill(train, tmp_path, capsys):
    file = tmp_path / "runs.csv"

    class Killed(Builder):
        def __call__(self, learning_rate, units=2):
            if learning_rate == 0.5:
                raise KeyboardInterrupt
            return super().__call__(learning_rate, units)

    with pytest.raises(KeyboardInterrupt):
        search(Killed(), train, file=file)
    header, row = file.read_text("utf-8").splitlines()
    assert header == (
        "learning_rate,units,seed,validation_fraction,num_images,"
        "batch_size,epochs,accuracy,loss"
    ) or header.endswith("loss,accuracy")
    assert row.startswith("0.001,2,0,0.2,20,16,3,")
    build = Builder()
    found = search(build, train, file=file, verbose=True)
    assert build.calls == [(0.5, 2)]
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].startswith("1/2 learning_rate=0.001, units=2: accuracy=")
    assert lines[0].endswith("(from the file)") and len(lines) == 3
    assert found.rows == search(Builder(), train).rows
    assert [path.name for path in tmp_path.iterdir()] == ["runs.csv"]
    # Nothing is left to do, and the best is as before.
    build = Builder()
    assert search(build, train, file=file) == found and build.calls == []
    # More rates go into the same file.
    more = {"learning_rate": (0.001, 0.01, 0.5), "units": (2,)}
    search(build, train, file=file, grid=more)
    assert build.calls == [(0.01, 2)]


@pytest.mark.parametrize(
    "change, message",
    [
        ({"seed": 1}, "runs of this search alone.*seed=0"),
        ({"epochs": 4}, "runs of this search alone.*epochs=3"),
        ({"validation_fraction": 0.3}, "runs of this search alone"),
        ({"grid": {"learning_rate": (0.1,), "units": (2,)}}, "runs of this"),
        ({"grid": {"learning_rate": (0.001,)}}, "must have the columns"),
        ({"class_weight": None}, "must have the columns"),
    ],
)
def test_a_file_of_another_search_is_refused(
    change, message, train, finished, tmp_path
):
    file, before = tmp_path / "runs.csv", finished.read_bytes()
    file.write_bytes(before)
    build = Builder()
    with pytest.raises(ValueError, match=f"`file` must .*{message}|{message}"):
        search(build, train, file=file, **change)
    assert build.calls == [] and file.read_bytes() == before


@pytest.mark.parametrize("text", ["", "not,a,table\n1,2,3\n"])
def test_a_file_of_something_else_is_refused(text, train, tmp_path):
    file = tmp_path / "runs.csv"
    file.write_text(text, encoding="utf-8")
    with pytest.raises(ValueError, match="must have the columns"):
        search(Builder(), train, file=file)
    assert file.read_text("utf-8") == text


def test_refit_trains_on_everything(train):
    seen = []

    def dataset(images, labels):
        seen.append(len(images))
        return ArrayDataset(images, labels, batch_size=16)

    found = search(
        Builder(),
        train,
        dataset=dataset,
        refit=True,
        batch_size=None,
        shuffle=False,
    )
    assert seen == [16, 16, IMAGES]
    keras.utils.set_random_seed(0)
    model = Builder()(**found.best)
    model.fit(
        ArrayDataset(*train, batch_size=16), epochs=3, shuffle=False, verbose=0
    )
    for expected, given in zip(model.get_weights(), found.model.get_weights()):
        np.testing.assert_allclose(given, expected, atol=1e-6)


def test_default_grid_is_that_of_table_4(train):
    build = Builder()
    search(build, train, grid=None, epochs=1)
    assert [rate for rate, _ in build.calls] == [0.001, 0.003, 0.01, 0.03]


def test_a_diverged_run_is_never_the_best(train, tmp_path):
    images = np.array(train[0])
    grid = {"learning_rate": (1e30, 0.01)}
    arguments = {"metric": "loss", "mode": "min", "epochs": 8}
    found = search(Builder(), (images, train[1]), grid=grid, **arguments)
    if math.isnan(found.rows[0]["loss"]):
        assert found.best == {"learning_rate": 0.01}
    images[:] = np.nan
    file = tmp_path / "runs.csv"
    for _ in range(2):  # also as read from the file
        with pytest.raises(ValueError, match="Every run ended with loss=nan"):
            search(
                Builder(), (images, train[1]), grid=grid, file=file, **arguments
            )


@pytest.mark.parametrize(
    "options, message",
    [
        ({"grid": {}}, "`grid` must name"),
        ({"grid": {"learning_rate": []}}, "`grid`.*learning_rate"),
        ({"grid": {"learning_rate": (0.1, 1e-1)}}, "`grid`.*different"),
        ({"grid": {"learning_rate": ([1],)}}, "`grid`.*Received"),
        ({"grid": {"seed": (1,)}}, "names of its own.*seed"),
        ({"mode": "best"}, "`mode`"),
        ({"metric": "recall"}, "`metric`.*accuracy.*Received.*recall"),
        ({"seed": -1}, "`seed`"),
    ],
)
def test_bad_arguments(options, message, train):
    with pytest.raises(ValueError, match=message):
        search(Builder(), train, **options)


@pytest.mark.parametrize("label", [-1, CLASSES, 0.5])
def test_labels_are_checked_before_training(label, train):
    """Faults case 34: JAX would train on without a word."""
    images, labels = train
    labels = labels.astype(type(label))
    labels[3] = label
    with pytest.raises(ValueError, match="labels` .*must be"):
        search(Builder(), (images, labels))
    with pytest.raises(ValueError, match="equally many.*20 images, 19"):
        search(Builder(), (images, labels[1:]))
