"""From image files to names and probabilities."""

import keras
import numpy as np
import pytest
from helpers import outputs_of

import keras_vit

Image = pytest.importorskip("PIL.Image")
FIVE = ("ant", "bee", "cat", "dog", "eel")


@pytest.fixture
def named(tiny_vit):
    return keras_vit.name_classes(tiny_vit(), FIVE)


def softmax(logits):
    odds = np.exp(logits.astype("float64"))
    return odds / odds.sum(-1, keepdims=True)


def test_a_file_a_picture_and_arrays(named, photograph, tmp_path):
    pixels = photograph(24, 36)
    Image.fromarray(pixels).save(tmp_path / "a.png")
    sources = [
        tmp_path / "a.png",
        str(tmp_path / "a.png"),
        Image.fromarray(pixels),
        pixels,
        photograph(9, 7),
    ]
    images = keras_vit.load_images(sources, named)
    expected = softmax(outputs_of(named, images))
    results = keras_vit.classify(named, sources, top=3)
    assert results == keras_vit.classify(named, images, top=3)
    for row, result in zip(expected, results):
        order = np.argsort(-row)[:3]
        assert result.classes == tuple(order)
        assert result.names == tuple(FIVE[x] for x in order)
        np.testing.assert_allclose(result.probabilities, row[order], rtol=1e-5)
    for source in sources[:4]:
        alone = keras_vit.classify(named, source, top=3)
        assert alone.classes == results[0].classes
    text = str(alone).splitlines()
    assert len(text) == 3 and text[0].endswith(f" %  {alone.names[0]}")
    assert dict(alone)[alone.names[0]] == alone.probabilities[0]


def test_saved_and_opened_later(named, photograph, tmp_path):
    before = keras_vit.classify(named, photograph(20, 20))
    named.save(tmp_path / "model.keras")
    again = keras.saving.load_model(tmp_path / "model.keras")
    assert keras_vit.classify(again, photograph(20, 20)).names != ()
    assert set(before.names) == set(FIVE)


def test_without_names_there_are_numbers(tiny_vit, photograph):
    result = keras_vit.classify(tiny_vit(), photograph(9, 9), top=2)
    assert result.names == tuple(map(str, result.classes))


def test_activations(tiny_vit, photograph):
    """Probabilities are never made into probabilities a second time."""
    pixels = photograph(24, 36)
    model = tiny_vit()
    logits = outputs_of(model, keras_vit.load_images([pixels], model))[0]

    def of(model, **own):
        result = keras_vit.classify(model, pixels, **own)
        return np.array(result.probabilities)[np.argsort(result.classes)]

    for activation, function in (
        ("softmax", softmax),
        ("sigmoid", lambda x: 1 / (1 + np.exp(-x))),
    ):
        multi_label = activation == "sigmoid"
        heads = [
            tiny_vit(classifier_activation=activation),
            keras.Sequential([model, keras.layers.Activation(activation)]),
            keras_vit.name_classes(
                tiny_vit(classifier_activation=activation), FIVE
            ),
        ]
        for other in heads:
            other.set_weights(model.get_weights())
            np.testing.assert_allclose(
                of(other), function(logits), rtol=1e-4, atol=1e-7
            )
        np.testing.assert_allclose(
            of(model, multi_label=multi_label),
            function(logits),
            rtol=1e-4,
            atol=1e-7,
        )
    with pytest.raises(ValueError, match="exclude each other"):
        of(tiny_vit(classifier_activation="softmax"), multi_label=True)
    with pytest.raises(ValueError, match="activation 'tanh'"):
        of(tiny_vit(classifier_activation="tanh"))


def test_what_cannot_be_classified(tiny_vit, photograph):
    pixels = photograph(24, 36)
    with pytest.raises(ValueError, match="one score for each class"):
        keras_vit.classify(tiny_vit(pooling=None), pixels)
    with pytest.raises(ValueError, match="always 1"):
        keras_vit.classify(tiny_vit(num_classes=1), pixels)
    model = tiny_vit()
    head = model.get_layer("head")
    head.bias.assign(np.full(5, np.nan))
    with pytest.raises(ValueError, match="not finite"):
        keras_vit.classify(model, pixels)
    with pytest.raises(ValueError, match="`top` must be"):
        keras_vit.classify(model, pixels, top=0)
