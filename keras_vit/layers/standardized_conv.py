"""Convolution with standardised kernels: the ResNets of BiT and of hybrids.

Qiao et al. 2019, arXiv:1903.10520; Kolesnikov et al. 2020 (BiT),
arXiv:1912.11370; `vit_jax/models_resnet.py`, `StdConv`.
"""

from typing import Any, Literal, get_args

import keras
from keras import ops

from keras_vit.arguments import (
    Shape,
    check_above_zero,
    check_choice,
    check_pair,
    check_positive,
    check_rank,
)
from keras_vit.ops.norms import standardize_kernel
from keras_vit.ops.precision import at_least_float32

Padding = Literal["same", "symmetric"]
PADDINGS = get_args(Padding)
Form = Literal["deviation", "variance"]
FORMS = get_args(Form)


@keras.saving.register_keras_serializable(package="keras_vit")
class StandardizedConv2D(keras.layers.Layer):
    """Convolves with kernels of mean 0 and deviation 1 per output channel.

    Mean and population deviation are taken over height, width and input
    channels, in at least float32. There is no bias: a group norm follows.

    Args:
        filters: output channels.
        kernel_size: height and width of the kernel; an int stands for both.
        strides: steps down and across; an int stands for both.
        padding: `"same"` pads as TensorFlow and the official hybrids do: of an
            odd number of rows or columns, the extra one comes last.
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
        filters: int,
        kernel_size: int | tuple[int, int],
        strides: int | tuple[int, int] = 1,
        padding: Padding = "same",
        epsilon: float = 1e-5,
        epsilon_in: Form = "deviation",
        **kwargs,
    ):
        super().__init__(**kwargs)
        self.filters = check_positive("filters", filters)
        self.kernel_size = check_pair("kernel_size", kernel_size)
        self.strides = check_pair("strides", strides)
        self.padding = check_choice("padding", padding, PADDINGS)
        self.epsilon = check_above_zero("epsilon", epsilon)
        self.epsilon_in = check_choice("epsilon_in", epsilon_in, FORMS)

    def build(self, input_shape: Shape) -> None:
        check_rank(self, input_shape, 4, "a batch of images")
        # Not autocast: kernels are standardised in float32.
        self.kernel = self.add_weight(
            name="kernel",
            shape=(*self.kernel_size, input_shape[3], self.filters),
            initializer="lecun_normal",
            autocast=False,
        )

    def call(self, images: Any) -> Any:
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

    def standardized_kernel(self) -> Any:
        """Returns the kernel of the convolution, in at least float32."""
        kernel = ops.cast(self.kernel, at_least_float32(self.variable_dtype))
        return standardize_kernel(kernel, self.epsilon, self.epsilon_in)

    def compute_output_shape(self, input_shape: Shape) -> Shape:
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

    def get_config(self) -> dict[str, Any]:
        return {
            **super().get_config(),
            "filters": self.filters,
            "kernel_size": self.kernel_size,
            "strides": self.strides,
            "padding": self.padding,
            "epsilon": self.epsilon,
            "epsilon_in": self.epsilon_in,
        }
