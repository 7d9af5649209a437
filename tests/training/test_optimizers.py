"""AdamW and SGD against NumPy, and the Keras machinery around them."""

import json
import math
from contextlib import nullcontext

import keras
import numpy as np
import pytest
from helpers import float64_on_jax

from keras_vit.training.optimizers import SGD, AdamW, multiplier_of
from keras_vit.training.schedules import WarmupDecay


def tiny_model(seed=0):
    """Two blocks of this library's names; block_1 and block_10 differ."""
    images = keras.Input((2, 2, 1), name="images")
    x = keras.layers.Flatten(name="patches")(images)
    x = keras.layers.Dense(3, name="patch_encoder")(x)
    for name in ("block_1", "block_10"):
        x = keras.layers.Dense(3, activation="tanh", name=name)(x)
    x = keras.layers.LayerNormalization(name="encoder_norm")(x)
    logits = keras.layers.Dense(2, name="head")(x)
    model = keras.Model(images, logits)
    rng = np.random.default_rng(seed)
    model.set_weights([rng.normal(size=w.shape) for w in model.weights])
    return model


def batch(seed=1, size=6):
    rng = np.random.default_rng(seed)
    images = rng.normal(size=(size, 2, 2, 1)).astype("float32")
    return images, rng.integers(0, 2, size)


def weights_of(model):
    return {w.path: keras.ops.convert_to_numpy(w.value) for w in model.weights}


def gradients(model, rng):
    return [
        rng.normal(size=v.shape).astype("float32")
        for v in model.trainable_variables
    ]


def numpy_adam(w, grads, rates, decay, beta_1=0.9, beta_2=0.999, epsilon=1e-7):
    """Adam with decoupled decay in float64; Keras' placing of epsilon."""
    w = w.astype("float64")
    m, v = np.zeros_like(w), np.zeros_like(w)
    for t, (g, rate) in enumerate(zip(grads, rates, strict=True), start=1):
        m = beta_1 * m + (1 - beta_1) * g
        v = beta_2 * v + (1 - beta_2) * g**2
        w = w - rate * decay * w
        step = rate * np.sqrt(1 - beta_2**t) / (1 - beta_1**t)
        w = w - step * m / (np.sqrt(v) + epsilon)
    return w


def test_adamw_equals_numpy_over_several_steps():
    model = tiny_model()
    schedule = WarmupDecay(0.01, total_steps=10, warmup_steps=2)
    multipliers = {"block_1": 0.25, "head": 2.0}
    optimizer = AdamW(schedule, 0.3, multipliers)
    optimizer.build(model.trainable_variables)
    before = weights_of(model)
    rng = np.random.default_rng(2)
    steps = [gradients(model, rng) for _ in range(5)]
    for grads in steps:
        optimizer.apply([keras.ops.convert_to_tensor(g) for g in grads])
    # min(1, t / 2) (1 - max(0, t - 2) / 8) 0.01 for t = 0..4
    rates = np.array([0.0, 0.5, 1.0, 0.875, 0.75]) * 0.01
    for index, variable in enumerate(model.trainable_variables):
        scale = {"block_1": 0.25, "head": 2.0}.get(
            variable.path.split("/")[0], 1.0
        )
        expected = numpy_adam(
            before[variable.path],
            [grads[index] for grads in steps],
            rates * scale,
            0.3 if variable.path.endswith("/kernel") else 0.0,
        )
        np.testing.assert_allclose(
            keras.ops.convert_to_numpy(variable.value),
            expected,
            rtol=1e-5,
            atol=1e-6,
            err_msg=variable.path,
        )


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("layout", ["as it comes", "transposed"])
def test_adamw_of_a_kernel_in_any_layout(dtype, layout):
    """PyTorch's fused kernel would walk through strided memory unawares.

    A large epsilon shows where it stands in the early steps.
    """
    rng = np.random.default_rng(3)
    start, *steps = rng.normal(size=(4, 3, 5))

    def laid_out(array):
        if layout == "as it comes":
            return keras.ops.convert_to_tensor(array, dtype)
        tensor = keras.ops.convert_to_tensor(array.T.copy(), dtype)
        return keras.ops.transpose(tensor)

    with float64_on_jax() if dtype == "float64" else nullcontext():
        variable = keras.Variable(
            lambda shape, dtype: laid_out(start),
            shape=start.shape,
            dtype=dtype,
            name="kernel",
        )
        optimizer = AdamW(0.01, 0.3, epsilon=0.1)
        optimizer.build([variable])
        for gradient in steps:
            optimizer.apply([laid_out(gradient)])
        trained = keras.ops.convert_to_numpy(variable.value)
    expected = numpy_adam(start, steps, [0.01] * 3, 0.3, epsilon=0.1)
    np.testing.assert_allclose(trained, expected, rtol=1e-5)


