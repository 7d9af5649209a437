"""Group norm and its closed-form gradient, against the definition."""

import keras
import numpy as np
import pytest
from helpers import float64_on_jax, to_numpy, value_and_gradients
from keras import ops

from keras_vit.layers import GroupNorm
from keras_vit.ops.norms import group_norm

GROUPS, EPSILON = 4, 1e-3
# Half a unit in the last place of numbers around 1.
UNIT = {"float64": 2.0**-53, "float32": 2.0**-24, "bfloat16": 2.0**-8}


def definition(x, gamma, beta):
    grouped = x.reshape(len(x), -1, GROUPS, x.shape[-1] // GROUPS)
    mean = grouped.mean(axis=(1, 3), keepdims=True)
    variance = grouped.var(axis=(1, 3), keepdims=True)
    normalized = ((grouped - mean) / np.sqrt(variance + EPSILON)).reshape(
        x.shape
    )
    return normalized * gamma + beta, normalized


def slopes(x, gamma, beta, g, step=1e-4):
    """Of `sum(g * y)`, by central differences in float64."""
    inputs = [x, gamma, beta]
    results = []
    for index, given in enumerate(inputs):
        slope = np.zeros_like(given)
        for place in np.ndindex(given.shape):
            ends = []
            for sign in (1, -1):
                moved = given.copy()
                moved[place] += sign * step
                arguments = [*inputs[:index], moved, *inputs[index + 1 :]]
                ends.append((g * definition(*arguments)[0]).sum())
            slope[place] = (ends[0] - ends[1]) / (2 * step)
        results.append(slope)
    return results


@pytest.mark.parametrize("dtype", ["float64", "float32", "bfloat16"])
@pytest.mark.parametrize("shape", [(2, 3, 2, 8), (2, 5, 8)])
def test_value_and_gradients_equal_the_definition(dtype, shape, rng):
    with float64_on_jax():
        wide = "float64" if dtype == "float64" else "float32"
        arrays = [
            rng.normal(0.5, 2, shape),
            rng.normal(1, 0.5, 8),
            rng.normal(0, 1, 8),
            rng.normal(0, 1, shape),
        ]
        tensors = [
            ops.convert_to_tensor(array, kind)
            for array, kind in zip(arrays, [dtype, wide, wide, dtype])
        ]
        exact = [to_numpy(ops.cast(x, "float64")) for x in tensors]
        got = value_and_gradients(
            lambda x, gamma, beta: group_norm(x, gamma, beta, GROUPS, EPSILON),
            tensors[:3],
            tensors[3],
        )
        expected = [definition(*exact[:3])[0], *slopes(*exact)]
        dtypes = [dtype, dtype, wide, wide]
        for tensor, want, low in zip(got, expected, dtypes):
            assert keras.backend.standardize_dtype(tensor.dtype) == low
            # Sums of at most 12 places and channels of numbers of a few units,
            # in the wide precision; one rounding to the low one. Differences
            # of the definition are exact to the square of their step.
            bound = 100 * UNIT[wide] + 8 * UNIT[low] * np.abs(want) + 1e-6
            error = np.abs(to_numpy(ops.cast(tensor, "float64")) - want)
            assert (error <= bound).all()


def test_constant_maps_have_no_slope_of_their_own():
    """The variance is rounding alone, and must not be below zero."""
    # Of so many constants rounding takes some below.
    constants = np.linspace(100, 5000, 256, dtype="float32")
    x = ops.convert_to_tensor(
        np.broadcast_to(constants[:, None, None, None], (256, 3, 3, 8)).copy()
    )
    y, dx, dgamma, dbeta = value_and_gradients(
        lambda *inputs: group_norm(*inputs, GROUPS, 1e-6),
        [x, ops.ones(8), ops.zeros(8)],
        ops.ones((256, 3, 3, 8)),
    )
    for tensor in (y, dx, dgamma, dbeta):
        assert np.isfinite(to_numpy(tensor)).all()


def test_equals_the_layer_of_keras(rng):
    x = rng.normal(0, 1, (2, 3, 5, 64)).astype("float32")
    ours, theirs = GroupNorm(), keras.layers.GroupNormalization(epsilon=1e-6)
    expected = to_numpy(theirs(x))
    np.testing.assert_allclose(to_numpy(ours(x)), expected, atol=1e-5)


def test_groups_must_divide_the_channels():
    with pytest.raises(ValueError, match=r"groups=3.*\(None, 2, 2, 8\)"):
        GroupNorm(3).build((None, 2, 2, 8))
    with pytest.raises(ValueError, match="groups=0"):
        GroupNorm(0)
