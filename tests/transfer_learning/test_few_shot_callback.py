"""`FewShotEvaluation`: its logs are seen, and training does not notice."""

import json

import keras
import numpy as np
import pytest
from helpers import EAGER

import keras_vit

CLASSES = 3


@pytest.fixture
def pictures(rng):
    labels = rng.permutation(np.repeat(np.arange(CLASSES), 6))
    images = rng.uniform(0, 90, (len(labels), 8, 8, 3)).astype("float32")
    images[np.arange(len(labels)), :, :, labels] += 100
    return images, labels


def build():
    """A model with the tap of a ViT, and dropout, so that seeds count."""
    keras.utils.set_random_seed(5)
    images = keras.Input((8, 8, 3))
    x = keras.layers.GlobalAveragePooling2D()(images)
    x = keras.layers.BatchNormalization()(x)
    x = keras.layers.Dense(8, name="pre_logits")(x)
    x = keras.layers.Dropout(0.2, seed=0)(x)
    model = keras.Model(images, keras.layers.Dense(CLASSES, name="head")(x))
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(keras.optimizers.Adam(1e-2), loss, **EAGER)
    return model


def train(model, pictures, callbacks=(), **options):
    options = {"epochs": 3, "batch_size": 5, "verbose": 0, **options}
    return model.fit(*pictures, callbacks=list(callbacks), **options).history


def test_training_is_the_same_bit_for_bit(pictures):
    """With shuffling and dropout, from arrays and from a shared data set."""
    callback = keras_vit.transfer_learning.FewShotEvaluation(
        pictures, pictures, shots=(1, 2)
    )
    plain = build()
    expected = train(plain, pictures)
    watched = build()
    history = train(watched, pictures, [callback])
    assert history["loss"] == expected["loss"]
    for a, b in zip(watched.get_weights(), plain.get_weights()):
        np.testing.assert_array_equal(a, b)
    assert len(history["few_shot_1"]) == len(history["few_shot_2"]) == 3

    def from_data_set(callbacks):
        model = build()
        data = keras_vit.ArrayDataset(*pictures, batch_size=5)
        if callbacks:
            callbacks = [
                keras_vit.transfer_learning.FewShotEvaluation(data, pictures)
            ]
        model.fit(data, epochs=3, shuffle=False, verbose=0, callbacks=callbacks)
        return model.get_weights()

    for a, b in zip(from_data_set(True), from_data_set(False)):
        np.testing.assert_array_equal(a, b)


def test_the_logs_are_those_of_the_weights_at_the_end_of_the_epoch(pictures):
    model = build()
    callback = keras_vit.transfer_learning.FewShotEvaluation(
        pictures, pictures, shots=(1, 3), seeds=(4, 5), name="probe"
    )
    history = train(model, pictures, [callback], epochs=2)
    result = keras_vit.few_shot(
        model, pictures, pictures, shots=(1, 3), seeds=(4, 5), verbose=0
    )
    assert history["probe_1"][-1] == result.mean[0]
    assert history["probe_3"][-1] == result.mean[1]


def test_other_callbacks_see_it(pictures, tmp_path):
    """`ModelCheckpoint` keeps by it, `CSVLogger` and JSON can write it."""
    model = build()
    seen = []
    callbacks = [
        keras_vit.transfer_learning.FewShotEvaluation(
            pictures, pictures, shots=2
        ),
        keras.callbacks.ModelCheckpoint(
            tmp_path / "{few_shot_2:.3f}.keras",
            monitor="few_shot_2",
            mode="max",
            save_best_only=True,
        ),
        keras.callbacks.LambdaCallback(
            on_epoch_end=lambda epoch, logs: seen.append(json.dumps(logs))
        ),
    ]
    history = train(model, pictures, callbacks, epochs=1)
    value = history["few_shot_2"][0]
    assert [file.stem for file in tmp_path.iterdir()] == [f"{value:.3f}"]
    assert json.loads(seen[0])["few_shot_2"] == value


@keras.saving.register_keras_serializable("test_few_shot_callback")
class Counted(keras.layers.Layer):
    """Counts how often it is traced."""

    calls = 0

    def call(self, x):
        Counted.calls += 1
        return x


@pytest.mark.skipif(
    keras.backend.backend() == "torch", reason="PyTorch compiles nothing"
)
def test_features_are_compiled_once(pictures):
    inputs = keras.Input((8, 8, 3))
    x = keras.layers.GlobalAveragePooling2D()(inputs)
    x = Counted(name="pre_logits")(x)
    outputs = keras.layers.Dense(CLASSES)(x)
    model = keras.Model(inputs, outputs)
    model.compile("sgd", "mse", **EAGER)
    # One batch an epoch, so that there is one shape.
    callback = keras_vit.transfer_learning.FewShotEvaluation(
        pictures, pictures, shots=1, batch_size=18
    )
    data = pictures[0], np.zeros((18, CLASSES))
    counts = []
    for epochs in (1, 3):
        Counted.calls = 0
        model.fit(*data, 18, epochs=epochs, verbose=0, callbacks=[callback])
        counts.append(Counted.calls)
    assert counts[0] >= 2
    # `fit` traces its own step anew at most; the features are not.
    Counted.calls = 0
    model.fit(*data, 18, epochs=3, verbose=0)
    assert counts[1] == Counted.calls


def test_every_so_many_epochs(pictures):
    callback = keras_vit.transfer_learning.FewShotEvaluation(
        pictures, pictures, 1, every=2
    )
    history = train(build(), pictures, [callback], epochs=5)
    assert len(history["few_shot_1"]) == 2
    with pytest.raises(ValueError, match="`every`"):
        keras_vit.transfer_learning.FewShotEvaluation(
            pictures, pictures, every=0
        )
    with pytest.raises(ValueError, match="`shots`"):
        keras_vit.transfer_learning.FewShotEvaluation(
            pictures, pictures, shots=0
        )