@pytest.mark.parametrize("largest", [0.5, 50.0])
def test_gradients_are_clipped_to_a_common_norm(largest, rng):
    """To `largest / max(norm, largest)` of themselves, those given stay."""
    shapes = [(3, 4), (5,)]
    gradients = [rng.normal(size=shape) for shape in shapes]
    norm = math.sqrt(sum((g**2).sum() for g in gradients))
    assert 0.5 < norm < 50
    variables = [keras.Variable(np.zeros(shape), name="x") for shape in shapes]
    # With an epsilon this large a step is as large as the gradient, nearly;
    # with a small one Adam's does not depend on its size.
    optimizer = AdamW(1.0, 0.0, epsilon=1e6, global_clipnorm=largest)
    optimizer.build(variables)
    tensors = [keras.ops.convert_to_tensor(g, "float32") for g in gradients]
    optimizer.apply(tensors)
    share = largest / max(norm, largest)
    for variable, tensor, gradient in zip(variables, tensors, gradients):
        expected = numpy_adam(
            0 * gradient, [share * gradient], [1.0], 0.0, epsilon=1e6
        )
        moved = keras.ops.convert_to_numpy(variable.value)
        np.testing.assert_allclose(moved, expected, rtol=1e-5)
        given = keras.ops.convert_to_numpy(tensor)
        np.testing.assert_allclose(given, gradient, rtol=1e-6)


@pytest.mark.parametrize("clipping", [{}, {"global_clipnorm": 0.1}])
def test_adamw_without_extras_is_keras_adam(clipping):
    ours, theirs = tiny_model(), tiny_model()
    images, labels = batch()
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    settings = {"epsilon": 0.1, **clipping}
    ours.compile(AdamW(0.01, weight_decay=0.0, **settings), loss)
    theirs.compile(keras.optimizers.Adam(0.01, **settings), loss)
    for model in (ours, theirs):
        model.fit(images, labels, epochs=4, verbose=0)
    for path, value in weights_of(theirs).items():
        np.testing.assert_allclose(weights_of(ours)[path], value, atol=1e-5)


def test_sgd_multiplies_the_rate_of_covered_variables():
    model = tiny_model()
    optimizer = SGD(0.1, {"block_1": 0.5}, momentum=0.9)
    optimizer.build(model.trainable_variables)
    before = weights_of(model)
    ones = [np.ones(v.shape, "float32") for v in model.trainable_variables]
    for _ in range(2):
        optimizer.apply([keras.ops.convert_to_tensor(g) for g in ones])
    # Steps of rate and of rate * (1 + 0.9).
    for path, value in weights_of(model).items():
        rate = 0.05 if path.startswith("block_1/") else 0.1
        np.testing.assert_allclose(before[path] - value, 2.9 * rate, rtol=1e-5)


def test_first_prefix_of_whole_components_counts():
    multipliers = {"block_00/mlp/": 0.1, "block_00": 0.2, "block_0": 0.3}
    assert multiplier_of("block_00/mlp/hidden/kernel", multipliers) == 0.1
    assert multiplier_of("block_00/attention/query/kernel", multipliers) == 0.2
    assert multiplier_of("block_001/mlp/hidden/kernel", multipliers) == 1.0
    assert multiplier_of("head/kernel", multipliers) == 1.0
    assert multiplier_of("block_0", multipliers) == 0.3


@pytest.mark.parametrize("kind", [AdamW, SGD])
def test_config_survives_json(kind):
    optimizer = kind(
        WarmupDecay(0.1, 10),
        learning_rate_multipliers={"head": 2.0},
        global_clipnorm=1.0,
        use_ema=True,
    )
    serialized = json.loads(json.dumps(keras.optimizers.serialize(optimizer)))
    restored = keras.optimizers.deserialize(serialized)
    assert type(restored) is kind
    assert restored.get_config() == optimizer.get_config()
    assert restored.get_config()["learning_rate_multipliers"] == {"head": 2.0}


def test_saved_model_keeps_decay_of_kernels_and_multipliers(tmp_path):
    model = tiny_model()
    optimizer = AdamW(0.1, 0.5, {"block_1": 0.5}, global_clipnorm=1.0)
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(optimizer, loss)
    images, labels = batch()
    model.fit(images, labels, verbose=0)
    model.save(tmp_path / "model.keras")
    restored = keras.saving.load_model(tmp_path / "model.keras")
    assert isinstance(restored.optimizer, AdamW)
    # Same state, same next step.
    for each in (model, restored):
        each.fit(images, labels, verbose=0)
    for path, value in weights_of(model).items():
        np.testing.assert_allclose(weights_of(restored)[path], value, atol=1e-6)
    # A fresh optimizer from the loaded one's config: gradients of zero leave
    # the decay alone.
    fresh = AdamW.from_config(restored.optimizer.get_config())
    fresh.build(restored.trainable_variables)
    before = weights_of(restored)
    zeros = [np.zeros(v.shape, "float32") for v in restored.trainable_variables]
    fresh.apply([keras.ops.convert_to_tensor(z) for z in zeros])
    for path, value in weights_of(restored).items():
        factor = 1.0
        if path.endswith("/kernel"):
            factor = 1 - 0.1 * 0.5 * (0.5 if path.startswith("block_1/") else 1)
        np.testing.assert_allclose(value, before[path] * factor, rtol=1e-5)


