"""The result of a few-shot evaluation, and the probes beside it."""

import sys

import numpy as np
import pytest

import keras_vit

ACCURACIES = np.array([[0.5, 0.75], [1.0, 1.0]])


@pytest.fixture
def result():
    return keras_vit.transfer_learning.FewShotResult(
        ACCURACIES, (1, 5), (0, 1), 4, 1200, 1024
    )


@pytest.fixture
def swept():
    accuracies = np.stack([ACCURACIES, ACCURACIES[::-1], ACCURACIES / 2])
    return keras_vit.transfer_learning.FewShotResult(
        accuracies, (1, 5), (0, 1), 4, 1200, (1, 16.0, 1024)
    )


def test_table(result, swept):
    assert str(result).splitlines() == [
        "accuracy on 1,200 test images, classes: 4, seeds: 2",
        "shots     mean      std",
        "    1   0.6250   0.1250",
        "    5   1.0000   0.0000",
    ]
    lines = str(swept).splitlines()
    assert len(lines) == 2 + 3 * 2
    assert lines[1].split() == ["l2", "shots", "mean", "std"]
    assert lines[-1].split() == ["1024", "5", "0.5000", "0.0000"]
    assert len(set(map(len, lines[1:]))) == 1


def test_numbers(result, swept):
    np.testing.assert_array_equal(result.mean, [0.625, 1])
    np.testing.assert_array_equal(result.std, [0.125, 0])
    assert result.chance == 0.25
    assert swept.mean.shape == swept.std.shape == (3, 2)
    with pytest.raises(AttributeError):
        result.accuracies = None


def test_best_l2(result, swept):
    """The first two are equally good: the larger, which holds back more."""
    assert swept.best_l2() == 16
    with pytest.raises(ValueError, match="sequence of `l2`"):
        result.best_l2()


def test_frame(result, swept):
    pytest.importorskip("pandas")
    frame = swept.to_frame()
    assert list(frame.columns) == ["l2", "shots", "seed", "accuracy"]
    assert len(frame) == 12
    row = frame[(frame.l2 == 16) & (frame.shots == 5) & (frame.seed == 1)]
    assert row.accuracy.item() == 0.75
    means = result.to_frame().groupby("shots").accuracy.mean()
    np.testing.assert_array_equal(means, result.mean)


@pytest.mark.parametrize(
    "package, use, message",
    [
        ("pandas", lambda result: result.to_frame(), "pip install pandas"),
        ("matplotlib.figure", lambda result: result.plot(), r"\[viz\]"),
        (
            "sklearn.linear_model",
            lambda result: keras_vit.transfer_learning.linear_probe(
                None, (), ()
            ),
            r"\[data\]",
        ),
    ],
)
def test_absent_packages_are_named(package, use, message, result, monkeypatch):
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(ImportError, match=message):
        use(result)


def test_plot(result, swept, tmp_path):
    pytest.importorskip("matplotlib")
    (axes,) = result.plot().axes
    assert "images per class" in axes.get_xlabel()
    assert "fraction" in axes.get_ylabel()
    (bars,) = axes.containers
    line, _, (segments,) = bars.lines
    np.testing.assert_array_equal(line.get_xydata(), [[1, 0.625], [5, 1]])
    np.testing.assert_allclose(
        segments.get_segments()[0], [[1, 0.5], [1, 0.75]]
    )
    (chance,) = [x for x in axes.lines if x.get_linestyle() == "--"]
    np.testing.assert_array_equal(chance.get_ydata(), 0.25)
    assert [text.get_text() for text in axes.get_xticklabels()] == ["1", "5"]
    figure = swept.plot()
    assert len(figure.axes[0].containers) == 3
    figure.savefig(tmp_path / "figure.png")


@pytest.fixture
def classes(rng):
    centers = 2 * rng.normal(size=(3, 4))
    labels = rng.permutation(np.repeat(np.arange(3), 8))
    return centers[labels] + rng.normal(size=(24, 4)), labels


PROBES = (
    keras_vit.transfer_learning.linear_probe,
    keras_vit.transfer_learning.nearest_neighbors,
)


def test_linear_probe_is_that_of_scikit_learn(classes):
    linear_model = pytest.importorskip("sklearn.linear_model")
    x, y = classes
    standardized = (x - x.mean(0)) / x.std(0)
    model = linear_model.LogisticRegression(C=0.1, max_iter=500)
    expected = model.fit(standardized, y).score(standardized, y)
    assert (
        keras_vit.transfer_learning.linear_probe(None, classes, classes, C=0.1)
        == expected
    )


def test_nearest_neighbor_is_the_one_most_alike(classes):
    pytest.importorskip("sklearn")
    x, y = classes
    unit = x / np.linalg.norm(x, axis=1, keepdims=True)
    test = np.roll(x, 1, axis=1), y
    units = test[0] / np.linalg.norm(test[0], axis=1, keepdims=True)
    nearest = y[(units @ unit.T).argmax(axis=1)]
    given = keras_vit.transfer_learning.nearest_neighbors(
        None, classes, test, 1
    )
    assert given == np.mean(nearest == y)
    assert (
        keras_vit.transfer_learning.nearest_neighbors(None, classes, classes, 1)
        == 1
    )


@pytest.mark.parametrize("probe", PROBES)
def test_probes_take_the_same_sets_and_refuse_the_same(probe, classes):
    pytest.importorskip("sklearn")
    everything = probe(None, classes, classes)
    result = probe(None, classes, classes, shots=(1, 99), seeds=(0, 7))
    assert result.accuracies.shape == (2, 2)
    assert result.l2 is None
    # All images, in another order.
    np.testing.assert_array_equal(result.accuracies[1], everything)
    assert "99" in str(result)
    one = classes[0], np.zeros(24, int)
    assert probe(None, one, one) == 1
    with pytest.raises(ValueError, match="`shots`"):
        probe(None, classes, classes, shots=0)
    with pytest.raises(ValueError, match="`train`.*24 images, 3 labels"):
        probe(None, (classes[0], [0, 1, 2]), classes)
