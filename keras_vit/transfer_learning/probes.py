"""Other ways to judge frozen features: logistic regression and neighbours.

Thin wrappers of scikit-learn over the same input, and the same few-shot sets,
as `few_shot`.
"""

import numpy as np

from keras_vit.arguments import (
    check_above_zero,
    check_not_negative,
    check_positive,
)
from keras_vit.transfer_learning.features import both_splits
from keras_vit.transfer_learning.few_shot import (
    SEEDS,
    check_sequence,
    nested_subsets,
)
from keras_vit.transfer_learning.few_shot_result import FewShotResult


def linear_probe(
    model,
    train,
    test,
    shots=None,
    seeds=SEEDS,
    C=1.0,
    max_iter=1000,
    *,
    num_classes=None,
    batch_size=32,
    verbose="auto",
):
    """Classifies images by logistic regression on standardised features.

    scikit-learn's `StandardScaler` and `LogisticRegression`. Slower than
    `few_shot`, and usually better where there are many images a class.

    Args:
        model: as in `few_shot`.
        train: as in `few_shot`.
        test: as in `few_shot`.
        shots: training images of each class, an integer or a sequence, drawn
            as in `few_shot`; or `None` for all of them.
        seeds: integers of 0 or more, or one; of no meaning without `shots`.
        C: inverse regularisation strength above 0, which stands before the
            sum of the losses, as in scikit-learn.
        max_iter: steps of the solver, at most.
        num_classes: as in `few_shot`.
        batch_size: images a step, for arrays.
        verbose: progress bar over the batches, as in Keras.

    Returns:
        The accuracy, a float in [0, 1]; with `shots`, a `FewShotResult`.

    Raises:
        ValueError: as `few_shot`.
        ImportError: if scikit-learn is not installed.

    Example:

    >>> train, test = keras_vit.data.load("digits")
    >>> pixels = [(x.reshape(len(x), 64), y) for x, y in (train, test)]
    >>> keras_vit.transfer_learning.linear_probe(None, *pixels) > 0.9
    True
    """
    check_above_zero("C", C)
    check_positive("max_iter", max_iter)
    sklearn = _sklearn()

    def classifier():
        return sklearn.pipeline.make_pipeline(
            sklearn.preprocessing.StandardScaler(),
            sklearn.linear_model.LogisticRegression(C=C, max_iter=max_iter),
        )

    return _evaluate(
        lambda num_examples: classifier(),
        both_splits(model, train, test, num_classes, batch_size, verbose),
        shots,
        seeds,
    )


def nearest_neighbors(
    model,
    train,
    test,
    num_neighbors=5,
    shots=None,
    seeds=SEEDS,
    metric="cosine",
    *,
    num_classes=None,
    batch_size=32,
    verbose="auto",
):
    """Classifies images by a vote of the training images most alike.

    scikit-learn's `KNeighborsClassifier`.

    Args:
        model: as in `few_shot`.
        train: as in `few_shot`.
        test: as in `few_shot`.
        num_neighbors: images that vote, each alike; all of them where there
            are fewer.
        shots: training images of each class, an integer or a sequence, drawn
            as in `few_shot`; or `None` for all of them.
        seeds: integers of 0 or more, or one; of no meaning without `shots`.
        metric: distance of features, a name that scikit-learn knows:
            `"cosine"`, `"euclidean"`, `"manhattan"`.
        num_classes: as in `few_shot`.
        batch_size: images a step, for arrays.
        verbose: progress bar over the batches, as in Keras.

    Returns:
        The accuracy, a float in [0, 1]; with `shots`, a `FewShotResult`.

    Raises:
        ValueError: as `few_shot`.
        ImportError: if scikit-learn is not installed.

    Example:

    >>> train, test = keras_vit.data.load("digits")
    >>> pixels = [(x.reshape(len(x), 64), y) for x, y in (train, test)]
    >>> keras_vit.transfer_learning.nearest_neighbors(None, *pixels) > 0.95
    True
    """
    check_positive("num_neighbors", num_neighbors)
    sklearn = _sklearn()

    def classifier(num_examples):
        return sklearn.neighbors.KNeighborsClassifier(
            min(num_neighbors, num_examples), metric=metric
        )

    return _evaluate(
        classifier,
        both_splits(model, train, test, num_classes, batch_size, verbose),
        shots,
        seeds,
    )


def _sklearn():
    try:
        import sklearn.linear_model
        import sklearn.neighbors
        import sklearn.pipeline
        import sklearn.preprocessing
    except ImportError as error:
        raise ImportError(
            "This evaluation is scikit-learn's, which is not installed: "
            'pip install "keras-vit[data]"'
        ) from error
    return sklearn


def _evaluate(classifier, splits, shots, seeds):
    """Accuracy on all training images, or on few-shot sets of them."""
    train, test, num_classes = splits

    def accuracy(rows):
        features, labels = train.features[rows], train.labels[rows]
        if num_classes == 1:  # scikit-learn wants a choice
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
