"""A training that is killed ends as one that never was, or says why not."""

import errno
import os
import pathlib
import re
import signal
import subprocess
import sys
import threading

import keras
import numpy as np
import pytest
import resume_worker as worker
import safetensors.numpy
from helpers import EAGER, environment, to_numpy

import keras_vit
from keras_vit.callbacks import Resume, lock
from keras_vit.checkpoints import CheckpointError

FIT = {"epochs": worker.EPOCHS, "shuffle": False, "verbose": 0}


@pytest.fixture(scope="module")
def renewed():
    """Gives one model, compiled once, as if it were new."""
    model = worker.build()
    variables = [*model.variables, *model.optimizer.variables]
    start = [to_numpy(variable).copy() for variable in variables]
    # Keras looks at a batch before the first training of a model alone, which
    # on PyTorch draws a number.
    model.fit(worker.data(), **{**FIT, "epochs": 1})

    def renew():
        keras.utils.set_random_seed(1)
        for variable, value in zip(variables, start):
            variable.assign(value)
        return model

    return renew


@pytest.fixture(scope="module")
def never_killed(renewed, tmp_path_factory):
    """What a training without a kill ends with, and its history."""
    model = renewed()
    resume = Resume(tmp_path_factory.mktemp("never"), save_freq=2)
    history = model.fit(worker.data(), **FIT, callbacks=[resume])
    assert resume.resumed_from is None
    return worker.end_of(model), history.epoch, history.history


class Stop(keras.callbacks.Callback):
    """Ends a training before a step, as a kill does, but in this process."""

    def __init__(self, epoch, batch):
        super().__init__()
        self.at, self.epoch = (epoch, batch), None

    def on_epoch_begin(self, epoch, logs=None):
        self.epoch = epoch

    def on_train_batch_begin(self, batch, logs=None):
        if (self.epoch, batch) == self.at:
            raise InterruptedError("killed")


def interrupt(model, folder, epoch, batch, x=None, **options):
    x = worker.data() if x is None else x
    with pytest.raises(InterruptedError):
        model.fit(
            x,
            **{**FIT, **options},
            callbacks=[Stop(epoch, batch), Resume(folder, save_freq=2)],
        )


def go_on(model, folder, x=None, **options):
    x = worker.data() if x is None else x
    resume = Resume(folder, save_freq=2)
    history = model.fit(x, **{**FIT, **options}, callbacks=[resume])
    return resume.resumed_from, history


def assert_equal(given, expected):
    # Keras counts the names of layers and optimizers up.
    given, expected = (
        {re.sub(r"_\d+/", "/", name): value for name, value in end.items()}
        for end in (given, expected)
    )
    assert given.keys() == expected.keys()
    for name, value in expected.items():
        if keras.backend.backend() == "torch":
            np.testing.assert_allclose(
                given[name], value, atol=1e-6, err_msg=name
            )
        else:
            np.testing.assert_array_equal(given[name], value, err_msg=name)


@pytest.mark.parametrize(
    "stops, resumed_from",
    [
        ([(0, 1)], (0, 0)),
        ([(1, 3)], (1, 2)),
        ([(1, 3), (1, 3), (2, 1)], (2, 0)),
    ],
    ids=["before a checkpoint", "within an epoch", "three times"],
)
def test_it_ends_as_if_it_had_not_been_killed(
    stops, resumed_from, renewed, never_killed, tmp_path
):
    for epoch, batch in stops:
        interrupt(renewed(), tmp_path, epoch, batch)
    model = renewed()
    came_from, history = go_on(model, tmp_path)
    end, epochs, logs = never_killed
    assert came_from == resumed_from
    assert_equal(worker.end_of(model), end)
    assert history.epoch == epochs == model.history.epoch
    assert history.history.keys() == logs.keys()
    for name, values in logs.items():
        assert history.history[name] == pytest.approx(values, rel=1e-6)
    # The two last checkpoints, and the lock.
    assert len(list(tmp_path.iterdir())) == 5


@pytest.mark.slow
@pytest.mark.skipif(os.name == "nt", reason="Windows has no SIGKILL")
def test_sigkill_before_a_step_and_in_two_writes(tmp_path):
    """In the arrays of one checkpoint, and in the notes of the next."""

    def run(folder, *kill):
        folder.mkdir(exist_ok=True)
        return subprocess.run(
            [sys.executable, worker.__file__, str(folder), *kill],
            env=environment(keras.backend.backend()),
            timeout=240,
        ).returncode

    never, killed = tmp_path / "never", tmp_path / "killed"
    assert run(never) == 0
    for kill in (("step", "8"), ("write", "1"), ("write", "4")):
        assert run(killed, *kill) == -signal.SIGKILL
    # What the kill left is there, under no name that counts.
    assert list((killed / "state").glob(".state*"))
    assert run(killed) == 0
    with np.load(never / "end.npz") as a, np.load(killed / "end.npz") as b:
        assert_equal(dict(b), dict(a))
    assert len(list((killed / "state").iterdir())) == 5


