"""`few_shot`: the protocol, and the data and arguments it refuses."""

import numpy as np
import pytest

import keras_vit
from keras_vit.transfer_learning.few_shot import nested_subsets

CLASSES = 3


@pytest.fixture
def features(rng):
    """Gaussian classes: 12 images each to train on, 20 each to test."""
    centers = rng.normal(size=(CLASSES, 8))

    def split(images):
        labels = rng.permutation(np.repeat(np.arange(CLASSES), images))
        return centers[labels] + 0.7 * rng.normal(size=(len(labels), 8)), labels

    return split(12), split(20)


def definition(train, test, shots, seed, l2):
    """Section 3 of the protocol, line by line."""
    (x, y), (x_test, y_test) = train, test
    rng = np.random.default_rng(seed)
    orders = [rng.permutation(np.flatnonzero(y == c)) for c in range(CLASSES)]
    rows = np.concatenate([order[:shots] for order in orders])
    mean, std = x[rows].mean(0), x[rows].std(0) + 1e-5

    def augmented(f):
        return np.hstack([(f - mean) / std, np.full((len(f), 1), 100.0)])

    design, target = augmented(x[rows]), 2.0 * np.eye(CLASSES)[y[rows]] - 1
    system = design.T @ design + l2 * np.eye(design.shape[1])
    weights = np.linalg.solve(system, design.T @ target)
    return np.mean((augmented(x_test) @ weights).argmax(1) == y_test)


def test_accuracies_are_those_of_the_definition(features):
    shots, seeds, strengths = (1, 5, 2, 25), (0, 3), (16, 1024.0)
    result = keras_vit.few_shot(None, *features, shots, seeds, strengths)
    assert result.accuracies.shape == (2, 4, 2)
    assert (result.shots, result.seeds, result.l2) == (shots, seeds, strengths)
    for i, l2 in enumerate(strengths):
        for j, number in enumerate(shots):
            for k, seed in enumerate(seeds):
                expected = definition(*features, number, seed, l2)
                assert result.accuracies[i, j, k] == expected
    alone = keras_vit.few_shot(None, *features, shots, seeds, l2=16)
    assert alone.l2 == 16
    np.testing.assert_array_equal(alone.accuracies, result.accuracies[0])


def test_defaults_are_those_of_the_paper(features):
    result = keras_vit.few_shot(None, *features)
    assert result.shots == (1, 5, 10, 25)
    assert result.seeds == (0, 1, 2)
    assert result.l2 == 1024


def test_subsets_are_nested_and_of_the_classes(rng):
    labels = rng.permutation(np.repeat(np.arange(4), (1, 3, 9, 20)))
    small, middle, large = nested_subsets(labels, (1, 5, 25), seed=7)
    assert set(small) < set(middle) < set(large) == set(range(len(labels)))
    for rows, counts in ((small, (1, 1, 1, 1)), (middle, (1, 3, 5, 5))):
        np.testing.assert_array_equal(np.bincount(labels[rows]), counts)
        assert len(set(rows)) == len(rows)
    again = nested_subsets(labels, (5,), seed=7)[0]
    np.testing.assert_array_equal(again, middle)
    assert set(nested_subsets(labels, (5,), seed=8)[0]) != set(middle)


def test_separable_classes_are_told_apart(features):
    (x, y), (x_test, y_test) = features
    x, x_test = x + 50 * np.eye(8)[y], x_test + 50 * np.eye(8)[y_test]
    result = keras_vit.few_shot(None, (x, y), (x_test, y_test), shots=1)
    np.testing.assert_array_equal(result.accuracies, 1)


def test_shuffled_labels_give_chance(rng):
    """2,000 guesses among 4: chance +- 4.9 standard deviations, p < 1e-6."""
    x, x_test = rng.normal(size=(80, 16)), rng.normal(size=(2000, 16))
    train, test = (x, np.arange(80) % 4), (x_test, np.arange(2000) % 4)
    result = keras_vit.few_shot(None, train, test, shots=20, seeds=0)
    bound = 4.9 * np.sqrt(0.25 * 0.75 / 2000)
    assert abs(result.accuracies[0, 0] - 0.25) < bound


