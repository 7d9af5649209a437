"""Figures say what they show, and leave Matplotlib as they found it."""

import sys

import keras
import numpy as np
import pytest

import keras_vit
from keras_vit import plot

Figure = pytest.importorskip("matplotlib.figure").Figure


@pytest.fixture
def model(tiny_vit):
    return tiny_vit(num_registers=1)


@pytest.fixture
def images(rng):
    return rng.uniform(0, 255, (3, 8, 12, 3))


FIGURES = {
    "scores": lambda model, x: plot.attention_scores(model, x[0], 0),
    "from a patch": lambda model, x: plot.attention_from(model, x[0], (1, 2)),
    "from the token": lambda model, x: plot.attention_from(model, x[:1]),
    "rollout": plot.attention_rollout,
    "distance": plot.attention_distance,
    "filters": lambda model, x: plot.filter_components(model, 9),
    "positions": lambda model, x: plot.position_similarity(model),
    "tokens": plot.token_components,
}
# Lines, and colours that are three numbers, have no scale of colours.
WITHOUT_BAR = {"distance", "tokens"}


@pytest.mark.parametrize("name", FIGURES)
def test_figure_says_what_it_shows(name, model, images):
    from matplotlib import pyplot, rc_context, rcParams

    before = dict(rcParams)
    figure = FIGURES[name](model, images)
    assert type(figure) is Figure
    assert not pyplot.get_fignums() and dict(rcParams) == before
    names = [(axis.get_xlabel(), axis.get_ylabel()) for axis in figure.axes]
    names.append((figure.get_supxlabel(), figure.get_supylabel()))
    assert any(x and y for x, y in names)
    bars = [axis for axis in figure.axes if axis.get_label() == "<colorbar>"]
    assert len(bars) == (0 if name in WITHOUT_BAR else 1)
    assert all(bar.get_ylabel() for bar in bars)
    # It fits a page and is drawn without a warning.
    assert figure.get_figwidth() <= 9.5
    with rc_context():
        assert figure._repr_png_().startswith(b"\x89PNG")


def test_rollout_is_drawn_where_the_patches_are(model, images):
    maps = keras_vit.introspection.attention_rollout(model, images)
    figure = plot.attention_rollout(model, images)
    grey, drawn = figure.axes[2].images
    assert drawn.get_extent() == [0, 12, 8, 0]
    np.testing.assert_allclose(drawn.get_array(), maps[0] / maps[0].mean())
    lit = figure.axes[1].images[0].get_array()
    brightest = np.unravel_index(maps[0].argmax(), (2, 3))
    centre = tuple(4 * place + 2 for place in brightest)
    ratio = lit[centre] / (images[0][centre] / 255)
    assert ratio.min() > 0.7
    assert (lit <= images[0] / 255 + 1e-12).all()


def test_frame_is_on_the_patch(model, images):
    figure = plot.attention_from(model, images[0], (1, 2), heads=[3, 0])
    assert [axis.get_title() for axis in figure.axes[:3]] == [
        "image",
        "head 3",
        "head 0",
    ]
    frame = figure.axes[1].patches[-1]
    assert (frame.get_xy(), frame.get_width()) == ((8, 4), 4)
    with pytest.raises(ValueError, match="`heads` must be indices of 4"):
        plot.attention_from(model, images[0], heads=[4])


def test_padded_images_end_where_they_end(tiny_vit, rng):
    model = tiny_vit(image_size=(6, 11), remainder="pad")
    figure = plot.attention_rollout(model, rng.uniform(0, 255, (6, 11, 3)))
    axis = figure.axes[2]
    assert axis.images[1].get_extent() == [0, 12, 8, 0]
    assert (axis.get_xlim(), axis.get_ylim()) == ((0, 11), (6, 0))


def test_positions_are_tiles_of_the_grid(model):
    similarity = keras_vit.introspection.position_similarity(model)
    mosaic = plot.position_similarity(model).axes[0].images[0].get_array()
    assert mosaic.shape == (2 * 3 - 1, 3 * 4 - 1)
    np.testing.assert_allclose(mosaic[3:5, 4:7], similarity[1, 1])
    assert np.ma.getmaskarray(np.ma.masked_invalid(mosaic))[2].all()


def test_filters_of_a_feature_map_are_not_drawn():
    variant = keras_vit.Variant(
        1, 16, 32, 4, patch_size=1, stages=(1,), width_factor=0.5
    )
    model = keras_vit.ViT(variant, image_size=8)
    with pytest.raises(ValueError, match="over pixels of 1 or 3 channels"):
        plot.filter_components(model, 4)


def test_history_has_a_panel_a_quantity():
    figure = plot.history(
        {
            "accuracy": [0.5, 0.75],
            "loss": [2, 1],
            "val_loss": [2, 1.5],
            "val_auc": [0.5, 0.6],
        }
    )
    panels = {axis.get_ylabel(): axis for axis in figure.axes}
    assert list(panels) == ["loss", "accuracy", "auc"]
    training, validation = panels["loss"].lines
    np.testing.assert_array_equal(training.get_xdata(), [1, 2])
    np.testing.assert_array_equal(validation.get_ydata(), [2, 1.5])
    assert validation.get_label() == "validation, 1.5"
    assert {axis.get_xlabel() for axis in figure.axes} == {"epoch"}
    for empty in ({}, {"loss": []}):
        with pytest.raises(ValueError, match="one epoch at least"):
            plot.history(empty)


def test_history_takes_what_fit_returns():
    history = keras.callbacks.History()
    history.history = {"loss": [2.0, 1.0]}
    assert plot.history(history).axes[0].get_ylabel() == "loss"


def test_images_name_what_is_wrong(images):
    figure = plot.images(
        images, [0, 1, 0], [0, 0, 0], class_names=["cat", "dog"], columns=2
    )
    titles = [axis.get_title() for axis in figure.axes]
    assert titles == ["cat", "cat\nnot dog", "cat"]
    drawn = figure.axes[1].images[0].get_array()
    np.testing.assert_allclose(drawn, images[1] / 255)
    with pytest.raises(ValueError, match="`labels` must be one integer"):
        plot.images(images, [0, 1])
    with pytest.raises(ValueError, match="not empty"):
        plot.images(images[:0])


@pytest.mark.parametrize("low, high", [(-1, 1), (0, 1), (0, 255)])
def test_images_in_the_range_of_the_model(low, high, rng):
    x = rng.uniform(low, high, (2, 4, 4, 1))
    x[0, 0, 0], x[0, 0, 1] = low, high
    drawn = plot.images(x).axes[0].images[0].get_array()
    expected = (x[0] - low) / (high - low)
    np.testing.assert_allclose(drawn, np.repeat(expected, 3, axis=-1))


def test_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    with pytest.raises(ImportError, match=r"pip install.*\[viz\]"):
        plot.history({"loss": [1]})
