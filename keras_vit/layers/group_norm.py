"""Group normalisation with its gradient in closed form, for the ResNets.

Wu & He 2018, arXiv:1803.08494. The official hybrids use Flax' `GroupNorm`
(epsilon 1e-6). `keras.layers.GroupNormalization` computes the same values with
many more passes through the feature maps.
"""

from typing import Any

import keras

from keras_vit.arguments import (
    Shape,
    check_above_zero,
    check_positive,
    check_rank,
)
from keras_vit.ops.norms import EPSILON, GROUPS, group_norm


@keras.saving.register_keras_serializable(package="keras_vit")
class GroupNorm(keras.layers.Layer):
    """Group normalisation of feature maps.

        y = (x - mean(x)) / sqrt(var(x) + epsilon) * gamma + beta

    Mean and variance are taken over a group of channels and all places of an
    image, in at least float32 whatever the dtype policy. The gradient is in
    closed form (see `keras_vit.ops.norms.group_norm`).

    Args:
        groups: number of groups, which divides the number of channels.
        epsilon: added to the variance, above 0: 1e-6 in the official hybrids,
            1e-5 in BiT.
        gamma_initializer: start values of the scale.

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
        self,
        groups: int = GROUPS,
        epsilon: float = EPSILON,
        gamma_initializer: str | keras.initializers.Initializer = "ones",
        **kwargs,
    ):
        super().__init__(**kwargs)
        self.groups = check_positive("groups", groups)
        self.epsilon = check_above_zero("epsilon", epsilon)
        self.gamma_initializer = keras.initializers.get(gamma_initializer)

    def build(self, input_shape: Shape) -> None:
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

    def call(self, inputs: Any) -> Any:
        check_rank(self, inputs.shape, 4, "a batch of feature maps")
        return group_norm(
            inputs, self.gamma, self.beta, self.groups, self.epsilon
        )

    def compute_output_shape(self, input_shape: Shape) -> Shape:
        return input_shape

    def get_config(self) -> dict[str, Any]:
        return {
            **super().get_config(),
            "groups": self.groups,
            "epsilon": self.epsilon,
            "gamma_initializer": keras.initializers.serialize(
                self.gamma_initializer
            ),
        }
