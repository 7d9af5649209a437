"""`TokenGrid` and `CropToImage`: the two layers with a second input."""

import keras
import numpy as np
import pytest
from helpers import to_numpy

from keras_vit.layers import CropToImage, TokenGrid


def test_each_token_goes_back_to_its_patch():
    grid = np.zeros((2, 3, 4, 5), "float32")
    tokens = np.arange(2 * 14 * 6, dtype="float32").reshape(2, 14, 6)
    given = to_numpy(TokenGrid(num_prefix_tokens=2)(tokens, grid))
    assert given.shape == (2, 3, 4, 6)
    for row in range(3):
        for column in range(4):
            np.testing.assert_array_equal(
                given[:, row, column], tokens[:, 2 + 4 * row + column]
            )


def test_crops_below_and_at_the_right():
    maps = np.arange(4 * 5, dtype="float32").reshape(1, 4, 5, 1)
    for shape, layout in [
        ((1, 3, 2, 7), "channels_last"),
        ((1, 7, 3, 2), "channels_first"),
    ]:
        given = CropToImage(layout)(maps, np.zeros(shape, "float32"))
        np.testing.assert_array_equal(to_numpy(given), maps[:, :3, :2])


def test_sizes_known_only_when_the_graph_runs(rng, tmp_path):
    tokens = keras.Input((None, 6))
    grid = keras.Input((None, None, 5))
    images = keras.Input((None, None, 3))
    maps = TokenGrid(1)(tokens, grid)
    model = keras.Model(
        [tokens, grid, images], CropToImage("channels_last")(maps, images)
    )
    model.save(tmp_path / "model.keras")
    model = keras.models.load_model(tmp_path / "model.keras")
    assert model.output_shape == (None, None, None, 6)
    for rows, columns in [(3, 4), (2, 5)]:
        x = rng.normal(size=(2, 1 + rows * columns, 6)).astype("float32")
        given = model.predict(
            [
                x,
                np.zeros((2, rows, columns, 5)),
                np.zeros((2, rows - 1, columns, 3)),
            ],
            verbose=0,
        )
        expected = x[:, 1:].reshape(2, rows, columns, 6)[:, :-1]
        np.testing.assert_array_equal(given, expected)


@pytest.mark.parametrize("layer", [TokenGrid(3), CropToImage("channels_first")])
def test_config_rebuilds_the_layer(layer):
    twin = type(layer).from_config(layer.get_config())
    assert twin.get_config() == layer.get_config()


def test_what_does_not_fit_is_refused():
    with pytest.raises(ValueError, match=r"num_prefix_tokens=1, grid=\(2, 2\)"):
        TokenGrid(1)(np.zeros((1, 7, 4)), np.zeros((1, 2, 2, 3)))
    with pytest.raises(ValueError, match="num_prefix_tokens=-1"):
        TokenGrid(-1)
    with pytest.raises(ValueError, match=r"maps of \(2, 2\), images of"):
        CropToImage("channels_last")(
            np.zeros((1, 2, 2, 4)), np.zeros((1, 3, 2, 3))
        )
    with pytest.raises(ValueError, match="rank"):
        TokenGrid()(np.zeros((1, 7)), np.zeros((1, 2, 2, 3)))
