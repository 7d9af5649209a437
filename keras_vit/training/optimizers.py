"""Adam with decay of kernels alone, and a learning rate for each layer.

The official code trains with these (arXiv 2010.11929, appendix B.1; AugReg,
arXiv 2106.10270). Keras' `AdamW` can exclude variables from the decay, but
forgets the exclusions when a model is saved and loaded, and it has one learning
rate for the whole model. Left out: Adafactor and half-precision momentum.
"""

import numbers
from collections.abc import Mapping

import keras
from keras import ops

from keras_vit.keras_gaps import OptimizerSteps
from keras_vit.ops import torch_updates

Schedule = keras.optimizers.schedules.LearningRateSchedule


def check_multipliers(
    multipliers: Mapping[str, float] | None,
) -> dict[str, float]:
    """Returns a dict of path prefix to float, or raises on a bad entry."""
    multipliers = dict(multipliers or {})
    for prefix, value in multipliers.items():
        if (
            not isinstance(prefix, str)
            or not prefix.strip("/")
            or isinstance(value, bool)
            or not isinstance(value, numbers.Real)
            or not value > 0
        ):
            raise ValueError(
                "`learning_rate_multipliers` must map path prefixes to numbers "
                "greater than 0 (to hold a layer still, freeze it). Received: "
                f"learning_rate_multipliers={{{prefix!r}: {value!r}}}"
            )
    return {prefix: float(value) for prefix, value in multipliers.items()}


def multiplier_of(path: str, multipliers: Mapping[str, float]) -> float:
    """Returns the value of the first prefix that covers `path`, else 1.0.

    A prefix covers whole path components: `"block_1"` covers
    `block_1/mlp/hidden/kernel`, not `block_10/mlp/hidden/kernel`.
    """
    for prefix, value in multipliers.items():
        if f"{path}/".startswith(f"{prefix.strip('/')}/"):
            return value
    return 1.0


class RatesByLayer(OptimizerSteps):
    """A learning rate for each layer, for the optimizers below.

    Put it before a class of `keras.optimizers` among the bases, and set
    `learning_rate_multipliers` in `__init__`.
    """

    def build(self, variables):
        if self.built:
            return
        super().build(variables)
        # By position, see `variable_index`.
        self._multipliers = tuple(
            multiplier_of(variable.path, self.learning_rate_multipliers)
            for variable in variables
        )

    def rate_of(self, variable, learning_rate):
        """Returns the learning rate of a variable, in its dtype."""
        multiplier = self._multipliers[self.variable_index(variable)]
        return ops.cast(learning_rate, variable.dtype) * multiplier

    def get_config(self):
        return {
            **super().get_config(),
            "learning_rate_multipliers": dict(self.learning_rate_multipliers),
        }


