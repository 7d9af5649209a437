"""Layer normalisation with its gradient in closed form.

Ba et al. 2016, arXiv:1607.06450; Flax' `LayerNorm` (epsilon 1e-6) is what the
Vision Transformer's own code uses. `keras.layers.LayerNormalization` computes
the same values, but XLA differentiates it badly on a CPU: in a 12-block
encoder it costs a third of a JAX training step and most of the compile time.
"""

import keras
from keras import ops

from keras_vit.layers.arguments import check_epsilon
from keras_vit.layers.base import at_least_float32

# The value of Flax, hence of every official checkpoint. Keras' default is 1e-3.
EPSILON = 1e-6


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


@keras.saving.register_keras_serializable(package="keras_vit")
class LayerNorm(keras.layers.Layer):
    """Layer normalisation over the last axis.

    `y = (x - mean(x)) / sqrt(var(x) + epsilon) * gamma + beta`, with the
    statistics in at least float32 whatever the dtype policy, and the gradient
    in closed form (see `layer_norm`).

    Args:
        epsilon: added to the variance, above 0. The official code, timm and
            Keras differ: 1e-6 (Flax, timm), 1e-12 (Hugging Face's ViT),
            1e-3 (Keras).

    Call arguments:
        inputs: tensor of shape `(..., dim)`.

    Returns:
        A tensor of the shape of `inputs`.

    Example:

    >>> keras_vit.layers.LayerNorm()(keras.ops.ones((1, 4, 8))).shape
    (1, 4, 8)

    Reference:
        - [Ba et al., 2016](https://arxiv.org/abs/1607.06450)
    """

    def __init__(self, epsilon=EPSILON, **kwargs):
        super().__init__(**kwargs)
        self.epsilon = check_epsilon("epsilon", epsilon)

    def build(self, input_shape):
        shape = (input_shape[-1],)
        # Not autocast: in mixed precision the rescaling stays in float32.
        self.gamma = self.add_weight(
            name="gamma", shape=shape, initializer="ones", autocast=False
        )
        self.beta = self.add_weight(
            name="beta", shape=shape, initializer="zeros", autocast=False
        )

    def call(self, inputs):
        return layer_norm(inputs, self.gamma, self.beta, self.epsilon)

    def compute_output_shape(self, input_shape):
        return input_shape

    def get_config(self):
        return {**super().get_config(), "epsilon": self.epsilon}
