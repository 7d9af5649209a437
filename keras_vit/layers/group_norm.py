"""Group normalisation with its gradient in closed form, for the ResNets.

Wu & He 2018, arXiv:1803.08494; Flax' `GroupNorm` (epsilon 1e-6) is what the
official hybrids use. `keras.layers.GroupNormalization` computes the same
values, over many more passes through the feature maps.
"""

import math

import keras
from keras import ops

from keras_vit.layers.arguments import (
    check_epsilon,
    check_positive,
    check_rank,
)
from keras_vit.layers.base import at_least_float32
from keras_vit.layers.layer_norm import EPSILON

# Of every ResNet here, as in the paper that introduced it.
GROUPS = 32


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


@keras.saving.register_keras_serializable(package="keras_vit")
class GroupNorm(keras.layers.Layer):
    """Group normalisation of feature maps.

    `y = (x - mean(x)) / sqrt(var(x) + epsilon) * gamma + beta`, with mean and
    variance over a group of channels and all places of an image, in at least
    float32 whatever the dtype policy, and the gradient in closed form (see
    `group_norm`).

    Args:
        groups: number of groups, which divides the number of channels.
        epsilon: added to the variance, above 0: 1e-6 in the official hybrids,
            1e-5 in BiT.
        gamma_initializer: start values of the scale, a Keras initializer.

    Call arguments:
        inputs: tensor of shape `(batch, height, width, channels)`.

    Returns:
        A tensor of the shape of `inputs`.

    Raises:
        ValueError: if `groups` does not divide the channels.

    Example:

    >>> keras_vit.layers.GroupNorm(4)(keras.ops.ones((1, 2, 2, 8))).shape
    (1, 2, 2, 8)

    Reference:
        - [Wu & He, 2018](https://arxiv.org/abs/1803.08494)
    """

    def __init__(
        self, groups=GROUPS, epsilon=EPSILON, gamma_initializer="ones", **kwargs
    ):
        super().__init__(**kwargs)
        self.groups = check_positive("groups", groups)
        self.epsilon = check_epsilon("epsilon", epsilon)
        self.gamma_initializer = keras.initializers.get(gamma_initializer)

    def build(self, input_shape):
        check_rank(self, input_shape, 4, "a batch of feature maps")
        channels = input_shape[-1]
        if channels is None or channels % self.groups:
            raise ValueError(
                "`groups` must divide the number of channels. Received: "
                f"groups={self.groups}, input shape {tuple(input_shape)}"
            )
        # Not autocast: in mixed precision the rescaling stays in float32.
        self.gamma = self.add_weight(
            name="gamma",
            shape=(channels,),
            initializer=self.gamma_initializer,
            autocast=False,
        )
        self.beta = self.add_weight(
            name="beta",
            shape=(channels,),
            initializer="zeros",
            autocast=False,
        )

    def call(self, inputs):
        check_rank(self, inputs.shape, 4, "a batch of feature maps")
        return group_norm(
            inputs, self.gamma, self.beta, self.groups, self.epsilon
        )

    def compute_output_shape(self, input_shape):
        return input_shape

    def get_config(self):
        return {
            **super().get_config(),
            "groups": self.groups,
            "epsilon": self.epsilon,
            "gamma_initializer": keras.initializers.serialize(
                self.gamma_initializer
            ),
        }
