"""Layer and group normalisation with gradients in closed form, and kernels.

Ba et al. 2016, arXiv:1607.06450; Wu & He 2018, arXiv:1803.08494; standardised
kernels: Qiao et al. 2019, arXiv:1903.10520. Keras computes the same values. But
XLA differentiates its layer norm badly on a CPU, where it costs a third of a
JAX training step and most of the compile time, and its group norm makes many
more passes through the feature maps.
"""

import math
from typing import Any, Literal

import keras
from keras import ops

from keras_vit.ops.precision import at_least_float32

# The value of Flax and of every official checkpoint. Keras' default is 1e-3.
EPSILON = 1e-6
# The number in every ResNet here, and in the paper that introduced group norm.
GROUPS = 32


def layer_norm(x: Any, gamma: Any, beta: Any, epsilon: float = EPSILON) -> Any:
    """Normalises the last axis of `x` to mean 0 and variance 1, then rescales.

    With `n` the normalised row, `y = n * gamma + beta`, and for an upstream
    gradient `g`, writing `m(.)` for the mean over the last axis and
    `h = g * gamma`:

        dx     = (h - m(h) - n * m(h * n)) / sqrt(var + epsilon)
        dgamma = sum(g * n)
        dbeta  = sum(g)

    Statistics and gradients are computed in at least float32.

    Args:
        x: tensor of shape `(..., dim)`.
        gamma: tensor of shape `(dim,)`.
        beta: tensor of shape `(dim,)`.
        epsilon: added to the variance, above 0.

    Returns:
        A tensor of the shape and dtype of `x`.
    """
    dtype = at_least_float32(keras.backend.standardize_dtype(x.dtype))
    if keras.backend.backend() == "torch" and dtype == "float32":
        # PyTorch has a fused kernel for each direction, and Keras calls them.
        return ops.layer_normalization(x, gamma, beta, axis=-1, epsilon=epsilon)

    def statistics(x):
        x = ops.cast(x, dtype)
        centred = x - ops.mean(x, axis=-1, keepdims=True)
        variance = ops.mean(ops.square(centred), axis=-1, keepdims=True)
        return centred, ops.rsqrt(variance + epsilon)

    @ops.custom_gradient
    def normalize(x, gamma, beta):
        centred, scale = statistics(x)
        normalized = centred * scale

        def gradient(*args, upstream=None):
            g = ops.cast(args[0] if upstream is None else upstream, dtype)
            h = g * gamma
            dx = scale * (
                h
                - ops.mean(h, axis=-1, keepdims=True)
                - normalized * ops.mean(h * normalized, axis=-1, keepdims=True)
            )
            rows = tuple(range(len(x.shape) - 1))
            return (
                ops.cast(dx, x.dtype),
                ops.sum(g * normalized, axis=rows),
                ops.sum(g, axis=rows),
            )

        return ops.cast(normalized * gamma + beta, x.dtype), gradient

    # Copies are plain tensors. TensorFlow would take a variable for one that
    # the function reads without its custom gradient.
    return normalize(
        ops.convert_to_tensor(x),
        ops.cast(ops.copy(gamma), dtype),
        ops.cast(ops.copy(beta), dtype),
    )


def rms_norm(x: Any, gamma: Any, epsilon: float = EPSILON) -> Any:
    """Divides the last axis of `x` by its root mean square, then rescales.

        y = x / sqrt(mean(x^2) + epsilon) * gamma

    Args:
        x: tensor of shape `(..., dim)`.
        gamma: tensor of shape `(dim,)`.
        epsilon: added to the mean square, above 0.

    Returns:
        A tensor of the shape and dtype of `x`.
    """
    dtype = at_least_float32(keras.backend.standardize_dtype(x.dtype))
    wide = ops.cast(x, dtype)
    square = ops.mean(ops.square(wide), axis=-1, keepdims=True)
    y = wide * ops.rsqrt(square + epsilon) * ops.cast(gamma, dtype)
    return ops.cast(y, x.dtype)


