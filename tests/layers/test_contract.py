"""The contract every public layer keeps: one test a line (see `cases`)."""

import inspect
import json
from contextlib import nullcontext

import keras
import numpy as np
import pytest
from cases import CASES, all_layers
from helpers import EAGER, float64_on_jax, outputs_of, randomize, to_numpy
from keras import ops

import keras_vit
from keras_vit import layers, pretraining


def make_model(case, remat=False, **more):
    inputs = keras.Input(case.inputs)
    with keras.RematScope(mode="full" if remat else None):
        layer = case.make(**more)
    return keras.Model(inputs, layer(inputs))


def draw(case, rng, batch=4):
    return rng.normal(size=(batch, *case.inputs)).astype("float32")


def plain(config):
    """A config as JSON has it: tuples are lists."""
    return json.loads(json.dumps(config))


# All layers of the library, by name.
PUBLIC = {
    name
    for room in (layers, pretraining)
    for name in room.__all__
    if inspect.isclass(getattr(room, name))
}


def test_every_public_layer_is_in_the_table():
    # These take or give several tensors, or ints: see test_token_grid,
    # test_distillation, test_corruption and test_targets.
    others = {"TokenGrid", "CropToImage", "SelectTokens", "PatchTargets"}
    others |= {"PatchCorruption", "PatchMasking", "DistilledLogits"}
    names = {case.layer.__name__ for case in CASES}
    assert names | others == PUBLIC


def test_every_argument_is_off_its_default_somewhere():
    for layer in {case.layer for case in CASES}:
        given = {}
        for case in CASES:
            if case.layer is layer:
                given.update(case.arguments)
        for name, parameter in _own_parameters(layer).items():
            # Two booleans cannot be off their default at once in one layer:
            # `cls_token` is, in test_position.
            if name != "cls_token":
                assert name in given, (layer, name)
                assert given[name] != parameter.default, (layer, name)


def _own_parameters(layer):
    """Of the layer and, through `**kwargs`, of the layers it extends."""
    own = {}
    for owner in layer.__mro__:
        if owner.__name__ in PUBLIC:
            parameters = inspect.signature(owner).parameters
            own = {**parameters, **own}
    return {
        name: parameter
        for name, parameter in own.items()
        if parameter.kind is not parameter.VAR_KEYWORD
    }


@all_layers
def test_config_is_the_signature(case):
    base = {"name", "trainable", "dtype"}
    own = set(case.make().get_config()) - base
    assert own == set(_own_parameters(case.layer))


@all_layers
def test_config_survives_json_and_rebuilds_the_layer(case):
    layer = case.make(name="some_name", dtype="mixed_bfloat16")
    config = json.loads(json.dumps(layer.get_config()))
    twin = case.layer.from_config(config)
    assert plain(twin.get_config()) == plain(layer.get_config())


@all_layers
def test_shapes_dtypes_and_number_of_weights(case, rng):
    layer = case.make()
    symbolic = layer(keras.KerasTensor((None, *case.inputs)))
    assert symbolic.shape == (None, *case.outputs)
    assert sum(int(np.prod(w.shape)) for w in _weights(layer)) == case.weights
    assert all(not weight.path.startswith("/") for weight in layer.weights)
    assert layer.compute_output_shape((None, *case.inputs)) == (
        None,
        *case.outputs,
    )
    outputs = layer(draw(case, rng))
    assert tuple(outputs.shape) == (4, *case.outputs)
    assert keras.backend.standardize_dtype(outputs.dtype) == "float32"


def _weights(layer):
    """Weights without the states of random generators."""
    return [w for w in layer.weights if "seed_generator" not in w.path]


@all_layers
@pytest.mark.parametrize("policy", ["mixed_float16", "float64"])
def test_dtype_policies(case, policy, rng):
    """The other two: below and above."""
    with float64_on_jax() if policy == "float64" else nullcontext():
        model = make_model(case, dtype=policy)
        outputs = outputs_of(model, draw(case, rng))
    policy = keras.dtype_policies.get(policy)
    assert model.output.dtype == policy.compute_dtype == outputs.dtype
    assert all(w.dtype == policy.variable_dtype for w in _weights(model))
    assert np.isfinite(outputs).all()


@all_layers
def test_half_precision_stays_close_to_float32(case, rng):
    inputs = draw(case, rng)
    exact = case.make()
    exact(inputs)
    randomize(exact, rng)
    coarse = case.make(dtype="mixed_bfloat16")
    coarse(inputs)
    for weight, value in zip(_weights(coarse), _weights(exact)):
        weight.assign(value)
    outputs = coarse(inputs)
    assert keras.backend.standardize_dtype(outputs.dtype) == "bfloat16"
    assert all(weight.dtype == "float32" for weight in _weights(coarse))
    np.testing.assert_allclose(
        to_numpy(ops.cast(outputs, "float32")),
        to_numpy(exact(inputs)),
        atol=0.1,  # bfloat16 has 8 bits: 0.4 % of values up to about 5
        rtol=0.05,
    )


@all_layers
@pytest.mark.parametrize("batch", [1, 0])
def test_batches_of_one_and_none(case, batch, rng):
    convolves = case.layer in (layers.StandardizedConv2D, layers.ResidualUnit)
    if convolves and not batch and keras.backend.backend() == "tensorflow":
        pytest.skip("TensorFlow's convolution gives an empty batch wrong shape")
    outputs = outputs_of(make_model(case), draw(case, rng, batch))
    assert outputs.shape == (batch, *case.outputs)