def test_one_class_and_a_constant_feature(rng):
    one = rng.normal(size=(4, 3)), np.zeros(4, int)
    np.testing.assert_array_equal(
        keras_vit.few_shot(None, one, one).accuracies, 1
    )
    x, y = rng.normal(size=(40, 5)), np.arange(40) % 2
    x[:, 0] += 4 * y
    with_constant = np.hstack([x, np.full((40, 1), 1e6 / 3)])
    np.testing.assert_array_equal(
        keras_vit.few_shot(None, (x, y), (x, y)).accuracies,
        keras_vit.few_shot(
            None, (with_constant, y), (with_constant, y)
        ).accuracies,
    )


def test_one_hot_labels_and_columns(features):
    expected = keras_vit.few_shot(None, *features).accuracies
    for encode in (lambda y: np.eye(CLASSES)[y], lambda y: y[:, None]):
        train, test = [(x, encode(y)) for x, y in features]
        given = keras_vit.few_shot(None, train, test).accuracies
        np.testing.assert_array_equal(given, expected)


# What is refused.


@pytest.mark.parametrize("which", ["train", "test"])
@pytest.mark.parametrize(
    "labels, message",
    [
        ([-1, 1, 2, 0], r"labels\[0\]=-1"),
        ([0.0, 1, 2, 0], "must be integers.*float64"),
        ([0, 1, 2], "4 images, 3 labels"),
        ([[0, 1, 1]] * 4, "single 1"),
        (np.zeros((4, 2, 2), int), r"shape=\(4, 2, 2\)"),
    ],
)
def test_bad_labels_are_refused(which, labels, message):
    """Faults case 34."""
    good = np.eye(4), [0, 1, 2, 0]
    splits = {"train": good, "test": good}
    splits[which] = np.eye(4), np.array(labels)
    with pytest.raises(ValueError, match=f"`{which}`.*{message}"):
        keras_vit.few_shot(None, **splits)


@pytest.mark.parametrize(
    "train, test, message",
    [
        (([[1.0], [2]], [0, 2]), ([[1.0]], [0]), "class 1 .1 of 3 classes"),
        (([[1.0], [2]], [0, 1]), ([[1.0]], [2]), r"`test`.*in \[0, 2\)"),
        (([[1.0], [2]], [0, 1]), ([[1.0, 2]], [0]), "one width.*1 and 2"),
        ((np.zeros((0, 2)), []), ([[1.0, 2]], [0]), "`train`.*at least one"),
        (([1.0, 2], [0, 1]), ([[1.0]], [0]), r"`train`.*shape=\(2,\)"),
        (([[1.0]], [0], [1]), ([[1.0]], [0]), "`train` must be a pair.*3"),
        (([[1.0]], [0]), [], "`test` must be a pair"),
    ],
)
def test_bad_data_is_refused(train, test, message):
    with pytest.raises(ValueError, match=message):
        keras_vit.few_shot(None, train, test)


def test_features_that_are_not_finite_are_named():
    """Faults case 33."""
    train = np.ones((20, 2)), np.arange(20) % 2
    test = np.ones((20, 2)), np.arange(20) % 2
    test[0][3, 1] = np.nan
    test[0][7, 0] = np.inf
    with pytest.raises(ValueError, match="`test`.*2 of 20 rows: 3, 7$"):
        keras_vit.few_shot(None, train, test)
    train[0][:12] = np.nan
    with pytest.raises(ValueError, match="`train`.*12 of 20.*8, 9, ...$"):
        keras_vit.few_shot(None, train, test)


@pytest.mark.parametrize(
    "arguments, message",
    [
        ({"shots": 0}, "`shots` must be an integer greater than 0.*0"),
        ({"shots": ()}, "`shots` must have at least one"),
        ({"shots": (1, 2.5)}, "`shots`.*2.5"),
        ({"seeds": -1}, "`seeds`.*-1"),
        ({"l2": 0}, "`l2` must be a number greater than 0"),
        ({"l2": (1, -4)}, "`l2`.*-4"),
        ({"num_classes": 2}, r"`train`.*in \[0, 2\)"),
    ],
)
def test_bad_arguments_are_refused(arguments, message, features):
    with pytest.raises(ValueError, match=message):
        keras_vit.few_shot(None, *features, **arguments)