def test_batches_before_are_not_made(renewed, tmp_path, monkeypatch):
    data = worker.data()
    interrupt(renewed(), tmp_path, 2, 3, data)
    asked = []
    reseed = keras_vit.data.CropAndFlip.reseed

    def noting(self, *entropy):
        asked.append(entropy[1:])
        reseed(self, *entropy)

    monkeypatch.setattr(keras_vit.data.CropAndFlip, "reseed", noting)
    assert go_on(renewed(), tmp_path, data)[0] == (2, 2)
    assert {(2, 2), (2, 3)} <= set(asked)
    # TensorFlow looks at two batches of any epoch, and at more at the end.
    if keras.backend.backend() != "tensorflow":
        assert set(asked) == {(2, 2), (2, 3)}
    # Who looks at it after training, or at the end of the epoch, sees all.
    assert data[0][0].any()


def test_the_same_set_may_validate(renewed, tmp_path):
    """All of its batches, at the end of an epoch that began within."""

    def losses(folder):
        data = worker.data()
        _, history = go_on(renewed(), folder, data, validation_data=data)
        return history.history["val_loss"]

    expected = losses(tmp_path / "never")
    data = worker.data()
    interrupt(renewed(), tmp_path / "killed", 1, 3, data, validation_data=data)
    assert losses(tmp_path / "killed")[-2:] == pytest.approx(expected[-2:])


def test_workers_change_nothing(tmp_path):
    """Keras hands batches to a new model that were made before its training.

    Then some come twice, and the last ones not at all.
    """

    def weights(workers):
        keras.utils.set_random_seed(1)
        model = keras.Sequential(
            [
                keras.Input((8, 8, 3)),
                keras.layers.Flatten(),
                keras.layers.Dense(3),
            ]
        )
        model.compile("sgd", keras.losses.SparseCategoricalCrossentropy(True))
        go_on(model, tmp_path / str(workers), worker.data(workers=workers))
        return worker.end_of(model)

    assert_equal(weights(workers=3), weights(workers=1))


def as_arrays():
    return {
        "x": worker.IMAGES.astype("float32"),
        "y": worker.LABELS,
        "batch_size": worker.BATCH,
    }


def as_grain():
    grain = pytest.importorskip("grain")
    pairs = list(zip(worker.IMAGES.astype("float32"), worker.LABELS))
    source = grain.MapDataset.source(pairs).shuffle(seed=1)
    return {"x": source.batch(worker.BATCH)}


# Keras does not ask grain for its length.
@pytest.mark.filterwarnings("ignore:Your input ran out of data:UserWarning")
@pytest.mark.parametrize("source", [as_arrays, as_grain])
def test_data_in_a_known_order_goes_on_at_any_batch(source, renewed, tmp_path):
    model = renewed()
    go_on(model, tmp_path / "never", **source())
    expected = worker.end_of(model)
    interrupt(renewed(), tmp_path / "killed", 1, 3, **source())
    model = renewed()
    came_from, _ = go_on(model, tmp_path / "killed", **source())
    assert came_from == (1, 2)
    assert_equal(worker.end_of(model), expected)


def test_a_folder_of_images_goes_on_at_any_batch(renewed, tmp_path):
    images = pytest.importorskip("PIL.Image")
    for index, label in enumerate(worker.LABELS):
        folder = tmp_path / "images" / str(label)
        folder.mkdir(parents=True, exist_ok=True)
        pixels = worker.IMAGES[index].astype("uint8")
        images.fromarray(pixels).save(folder / f"{index}.png")

    def data(**options):
        return keras_vit.ImageFolder(
            tmp_path / "images", 8, worker.BATCH, **options
        )

    model = renewed()
    go_on(model, tmp_path / "never", data())
    expected = worker.end_of(model)
    interrupt(renewed(), tmp_path / "killed", 1, 3, data())
    model = renewed()
    assert go_on(model, tmp_path / "killed", data())[0] == (1, 2)
    assert_equal(worker.end_of(model), expected)
    (tmp_path / "images" / "0" / "0.png").unlink()
    with pytest.raises(ValueError, match="data/images/shape/0: 14 .*, 13 now"):
        go_on(renewed(), tmp_path / "killed", data())


