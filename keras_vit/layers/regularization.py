"""Layers that deep transformers put on a residual branch.

Stochastic depth: Huang et al. 2016, arXiv:1603.09382 (used by AugReg, arXiv
2106.10270). LayerScale: Touvron et al. 2021, arXiv:2103.17239 (CaiT, DINOv2).
"""

import numbers
from typing import Any

import keras
from keras import ops

from keras_vit.arguments import Shape, check_rate
from keras_vit.keras_gaps import Layer


@keras.saving.register_keras_serializable(package="keras_vit")
class StochasticDepth(Layer):
    """Drops a residual branch for whole examples, in training only.

    Each example of a batch keeps its branch with probability `1 - rate`. A kept
    branch is divided by that probability, so that its expectation does not
    change.

    Args:
        rate: probability in `[0, 1)` of dropping the branch.
        seed: seed of the draws.

    Call arguments:
        inputs: the branch, a tensor of shape `(batch, ...)`.
        training: whether branches are dropped.

    Returns:
        A tensor of the shape of `inputs`.

    Example:

    >>> branch = keras.ops.ones((4, 2, 8))
    >>> keras_vit.layers.StochasticDepth(0.5)(branch, training=False).shape
    (4, 2, 8)

    Reference:
        - [Huang et al., 2016](https://arxiv.org/abs/1603.09382)
    """

    def __init__(self, rate: float, seed: int | None = None, **kwargs):
        super().__init__(**kwargs)
        self.rate = check_rate("rate", rate)
        self.seed = seed
        if self.rate:
            self.seed_generator = keras.random.SeedGenerator(seed)

    def build(self, input_shape: Shape) -> None:
        pass

    def call(self, inputs: Any, training: bool | None = None) -> Any:
        if not training or not self.rate:
            return inputs
        shape = (ops.shape(inputs)[0], *[1] * (len(inputs.shape) - 1))
        # Drawn in float32: float16 has too few values between 0 and 1.
        draws = keras.random.uniform(shape, seed=self.seed_generator)
        kept = ops.cast(draws >= self.rate, inputs.dtype)
        return inputs * kept / (1 - self.rate)

    def compute_output_shape(self, input_shape: Shape) -> Shape:
        return input_shape

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "rate": self.rate, "seed": self.seed}


@keras.saving.register_keras_serializable(package="keras_vit")
class LayerScale(keras.layers.Layer):
    """Multiplies each channel by a learned factor that starts small.

    Args:
        initial_value: start value of the factors, for example 1e-5. Hugging
            Face's configuration of DINOv2 starts from 1.0.

    Call arguments:
        inputs: tensor of shape `(..., dim)`.

    Returns:
        A tensor of the shape of `inputs`.

    Example:

    >>> keras_vit.layers.LayerScale(0.1)(keras.ops.ones((1, 2, 8))).shape
    (1, 2, 8)

    Reference:
        - [Touvron et al., 2021](https://arxiv.org/abs/2103.17239)
    """

    def __init__(self, initial_value: float = 1e-5, **kwargs):
        super().__init__(**kwargs)
        if isinstance(initial_value, bool) or not isinstance(
            initial_value, numbers.Real
        ):
            raise ValueError(
                "`initial_value` must be a number. "
                f"Received: initial_value={initial_value!r}"
            )
        self.initial_value = float(initial_value)

    def build(self, input_shape: Shape) -> None:
        self.scale = self.add_weight(
            name="scale",
            shape=(input_shape[-1],),
            initializer=keras.initializers.Constant(self.initial_value),
        )

    def call(self, inputs: Any) -> Any:
        return inputs * ops.cast(self.scale, inputs.dtype)

    def compute_output_shape(self, input_shape: Shape) -> Shape:
        return input_shape

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "initial_value": self.initial_value}
