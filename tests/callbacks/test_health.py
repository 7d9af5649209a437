"""A training stops at the first loss that is no number, and says why."""

import keras
import numpy as np
import pytest
import resume_worker as worker
from helpers import EAGER, to_numpy

from keras_vit.callbacks import Resume, StopOnNonFinite

FIT = {"epochs": worker.EPOCHS, "shuffle": False, "verbose": 0}


@pytest.fixture
def model():
    model = worker.build()
    model.compile(**worker.recipe(), **EAGER)
    return model


def ordered(**options):
    return worker.data(shuffle=False, augment=None, **options)


def finite(model):
    return all(np.isfinite(to_numpy(x)).all() for x in model.weights)


def test_one_bad_image_is_named(model):
    data = ordered()
    data.images[6, 0, 0, 0] = np.nan
    message = (
        r"nan at batch 1 of epoch 0, step 2 of the.*images \[2\] of the batch "
        r"\(1 of 4\)\. It cannot be undone"
    )
    with pytest.raises(FloatingPointError, match=message):
        model.fit(data, **FIT, callbacks=[StopOnNonFinite()])
    assert not finite(model)


def test_the_last_checkpoint_comes_back(model, tmp_path):
    data = ordered()
    data.images[10, 0, 0, 0] = np.inf
    resume = Resume(tmp_path, save_freq=1)
    with pytest.raises(FloatingPointError, match="back at epoch 0, batch 2"):
        model.fit(data, **FIT, callbacks=[StopOnNonFinite(resume), resume])
    assert finite(model)
    assert int(to_numpy(model.optimizer.iterations)) == 2


def test_the_first_layer_is_named(model, tmp_path):
    """Weights so large that the first sum of squares overflows."""
    name = "block_00"
    resume = Resume(tmp_path)

    class Break(keras.callbacks.Callback):
        def on_epoch_begin(self, epoch, logs=None):
            for weight in self.model.get_layer(name).trainable_weights:
                weight.assign(np.full(weight.shape, 3e38))

    with pytest.raises(FloatingPointError, match=f"finite is '{name}'"):
        model.fit(
            ordered(),
            **FIT,
            callbacks=[Break(), StopOnNonFinite(resume), resume],
        )


def test_weights_that_are_lost_are_counted(model):
    x = worker.IMAGES.astype("float32")
    x[0] = np.nan
    message = r"at batch 0 of epoch 0.*Not finite are \d+ of \d+ weights, 'pat"
    with pytest.raises(FloatingPointError, match=message):
        model.fit(x, worker.LABELS, **FIT, callbacks=[StopOnNonFinite()])


def test_a_healthy_training_is_left_alone(model):
    history = model.fit(ordered(), **FIT, callbacks=[StopOnNonFinite()])
    assert history.epoch == [0, 1, 2]
