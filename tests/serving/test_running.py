"""`predict` and `evaluate`: bad input is refused, models stay alive."""

import os
import signal

import keras
import numpy as np
import pytest

import keras_vit


@pytest.fixture
def model(tiny_vit):
    model = tiny_vit()
    model.compile(**keras_vit.recipes.adamw(10))
    return model


@pytest.fixture
def images(rng):
    return rng.uniform(0, 255, (6, 8, 12, 3)).astype("float32")


LABELS = np.arange(6) % 5


def answers(model, images, expected):
    np.testing.assert_array_equal(model.predict(images, verbose=0), expected)


def test_predict_is_that_of_keras(model, images):
    expected = model.predict(images, verbose=0)
    np.testing.assert_array_equal(
        keras_vit.predict(model, images, verbose=0), expected
    )
    given = keras_vit.predict(model, images, batch_size=4, verbose=0)
    np.testing.assert_allclose(given, expected, atol=1e-5)


def test_evaluate_is_that_of_keras(model, images):
    expected = model.evaluate(images, LABELS, verbose=0, return_dict=True)
    given = keras_vit.evaluate(
        model, images, LABELS, verbose=0, return_dict=True
    )
    assert given == expected


@pytest.mark.parametrize(
    "shape, message",
    [
        ((0, 8, 12, 3), r"at least one image. Received: shape=\(0, 8, 12, 3\)"),
        ((2, 8, 12, 4), r"Received: shape=\(2, 8, 12, 4\)"),
        ((2, 8, 8, 3), r"\(None, 8, 12, 3\).*Received: shape=\(2, 8, 8, 3\)"),
        ((8, 12, 3), r"Received: shape=\(8, 12, 3\)"),
    ],
)
def test_bad_images_are_refused_and_the_model_lives(
    shape, message, model, images
):
    """Faults cases 28 and 30."""
    expected = model.predict(images, verbose=0)
    bad = np.zeros(shape, "float32")
    with pytest.raises(ValueError, match=message):
        keras_vit.predict(model, bad, verbose=0)
    with pytest.raises(ValueError, match=message):
        keras_vit.evaluate(model, bad, np.zeros(len(bad), "int32"), verbose=0)
    answers(model, images, expected)


def test_a_model_for_any_size_refuses_what_its_patch_does_not_divide(
    tiny_vit, rng
):
    """Faults case 31, on every backend before the backend sees it."""
    model = tiny_vit(image_size=None)
    images = rng.uniform(0, 255, (2, 8, 8, 3))
    expected = model.predict(images, verbose=0)
    with pytest.raises(ValueError, match="legal sizes are 8 and 12"):
        keras_vit.predict(model, np.zeros((2, 8, 9, 3)), verbose=0)
    answers(model, images, expected)


class Corrupt(keras.utils.PyDataset):
    """Raises at one batch, as a broken file would."""

    def __init__(self, images, at, error):
        super().__init__()
        self.images, self.at, self.error = images, at, error

    def __len__(self):
        return 3

    def __getitem__(self, index):
        if index == self.at:
            raise self.error
        batch = slice(2 * index, 2 * index + 2)
        return self.images[batch], LABELS[batch]


@pytest.mark.parametrize("at", [0, 1])
@pytest.mark.parametrize("method", ["predict", "evaluate"])
@pytest.mark.parametrize(
    "error", [OSError("broken file"), KeyboardInterrupt()], ids=repr
)
def test_an_exception_in_the_data_leaves_the_model_alive(
    at, method, error, model, images
):
    """Faults cases 27 and 29: at the first batch, and after one."""
    expected = model.predict(images, verbose=0)
    weights = model.get_weights()
    dataset = Corrupt(images, at, error)
    with pytest.raises(type(error)):
        getattr(keras_vit, method)(model, dataset, verbose=0)
    for given, before in zip(model.get_weights(), weights):
        np.testing.assert_array_equal(given, before)
    answers(model, images, expected)
    model.fit(images, LABELS, verbose=0)


@pytest.mark.parametrize("method", ["predict", "evaluate"])
def test_ctrl_c_during_a_step_leaves_the_model_alive(method, model, images):
    """Faults case 27, with the real signal, while batches run."""
    expected = model.predict(images, verbose=0)

    class Interrupt(keras.utils.PyDataset):
        def __len__(self):
            return 1000

        def __getitem__(self, index):
            if index == 3:
                os.kill(os.getpid(), signal.SIGINT)
            return images, LABELS

    # A shell that runs tests in the background makes them ignore Ctrl-C.
    outside = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        with pytest.raises(KeyboardInterrupt):
            getattr(keras_vit, method)(model, Interrupt(), verbose=0)
        assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
    finally:
        signal.signal(signal.SIGINT, outside)
    answers(model, images, expected)


def test_one_bad_image_does_not_touch_the_others(model, images):
    """Faults case 33."""
    clean = keras_vit.predict(model, images, verbose=0)
    images = images.copy()
    images[2, 0, 0, 0] = np.nan
    images[4, 1, 1, 1] = np.inf
    given = keras_vit.predict(model, images, verbose=0)
    good = [0, 1, 3, 5]
    np.testing.assert_array_equal(given[good], clean[good])
    assert not np.isfinite(given[[2, 4]]).any()


@pytest.mark.parametrize(
    "labels, message",
    [
        ([0, 1, 2, 3, 4, 5], r"in \[0, 5\).*labels\[5\]=5 \(1 of 6"),
        ([0, -1, 2, 3, 4, 0], r"labels\[1\]=-1"),
        ([0.0, 1, 2, 3, 4, 0], "must be integers.*float64"),
        (np.eye(6), r"\(num_images, 5\).*shape=\(6, 6\)"),
        (np.full((6, 5), 2.0), r"One-hot.*labels\[0\]"),
        (np.full((6, 5), np.nan), r"One-hot.*labels\[0\]"),
        ([0, 1, 2], "6 images, 3 labels"),
    ],
)
def test_bad_labels_are_refused(labels, message, model, images):
    """Faults case 34: JAX would train on them without a word."""
    with pytest.raises(ValueError, match=message):
        keras_vit.evaluate(model, images, np.array(labels), verbose=0)


def test_good_labels_pass():
    assert keras_vit.data.check_labels([[0], [4]], 5).shape == (2, 1)
    assert keras_vit.data.check_labels(np.eye(3), 3).shape == (3, 3)
    assert keras_vit.data.check_labels(np.full((2, 4), 0.25), 4).shape == (2, 4)


def test_callbacks_of_the_user_are_called(model, images):
    seen = []
    callback = keras.callbacks.LambdaCallback(
        on_predict_batch_end=lambda batch, logs: seen.append(batch)
    )
    keras_vit.predict(model, images, 2, verbose=0, callbacks=[callback])
    assert seen == [0, 1, 2]
