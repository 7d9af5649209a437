"""Layer norm by hand, and its gradient against that of Keras."""

import keras
import numpy as np
from helpers import EAGER, to_numpy

from keras_vit import layers


def test_layer_norm_by_hand():
    # Mean 2, variance 1: (1, 3) -> (-1, 1), up to epsilon.
    norm = layers.LayerNorm(epsilon=3.0)
    given = to_numpy(norm(np.array([[1.0, 3.0]], "float32")))
    np.testing.assert_allclose(given, [[-0.5, 0.5]], rtol=1e-6)
    assert layers.LayerNorm().epsilon == 1e-6  # Flax, not Keras' 1e-3


def test_layer_norm_gradient_is_that_of_keras(rng):
    """The closed form against Keras' layer, differentiated by the backend."""
    x = rng.normal(size=(4, 3, 6)).astype("float32")
    targets = rng.normal(size=(4, 3, 6)).astype("float32")
    ours = layers.LayerNorm(1e-5)
    theirs = keras.layers.LayerNormalization(epsilon=1e-5)
    results = []
    for norm in (ours, theirs):
        inputs = keras.Input((3, 6))
        # A layer in front of it, so that the gradient to its input counts.
        before = keras.layers.Dense(6, kernel_initializer="identity")
        model = keras.Model(inputs, norm(before(inputs)))
        norm.gamma.assign(np.linspace(0.5, 2, 6))
        norm.beta.assign(np.linspace(-1, 1, 6))
        model.compile(optimizer=keras.optimizers.SGD(1.0), loss="mse", **EAGER)
        model.train_on_batch(x, targets)
        results.append([to_numpy(w) for w in model.weights])
    for given, expected in zip(*results):
        np.testing.assert_allclose(given, expected, atol=1e-5)
