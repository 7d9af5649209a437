"""The closed form of few-shot evaluation, against definitions and oracles."""

import json
import tracemalloc

import numpy as np
import pytest

from keras_vit.transfer_learning.ridge import (
    accuracy,
    ridge_classifiers,
    standardize,
)

L2 = (2.0**-6, 1.0, 64.0, 1024.0)


def augmented(train, features):
    """The definition: standardised by the training set, and a 100."""
    standardized = (features - train.mean(0)) / (train.std(0) + 1e-5)
    return np.hstack([standardized, np.full((len(features), 1), 100.0)])


def targets(labels, classes):
    return 2.0 * np.eye(classes)[labels] - 1


def scores(train, labels, test, classes, l2=L2):
    return np.stack(
        [
            test @ kernel + bias
            for kernel, bias in ridge_classifiers(train, labels, classes, l2)
        ]
    )


def case(name, rng):
    """Features and labels to train on, features to test on, classes."""
    rows, dim, classes = {
        "more rows": (60, 13, 4),
        "more features": (12, 40, 4),
        "as many rows as unknowns": (14, 13, 4),
        "one row less than unknowns": (13, 13, 4),
        "one shot": (4, 13, 4),
        "one row": (1, 5, 1),
        "one class": (20, 6, 1),
        "duplicates": (40, 13, 4),
        "duplicates, more features": (12, 40, 4),
        "classes of unlike size": (30, 10, 4),
        "constant feature": (30, 10, 4),
    }[name]
    labels = np.arange(rows) % classes
    if name == "classes of unlike size":
        labels = np.repeat(np.arange(4), (1, 2, 20, 7))
    labels = rng.permutation(labels)
    centers = rng.normal(size=(classes, dim))
    features = centers[labels] + rng.normal(size=(rows, dim))
    features = 5 + 3 * features * rng.uniform(0.1, 2, dim)
    if "duplicates" in name:
        features[rows // 2 :] = features[: rows - rows // 2]
    test = 5 + 9 * rng.normal(size=(50, dim))
    if name == "constant feature":
        features[:, 3] = test[:, 3] = 1 / 3
    return features, labels, test, classes


CASES = (
    "more rows",
    "more features",
    "as many rows as unknowns",
    "one row less than unknowns",
    "one shot",
    "one row",
    "one class",
    "duplicates",
    "duplicates, more features",
    "classes of unlike size",
    "constant feature",
)


@pytest.mark.parametrize("name", CASES)
def test_scores_are_those_of_scikit_learn(name, rng):
    """Faults case 38, on the same augmented features."""
    linear_model = pytest.importorskip("sklearn.linear_model")
    train, labels, test, classes = case(name, rng)
    x, x_test = augmented(train, train), augmented(train, test)
    for l2, given in zip(L2, scores(train, labels, test, classes)):
        ridge = linear_model.Ridge(alpha=l2, fit_intercept=False, solver="svd")
        expected = ridge.fit(x, targets(labels, classes)).predict(x_test)
        np.testing.assert_allclose(
            given, expected.reshape(given.shape), rtol=1e-6, atol=1e-6
        )


@pytest.mark.parametrize("name", CASES)
def test_primal_equals_dual_equals_the_definition(name, rng):
    """Both systems, with the constant feature left in, by `solve`."""
    train, labels, test, classes = case(name, rng)
    x, y = augmented(train, train), targets(labels, classes)
    x_test = augmented(train, test)
    for l2, given in zip(L2[1:], scores(train, labels, test, classes, L2[1:])):
        primal = np.linalg.solve(x.T @ x + l2 * np.eye(x.shape[1]), x.T @ y)
        dual = x.T @ np.linalg.solve(x @ x.T + l2 * np.eye(len(x)), y)
        np.testing.assert_allclose(given, x_test @ primal, atol=1e-6)
        np.testing.assert_allclose(given, x_test @ dual, atol=1e-6)


@pytest.mark.parametrize("name", CASES)
def test_one_strength_alone_equals_that_of_a_sweep(name, rng):
    """`solve` against the shared eigendecomposition."""
    train, labels, test, classes = case(name, rng)
    swept = scores(train, labels, test, classes)
    for l2, given in zip(L2, swept):
        alone = scores(train, labels, test, classes, (l2,))
        np.testing.assert_allclose(alone[0], given, rtol=1e-7, atol=1e-7)


@pytest.mark.reference
def test_reference_case(reference_cases):
    """big_vision's own `fewshot_lsr.py`, and its formula in float64."""
    folder = reference_cases / "fewshot"
    facts = json.loads((folder / "case.json").read_text("utf-8"))
    given = np.load(folder / "inputs.npz")
    expected = np.load(folder / "expected.npz")
    train = given["x_train"].astype("float64")
    test = given["x_test"].astype("float64")
    _, mean, scale = standardize(train.copy())
    np.testing.assert_allclose(mean, expected["mean"][0], 1e-5, 1e-5)
    np.testing.assert_allclose(scale, expected["std"][0], 1e-5, 1e-5)
    classifiers = list(
        ridge_classifiers(
            train,
            given["y_train"],
            facts["config"]["num_classes"],
            tuple(given["l2"]),
        )
    )
    found = np.stack([test @ kernel + bias for kernel, bias in classifiers])
    np.testing.assert_allclose(
        found, expected["scores_float64"], rtol=1e-6, atol=1e-6
    )
    tolerances = facts["expected"]["scores_float32"]["atol_per_l2"]
    for ours, theirs, tolerance in zip(
        found, expected["scores_float32"], tolerances
    ):
        np.testing.assert_allclose(ours, theirs, rtol=1e-5, atol=tolerance)
    np.testing.assert_array_equal(
        found.argmax(-1), expected["predictions_float64"]
    )
    accuracies = [accuracy(test, given["y_test"], *c) for c in classifiers]
    np.testing.assert_allclose(
        accuracies, expected["accuracy_float64"], atol=1e-12
    )


@pytest.mark.parametrize("name", ["more rows", "more features"])
def test_rescaled_features_give_the_same_scores(name, rng):
    """Standardisation undoes a * f + b, but for the 1e-5.

    A standard deviation of s gives z = (f - mean) / (s + 1e-5), which is off
    from scale invariance by a factor of 1 - 1e-5 / s; all s here are above
    0.1 before and after, so z moves by 1e-4 of itself at most, and scores
    are of the order of 1.
    """
    train, labels, test, classes = case(name, rng)
    factor = rng.uniform(1, 50, train.shape[1]) * rng.choice([-1, 1])
    shift = 100 * rng.normal(size=train.shape[1])
    assert train.std(0).min() > 0.1
    expected = scores(train, labels, test, classes, (64.0,))
    given = scores(
        factor * train + shift, labels, factor * test + shift, classes, (64.0,)
    )
    np.testing.assert_allclose(given, expected, atol=5e-4)


def test_a_class_without_images_is_never_the_answer(rng):
    train = np.vstack([rng.normal(-5, 1, (9, 3)), rng.normal(5, 1, (9, 3))])
    labels = np.repeat([0, 2], 9)
    found = scores(train, labels, train, 3, (1.0,))[0]
    np.testing.assert_array_equal(found.argmax(axis=1), labels)


@pytest.mark.parametrize("rows, dim", [(8, 1_000_000), (200_000, 4)])
def test_only_the_smaller_matrix_is_made(rows, dim):
    """The other one would take 8 TB, or 320 GB."""
    features = np.zeros((rows, dim))
    features[:, 0] = labels = np.arange(rows) % 2
    size = features.nbytes
    tracemalloc.start()
    try:
        for kernel, bias in ridge_classifiers(features, labels, 2, (1.0,)):
            assert accuracy(features, labels, kernel, bias) == 1
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 3 * size


def test_accuracy_in_blocks_is_the_accuracy(rng, monkeypatch):
    features, kernel = rng.normal(size=(25, 6)), rng.normal(size=(6, 3))
    bias, labels = rng.normal(size=3), rng.integers(0, 3, 25)
    expected = np.mean((features @ kernel + bias).argmax(1) == labels)
    assert accuracy(features, labels, kernel, bias) == expected
    monkeypatch.setattr("keras_vit.transfer_learning.ridge.BLOCK", 12)
    assert accuracy(features, labels, kernel, bias) == expected