def group_norm(
    x: Any,
    gamma: Any,
    beta: Any,
    groups: int = GROUPS,
    epsilon: float = EPSILON,
) -> Any:
    """Normalises groups of channels to mean 0 and variance 1, then rescales.

    Mean and variance of a group are taken over all its channels at all places
    of an image, `var(x) = mean(x^2) - mean(x)^2` as in Flax. Both passes
    through the maps have the form `a * x + b`, with one `a` and `b` for each
    channel of an image. With `s = 1 / sqrt(var + epsilon)`, an upstream
    gradient `g`, `n` the normalised maps and `m(.)` the mean over a group:

        y      = gamma * s * x + (beta - gamma * s * mean)
        dx     = gamma * s * g - s * (m(gamma * g) + n * m(gamma * g * n))
        dgamma = sum(g * n)
        dbeta  = sum(g)

    Statistics and gradients are computed in at least float32.

    Args:
        x: tensor of shape `(batch, ..., channels)`.
        gamma: tensor of shape `(channels,)`.
        beta: tensor of shape `(channels,)`.
        groups: number of groups, which divides the channels.
        epsilon: added to the variance, above 0.

    Returns:
        A tensor of the shape and dtype of `x`.
    """
    dtype = at_least_float32(keras.backend.standardize_dtype(x.dtype))
    rank, channels = len(x.shape), x.shape[-1]
    places = tuple(range(1, rank - 1))

    def by_group(x):
        """Means of `(batch, channels)` over groups, repeated per channel."""
        x = ops.reshape(x, (-1, groups, channels // groups))
        mean = ops.mean(x, axis=-1, keepdims=True)
        return ops.reshape(ops.broadcast_to(mean, ops.shape(x)), (-1, channels))

    def everywhere(x):
        """`(batch, channels)` as one value for all places."""
        return ops.expand_dims(x, places)

    @ops.custom_gradient
    def normalize(x, gamma, beta):
        low = x.dtype
        wide = ops.cast(x, dtype)
        mean = by_group(ops.mean(wide, axis=places))
        square = by_group(ops.mean(wide * wide, axis=places))
        # Rounding may make the difference negative.
        variance = ops.maximum(square - mean * mean, 0)
        scale = ops.rsqrt(variance + epsilon)
        slope = gamma * scale
        y = everywhere(slope) * wide + everywhere(beta - slope * mean)

        def gradient(*args, upstream=None):
            g = ops.cast(args[0] if upstream is None else upstream, dtype)
            wide = ops.cast(x, dtype)
            g_mean = ops.mean(g, axis=places)
            # The mean of `g * n`, without the normalised maps themselves.
            gn_mean = scale * (ops.mean(g * wide, axis=places) - mean * g_mean)
            pull = scale * scale * by_group(gamma * gn_mean)
            shift = pull * mean - scale * by_group(gamma * g_mean)
            dx = (
                everywhere(slope) * g
                - everywhere(pull) * wide
                + everywhere(shift)
            )
            count = ops.cast(math.prod(ops.shape(x)[1:-1]), dtype)
            return (
                ops.cast(dx, low),
                count * ops.sum(gn_mean, axis=0),
                count * ops.sum(g_mean, axis=0),
            )

        return ops.cast(y, low), gradient

    # Copies are plain tensors, see `layer_norm`.
    return normalize(
        ops.convert_to_tensor(x),
        ops.cast(ops.copy(gamma), dtype),
        ops.cast(ops.copy(beta), dtype),
    )


def standardize_kernel(
    kernel: Any,
    epsilon: float,
    epsilon_in: Literal["deviation", "variance"] = "deviation",
) -> Any:
    """Brings a kernel to mean 0 and deviation 1 for each output channel.

    With mean, deviation and variance over all other axes:

        deviation: (w - mean) / (std + epsilon)
        variance:  (w - mean) / sqrt(var + epsilon)

    Args:
        kernel: tensor of shape `(height, width, inputs, filters)`.
        epsilon: keeps a constant kernel from being divided by 0.
        epsilon_in: where `epsilon` is added, as above.

    Returns:
        A tensor of the shape and dtype of `kernel`.

    Reference:
        - [Qiao et al., 2019](https://arxiv.org/abs/1903.10520), equation 11
    """
    kernel = kernel - ops.mean(kernel, axis=(0, 1, 2))
    variance = ops.mean(ops.square(kernel), axis=(0, 1, 2))
    if epsilon_in == "variance":
        return kernel / ops.sqrt(variance + epsilon)
    return kernel / (_root(variance) + epsilon)


def _root(variance):
    # The root of 0 has an infinite slope: the gradient of a constant kernel,
    # such as one of 1x1 over one channel, would be NaN.
    positive = variance > 0
    root = ops.sqrt(ops.where(positive, variance, 1.0))
    return ops.where(positive, root, 0.0)
