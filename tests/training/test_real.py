"""ReaL accuracy: exact on small cases, and on the official file's form."""

import json

import keras
import numpy as np
import pytest

import keras_vit

# Best classes: 1, 0, 2, 1. Right: yes (two are), no, nothing is, yes.
RIGHT = np.array([[1, 1, 0], [0, 1, 1], [0, 0, 0], [0, 1, 0]], "uint8")
SCORES = np.array(
    [[0.0, 2.0, -1.0], [9.0, 1.0, 1.0], [0.0, 1.0, 2.0], [-3.0, -1.0, -2.0]],
    "float32",
)


def result(*updates):
    metric = keras_vit.training.RealAccuracy()
    for update in updates:
        metric.update_state(*update)
    return float(metric.result())


@pytest.mark.parametrize("dtype", ["uint8", "float32", "bool"])
def test_counts_images_that_have_a_class(dtype):
    assert result((RIGHT.astype(dtype), SCORES)) == pytest.approx(2 / 3)


def test_updates_add_up():
    parts = [(RIGHT[i : i + 1], SCORES[i : i + 1]) for i in range(4)]
    assert result(*parts) == pytest.approx(2 / 3)
    metric = keras_vit.training.RealAccuracy()
    metric.update_state(RIGHT, SCORES)
    metric.reset_state()
    assert float(metric.result()) == 0
    metric.update_state(RIGHT[:2], SCORES[:2])
    assert float(metric.result()) == 0.5


def test_nothing_to_count_gives_zero():
    assert result() == 0
    assert result((RIGHT[2:3], SCORES[2:3])) == 0


@pytest.mark.parametrize("shape", [(4,), (4, 1)])
def test_weights_count_but_for_empty_sets(shape):
    weights = np.array([1.0, 2.0, 100.0, 3.0]).reshape(shape)
    expected = (1 + 3) / (1 + 2 + 3)
    assert result((RIGHT, SCORES, weights)) == pytest.approx(expected)


def test_against_the_definition(rng):
    right = rng.random((50, 7)) < 0.15
    scores = rng.normal(size=(50, 7)).astype("float32")
    hits = [
        scores[i].argmax() in np.flatnonzero(right[i])
        for i in range(50)
        if right[i].any()
    ]
    assert 0 < len(hits) < 50
    assert result((right, scores)) == pytest.approx(np.mean(hits), abs=1e-6)


def test_in_evaluate_and_in_a_file(tmp_path):
    model = keras.Sequential(
        [keras.Input((3,)), keras.layers.Activation("linear")]
    )
    model.compile(
        loss="mse",
        metrics=[keras_vit.training.RealAccuracy(name="real")],
    )
    results = keras_vit.evaluate(
        model, SCORES, RIGHT, batch_size=3, verbose=0, return_dict=True
    )
    assert results["real"] == pytest.approx(2 / 3)
    metric = keras.saving.deserialize_keras_object(
        keras.saving.serialize_keras_object(
            keras_vit.training.RealAccuracy(name="real")
        )
    )
    assert (
        isinstance(metric, keras_vit.training.RealAccuracy)
        and metric.name == "real"
    )


def test_reads_the_official_form(tmp_path):
    path = tmp_path / "real.json"
    path.write_text(json.dumps([[0, 1], [1, 2], [], [1]]), encoding="utf-8")
    labels = keras_vit.training.real_labels(path, num_classes=3)
    assert labels.dtype == "uint8"
    np.testing.assert_array_equal(labels, RIGHT)
    assert keras_vit.training.real_labels(str(path)).shape == (4, 1000)


@pytest.mark.parametrize(
    "text, message",
    [
        ("[[1], [", "is not a JSON file"),
        ("{}", "list of lists.*dict"),
        ("[]", "list of lists"),
        ("[[1], 2]", "lists of integers.*Received: 2 for image 1"),
        ("[[3]]", r"in \[0, 3\).*Received: \[3\] for image 0"),
        ("[[-1]]", "lists of integers"),
        ("[[1.0]]", "lists of integers"),
        ("[[true]]", "lists of integers"),
        ('[["1"]]', "lists of integers"),
    ],
)
def test_refuses_other_files(text, message, tmp_path):
    path = tmp_path / "real.json"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(ValueError, match=message):
        keras_vit.training.real_labels(path, num_classes=3)
