"""Other ways to judge frozen features: logistic regression and neighbours.

Thin wrappers of scikit-learn with the same input and the same few-shot sets as
`few_shot`.
"""

import types
from collections.abc import Sequence

import keras
import numpy as np

from keras_vit.arguments import (
    check_above_zero,
    check_not_negative,
    check_positive,
)
from keras_vit.extras import require
from keras_vit.transfer_learning.features import Data, Verbose, both_splits
from keras_vit.transfer_learning.few_shot import (
    SEEDS,
    check_sequence,
    nested_subsets,
)
from keras_vit.transfer_learning.few_shot_result import FewShotResult


def linear_probe(
    model: keras.Model | None,
    train: Data,
    test: Data,
    shots: int | Sequence[int] | None = None,
    seeds: int | Sequence[int] = SEEDS,
    C: float = 1.0,
    max_iter: int = 1000,
    *,
    num_classes: int | None = None,
    batch_size: int = 32,
    verbose: Verbose = "auto",
) -> float | FewShotResult:
    """Classifies images by logistic regression on standardised features.

    It uses scikit-learn's `StandardScaler` and `LogisticRegression`. It is
    slower than `few_shot`, and usually better with many images of each class.

    Args:
        model: as in `few_shot`.
        train: as in `few_shot`.
        test: as in `few_shot`.
        shots: training images of each class, as in `few_shot`; or `None` for
            all of them.
        seeds: as in `few_shot`; ignored without `shots`.
        C: inverse regularisation strength above 0, a factor of the sum of the
            losses, as in scikit-learn.
        max_iter: the most steps of the solver.
        num_classes: as in `few_shot`.
        batch_size: as in `few_shot`.
        verbose: as in `few_shot`.

    Returns:
        The accuracy, a float in [0, 1]; with `shots`, a `FewShotResult`.

    Raises:
        ValueError: as in `few_shot`.
        ImportError: if scikit-learn is not installed.

    Example:

    >>> train, test = keras_vit.data.load("digits")
    >>> pixels = [(x.reshape(len(x), 64), y) for x, y in (train, test)]
    >>> keras_vit.transfer_learning.linear_probe(None, *pixels) > 0.9
    True
    """
    check_above_zero("C", C)
    check_positive("max_iter", max_iter)
    preprocessing = _sklearn("preprocessing")
    linear_model = _sklearn("linear_model")
    pipeline = _sklearn("pipeline")

    def classifier(num_examples):
        return pipeline.make_pipeline(
            preprocessing.StandardScaler(),
            linear_model.LogisticRegression(C=C, max_iter=max_iter),
        )

    splits = both_splits(model, train, test, num_classes, batch_size, verbose)
    return _probe(classifier, splits, shots, seeds)


def nearest_neighbors(
    model: keras.Model | None,
    train: Data,
    test: Data,
    num_neighbors: int = 5,
    shots: int | Sequence[int] | None = None,
    seeds: int | Sequence[int] = SEEDS,
    metric: str = "cosine",
    *,
    num_classes: int | None = None,
    batch_size: int = 32,
    verbose: Verbose = "auto",
) -> float | FewShotResult:
    """Classifies images by a vote of the most similar training images.

    It uses scikit-learn's `KNeighborsClassifier`.

    Args:
        model: as in `few_shot`.
        train: as in `few_shot`.
        test: as in `few_shot`.
        num_neighbors: number of images that vote, with equal weights; all
            images if there are fewer.
        shots: training images of each class, as in `few_shot`; or `None` for
            all of them.
        seeds: as in `few_shot`; ignored without `shots`.
        metric: distance of features, a name that scikit-learn knows:
            `"cosine"`, `"euclidean"`, `"manhattan"`.
        num_classes: as in `few_shot`.
        batch_size: as in `few_shot`.
        verbose: as in `few_shot`.

    Returns:
        The accuracy, a float in [0, 1]; with `shots`, a `FewShotResult`.

    Raises:
        ValueError: as in `few_shot`.
        ImportError: if scikit-learn is not installed.

    Example:

    >>> train, test = keras_vit.data.load("digits")
    >>> pixels = [(x.reshape(len(x), 64), y) for x, y in (train, test)]
    >>> keras_vit.transfer_learning.nearest_neighbors(None, *pixels) > 0.95
    True
    """
    check_positive("num_neighbors", num_neighbors)
    neighbors = _sklearn("neighbors")

    def classifier(num_examples):
        return neighbors.KNeighborsClassifier(
            min(num_neighbors, num_examples), metric=metric
        )

    splits = both_splits(model, train, test, num_classes, batch_size, verbose)
    return _probe(classifier, splits, shots, seeds)


def _sklearn(module) -> types.ModuleType:
    return require(f"sklearn.{module}", "data", "Probes need scikit-learn")


def _probe(classifier, splits, shots, seeds):
    """Fits a classifier to all training images, or to few-shot sets of them."""
    train, test, num_classes = splits

    def accuracy(rows):
        features, labels = train.features[rows], train.labels[rows]
        if num_classes == 1:  # scikit-learn needs two classes
            return 1.0
        fitted = classifier(len(labels)).fit(features, labels)
        return float(np.mean(fitted.predict(test.features) == test.labels))

    if shots is None:
        return accuracy(slice(None))
    shots = check_sequence("shots", shots, check_positive)
    seeds = check_sequence("seeds", seeds, check_not_negative)
    table = [
        [accuracy(rows) for rows in nested_subsets(train.labels, shots, seed)]
        for seed in seeds
    ]
    return FewShotResult(
        accuracies=np.transpose(table),
        shots=shots,
        seeds=seeds,
        num_classes=num_classes,
        num_test=len(test.labels),
    )
