"""Averaged weights: `polyak` of the recipes with Keras' `SwapEMAWeights`.

The library adds nothing to Keras here; what is tested is that its optimizers,
which have updates of their own, keep what the callback promises.
"""

import keras
import numpy as np
import pytest
from helpers import EAGER, to_numpy

import keras_vit
from keras_vit.training import SGD

MOMENTUM, STEPS = 0.75, 4
RATES = {"hidden": 0.5}
RECIPES = {
    "finetune": lambda: keras_vit.recipes.finetune(
        100, 0.3, batch_size=512, polyak=MOMENTUM
    ),
    "rates": lambda: keras_vit.recipes.finetune(
        100, 0.3, polyak=MOMENTUM, learning_rate_multipliers=RATES
    ),
    "adamw": lambda: keras_vit.recipes.adamw(
        100, 0.1, warmup_steps=1, polyak=MOMENTUM
    ),
}


class Record(keras.callbacks.Callback):
    """Notes the weights after each update, and when evaluation starts."""

    def __init__(self):
        super().__init__()
        self.trained, self.evaluated = [], []

    def on_train_batch_end(self, batch, logs=None):
        if keras.backend.backend() == "jax":
            self.model.jax_state_sync()
        self.trained.append(weights_of(self.model))

    def on_test_begin(self, logs=None):
        self.evaluated.append(weights_of(self.model))


def weights_of(model):
    return [to_numpy(weight).copy() for weight in model.weights]


def averages(weights):
    """Keras' rule: the first update gives the average its start."""
    average = weights[0]
    for now in weights[1:]:
        average = [
            MOMENTUM * a + (1 - MOMENTUM) * w for a, w in zip(average, now)
        ]
    return average


def build(name):
    model = keras.Sequential(
        [
            keras.Input((4,)),
            keras.layers.Dense(6, "tanh", name="hidden"),
            keras.layers.Dense(3, name="head"),
        ]
    )
    model.compile(**RECIPES[name](), **EAGER)
    return model


@pytest.mark.parametrize("name", RECIPES)
def test_evaluation_sees_the_average_and_training_does_not(name, rng):
    model = build(name)
    assert (name != "adamw") == isinstance(model.optimizer, SGD)
    images = rng.normal(size=(8, 4)).astype("float32")
    labels = np.arange(8) % 3
    record = Record()
    # In this order: the weights are swapped before they are noted.
    callbacks = [keras.callbacks.SwapEMAWeights(), record]
    history = model.fit(
        images,
        labels,
        batch_size=4,
        epochs=STEPS // 2,
        shuffle=False,
        validation_data=(images, labels),
        callbacks=callbacks,
        verbose=0,
    ).history
    # The same without an evaluation in between.
    keras.utils.set_random_seed(0)
    twin = build(name)
    assert len(record.trained) == STEPS
    for epoch, seen in enumerate(record.evaluated):
        expected = averages(record.trained[: 2 * (epoch + 1)])
        for given, value in zip(seen, expected):
            np.testing.assert_allclose(given, value, atol=1e-6)
        twin.set_weights(seen)
        loss, accuracy = keras_vit.evaluate(twin, images, labels, verbose=0)
        assert history["val_loss"][epoch] == pytest.approx(loss, abs=1e-5)
        assert history["val_accuracy"][epoch] == pytest.approx(accuracy)
    # In the end the model holds the average.
    for given, value in zip(weights_of(model), averages(record.trained)):
        np.testing.assert_allclose(given, value, atol=1e-6)


def test_evaluation_leaves_the_training_as_it_would_have_been(rng):
    images = rng.normal(size=(8, 4)).astype("float32")
    labels = np.arange(8) % 3
    trained = []
    for data in (None, (images, labels)):
        keras.utils.set_random_seed(0)
        record = Record()
        build("adamw").fit(
            images,
            labels,
            batch_size=4,
            epochs=STEPS // 2,
            shuffle=False,
            validation_data=data,
            callbacks=[
                *([keras.callbacks.SwapEMAWeights()] if data else []),
                record,
            ],
            verbose=0,
        )
        trained.append(record.trained)
    for plain, swapped in zip(*trained):
        for expected, given in zip(plain, swapped):
            # TensorFlow swaps by sums and differences, which round.
            np.testing.assert_allclose(given, expected, atol=1e-5)


@pytest.mark.parametrize("name", RECIPES)
def test_a_model_that_was_averaged_lives_on(name, rng, tmp_path):
    """On JAX it must not share memory with the optimizer, see keras_gaps."""
    images = rng.normal(size=(8, 4)).astype("float32")
    labels = np.arange(8) % 3
    model = build(name)
    for _ in range(2):
        model.fit(images, labels, batch_size=4, verbose=0)
    before = weights_of(model)
    expected = keras_vit.predict(model, images, verbose=0)
    model.save(tmp_path / "model.keras")
    loaded = keras.saving.load_model(tmp_path / "model.keras")
    np.testing.assert_allclose(
        keras_vit.predict(loaded, images, verbose=0), expected, atol=1e-6
    )
    for given, value in zip(weights_of(model), before):
        np.testing.assert_array_equal(given, value)
