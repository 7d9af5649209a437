"""Layer and group normalisation, with their gradients in closed form.

Ba et al. 2016, arXiv:1607.06450; Wu & He 2018, arXiv:1803.08494. Keras computes
the same values, but XLA differentiates its layer norm badly on a CPU, where it
costs a third of a JAX training step and most of the compile time, and its group
norm makes many more passes through the feature maps.
"""

import math

import keras
from keras import ops

from keras_vit.ops.precision import at_least_float32

# The value of Flax, hence of every official checkpoint. Keras' default is 1e-3.
EPSILON = 1e-6
# Of every ResNet here, as in the paper that introduced group norm.
GROUPS = 32


def layer_norm(x, gamma, beta, epsilon=EPSILON):
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
        # PyTorch has one fused kernel each way, and Keras calls it.
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
    # the function uses behind the back of its custom gradient.
    return normalize(
        ops.convert_to_tensor(x),
        ops.cast(ops.copy(gamma), dtype),
        ops.cast(ops.copy(beta), dtype),
    )


def group_norm(x, gamma, beta, groups=GROUPS, epsilon=EPSILON):
    """Normalises groups of channels to mean 0 and variance 1, then rescales.

    Mean and variance of a group are those of all its channels at all places of
    an image, `var(x) = mean(x^2) - mean(x)^2` as in Flax. Both passes through
    the maps are of the form `a * x + b`, with one `a` and `b` for each channel
    of an image: with `s = 1 / sqrt(var + epsilon)`, an upstream gradient `g`,
    `n` the normalised maps and `m(.)` the mean over a group,

        y      = gamma * s * x + (beta - gamma * s * mean)
        dx     = gamma * s * g - s * (m(gamma * g) + n * m(gamma * g * n))
        dgamma = sum(g * n)
        dbeta  = sum(g)

    Statistics and gradients are computed in at least float32.

    Args:
        x: tensor of shape `(batch, ..., channels)`.
        gamma: tensor of shape `(channels,)`.
        beta: tensor of shape `(channels,)`.
        groups: number of groups; it divides the channels.
        epsilon: added to the variance, above 0.

    Returns:
        A tensor of the shape and dtype of `x`.
    """
    dtype = at_least_float32(keras.backend.standardize_dtype(x.dtype))
    rank, channels = len(x.shape), x.shape[-1]
    places = tuple(range(1, rank - 1))

    def by_group(x):
        """Means of `(batch, channels)` over each group, for every channel."""
        x = ops.reshape(x, (-1, groups, channels // groups))
        mean = ops.mean(x, axis=-1, keepdims=True)
        return ops.reshape(ops.broadcast_to(mean, ops.shape(x)), (-1, channels))

    def everywhere(x):
        """`(batch, channels)` for all places."""
        return ops.expand_dims(x, places)

    @ops.custom_gradient
    def normalize(x, gamma, beta):
        low = x.dtype
        wide = ops.cast(x, dtype)
        mean = by_group(ops.mean(wide, axis=places))
        square = by_group(ops.mean(wide * wide, axis=places))
        # Rounding may take it below zero.
        variance = ops.maximum(square - mean * mean, 0)
        scale = ops.rsqrt(variance + epsilon)
        slope = gamma * scale
        y = everywhere(slope) * wide + everywhere(beta - slope * mean)

        def gradient(*args, upstream=None):
            g = ops.cast(args[0] if upstream is None else upstream, dtype)
            wide = ops.cast(x, dtype)
            g_mean = ops.mean(g, axis=places)
            # Of `g * n`, without the normalised maps themselves.
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