def test_the_scale_of_the_loss_comes_back(tmp_path):
    """It has doubled by then: `mixed_float16` trains with such a scale."""

    def scaled():
        model = worker.build()
        optimizer = keras.optimizers.LossScaleOptimizer(
            worker.recipe()["optimizer"], dynamic_growth_steps=2
        )
        model.compile(**{**worker.recipe(), "optimizer": optimizer}, **EAGER)
        return model

    model = scaled()
    go_on(model, tmp_path / "never")
    expected = worker.end_of(model)
    scale = [x for name, x in expected.items() if name.endswith("scale")]
    assert scale[0] > 2.0**15
    interrupt(scaled(), tmp_path / "killed", 1, 3)
    model = scaled()
    go_on(model, tmp_path / "killed")
    assert_equal(worker.end_of(model), expected)


class OwnBatches(keras.utils.PyDataset):
    """Batches in an order that depends on the epoch."""

    epoch = 0

    def __len__(self):
        return worker.STEPS

    def __getitem__(self, index):
        rng = np.random.default_rng((self.epoch, index))
        rows = rng.integers(0, 14, worker.BATCH)
        return worker.IMAGES[rows].astype("float32"), worker.LABELS[rows]


def test_a_data_set_of_ones_own_is_told_the_epoch(renewed, tmp_path):
    model = renewed()
    go_on(model, tmp_path / "never", OwnBatches())
    expected = worker.end_of(model)
    interrupt(renewed(), tmp_path / "killed", 1, 3, OwnBatches())
    model = renewed()
    assert go_on(model, tmp_path / "killed", OwnBatches())[0] == (1, 0)
    assert_equal(worker.end_of(model), expected)


def test_what_cannot_say_where_it_is_brings_one_warning(renewed, tmp_path):
    tf = pytest.importorskip("tensorflow")
    arrays = (worker.IMAGES.astype("float32"), worker.LABELS)
    x = tf.data.Dataset.from_tensor_slices(arrays).batch(worker.BATCH)
    message = "cannot say where it is"
    with pytest.warns(UserWarning, match=message):
        interrupt(renewed(), tmp_path, 1, 3, x)
    with pytest.warns(UserWarning, match=message):
        assert go_on(renewed(), tmp_path, x)[0] == (1, 0)


@pytest.mark.parametrize(
    "options, message",
    [
        ({"shuffle": True}, "`shuffle` must be False.*shuffle=True"),
        ({"steps_per_epoch": 2}, "`steps_per_epoch` must be None.*=2"),
    ],
)
def test_orders_that_cannot_come_back_are_refused(
    options, message, renewed, tmp_path
):
    for x in ({"x": worker.data()}, as_arrays()):
        with pytest.raises(ValueError, match=message):
            go_on(renewed(), tmp_path, **x, **options)


def test_an_augmentation_without_seed_brings_a_warning(renewed, tmp_path):
    data = worker.data(augment=lambda images, labels: (images, labels))
    with pytest.warns(UserWarning, match="no method `reseed`"):
        go_on(renewed(), tmp_path, data, epochs=1)


def files(folder, suffix):
    return sorted(folder.glob(f"state-*{suffix}"))


@pytest.mark.parametrize("suffix", ["safetensors", "json"])
@pytest.mark.parametrize("damage", ["flipped", "cut", "gone"])
def test_a_damaged_checkpoint_is_passed_over(
    suffix, damage, renewed, never_killed, tmp_path
):
    interrupt(renewed(), tmp_path, 1, 3)
    file = files(tmp_path, suffix)[-1]
    content = bytearray(file.read_bytes())
    middle = len(content) // 2
    content[middle] ^= 1
    file.write_bytes(content if damage == "flipped" else content[:middle])
    if damage == "gone":
        file.unlink()
    model = renewed()
    if (suffix, damage) == ("json", "gone"):
        # As after a kill, about which nobody wants to hear.
        came_from, _ = go_on(model, tmp_path)
    else:
        with pytest.warns(UserWarning, match=r"passed over.*state-0+3\.json"):
            came_from, _ = go_on(model, tmp_path)
    assert came_from == (1, 0)
    assert_equal(worker.end_of(model), never_killed[0])


def test_damage_to_all_of_them_is_an_error(renewed, tmp_path):
    interrupt(renewed(), tmp_path, 1, 3)
    for file in files(tmp_path, "safetensors"):
        file.write_bytes(b"")
    with pytest.raises(CheckpointError, match="no checkpoint that is whole"):
        go_on(renewed(), tmp_path)


