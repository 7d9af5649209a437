"""Known answers of what stands on branches."""

import numpy as np
from helpers import to_numpy

from keras_vit import layers


def test_stochastic_depth_keeps_the_expectation():
    branch = np.ones((20_000, 1, 2), "float32")
    kept = to_numpy(layers.StochasticDepth(0.25, seed=3)(branch, training=True))
    # A branch is dropped whole, or divided by its probability of staying.
    assert set(np.unique(kept)) == {0.0, np.float32(1 / 0.75)}
    assert (kept[:, 0, 0] == kept[:, 0, 1]).all()
    # Standard error of the mean: sqrt(0.25 / 0.75 / 20000) = 0.004.
    assert abs(kept.mean() - 1) < 0.02


def test_layer_scale_multiplies_channels():
    scale = layers.LayerScale(0.5)
    given = to_numpy(scale(np.array([[2.0, 4.0]], "float32")))
    np.testing.assert_array_equal(given, [[1.0, 2.0]])
