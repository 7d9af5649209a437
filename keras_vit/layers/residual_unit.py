"""The bottleneck unit of ResNets, in the form of 2015 and in that of 2016.

He et al. 2016, arXiv:1512.03385 (post-activation) and arXiv:1603.05027
(pre-activation), with group norm and standardised convolutions: BiT,
arXiv:1912.11370. `vit_jax/models_resnet.py` and big_vision's `bit_paper.py`.
"""

from typing import Any

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
from keras_vit.keras_gaps import Layer, without_inner_remat
from keras_vit.layers.group_norm import GroupNorm
from keras_vit.layers.standardized_conv import (
    FORMS,
    Form,
    StandardizedConv2D,
)
from keras_vit.ops.norms import GROUPS

# The forms of the hybrids' trunk and of BiT's files. Every detail differs.
PADDINGS = {False: "same", True: "symmetric"}
POST_ACTIVATION = {
    "epsilon": 1e-6,
    "kernel_epsilon": 1e-5,
    "kernel_epsilon_in": "deviation",
}
PRE_ACTIVATION = {
    "epsilon": 1e-5,
    "kernel_epsilon": 1e-10,
    "kernel_epsilon_in": "variance",
}


def trunk_arithmetic(
    preactivation: bool = False, **given: float | str | None
) -> dict[str, Any]:
    """Returns the epsilons of a ResNet: those given, else those of its form.

    Args:
        preactivation: the form.
        **given: `epsilon`, `kernel_epsilon` and `kernel_epsilon_in`, see
            `ResidualUnit`.
    """
    form = PRE_ACTIVATION if preactivation else POST_ACTIVATION
    return form | {
        name: value for name, value in given.items() if value is not None
    }


def trunk_conv(
    name: str,
    filters: int,
    kernel_size: int,
    strides: int | tuple[int, int] = 1,
    *,
    preactivation: bool,
    dtype: Any,
    **arithmetic: Any,
) -> StandardizedConv2D:
    """Returns a convolution of a ResNet."""
    arithmetic = trunk_arithmetic(preactivation, **arithmetic)
    return StandardizedConv2D(
        filters,
        kernel_size,
        strides,
        padding=PADDINGS[preactivation],
        epsilon=arithmetic["kernel_epsilon"],
        epsilon_in=arithmetic["kernel_epsilon_in"],
        name=name,
        dtype=dtype,
    )


def trunk_norm(
    name: str,
    gamma: str | keras.initializers.Initializer = "ones",
    *,
    preactivation: bool,
    dtype: Any,
    **arithmetic: Any,
) -> GroupNorm:
    """Returns the group norm of a ResNet, over 32 groups."""
    return GroupNorm(
        epsilon=trunk_arithmetic(preactivation, **arithmetic)["epsilon"],
        gamma_initializer=gamma,
        name=name,
        dtype=dtype,
    )


