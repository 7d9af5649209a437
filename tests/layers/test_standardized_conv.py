"""Standardised convolutions and residual units against NumPy."""

import keras
import numpy as np
import pytest
from helpers import EAGER, randomize, to_numpy

from keras_vit.layers import ResidualUnit, StandardizedConv2D


def standardized(kernel, epsilon, form):
    """Each output channel by itself, in float64."""
    result = np.empty(kernel.shape)
    for channel in range(kernel.shape[-1]):
        w = kernel[..., channel].astype("float64")
        variance = np.mean((w - w.mean()) ** 2)
        if form == "deviation":
            result[..., channel] = (w - w.mean()) / (
                np.sqrt(variance) + epsilon
            )
        else:
            result[..., channel] = (w - w.mean()) / np.sqrt(variance + epsilon)
    return result


def convolved(image, kernel, strides, above, left):
    """Sums of products, place by place; zeros around the image."""
    height, width, channels, filters = kernel.shape
    rows = -(-image.shape[0] // strides[0])
    columns = -(-image.shape[1] // strides[1])
    padded = np.zeros((image.shape[0] + 20, image.shape[1] + 20, channels))
    padded[above : above + image.shape[0], left : left + image.shape[1]] = image
    result = np.empty((rows, columns, filters))
    for row in range(rows):
        for column in range(columns):
            y, x = row * strides[0], column * strides[1]
            window = padded[y : y + height, x : x + width]
            result[row, column] = np.tensordot(window, kernel, 3)
    return result


@pytest.mark.parametrize("form", ["deviation", "variance"])
@pytest.mark.parametrize(
    "padding, size, strides, above, left",
    [
        ("same", (7, 7), (1, 1), 1, 1),
        # On even sizes a stride of two leaves one zero, below and right.
        ("same", (8, 6), (2, 2), 0, 0),
        ("symmetric", (8, 6), (2, 2), 1, 1),
    ],
)
def test_convolution(form, padding, size, strides, above, left, rng):
    conv = StandardizedConv2D(
        4,
        3,
        strides,
        padding=padding,
        epsilon=0.01,
        epsilon_in=form,
    )
    images = rng.normal(size=(2, *size, 3)).astype("float32")
    conv(images)
    randomize(conv, rng)
    kernel = standardized(to_numpy(conv.kernel), 0.01, form)
    expected = np.stack(
        [convolved(x, kernel, strides, above, left) for x in images]
    )
    given = to_numpy(conv(images))
    np.testing.assert_allclose(given, expected, atol=1e-4, rtol=1e-5)


def test_scale_and_offset_of_a_kernel_do_not_matter(rng):
    conv = StandardizedConv2D(4, 3, epsilon=1e-12)
    images = rng.normal(size=(1, 5, 5, 3)).astype("float32")
    before = to_numpy(conv(images))
    conv.kernel.assign(3 * to_numpy(conv.kernel) + 1)
    np.testing.assert_allclose(to_numpy(conv(images)), before, atol=1e-4)


def test_a_constant_kernel_has_a_finite_gradient():
    """A 1x1 kernel over one channel is constant: its deviation is 0."""
    inputs = keras.Input((4, 4, 1))
    conv = StandardizedConv2D(2, 1)
    model = keras.Model(inputs, conv(inputs))
    model.compile(keras.optimizers.SGD(0.1), "mse", **EAGER)
    model.fit(np.ones((2, 4, 4, 1)), np.ones((2, 4, 4, 2)), verbose=0)
    assert np.isfinite(to_numpy(conv.kernel)).all()


def group_norm(x, gamma, beta, epsilon):
    """Over 32 groups of channels, each image by itself."""
    grouped = x.reshape(-1, 32, x.shape[-1] // 32)
    mean = grouped.mean(axis=(0, 2), keepdims=True)
    variance = grouped.var(axis=(0, 2), keepdims=True)
    grouped = (grouped - mean) / np.sqrt(variance + epsilon)
    return grouped.reshape(x.shape) * gamma + beta


# Of the form, unless others are given: of the norms, then of the kernels.
EPSILONS = {
    False: (1e-6, 1e-5, "deviation"),
    True: (1e-5, 1e-10, "variance"),
}


@pytest.mark.parametrize("preactivation", [False, True])
@pytest.mark.parametrize("given", [None, (0.3, 0.2, "variance")])
def test_residual_unit(preactivation, given, rng):
    epsilon, kernel_epsilon, form = given or EPSILONS[preactivation]
    unit = ResidualUnit(32, 1, preactivation, *(given or ()))
    image = rng.normal(size=(5, 4, 64)).astype("float32")
    unit(image[None])
    randomize(unit, rng)

    def conv(name, x):
        layer = getattr(unit, name)
        kernel = standardized(to_numpy(layer.kernel), kernel_epsilon, form)
        margin = kernel.shape[0] // 2
        return convolved(x, kernel, (1, 1), margin, margin)

    def norm(name, x):
        layer = getattr(unit, name)
        gamma, beta = to_numpy(layer.gamma), to_numpy(layer.beta)
        return group_norm(x, gamma, beta, epsilon)

    def relu(x):
        return np.maximum(x, 0)

    if preactivation:
        x = relu(norm("norm1", image))
        around = conv("conv_proj", x)
        x = relu(norm("norm2", conv("conv1", x)))
        x = relu(norm("norm3", conv("conv2", x)))
        expected = around + conv("conv3", x)
    else:
        around = norm("norm_proj", conv("conv_proj", image))
        x = relu(norm("norm1", conv("conv1", image)))
        x = relu(norm("norm2", conv("conv2", x)))
        expected = relu(around + norm("norm3", conv("conv3", x)))
    given = to_numpy(unit(image[None]))[0]
    np.testing.assert_allclose(given, expected, atol=2e-4, rtol=1e-4)


def test_a_unit_begins_as_a_detour_that_adds_nothing(rng):
    unit = ResidualUnit(32)
    maps = np.abs(rng.normal(size=(2, 3, 3, 128))).astype("float32")
    np.testing.assert_array_equal(to_numpy(unit(maps)), maps)
    assert not unit.projects


@pytest.mark.parametrize(
    "layer, arguments, message",
    [
        (StandardizedConv2D, {"filters": 0, "kernel_size": 3}, "filters=0"),
        (
            StandardizedConv2D,
            {"filters": 4, "kernel_size": 3, "padding": "valid"},
            "padding='valid'",
        ),
        (
            StandardizedConv2D,
            {"filters": 4, "kernel_size": 3, "epsilon_in": "mean"},
            "epsilon_in='mean'",
        ),
        (ResidualUnit, {"filters": 48}, "multiple of 32.*filters=48"),
        (ResidualUnit, {"filters": 32, "strides": 0}, "strides=0"),
        (ResidualUnit, {"filters": 32, "epsilon": 0}, "epsilon=0"),
        (ResidualUnit, {"filters": 32, "kernel_epsilon": -1}, "epsilon=-1"),
        (
            ResidualUnit,
            {"filters": 32, "kernel_epsilon_in": "mean"},
            "kernel_epsilon_in='mean'",
        ),
    ],
)
def test_bad_arguments(layer, arguments, message):
    with pytest.raises(ValueError, match=message):
        layer(**arguments)
