"""`WarmupDecay` against the formulas of the official code."""

import json
import math

import keras
import numpy as np
import pytest
from keras import ops

from keras_vit.training.schedules import WarmupDecay

PEAK, TOTAL, WARMUP = 8e-4, 1000, 100
STEPS = [0, 1, 50, 99, 100, 101, 325, 550, 999, 1000, 1500]


def official(step, decay, end=0.0, timescale=10_000, cooldown=0):
    """big_vision/utils.py, create_learning_rate_schedule, in float64."""
    progress = np.clip((step - WARMUP) / (TOTAL - WARMUP), 0, 1)
    if decay == "linear":
        value = end + (PEAK - end) * (1 - progress)
    elif decay == "cosine":
        value = PEAK * 0.5 * (1 + math.cos(math.pi * progress))
    elif decay == "rsqrt":
        value = PEAK
        if step >= WARMUP:
            value = PEAK / math.sqrt(1 + (step - WARMUP) / timescale)
    else:
        value = PEAK
    value *= min(1.0, step / WARMUP)
    if cooldown:
        value *= min(1.0, max(0.0, (TOTAL - step) / cooldown))
    return value


@pytest.mark.parametrize("step", STEPS)
@pytest.mark.parametrize(
    "decay, more, reference",
    [
        ("linear", {}, {}),
        ("linear", {"end_learning_rate": 1e-5}, {"end": 1e-5}),
        ("cosine", {}, {}),
        ("rsqrt", {"timescale": 200}, {"timescale": 200}),
        (
            "rsqrt",
            {"timescale": 200, "cooldown_steps": 300},
            {"timescale": 200, "cooldown": 300},
        ),
        ("constant", {"cooldown_steps": 300}, {"cooldown": 300}),
    ],
)
def test_equals_the_official_formula(decay, more, reference, step):
    schedule = WarmupDecay(PEAK, TOTAL, WARMUP, decay, **more)
    value = float(schedule(step))
    # float32 rounding of a handful of operations on values up to the peak.
    assert value == pytest.approx(
        official(step, decay, **reference), abs=1e-6 * PEAK
    )


def test_warmup_multiplies_the_floor_too():
    # Halfway through the warm-up the value is half the peak, not the middle
    # of floor and peak.
    schedule = WarmupDecay(1.0, 20, 10, "linear", end_learning_rate=0.5)
    assert float(schedule(5)) == pytest.approx(0.5)
    assert float(schedule(0)) == 0.0
    assert float(schedule(20)) == pytest.approx(0.5)


def test_cosine_falls_to_its_floor():
    schedule = WarmupDecay(1.0, 100, decay="cosine", end_learning_rate=0.2)
    values = [float(schedule(step)) for step in (0, 50, 100)]
    np.testing.assert_allclose(values, [1.0, 0.6, 0.2], rtol=1e-6)


def test_value_is_float32_for_any_kind_of_step():
    schedule = WarmupDecay(1.0, 10, 2, "cosine")
    variable = keras.Variable(5, dtype="int32", trainable=False)
    for step in (5, ops.convert_to_tensor(5), variable):
        value = schedule(step)
        assert keras.backend.standardize_dtype(value.dtype) == "float32"
        assert tuple(value.shape) == ()
        expected = 0.5 * (1 + math.cos(0.375 * math.pi))
        assert float(value) == pytest.approx(expected)


@pytest.mark.parametrize("decay", ["linear", "cosine", "rsqrt", "constant"])
def test_config_survives_json(decay):
    end = 1e-5 if decay in ("linear", "cosine") else 0.0
    schedule = WarmupDecay(
        3e-3, 500, 50, decay, end, timescale=70, cooldown_steps=30, name="rate"
    )
    serialized = keras.optimizers.schedules.serialize(schedule)
    restored = keras.optimizers.schedules.deserialize(
        json.loads(json.dumps(serialized))
    )
    assert isinstance(restored, WarmupDecay)
    assert restored.get_config() == schedule.get_config()
    assert float(restored(123)) == float(schedule(123))


def test_runs_inside_a_compiled_training_step():
    model = keras.Sequential([keras.Input((1,)), keras.layers.Dense(1)])
    schedule = WarmupDecay(0.5, total_steps=4, warmup_steps=2, decay="constant")
    model.compile(optimizer=keras.optimizers.SGD(schedule), loss="mse")
    model.set_weights([np.zeros((1, 1)), np.zeros(1)])
    # d loss / d bias = -2 while the prediction is 0; the first rate is 0.
    x, y = np.zeros((1, 1), "float32"), np.ones((1, 1), "float32")
    model.fit(x, y, epochs=1, verbose=0)
    assert model.get_weights()[1] == 0.0
    model.fit(x, y, epochs=1, verbose=0)
    assert model.get_weights()[1] == pytest.approx(0.5)  # 0.25 * 2


@pytest.mark.parametrize(
    "arguments, name",
    [
        ({"learning_rate": 0.0}, "learning_rate"),
        ({"total_steps": 0}, "total_steps"),
        ({"total_steps": 10, "warmup_steps": 10}, "warmup_steps"),
        ({"warmup_steps": -1}, "warmup_steps"),
        ({"decay": "stair"}, "decay"),
        ({"end_learning_rate": 2.0}, "end_learning_rate"),
        ({"decay": "rsqrt", "end_learning_rate": 0.1}, "end_learning_rate"),
        ({"timescale": 0}, "timescale"),
        ({"cooldown_steps": 101}, "cooldown_steps"),
    ],
)
def test_bad_arguments_are_named(arguments, name):
    with pytest.raises(ValueError, match=f"`{name}`.*Received: .*{name}="):
        WarmupDecay(**({"learning_rate": 1.0, "total_steps": 100} | arguments))
