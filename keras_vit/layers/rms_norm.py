"""Root-mean-square normalisation, which neither centres nor shifts.

Zhang & Sennrich 2019, arXiv:1910.07467; used by AIMv2 (arXiv:2411.14402) and
Sapiens2.
"""

from typing import Any

import keras

from keras_vit.arguments import Shape, check_above_zero, check_choice
from keras_vit.layers.layer_norm import LayerNorm
from keras_vit.ops.norms import EPSILON, rms_norm

KINDS = ("layer", "rms")


@keras.saving.register_keras_serializable(package="keras_vit")
class RMSNorm(keras.layers.Layer):
    """Root-mean-square normalisation over the last axis.

        y = x / sqrt(mean(x^2) + epsilon) * gamma

    The mean is computed in at least float32 whatever the dtype policy.

    Args:
        epsilon: added to the mean square, above 0.

    Call arguments:
        inputs: tensor of shape `(..., dim)`.

    Returns:
        A tensor of the shape of `inputs`.

    Example:

    >>> keras_vit.layers.RMSNorm()(keras.ops.ones((1, 4, 8))).shape
    (1, 4, 8)

    Reference:
        - [Zhang & Sennrich, 2019](https://arxiv.org/abs/1910.07467)
    """

    def __init__(self, epsilon: float = EPSILON, **kwargs):
        super().__init__(**kwargs)
        self.epsilon = check_above_zero("epsilon", epsilon)

    def build(self, input_shape: Shape) -> None:
        # Not autocast: in mixed precision the rescaling stays in float32.
        self.gamma = self.add_weight(
            name="gamma",
            shape=(input_shape[-1],),
            initializer="ones",
            autocast=False,
        )

    def call(self, inputs: Any) -> Any:
        return rms_norm(inputs, self.gamma, self.epsilon)

    def compute_output_shape(self, input_shape: Shape) -> Shape:
        return input_shape

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "epsilon": self.epsilon}


def make_norm(kind: str, epsilon: float, **kwargs) -> keras.layers.Layer:
    """Returns a norm of a kind.

    Args:
        kind: `"layer"` for `LayerNorm` or `"rms"` for `RMSNorm`.
        epsilon: its epsilon, above 0.
        **kwargs: `name` and `dtype`.

    Raises:
        ValueError: if there is no such kind.
    """
    check_choice("norm", kind, KINDS)
    return (LayerNorm if kind == "layer" else RMSNorm)(epsilon, **kwargs)
