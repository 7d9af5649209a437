"""Faults case 43: a model in several threads at once, on JAX as elsewhere."""

import concurrent.futures
import threading

import keras
import numpy as np
import pytest
from helpers import jax_only, to_numpy

import keras_vit

LABELS = np.arange(6) % 5


@pytest.fixture
def model(tiny_vit):
    model = tiny_vit()
    model.compile(**keras_vit.recipes.adamw(10))
    return model


@pytest.fixture
def images(rng):
    return rng.uniform(0, 255, (6, 8, 12, 3)).astype("float32")


def at_once(count, *functions):
    """Calls functions in turn, `count` calls that all begin together."""
    barrier = threading.Barrier(count)

    def call(index):
        barrier.wait()
        return functions[index % len(functions)]()

    with concurrent.futures.ThreadPoolExecutor(count) as pool:
        return list(pool.map(call, range(count)))


@pytest.mark.parametrize("count", [2, 8])
def test_threads_may_predict_with_one_model(count, model, images):
    expected = keras_vit.predict(model, images, verbose=0)
    for _ in range(3):
        for given in at_once(
            count, lambda: keras_vit.predict(model, images, verbose=0)
        ):
            np.testing.assert_array_equal(given, expected)


def test_threads_may_predict_and_evaluate_what_shares_layers(model, images):
    features = keras_vit.feature_extractor(model, "encoder_norm")
    expected = (
        keras_vit.evaluate(model, images, LABELS, verbose=0),
        keras_vit.predict(features, images, verbose=0),
    )
    results = at_once(
        6,
        lambda: keras_vit.evaluate(model, images, LABELS, verbose=0),
        lambda: keras_vit.predict(features, images, verbose=0),
    )
    for index, given in enumerate(results):
        np.testing.assert_array_equal(given, expected[index % 2])


def test_evaluations_of_one_model_wait_for_one_another(model, images):
    """Its metrics are one set: while one counts, no other may begin."""
    second, counting = threading.Event(), threading.Event()
    met = []

    class First(keras.callbacks.Callback):
        def on_test_begin(self, logs=None):
            counting.set()
            met.append(second.wait(0.5))

    class Second(keras.callbacks.Callback):
        def on_test_begin(self, logs=None):
            second.set()

    def evaluate(callback):
        return keras_vit.evaluate(
            model, images, LABELS, verbose=0, callbacks=[callback]
        )

    with concurrent.futures.ThreadPoolExecutor(2) as pool:
        results = [pool.submit(evaluate, First())]
        assert counting.wait(60)
        results.append(pool.submit(evaluate, Second()))
        first, last = (result.result() for result in results)
    assert met == [False] and second.is_set()
    np.testing.assert_array_equal(first, last)


class Noting(keras.callbacks.Callback):
    """Keeps the weights after each step, and stops when told to."""

    def __init__(self):
        super().__init__()
        self.steps, self.over = [], threading.Event()
        self.begun = threading.Event()

    def on_train_batch_end(self, batch, logs=None):
        self.steps.append([to_numpy(x).copy() for x in self.model.weights])
        self.begun.set()
        self.model.stop_training = self.over.is_set()


def trained_beside(model, images, work, callback):
    """Calls `work` while another thread trains; returns what it returned."""

    def train():
        model.fit(
            np.tile(images, (4, 1, 1, 1)),
            np.tile(LABELS, 4),
            batch_size=6,
            epochs=10_000,
            verbose=0,
            callbacks=[callback],
        )

    with concurrent.futures.ThreadPoolExecutor(1) as pool:
        training = pool.submit(train)
        try:
            while not callback.begun.wait(0.1):
                assert not training.done(), training.result()
            return work()
        finally:
            callback.over.set()
            training.result()


@jax_only("other backends write what is there, between two steps or not")
def test_saving_beside_a_training(model, images, tmp_path):
    """What is written is the state after some step, whole."""

    def save():
        paths = []
        for index in range(4):
            path = tmp_path / f"{index}.keras"
            paths.append(keras_vit.save(model, path))
            keras_vit.export_checkpoint(model, tmp_path / f"{index}.npz")
        return paths

    noting = Noting()
    paths = trained_beside(model, images, save, noting)
    for path in paths:
        loaded = keras.saving.load_model(path)
        weights = [to_numpy(x) for x in loaded.weights]
        step = int(to_numpy(loaded.optimizer.iterations)) - 1
        for given, expected in zip(weights, noting.steps[step]):
            np.testing.assert_array_equal(given, expected)
        npz = keras_vit.ViT(
            keras_vit.Variant(2, 16, 32, 4, patch_size=4),
            image_size=(8, 12),
            num_classes=5,
            weights=path.with_suffix(".npz"),
        )
        written = [to_numpy(x) for x in npz.weights]
        assert any(
            all((a == b).all() for a, b in zip(written, weights))
            for weights in noting.steps
        )
    # The model has not noticed.
    keras_vit.predict(model, images, verbose=0)


@jax_only("other backends keep variables in the model")
def test_saving_beside_a_training_that_nobody_looks_at(model, images, tmp_path):
    """Without a callback that moves variables back after each step."""

    class Quiet(keras.callbacks.Callback):
        begun, over = threading.Event(), threading.Event()

        def on_train_batch_begin(self, batch, logs=None):
            if batch == 1:
                self.begun.set()
            if self.over.is_set():
                self.model.stop_training = True

    path = trained_beside(
        model,
        images,
        lambda: keras_vit.save(model, tmp_path / "model.keras"),
        Quiet(),
    )
    loaded = keras.saving.load_model(path)
    assert int(to_numpy(loaded.optimizer.iterations)) > 0


def test_saving_inside_of_a_training(model, images, tmp_path):
    """From a callback that has the model from elsewhere."""
    path = tmp_path / "model.keras"
    callback = keras.callbacks.LambdaCallback(
        on_train_batch_end=lambda batch, logs: keras_vit.save(model, path)
    )
    model.fit(images, LABELS, verbose=0, callbacks=[callback])
    loaded = keras.saving.load_model(path)
    for given, expected in zip(loaded.weights, model.weights):
        np.testing.assert_array_equal(to_numpy(given), to_numpy(expected))


@jax_only("Keras moves variables out of a model")
def test_a_model_without_its_variables(model, images, tmp_path):
    with pytest.raises(ValueError):
        model.predict(np.zeros((2, 8, 12, 4)), verbose=0)
    with pytest.raises(RuntimeError, match="must have its variables"):
        keras_vit.predict(model, images, verbose=0)
    with pytest.raises(RuntimeError, match="must have its variables"):
        keras_vit.save(model, tmp_path / "model.keras")