@keras.saving.register_keras_serializable(package="keras_vit")
class AdamW(RatesByLayer, keras.optimizers.Adam):
    """Adam with decoupled weight decay on kernels and rates for each layer.

    With learning rate `r`, multiplier `s` of the layer and decay `d` one step
    is

        w <- w - r s (adam(gradient) + d w)    for variables named "kernel"
        w <- w - r s  adam(gradient)           for all others

    so biases, norm scales, position tables and the class token do not decay.
    `d` is multiplied by the learning rate, as in Keras' and PyTorch's AdamW
    and in the tables of the papers: their "weight decay 0.1" is
    `weight_decay=0.1` here. big_vision adds the decay *after* the peak rate
    `R` (`w - schedule (R adam + wd w)`), so its `wd` is `R d`: `wd=1e-4` with
    `lr=1e-3` is the same 0.1. The default is that of Keras' AdamW.

    Both settings are part of the configuration, so they survive `model.save`.
    Clipping, gradient accumulation, moving averages and loss scaling are
    those of Keras.

    Args:
        learning_rate: number above 0 or a schedule.
        weight_decay: decay `d`, 0 or more, in units of the learning rate.
        learning_rate_multipliers: dict of path prefix (`"block_00"`,
            `"patch_encoder/projection"`) to multiplier above 0, or `None`.
            The first prefix that covers a variable's path counts; variables
            that no prefix covers have 1.0. `layer_wise_learning_rates` makes
            such a dict.
        **kwargs: arguments of `keras.optimizers.Adam`: `beta_1`, `beta_2`,
            `epsilon`, `global_clipnorm`, `use_ema`, `name`, ...

    Raises:
        ValueError: if `weight_decay` is negative or a multiplier is not
            above 0.

    Example:

    >>> optimizer = AdamW(1e-3, weight_decay=0.1, global_clipnorm=1.0)
    >>> optimizer.get_config()["weight_decay"]
    0.1

    Reference:
        - [Loshchilov and Hutter, 2017](https://arxiv.org/abs/1711.05101)
        - [Dosovitskiy et al., 2021](https://arxiv.org/abs/2010.11929), table 3
        - big_vision, `optax.py`, `wd_mults`
    """

    def __init__(
        self,
        learning_rate: float | Schedule = 1e-3,
        weight_decay: float | None = 0.004,
        learning_rate_multipliers: dict[str, float] | None = None,
        **kwargs,
    ):
        # The base class must not see the decay: it would decay every variable.
        super().__init__(learning_rate=learning_rate, **kwargs)
        if weight_decay is None:
            weight_decay = 0.0
        if not isinstance(weight_decay, numbers.Real) or not weight_decay >= 0:
            raise ValueError(
                "`weight_decay` must be a number of 0 or more. "
                f"Received: weight_decay={weight_decay!r}"
            )
        self.kernel_decay = float(weight_decay)
        self.learning_rate_multipliers = check_multipliers(
            learning_rate_multipliers
        )

    def build(self, variables):
        if self.built:
            return
        super().build(variables)
        self._decays = tuple(
            self.kernel_decay if variable.name == "kernel" else 0.0
            for variable in variables
        )

    def update_step(self, gradient, variable, learning_rate):
        learning_rate = self.rate_of(variable, learning_rate)
        decay = self._decays[self.variable_index(variable)]
        if decay:
            self.assign_sub(
                variable, ops.multiply(variable, learning_rate * decay)
            )
        super().update_step(gradient, variable, learning_rate)

    def clip_gradients(self, gradients):
        # Keras allows one of three kinds of clipping at a time.
        by_global_norm = self.global_clipnorm and self.global_clipnorm > 0
        if keras.backend.backend() == "torch" and by_global_norm:
            return torch_updates.clip_together(self, gradients)
        return super().clip_gradients(gradients)

    def update_variables(self, gradients, variables, learning_rate):
        if keras.backend.backend() == "torch" and not self.amsgrad:
            return torch_updates.update_together(
                self, gradients, variables, learning_rate
            )
        return super().update_variables(gradients, variables, learning_rate)

    def get_config(self):
        return {**super().get_config(), "weight_decay": self.kernel_decay}


@keras.saving.register_keras_serializable(package="keras_vit")
class SGD(RatesByLayer, keras.optimizers.SGD):
    """Keras' SGD with a learning rate for each layer.

    The learning rate of a variable is multiplied by the first entry of
    `learning_rate_multipliers` whose key covers its path; everything else is
    `keras.optimizers.SGD`. Without multipliers use that class itself.

    Args:
        learning_rate: number above 0 or a schedule.
        learning_rate_multipliers: dict of path prefix to multiplier above 0,
            or `None`; see `AdamW`.
        **kwargs: arguments of `keras.optimizers.SGD`: `momentum`, `nesterov`,
            `global_clipnorm`, `use_ema`, `name`, ...

    Raises:
        ValueError: if a multiplier is not above 0.

    Example:

    >>> optimizer = SGD(0.03, {"patch_encoder": 0.1}, momentum=0.9)
    >>> optimizer.get_config()["learning_rate_multipliers"]
    {'patch_encoder': 0.1}
    """

    def __init__(
        self,
        learning_rate: float | Schedule = 0.01,
        learning_rate_multipliers: dict[str, float] | None = None,
        **kwargs,
    ):
        super().__init__(learning_rate=learning_rate, **kwargs)
        self.learning_rate_multipliers = check_multipliers(
            learning_rate_multipliers
        )

    def update_step(self, gradient, variable, learning_rate):
        learning_rate = self.rate_of(variable, learning_rate)
        super().update_step(gradient, variable, learning_rate)
