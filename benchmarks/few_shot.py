"""Times `few_shot` against scikit-learn's RidgeClassifier on the same sets.

    OMP_NUM_THREADS=1 python benchmarks/few_shot.py [rounds]

1,000 classes, 10 images each to train on and 2 to test, 768 features: class
means and noise, both Gaussian. Shots 1, 2, 3, 5 and 10, seeds 0, 1 and 2:
fifteen solutions, one `l2`. Both get the same subsets, standardised by the
subset, with the constant feature of 100 appended; both classify the test
images; the accuracies must be equal. The two take turns in one process. Prints
seconds and the ratio, ours over scikit-learn's, as medians with their range.
"""

import statistics
import sys
import time

import numpy as np
from sklearn.linear_model import RidgeClassifier

import keras_vit
from keras_vit.transfer_learning.few_shot import nested_subsets

CLASSES, IMAGES, TEST_IMAGES, DIM = 1000, 10, 2, 768
SHOTS, SEEDS, L2 = (1, 2, 3, 5, 10), (0, 1, 2), 1024
ROUNDS = 5


def gaussian_classes(rng):
    """Returns a training and a test set of features with labels."""
    means = rng.normal(size=(CLASSES, DIM)).astype("float32")

    def split(images):
        labels = np.repeat(np.arange(CLASSES), images)
        noise = rng.normal(size=(len(labels), DIM)).astype("float32")
        order = rng.permutation(len(labels))
        return (means[labels] + 3 * noise)[order], labels[order]

    return split(IMAGES), split(TEST_IMAGES)


def ours(train, test):
    return keras_vit.few_shot(None, train, test, SHOTS, SEEDS, L2).accuracies


def theirs(train, test):
    (x, y), (x_test, y_test) = train, test
    x, x_test = x.astype("float64"), x_test.astype("float64")

    def accuracy(rows):
        mean, std = x[rows].mean(axis=0), x[rows].std(axis=0) + 1e-5

        def augmented(features):
            standardized = (features - mean) / std
            constant = np.full((len(features), 1), 100.0)
            return np.hstack([standardized, constant])

        ridge = RidgeClassifier(alpha=L2, fit_intercept=False)
        ridge.fit(augmented(x[rows]), y[rows])
        return np.mean(ridge.predict(augmented(x_test)) == y_test)

    table = [
        [accuracy(rows) for rows in nested_subsets(y, SHOTS, seed)]
        for seed in SEEDS
    ]
    return np.transpose(table)


def main():
    rounds = int(sys.argv[1]) if sys.argv[1:] else ROUNDS
    train, test = gaussian_classes(np.random.default_rng(0))
    np.testing.assert_array_equal(ours(train, test), theirs(train, test))
    seconds = {"ours": [], "scikit-learn": []}
    for _ in range(rounds):
        for found, method in zip(seconds.values(), (ours, theirs)):
            start = time.perf_counter()
            method(train, test)
            found.append(time.perf_counter() - start)
    for name, found in seconds.items():
        print(f"{name:<20} {_spread(found)} s")
    ratios = [a / b for a, b in zip(*seconds.values())]
    print(f"{'ratio':<20} {_spread(ratios)}")


def _spread(values):
    low, high = min(values), max(values)
    return f"{statistics.median(values):.2f} ({low:.2f} to {high:.2f})"


if __name__ == "__main__":
    main()
