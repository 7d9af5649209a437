"""A label of no class makes the loss NaN, whatever the backend would do."""

import keras
import numpy as np
import pytest
from keras import ops

import keras_vit
from keras_vit.training import SparseCategoricalCrossentropy

CLASSES = 3


def cross_entropy(logits, labels):
    """The formula: log of the sum of exponentials, minus the label's logit."""
    norm = np.log(np.exp(logits).sum(axis=-1))
    chosen = np.take_along_axis(logits, labels[..., None], axis=-1)
    return norm - chosen[..., 0]


@pytest.mark.parametrize("shape", [(4,), (4, 1), (2, 2, 2)])
@pytest.mark.parametrize("dtype", ["uint8", "int64", "float32"])
def test_of_labels_it_is_the_formula(shape, dtype, rng):
    labels = rng.integers(0, CLASSES, shape)
    # A last axis of 1 is that of the labels, as in Keras.
    plain = labels[:, 0] if shape == (4, 1) else labels
    logits = rng.normal(size=(*plain.shape, CLASSES)).astype("float32")
    loss = SparseCategoricalCrossentropy(from_logits=True)
    given = float(loss(labels.astype(dtype), logits))
    np.testing.assert_allclose(
        given, cross_entropy(logits, plain).mean(), rtol=1e-6
    )


@pytest.mark.parametrize("label", [-1, CLASSES, 1_000_000, 0.5, np.nan])
def test_other_labels_make_it_nan(label):
    loss = SparseCategoricalCrossentropy(from_logits=True)
    labels = np.array([0, label, 1])
    assert np.isnan(float(loss(labels, np.zeros((3, CLASSES), "float32"))))


def test_ignored_labels_do_not_count(rng):
    loss = SparseCategoricalCrossentropy(from_logits=True, ignore_class=255)
    labels = np.array([[0, 255], [2, 1]])
    logits = rng.normal(size=(2, 2, CLASSES)).astype("float32")
    counted = labels != 255
    expected = cross_entropy(logits[counted], labels[counted]).mean()
    np.testing.assert_allclose(float(loss(labels, logits)), expected, rtol=1e-6)
    again = type(loss).from_config(loss.get_config())
    np.testing.assert_allclose(
        float(again(labels, logits)), expected, rtol=1e-6
    )


@pytest.mark.parametrize("label", [-1, 5, 1_000_000])
def test_a_recipe_does_not_train_on_in_silence(label, tiny_vit, rng):
    """One wrong label of eight: the loss of the epoch says so."""
    model = tiny_vit(num_classes=5)
    model.compile(**keras_vit.recipes.adamw(2, warmup_steps=1))
    images = rng.uniform(0, 255, (8, *model.input_shape[1:]))
    labels = np.array([0, 1, 2, 3, 4, 0, 1, label])
    history = model.fit(images, labels, batch_size=8, verbose=0)
    assert np.isnan(history.history["loss"][0])


def test_gradients_are_those_of_the_formula(rng):
    """Softmax minus one-hot, over the number of images."""
    logits = rng.normal(size=(4, CLASSES)).astype("float32")
    labels = np.array([0, 1, 2, 1])
    loss = SparseCategoricalCrossentropy(from_logits=True)
    layer = keras.layers.Dense(CLASSES, use_bias=False)
    layer.build((None, CLASSES))
    layer.set_weights([logits[:CLASSES]])
    inputs = np.eye(CLASSES, dtype="float32")[[0, 1, 2, 0]]
    model = keras.Sequential([layer])
    model.compile(keras.optimizers.SGD(1.0), loss)
    model.fit(inputs, labels, batch_size=4, verbose=0)
    scores = np.exp(logits[[0, 1, 2, 0]])
    slope = scores / scores.sum(-1, keepdims=True) - np.eye(CLASSES)[labels]
    expected = logits[:CLASSES] - inputs.T @ slope / 4
    np.testing.assert_allclose(
        ops.convert_to_numpy(layer.kernel), expected, atol=1e-6
    )