@keras.saving.register_keras_serializable(package="keras_vit")
class ResidualUnit(Layer):
    """Adds 1x1, 3x3 and 1x1 convolutions of the input to the input.

    Post-activation, as in the paper's baselines and hybrids:

        y = relu(x + norm3(conv3(relu(norm2(conv2(relu(norm1(conv1(x)))))))))

    Pre-activation, as in the public files of BiT:

        y = x + conv3(relu(norm3(conv2(relu(norm2(conv1(relu(norm1(x)))))))))

    Where the shape changes, `x` goes through a 1x1 convolution. In the first
    form a norm follows it; in the second it takes `relu(norm1(x))`. In the
    first form the scale of the last norm starts at zero, so that the
    convolutions add nothing at first.

    Args:
        filters: channels inside, a multiple of 32. The output has four times
            as many.
        strides: steps of the 3x3 convolution down and across; an int stands
            for both.
        preactivation: whether norms come before the convolutions.
        epsilon: of the norms. Defaults to that of the form, 1e-6 in the
            official hybrids and 1e-5 in BiT; 1e-5 in timm's hybrids.
        kernel_epsilon: of the standardised kernels, likewise: 1e-5, 1e-10;
            1e-8 in timm.
        kernel_epsilon_in: what `kernel_epsilon` is added to, `"deviation"` in
            the official hybrids, `"variance"` in BiT and timm. Defaults as
            `epsilon`.

    Call arguments:
        maps: tensor of shape `(batch, height, width, channels)`.

    Returns:
        A tensor of shape `(batch, rows, columns, 4 * filters)`.

    Example:

    >>> unit = keras_vit.layers.ResidualUnit(32, strides=2)
    >>> unit(keras.ops.ones((1, 7, 6, 64))).shape
    (1, 4, 3, 128)

    Reference:
        - [Dosovitskiy et al., 2021](https://arxiv.org/abs/2010.11929),
          section 4.1; `vit_jax/models_resnet.py`, `ResidualUnit`
    """

    def __init__(
        self,
        filters: int,
        strides: int | tuple[int, int] = 1,
        preactivation: bool = False,
        epsilon: float | None = None,
        kernel_epsilon: float | None = None,
        kernel_epsilon_in: Form | None = None,
        **kwargs,
    ):
        super().__init__(**kwargs)
        self.filters = check_positive("filters", filters)
        if filters % GROUPS:
            raise ValueError(
                f"`filters` must be a multiple of {GROUPS}, the groups of the "
                f"norms. Received: filters={filters}"
            )
        self.strides = check_pair("strides", strides)
        self.preactivation = bool(preactivation)
        if epsilon is not None:
            check_above_zero("epsilon", epsilon)
        if kernel_epsilon is not None:
            check_above_zero("kernel_epsilon", kernel_epsilon)
        if kernel_epsilon_in is not None:
            check_choice("kernel_epsilon_in", kernel_epsilon_in, FORMS)
        self.epsilon = epsilon
        self.kernel_epsilon = kernel_epsilon
        self.kernel_epsilon_in = kernel_epsilon_in

    def build(self, input_shape: Shape) -> None:
        check_rank(self, input_shape, 4, "a batch of feature maps")
        channels = input_shape[3]
        outer = 4 * self.filters
        self.projects = channels != outer or self.strides != (1, 1)
        with without_inner_remat():
            self.conv1 = self._conv("conv1", self.filters, 1)
            self.conv2 = self._conv("conv2", self.filters, 3, self.strides)
            self.conv3 = self._conv("conv3", outer, 1)
            self.norm1 = self._norm("norm1")
            self.norm2 = self._norm("norm2")
            last = "ones" if self.preactivation else "zeros"
            self.norm3 = self._norm("norm3", last)
            if self.projects:
                self.conv_proj = self._conv("conv_proj", outer, 1, self.strides)
                if not self.preactivation:
                    self.norm_proj = self._norm("norm_proj")
        inner = (*input_shape[:3], self.filters)
        self.conv1.build(input_shape)
        self.conv2.build(inner)
        self.conv3.build(inner)
        if self.preactivation:
            self.norm1.build(input_shape)
            self.norm3.build(inner)
        else:
            self.norm1.build(inner)
            self.norm3.build((*input_shape[:3], outer))
        self.norm2.build(inner)
        if self.projects:
            self.conv_proj.build(input_shape)
            if not self.preactivation:
                self.norm_proj.build((*input_shape[:3], outer))

    def _conv(self, name, filters, kernel_size, strides=1):
        return trunk_conv(name, filters, kernel_size, strides, **self._form())

    def _norm(self, name, gamma="ones"):
        return trunk_norm(name, gamma, **self._form())

    def _form(self):
        return {
            "preactivation": self.preactivation,
            "epsilon": self.epsilon,
            "kernel_epsilon": self.kernel_epsilon,
            "kernel_epsilon_in": self.kernel_epsilon_in,
            "dtype": self.dtype_policy,
        }

    def call(self, maps: Any) -> Any:
        if self.preactivation:
            x = ops.relu(self.norm1(maps))
            around = self.conv_proj(x) if self.projects else maps
            x = ops.relu(self.norm2(self.conv1(x)))
            x = ops.relu(self.norm3(self.conv2(x)))
            return around + self.conv3(x)
        around = maps
        if self.projects:
            around = self.norm_proj(self.conv_proj(maps))
        x = ops.relu(self.norm1(self.conv1(maps)))
        x = ops.relu(self.norm2(self.conv2(x)))
        return ops.relu(around + self.norm3(self.conv3(x)))

    def compute_output_shape(self, input_shape: Shape) -> Shape:
        strided = StandardizedConv2D(
            4 * self.filters,
            3,
            self.strides,
            padding=PADDINGS[self.preactivation],
        )
        return strided.compute_output_shape(input_shape)

    def get_config(self) -> dict[str, Any]:
        return {
            **super().get_config(),
            "filters": self.filters,
            "strides": self.strides,
            "preactivation": self.preactivation,
            "epsilon": self.epsilon,
            "kernel_epsilon": self.kernel_epsilon,
            "kernel_epsilon_in": self.kernel_epsilon_in,
        }
