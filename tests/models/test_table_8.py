"""Where positions come in: the rows of the paper's Table 8, section D.4."""

import keras
import numpy as np
import pytest
from helpers import EAGER, to_numpy

import keras_vit

# Section D.4, Table 8: what each row adds to a model without positions, for
# 2 blocks of width 16 and heads of 4, a grid of 2 x 3 and a class token.
TABLE_8 = [
    ({"position": None}, 0),
    ({"position": "learned_1d"}, 7 * 16),
    ({"position": "learned_1d", "position_injection": "every_layer"}, 224),
    (
        {"position": "learned_1d", "position_injection": "every_layer_shared"},
        7 * 16,
    ),
    # X and Y tables of half the width, and a row for the class token.
    ({"position": "learned_2d"}, (2 + 3) * 8 + 16),
    (
        {"position": "learned_2d", "position_injection": "every_layer"},
        2 * ((2 + 3) * 8 + 16),
    ),
    (
        {"position": "learned_2d", "position_injection": "every_layer_shared"},
        (2 + 3) * 8 + 16,
    ),
    # An embedding for every offset of 7 tokens, in each block.
    ({"position": "relative_1d"}, 2 * 13 * 4),
]


@pytest.mark.parametrize("arguments, added", TABLE_8, ids=str)
def test_every_row_of_table_8(arguments, added, tiny_vit, rng, tmp_path):
    model = tiny_vit(**arguments)
    without = tiny_vit(position=None)
    assert model.count_params() - without.count_params() == added
    images = rng.uniform(0, 255, (4, 8, 12, 3))
    model.compile(keras.optimizers.SGD(0.1), "mse", **EAGER)
    model.fit(images, np.ones((4, 5)), verbose=0)
    model.save(tmp_path / "model.keras")
    loaded = keras.models.load_model(tmp_path / "model.keras")
    np.testing.assert_array_equal(
        loaded.predict(images, verbose=0), model.predict(images, verbose=0)
    )


def test_positions_in_front_of_every_block(tiny_vit, rng):
    """By hand: the tokens that a block gets are those before, plus a table."""
    model = tiny_vit(position_injection="every_layer")
    taps = ["block_00", "block_01_positions"]
    images = rng.uniform(0, 255, (2, 8, 12, 3))
    given = keras_vit.feature_extractor(model, taps).predict(images, verbose=0)
    table = to_numpy(model.get_layer("block_01_positions").table)
    np.testing.assert_allclose(
        given["block_01_positions"], given["block_00"] + table, atol=1e-6
    )
    shared = tiny_vit(position_injection="every_layer_shared")
    tables = [w for w in shared.weights if w.path.endswith("table")]
    assert [w.path for w in tables] == ["positions/table"]
    with pytest.raises(ValueError, match="position_injection='each'"):
        tiny_vit(position_injection="each")
    with pytest.raises(ValueError, match="images of one size"):
        tiny_vit(position_injection="every_layer", image_size=None)
