"""`linear_probe` and `nearest_neighbors`: scikit-learn on the same features."""

import numpy as np
import pytest

from keras_vit.transfer_learning import linear_probe, nearest_neighbors

pytest.importorskip("sklearn")


def badly_scaled(rng, count):
    """Labels that a feature of 1e-3 gives away, beside one of 1e3 of noise."""
    labels = np.arange(count) % 2
    features = rng.normal(size=(count, 2)) * (0.1, 1)
    features[:, 0] += labels
    return features * (1e-3, 1e3), labels


@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
def test_linear_probe_standardises_features(rng):
    """As they come, C=1 holds the weight of the small feature near zero."""
    train, test = badly_scaled(rng, 40), badly_scaled(rng, 200)
    assert linear_probe(None, train, test) == 1
    result = linear_probe(None, train, test, shots=(5, 20), seeds=(0, 1))
    assert result.accuracies.shape == (2, 2)
    np.testing.assert_array_equal(result.accuracies[1], [1, 1])


def test_nearest_neighbors_votes(rng):
    """Of three equal votes two win; cosines do not know lengths."""
    features = np.array([[1.0, 0.1], [1.0, 0.2], [1.0, 0.3], [0.1, 1.0]])
    train = features, [0, 1, 1, 2]
    test = np.array([[9.0, 0.9]]), [1]
    assert nearest_neighbors(None, train, test, num_neighbors=3) == 1
    assert nearest_neighbors(None, train, test, num_neighbors=1) == 0
    # More neighbours than images: all of them vote.
    assert nearest_neighbors(None, train, test, num_neighbors=9) == 1
    result = nearest_neighbors(None, train, test, shots=1, seeds=0)
    assert result.accuracies.shape == (1, 1)
