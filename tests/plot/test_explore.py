"""The view into a model does what its buttons and menus say."""

import io
import sys

import numpy as np
import pytest

import keras_vit
from keras_vit.introspection import attention_from, scores

pytest.importorskip("ipywidgets")
pytest.importorskip("matplotlib")


class View:
    """The parts of what `explore` returns."""

    def __init__(self, *arguments, **options):
        box = keras_vit.explore(*arguments, **options)
        self.blocks, self.heads, self.cls_token = box.children[0].children
        clickable, self.map = box.children[1].children
        self.image, over = clickable.children
        self.patches, self.caption = over.children, box.children[2]

    def pixels(self):
        """The map as it is on the screen, `(height, width, 3)`."""
        from matplotlib.image import imread

        return imread(io.BytesIO(self.map.value))[..., :3]


def colors(values):
    import matplotlib

    return matplotlib.colormaps["viridis"](values / values.max())[..., :3]


@pytest.fixture
def image(rng):
    return rng.uniform(0, 255, (8, 12, 3))


def test_click_on_a_patch_shows_where_it_looks(tiny_vit, image):
    model = tiny_vit(num_registers=1)
    view = View(model, image, size=120)
    # The class token and the last block, first.
    expected = attention_from(model, image)
    middle = slice(20, None, 40)
    assert view.pixels().shape == (80, 120, 3)
    np.testing.assert_allclose(
        view.pixels()[middle, middle],
        colors(expected[-1].mean(axis=0)),
        atol=0.02,
    )
    before = view.image.value
    view.patches[5].click()
    view.heads.value = 2
    view.blocks.value = "block_00"
    assert view.heads.value == 2 and view.blocks.options[1] == "block_01"
    expected = attention_from(model, image, (1, 2))
    np.testing.assert_allclose(
        view.pixels()[middle, middle], colors(expected[0, 2]), atol=0.02
    )
    assert view.image.value != before
    assert view.caption.value.startswith("patch (1, 2): ")
    view.cls_token.click()
    assert view.caption.value.startswith("class token: ")
    assert view.image.value == before


def test_scores_of_a_block_are_computed_once(tiny_vit, image, monkeypatch):
    computed, compute = [], scores._scores

    def counted(block, tokens):
        computed.append(block.name)
        return compute(block, tokens)

    monkeypatch.setattr(scores, "_scores", counted)
    view = View(tiny_vit(), image)
    for button in view.patches:
        button.click()
    for name in view.blocks.options:
        view.blocks.value = name
    assert computed == ["block_00", "block_01"]


def test_without_a_class_token_a_patch_is_chosen(tiny_vit, image):
    view = View(tiny_vit(pooling="average"), image)
    assert view.cls_token.disabled
    assert view.caption.value.startswith("patch (0, 0): 100%")


def test_unequal_heads(tiny_vit, image):
    model = tiny_vit(
        block=lambda index: keras_vit.layers.TransformerBlock(4 - index * 2, 8)
    )
    view = View(model, image)
    assert view.heads.options[1:] == (0, 1)
    view.blocks.value = "block_00"
    view.heads.value = 3
    view.blocks.value = "block_01"
    assert view.heads.value == view.heads.options[0]


def test_says_what_to_install(tiny_vit, image, monkeypatch):
    monkeypatch.setitem(sys.modules, "ipywidgets", None)
    with pytest.raises(ImportError, match=r"pip install.*\[notebooks\]"):
        keras_vit.explore(tiny_vit(), image)