def test_a_full_disk_leaves_the_last_checkpoint(
    renewed, never_killed, tmp_path, monkeypatch
):
    interrupt(renewed(), tmp_path, 1, 3)
    before = {x: x.read_bytes() for x in files(tmp_path, "")}

    def half_of_it(arrays, path, metadata=None):
        content = safetensors.numpy.save(arrays)
        pathlib.Path(path).write_bytes(content[: len(content) // 2])
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as patch:
        patch.setattr(safetensors.numpy, "save_file", half_of_it)
        with pytest.raises(OSError, match="state-0.*No space left"):
            go_on(renewed(), tmp_path)
    assert {x: x.read_bytes() for x in files(tmp_path, "")} == before
    assert not list(tmp_path.glob(".state*"))
    model = renewed()
    assert go_on(model, tmp_path)[0] == (1, 2)
    assert_equal(worker.end_of(model), never_killed[0])


def test_a_training_that_is_over_stays_over(renewed, never_killed, tmp_path):
    go_on(renewed(), tmp_path)
    model = renewed()
    came_from, history = go_on(model, tmp_path)
    end, epochs, logs = never_killed
    assert came_from == (worker.EPOCHS, 0)
    assert_equal(worker.end_of(model), end)
    assert history.epoch == epochs and history.history.keys() == logs.keys()
    # Without `Resume`, the same model trains from the first epoch on.
    assert renewed().fit(worker.data(), **FIT).epoch == [0, 1, 2]


def test_a_training_that_was_stopped_stays_stopped(renewed, tmp_path):
    model = renewed()

    def stop(epoch, logs):
        model.stop_training = True

    model.fit(
        worker.data(),
        **FIT,
        callbacks=[
            keras.callbacks.LambdaCallback(on_epoch_end=stop),
            Resume(tmp_path),
        ],
    )
    assert go_on(renewed(), tmp_path)[1].epoch == [0]


def other_model(**options):
    variant = keras_vit.Variant(1, 16, 32, 2, patch_size=4)
    options = {"dropout": 0.1, "stochastic_depth": 0.1, **options}
    model = keras_vit.ViT(variant, image_size=8, num_classes=3, **options)
    model.compile(**worker.recipe())
    return model


def test_other_trainings_are_refused_with_what_differs(renewed, tmp_path):
    model = renewed()
    interrupt(model, tmp_path, 1, 3)
    with pytest.raises(ValueError, match="differs in\n.*dropout: 0.1.*0.2 now"):
        go_on(other_model(dropout=0.2), tmp_path)
    for options, message in [
        ({"weight_decay": 0.5}, r"optimizer/.*weight_decay"),
        ({"polyak": None}, r"optimizer/.*ema"),
        ({"loss": "sparse_categorical_crossentropy"}, r"loss/"),
    ]:
        other = other_model()
        loss = {"loss": options.pop("loss")} if "loss" in options else {}
        other.compile(**{**worker.recipe(**options), **loss})
        with pytest.raises(ValueError, match=message):
            go_on(other, tmp_path)
    labels = worker.LABELS.copy()
    labels[3] = 0 if labels[3] else 1
    others = {
        "data/order_from_seed": worker.data(seed=2),
        "data/augment": worker.data(augment=None),
        "data/shuffle": worker.data(shuffle=False),
        "data/labels/digest": worker.data(),
    }
    others["data/labels/digest"].labels = labels
    for message, data in others.items():
        with pytest.raises(ValueError, match=message):
            go_on(renewed(), tmp_path, data)
    assert go_on(other_model(), tmp_path)[0] == (1, 2)


HOLD = """
import importlib.util, sys
spec = importlib.util.spec_from_file_location("lock", sys.argv[1])
lock = importlib.util.module_from_spec(spec)
spec.loader.exec_module(lock)
lock.acquire(sys.argv[2])
print("held", flush=True)
sys.stdin.read()
"""


def test_two_processes_in_one_directory(renewed, tmp_path):
    command = [sys.executable, "-c", HOLD, lock.__file__, str(tmp_path)]
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as other:
        assert other.stdout.readline() == "held\n"
        with pytest.raises(
            RuntimeError, match=f"which process {other.pid} has"
        ):
            go_on(renewed(), tmp_path)
        other.kill()
    # A dead process holds nothing.
    go_on(renewed(), tmp_path, epochs=1)


def test_two_threads_in_one_directory(renewed, tmp_path):
    held, over = threading.Event(), threading.Event()

    def hold():
        lock.acquire(tmp_path)
        held.set()
        over.wait()

    thread = threading.Thread(target=hold)
    thread.start()
    held.wait()
    with pytest.raises(
        RuntimeError, match="which a thread of this process has"
    ):
        go_on(renewed(), tmp_path)
    over.set()
    thread.join()
    go_on(renewed(), tmp_path, epochs=1)


def test_bad_arguments(tmp_path):
    with pytest.raises(ValueError, match="`save_freq`.*save_freq=0"):
        Resume(tmp_path, save_freq=0)