def test_gradient_accumulation_averages_and_decays_once():
    def decayed(**kwargs):
        model = tiny_model()
        optimizer = AdamW(0.1, 0.5, {"head": 0.5}, **kwargs)
        optimizer.build(model.trainable_variables)
        return model, optimizer

    rng = np.random.default_rng(3)
    single, single_optimizer = decayed()
    several, several_optimizer = decayed(gradient_accumulation_steps=3)
    start = weights_of(several)
    parts = [gradients(single, rng) for _ in range(3)]
    mean = [np.mean(part, axis=0) for part in zip(*parts, strict=True)]
    single_optimizer.apply([keras.ops.convert_to_tensor(g) for g in mean])
    for count, grads in enumerate(parts, start=1):
        several_optimizer.apply([keras.ops.convert_to_tensor(g) for g in grads])
        if count < 3:
            for path, value in weights_of(several).items():
                np.testing.assert_array_equal(value, start[path])
    for path, value in weights_of(single).items():
        np.testing.assert_allclose(weights_of(several)[path], value, atol=1e-5)


@pytest.mark.parametrize(
    "kwargs",
    [
        {"global_clipnorm": 0.1},
        {"clipnorm": 0.1},
        {"clipvalue": 0.01},
        {"use_ema": True, "ema_momentum": 0.5},
        {"gradient_accumulation_steps": 2},
        {
            "gradient_accumulation_steps": 2,
            "use_ema": True,
            "global_clipnorm": 1.0,
        },
        {"amsgrad": True},
    ],
    ids=lambda kwargs: "+".join(kwargs),
)
def test_fit_runs_with_each_option_of_keras(kwargs):
    model = tiny_model()
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(AdamW(0.01, 0.1, {"block_1": 0.5}, **kwargs), loss)
    before = weights_of(model)
    images, labels = batch()
    history = model.fit(images, labels, batch_size=2, epochs=2, verbose=0)
    assert np.isfinite(history.history["loss"]).all()
    after = weights_of(model)
    assert all(np.any(after[path] != before[path]) for path in after)


def test_frozen_layers_keep_the_right_multipliers():
    model = tiny_model()
    model.get_layer("patch_encoder").trainable = False
    optimizer = SGD(0.1, {"head": 0.5})
    optimizer.build(model.trainable_variables)
    before = weights_of(model)
    ones = [np.ones(v.shape, "float32") for v in model.trainable_variables]
    optimizer.apply([keras.ops.convert_to_tensor(g) for g in ones])
    for path, value in weights_of(model).items():
        scale = {"patch_encoder": 0.0, "head": 0.5}.get(path.split("/")[0], 1)
        np.testing.assert_allclose(before[path] - value, 0.1 * scale, atol=1e-6)


@pytest.mark.parametrize("policy", ["mixed_float16", "mixed_bfloat16"])
def test_fit_in_mixed_precision(policy):
    previous = keras.dtype_policies.DTypePolicy(keras.config.floatx())
    keras.config.set_dtype_policy(policy)
    try:
        model = tiny_model()
        loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
        model.compile(AdamW(0.01, 0.1, {"block_1": 0.5}), loss)
        images, labels = batch()
        # The first loss scale of float16 may overflow; later steps do not.
        history = model.fit(images, labels, batch_size=2, epochs=4, verbose=0)
    finally:
        keras.config.set_dtype_policy(previous)
    scaled = isinstance(model.optimizer, keras.optimizers.LossScaleOptimizer)
    assert scaled == (policy == "mixed_float16")
    assert np.isfinite(history.history["loss"]).all()
    for path, value in weights_of(model).items():
        assert value.dtype == np.float32, path
        assert np.isfinite(value).all(), path


@pytest.mark.parametrize("value", [0.0, -1.0, "half", True])
def test_bad_multiplier_is_named(value):
    for kind in (AdamW, SGD):
        with pytest.raises(ValueError, match="learning_rate_multipliers"):
            kind(0.1, learning_rate_multipliers={"head": value})


def test_bad_decay_is_named():
    with pytest.raises(ValueError, match="`weight_decay`.*Received"):
        AdamW(0.1, weight_decay=-0.1)
