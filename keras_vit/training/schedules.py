"""The learning-rate schedule of the Vision Transformer's official code.

One class covers the paper (arXiv 2010.11929, Tables 3 and 4) and the AugReg
and big_vision configurations. Keras has warm-up only inside `CosineDecay`,
where it is a ramp in front of the decay. It has no linear or
reciprocal-square-root decay, and no warm-up factor on top of the decay.
Left out: staircase decay (Keras has `PiecewiseConstantDecay`).
"""

import math
from typing import Any, Literal

import keras
from keras import ops

from keras_vit.arguments import (
    check_above_zero,
    check_choice,
    check_not_negative,
    check_positive,
)

DECAYS = ("linear", "cosine", "rsqrt", "constant")
Decay = Literal["linear", "cosine", "rsqrt", "constant"]


@keras.saving.register_keras_serializable(package="keras_vit")
class WarmupDecay(keras.optimizers.schedules.LearningRateSchedule):
    """Linear warm-up times linear, cosine, inverse-square-root or no decay.

    With step `t`, peak `r`, floor `e`, total `T`, warm-up `W`, time scale `S`
    and progress `p = clip((t - W) / (T - W), 0, 1)` the value is

        linear    e + (r - e) (1 - p)
        cosine    e + (r - e) (1 + cos(pi p)) / 2
        rsqrt     r / sqrt(1 + max(t - W, 0) / S)
        constant  r

    times `min(1, t / W)` if there is a warm-up, times
    `clip((T - t) / cooldown_steps, 0, 1)` if there is a cool-down. Progress
    starts where the warm-up ends, so the schedule reaches the peak exactly.
    The first step of a warm-up has rate 0, as in the official code. Everything
    is computed in float32.

    The step is the one that Keras gives to schedules: the number of batches
    seen, which under `gradient_accumulation_steps` is more than the number of
    updates. `keras_vit.recipes` takes account of that.

    Args:
        learning_rate: peak rate `r`, above 0.
        total_steps: length `T` of the whole training, warm-up included.
        warmup_steps: steps of linear warm-up, 0 for none, below
            `total_steps`.
        decay: `"linear"`, `"cosine"`, `"rsqrt"` or `"constant"`.
        end_learning_rate: floor `e` in `[0, learning_rate]`, for linear and
            cosine decay alone. The original code uses 1e-5 with linear decay;
            the official cosine has none.
        timescale: steps after which rsqrt decay has fallen to `r / sqrt(2)`.
        cooldown_steps: last steps, in which the rate falls linearly to 0, on
            top of the decay; at most `total_steps`. Meant for `"rsqrt"` and
            `"constant"`, which do not end at 0 by themselves.
        name: optional name.

    Raises:
        ValueError: if an argument is outside its range, or if
            `end_learning_rate` is given for a decay that has no floor.

    Example:

    >>> schedule = WarmupDecay(8e-4, total_steps=1000, warmup_steps=100)
    >>> [round(float(schedule(step)), 6) for step in (0, 50, 100, 550, 1000)]
    [0.0, 0.0004, 0.0008, 0.0004, 0.0]

    Reference:
        - [Dosovitskiy et al., 2021](https://arxiv.org/abs/2010.11929),
          appendix B.1, tables 3 and 4
        - `create_learning_rate_schedule` in `vit_jax/utils.py`
          (google-research/vision_transformer) and `big_vision/utils.py`
          (google-research/big_vision)
    """

    def __init__(
        self,
        learning_rate: float,
        total_steps: int,
        warmup_steps: int = 0,
        decay: Decay = "linear",
        end_learning_rate: float = 0.0,
        timescale: int = 10_000,
        cooldown_steps: int = 0,
        name: str | None = None,
    ):
        super().__init__()
        self.learning_rate = check_above_zero("learning_rate", learning_rate)
        self.total_steps = check_positive("total_steps", total_steps)
        self.warmup_steps = check_not_negative("warmup_steps", warmup_steps)
        self.decay = check_choice("decay", decay, DECAYS)
        self.end_learning_rate = float(end_learning_rate)
        self.timescale = check_positive("timescale", timescale)
        self.cooldown_steps = check_not_negative(
            "cooldown_steps", cooldown_steps
        )
        self.name = name
        if self.warmup_steps >= self.total_steps:
            raise ValueError(
                "`warmup_steps` must be less than `total_steps`. Received: "
                f"warmup_steps={warmup_steps}, total_steps={total_steps}"
            )
        if self.cooldown_steps > self.total_steps:
            raise ValueError(
                "`cooldown_steps` must not exceed `total_steps`. Received: "
                f"cooldown_steps={cooldown_steps}, total_steps={total_steps}"
            )
        if not 0 <= self.end_learning_rate <= self.learning_rate:
            raise ValueError(
                "`end_learning_rate` must be in [0, learning_rate]. Received: "
                f"end_learning_rate={end_learning_rate}, "
                f"learning_rate={learning_rate}"
            )
        if self.end_learning_rate and decay not in ("linear", "cosine"):
            raise ValueError(
                "`end_learning_rate` must be 0 unless `decay` is 'linear' or "
                f"'cosine'. Received: end_learning_rate={end_learning_rate}, "
                f"decay={decay!r}"
            )

    def __call__(self, step: Any) -> Any:
        # int -> float32 is exact up to 2**24 steps.
        step = ops.cast(step, "float32")
        value = self._decayed(step - self.warmup_steps)
        if self.warmup_steps:
            value = value * ops.minimum(1.0, step / self.warmup_steps)
        if self.cooldown_steps:
            left = (self.total_steps - step) / self.cooldown_steps
            value = value * ops.clip(left, 0.0, 1.0)
        return value

    def _decayed(self, step):
        """The value before warm-up and cool-down; `step` counts from W."""
        if self.decay == "constant":
            return ops.zeros_like(step) + self.learning_rate
        if self.decay == "rsqrt":
            scaled = ops.maximum(step, 0.0) / self.timescale
            return self.learning_rate * ops.rsqrt(1.0 + scaled)
        progress = step / (self.total_steps - self.warmup_steps)
        remaining = 1.0 - ops.clip(progress, 0.0, 1.0)
        if self.decay == "cosine":
            # cos(pi (1 - r)) = -cos(pi r): one expression for both decays.
            remaining = 0.5 * (1.0 - ops.cos(math.pi * remaining))
        span = self.learning_rate - self.end_learning_rate
        return self.end_learning_rate + span * remaining

    def get_config(self) -> dict:
        return {
            "learning_rate": self.learning_rate,
            "total_steps": self.total_steps,
            "warmup_steps": self.warmup_steps,
            "decay": self.decay,
            "end_learning_rate": self.end_learning_rate,
            "timescale": self.timescale,
            "cooldown_steps": self.cooldown_steps,
            "name": self.name,
        }