@all_layers
def test_examples_do_not_see_each_other(case, rng):
    inputs = draw(case, rng)
    layer = case.make()
    layer(inputs)
    randomize(layer, rng)
    others = draw(case, rng)
    others[1] = inputs[1]
    given, expected = to_numpy(layer(others)), to_numpy(layer(inputs))
    np.testing.assert_allclose(given[1], expected[1], atol=2e-6, rtol=1e-5)
    if case.layer is not pretraining.MaskToken:  # it takes the batch size alone
        assert not np.allclose(given[0], expected[0])


@all_layers
def test_eager_and_compiled_agree(case, rng):
    inputs = draw(case, rng)
    model = make_model(case)
    randomize(model, rng)
    eager = to_numpy(model(inputs))
    for jit_compile in (False, True):
        if jit_compile and keras.backend.backend() == "torch":
            continue  # torch.compile needs a C++ compiler on the user's side
        model.compile(jit_compile=jit_compile)
        compiled = model.predict(inputs, verbose=0)
        # Sums of many products are off by their own size.
        atol = 2e-6 * max(1, np.abs(eager).max())
        np.testing.assert_allclose(compiled, eager, atol=atol, rtol=1e-5)


@all_layers
def test_saved_model_loads_in_safe_mode_with_the_same_paths(
    case, rng, tmp_path
):
    inputs = draw(case, rng)
    model = make_model(case, name="layer_under_test")
    randomize(model, rng)
    model.save(tmp_path / "model.keras")
    loaded = keras.models.load_model(tmp_path / "model.keras", safe_mode=True)
    assert [w.path for w in loaded.weights] == [w.path for w in model.weights]
    np.testing.assert_array_equal(
        to_numpy(loaded(inputs)), to_numpy(model(inputs))
    )


@all_layers
@pytest.mark.parametrize("remat", [False, True])
def test_one_step_moves_every_weight(case, remat, rng):
    if not case.weights:
        pytest.skip("has no weights")
    inputs = draw(case, rng, batch=16)
    model = make_model(case, remat=remat)
    randomize(model, rng)
    before = [to_numpy(w).copy() for w in model.trainable_weights]
    targets = rng.normal(size=(16, *case.outputs))
    # Compiled where there is more to compile.
    mode = {} if remat else EAGER
    model.compile(optimizer=keras.optimizers.SGD(1.0), loss="mse", **mode)
    model.fit(inputs, targets, epochs=1, batch_size=16, verbose=0)
    for weight, old in zip(model.trainable_weights, before):
        moved = to_numpy(weight) != old
        if not weight.path.endswith(case.fixed or ("nothing",)):
            assert moved.mean() > 0.9, weight.path


@all_layers
def test_remat_gives_the_same_outputs(case, rng):
    inputs = draw(case, rng)
    plain_model = make_model(case)
    randomize(plain_model, rng)
    model = make_model(case, remat=True)
    model.set_weights(plain_model.get_weights())
    expected = to_numpy(plain_model(inputs))
    # As above: one of the two is compiled.
    atol = 2e-6 * max(1, np.abs(expected).max())
    np.testing.assert_allclose(
        outputs_of(model, inputs), expected, atol=atol, rtol=1e-5
    )


@pytest.mark.parametrize(
    "layer",
    [layers.TransformerBlock, layers.AxialBlock, layers.PatchEncoder],
)
def test_remat_drops_the_same_units_when_it_recomputes(layer, rng):
    """Else the gradient would belong to another network than the loss."""
    case = next(case for case in CASES if case.layer is layer)
    inputs = draw(case, rng)
    targets = rng.normal(size=(4, *case.outputs))
    results = []
    for remat in (False, True):
        model = make_model(case, remat=remat, name="layer_under_test")
        randomize(model, np.random.default_rng(1))
        model.compile(optimizer=keras.optimizers.SGD(0.1), loss="mse")
        for _ in range(2):
            model.train_on_batch(inputs, targets)
        results.append([to_numpy(w) for w in model.weights])
    for expected, given in zip(*results):
        np.testing.assert_allclose(given, expected, atol=1e-4)


@all_layers
def test_clone_is_independent(case, rng):
    model = make_model(case)
    clone = keras.models.clone_model(model)
    assert {id(w) for w in clone.weights}.isdisjoint(
        id(w) for w in model.weights
    )
    assert [w.shape for w in clone.weights] == [w.shape for w in model.weights]


@all_layers
def test_wrong_rank_is_refused_by_name(case):
    if case.layer in (
        layers.ClassNames,
        layers.LayerNorm,
        layers.LogitScale,
        layers.RMSNorm,
        layers.StochasticDepth,
        layers.LayerScale,
        pretraining.MaskToken,
    ):
        pytest.skip("takes inputs of any rank")
    shape = (2, 8)
    with pytest.raises(
        ValueError, match=r"rank.*\n?.*Received: shape=\(2, 8\)"
    ):
        case.make()(np.zeros(shape, "float32"))


def test_one_layer_instance_serves_several_shapes(rng):
    """Rectangles of other sizes than the layer was built on."""
    patches = layers.Patches(2)
    encoder = layers.PatchEncoder(8)
    block = layers.TransformerBlock(2, 16)
    for height, width in [(4, 6), (2, 10)]:
        images = rng.normal(size=(2, height, width, 3)).astype("float32")
        tokens = block(encoder(patches(images)))
        assert tuple(tokens.shape) == (2, 1 + height * width // 4, 8)


def test_registered_under_the_package_name():
    for name in layers.__all__:
        layer = getattr(keras_vit.layers, name)
        registered = keras.saving.get_registered_name(layer)
        assert registered == f"keras_vit>{name}"
