"""Convolution with standardised kernels: the ResNets of BiT and of hybrids.

Qiao et al. 2019, arXiv:1903.10520; Kolesnikov et al. 2020 (BiT),
arXiv:1912.11370; `vit_jax/models_resnet.py`, `StdConv`.
"""

import keras
from keras import ops

from keras_vit.arguments import (
    check_above_zero,
    check_choice,
    check_pair,
    check_positive,
    check_rank,
)
from keras_vit.ops.precision import at_least_float32

PADDINGS = ("same", "symmetric")
FORMS = ("deviation", "variance")


@keras.saving.register_keras_serializable(package="keras_vit")
class StandardizedConv2D(keras.layers.Layer):
    """Convolves with kernels of mean 0 and deviation 1 per output channel.

    Mean and population deviation are taken over height, width and input
    channels, in at least float32. There is no bias: a group norm follows.

    Args:
        filters: output channels.
        kernel_size: height and width of the kernel, an int or a pair.
        strides: steps down and across, an int or a pair.
        padding: `"same"` pads as TensorFlow and the official hybrids do, one
            side more than the other where it does not come out even;
            `"symmetric"` pads half the kernel on either side, as BiT does.
        epsilon: keeps a constant kernel from being divided by 0.
        epsilon_in: `"deviation"`, `(w - mean) / (std + epsilon)`, as in the
            hybrids, or `"variance"`, `(w - mean) / sqrt(var + epsilon)`, as
            in BiT.

    Call arguments:
        images: tensor of shape `(batch, height, width, channels)`.

    Returns:
        A tensor of shape `(batch, rows, columns, filters)`, smaller by the
        strides, rounded up.

    Example:

    >>> conv = keras_vit.layers.StandardizedConv2D(8, kernel_size=3, strides=2)
    >>> conv(keras.ops.ones((1, 7, 6, 3))).shape
    (1, 4, 3, 8)

    Reference:
        - [Qiao et al., 2019](https://arxiv.org/abs/1903.10520), equation 11
    """

    def __init__(
        self,
        filters,
        kernel_size,
        strides=1,
        padding="same",
        epsilon=1e-5,
        epsilon_in="deviation",
        **kwargs,
    ):
        super().__init__(**kwargs)
        self.filters = check_positive("filters", filters)
        self.kernel_size = check_pair("kernel_size", kernel_size)
        self.strides = check_pair("strides", strides)
        self.padding = check_choice("padding", padding, PADDINGS)
        self.epsilon = check_above_zero("epsilon", epsilon)
        self.epsilon_in = check_choice("epsilon_in", epsilon_in, FORMS)

    def build(self, input_shape):
        check_rank(self, input_shape, 4, "a batch of images")
        # Not autocast: kernels are standardised in float32.
        self.kernel = self.add_weight(
            name="kernel",
            shape=(*self.kernel_size, input_shape[3], self.filters),
            initializer="lecun_normal",
            autocast=False,
        )

    def call(self, images):
        check_rank(self, images.shape, 4, "a batch of images")
        kernel = ops.cast(self.standardized_kernel(), images.dtype)
        padding = "same"
        if self.padding == "symmetric":
            padding = "valid"
            height, width = ((n // 2, n // 2) for n in self.kernel_size)
            images = ops.pad(images, ((0, 0), height, width, (0, 0)))
        return ops.conv(
            images,
            kernel,
            strides=self.strides,
            padding=padding,
            data_format="channels_last",
        )

    def standardized_kernel(self):
        """Returns the kernel as it is convolved with, in at least float32."""
        kernel = ops.cast(self.kernel, at_least_float32(self.variable_dtype))
        kernel = kernel - ops.mean(kernel, axis=(0, 1, 2))
        variance = ops.mean(ops.square(kernel), axis=(0, 1, 2))
        if self.epsilon_in == "variance":
            return kernel / ops.sqrt(variance + self.epsilon)
        return kernel / (_root(variance) + self.epsilon)

    def compute_output_shape(self, input_shape):
        check_rank(self, input_shape, 4, "a batch of images")
        size = (
            None if edge is None else self._count(edge, kernel, stride)
            for edge, kernel, stride in zip(
                input_shape[1:3], self.kernel_size, self.strides
            )
        )
        return (input_shape[0], *size, self.filters)

    def _count(self, edge, kernel, stride):
        if self.padding == "same":
            return -(-edge // stride)
        return (edge + 2 * (kernel // 2) - kernel) // stride + 1

    def get_config(self):
        return {
            **super().get_config(),
            "filters": self.filters,
            "kernel_size": self.kernel_size,
            "strides": self.strides,
            "padding": self.padding,
            "epsilon": self.epsilon,
            "epsilon_in": self.epsilon_in,
        }


def _root(variance):
    # The root of 0 has an infinite slope: a constant kernel, as one of 1x1
    # over one channel is, would get NaN for a gradient.
    positive = variance > 0
    root = ops.sqrt(ops.where(positive, variance, 1.0))
    return ops.where(positive, root, 0.0)
