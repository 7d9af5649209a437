"""Networks with relative position biases opened by their file alone.

Small random networks as their library writes them, in one call, equal numbers,
on rectangles: a square hides which axis is which.
"""

import warnings

import keras
import numpy as np
import pytest
from helpers import to_numpy
from oracles import import_oracle

from keras_vit.ops.positions import by_places
from keras_vit.ops.resize import resize_offset_table


def test_rows_are_those_of_beit():
    import_oracle("timm")
    from timm.models.beit import gen_relative_position_index

    for rows, columns in ((1, 1), (2, 3), (4, 2)):
        table = np.arange((2 * rows - 1) * (2 * columns - 1) + 3)
        table = keras.ops.convert_to_tensor(table[:, None], "float32")
        given = to_numpy(by_places(table, (rows, columns), 1))[0]
        expected = gen_relative_position_index((rows, columns)).numpy()
        np.testing.assert_array_equal(given, expected)


@pytest.mark.parametrize("extra", [0, 3])
@pytest.mark.parametrize(
    "old, new",
    [((4, 4), (7, 7)), ((5, 3), (4, 9)), ((7, 7), (3, 3)), ((3, 5), (3, 8))],
)
def test_tables_are_resampled_as_in_timm(old, new, extra, rng):
    import_oracle("timm")
    import torch
    from timm.layers import resize_rel_pos_bias_table

    rows = [(2 * r - 1) * (2 * c - 1) + extra for r, c in (old, new)]
    table = rng.normal(size=(rows[0], 2)).astype("float32")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # PyTorch, about timm's indexing
        expected = resize_rel_pos_bias_table(
            torch.from_numpy(table), new, (rows[1], 2), old
        )
    given = resize_offset_table(table, old, new)
    assert given.dtype == table.dtype
    np.testing.assert_allclose(given, expected.numpy(), atol=1e-5)
