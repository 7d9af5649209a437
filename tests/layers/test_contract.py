"""The contract every public layer keeps (see the table, then one test a line).

Each layer stands here with every argument off its default, so that an
argument that `get_config` forgets, or a derived value that it stores, shows.
"""

import dataclasses
import inspect
import json
from contextlib import nullcontext

import keras
import numpy as np
import pytest
from conftest import float64_on_jax, randomize, to_numpy
from keras import ops

import keras_vit
from keras_vit import layers

GRID = (3, 2, 5)  # rows, columns, patch_dim: a rectangle
TOKENS = (7, 8)  # tokens, hidden_dim


@dataclasses.dataclass(frozen=True)
class Case:
    layer: type
    arguments: dict
    inputs: tuple  # without the batch
    outputs: tuple
    weights: int  # numbers, worked out by hand in the comment beside it
    # Weights that a gradient cannot move, by the end of their path.
    fixed: tuple = ()

    def make(self, **more):
        # Sub-layers are given afresh: a layer instance belongs to one parent.
        arguments = {
            name: value(more.get("dtype")) if callable(value) else value
            for name, value in self.arguments.items()
        }
        return self.layer(**arguments, **more)

    def __str__(self):
        return self.layer.__name__


# What is added to every key alike adds the same to all scores of a row, and
# softmax drops it: its gradient is zero by mathematics.
KEY_BIAS = ("attention/key/bias", "key_norm/beta")

CASES = [
    Case(
        layers.Patches,
        {
            "patch_size": (2, 3),
            "remainder": "pad",
            "data_format": "channels_first",
        },
        (3, 5, 9),
        (3, 3, 18),
        0,
    ),
    Case(
        layers.PositionEmbedding,
        {"kind": "learned_2d", "grid_size": (3, 2), "num_prefix_tokens": 1},
        (7, 8),
        (7, 8),
        3 * 4 + 2 * 4 + 8,  # rows, columns, prefix
    ),
    Case(
        layers.PatchEncoder,
        {
            "hidden_dim": 8,
            "position": "learned_2d",
            "cls_token": True,
            "position_of_cls_token": False,
            "num_registers": 2,
            "norm_before": True,
            "norm_after": True,
            "dropout": 0.1,
            "epsilon": 1e-5,
            "grid_size": (2, 2),
            "seed": 1,
        },
        GRID,
        (2 + 1 + 6, 8),
        # norms, projection, class token, registers, row and column tables
        2 * 5 + 2 * 8 + (5 * 8 + 8) + 8 + 2 * 8 + (2 * 4 + 2 * 4),
    ),
    Case(
        layers.LayerNorm,
        {"epsilon": 1e-3},
        TOKENS,
        TOKENS,
        2 * 8,
    ),
    Case(
        layers.SelfAttention,
        {
            "num_heads": 2,
            "head_dim": 3,
            "use_bias": False,
            "use_output_bias": False,
            "qk_norm": True,
            "dropout": 0.1,
            "epsilon": 1e-5,
            "seed": 1,
        },
        TOKENS,
        TOKENS,
        4 * 8 * 6 + 2 * 2 * 3,  # four projections, two norms
        fixed=KEY_BIAS,
    ),
    Case(
        layers.MLP,
        {"mlp_dim": 6, "activation": "swiglu", "dropout": 0.1, "seed": 1},
        TOKENS,
        TOKENS,
        2 * (8 * 6 + 6) + 6 * 8 + 8,
    ),
    Case(
        layers.StochasticDepth,
        {"rate": 0.1, "seed": 1},
        TOKENS,
        TOKENS,
        0,
    ),
    Case(
        layers.LayerScale,
        {"initial_value": 0.5},
        TOKENS,
        TOKENS,
        8,
    ),
    Case(
        layers.TransformerBlock,
        {
            "num_heads": 2,
            "mlp_dim": 6,
            "activation": "gelu",
            "dropout": 0.1,
            "stochastic_depth": 0.1,
            "layer_scale": 0.5,
            "epsilon": 1e-5,
            "seed": 1,
        },
        TOKENS,
        TOKENS,
        # norms, attention, MLP, layer scales
        4 * 8 + 4 * (8 * 8 + 8) + (8 * 6 + 6) + (6 * 8 + 8) + 2 * 8,
        fixed=KEY_BIAS,
    ),
    Case(
        layers.TransformerBlock,
        {
            "attention": lambda dtype: layers.SelfAttention(
                2, qk_norm=True, dtype=dtype
            ),
            "mlp": lambda dtype: layers.MLP(
                6, activation="swiglu", dtype=dtype
            ),
        },
        TOKENS,
        TOKENS,
        4 * 8 + 4 * (8 * 8 + 8) + 4 * 4 + 2 * (8 * 6 + 6) + (6 * 8 + 8),
        fixed=KEY_BIAS,
    ),
    Case(
        layers.TokenPooling,
        {"index": 2},
        TOKENS,
        (8,),
        0,
    ),
    Case(
        layers.AveragePooling,
        {"num_prefix_tokens": 2},
        TOKENS,
        (8,),
        0,
    ),
    Case(
        layers.AttentionPooling,
        {"num_heads": 2, "mlp_dim": 6, "activation": "gelu", "epsilon": 1e-5},
        TOKENS,
        (8,),
        8 + 4 * (8 * 8 + 8) + 2 * 8 + (8 * 6 + 6) + (6 * 8 + 8),
        fixed=KEY_BIAS,
    ),
]
all_layers = pytest.mark.parametrize("case", CASES, ids=str)


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


def test_every_public_layer_is_in_the_table():
    assert {case.layer.__name__ for case in CASES} == set(layers.__all__)


def test_every_argument_is_off_its_default_somewhere():
    for layer in {case.layer for case in CASES}:
        given = {}
        for case in CASES:
            if case.layer is layer:
                given.update(case.arguments)
        for name, parameter in _own_parameters(layer).items():
            # Two booleans cannot be off their default at once in one layer:
            # `cls_token` is, in test_patch_encoder.
            if name != "cls_token":
                assert name in given, (layer, name)
                assert given[name] != parameter.default, (layer, name)


def _own_parameters(layer):
    return {
        name: parameter
        for name, parameter in inspect.signature(layer).parameters.items()
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


def _weights(layer):
    """Weights without the states of random generators."""
    return [w for w in layer.weights if "seed_generator" not in w.path]


@all_layers
@pytest.mark.parametrize(
    "policy", ["float32", "mixed_bfloat16", "mixed_float16", "float64"]
)
def test_dtype_policies(case, policy, rng):
    with float64_on_jax() if policy == "float64" else nullcontext():
        layer = case.make(dtype=policy)
        outputs = layer(draw(case, rng))
    policy = keras.dtype_policies.get(policy)
    symbolic = layer(keras.KerasTensor((None, *case.inputs)))
    assert symbolic.dtype == policy.compute_dtype
    assert keras.backend.standardize_dtype(outputs.dtype) == symbolic.dtype
    assert all(w.dtype == policy.variable_dtype for w in _weights(layer))
    assert np.isfinite(to_numpy(ops.cast(outputs, "float32"))).all()


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
    np.testing.assert_allclose(
        to_numpy(ops.cast(coarse(inputs), "float32")),
        to_numpy(exact(inputs)),
        atol=0.1,  # bfloat16 has 8 bits: 0.4 % of values up to about 5
        rtol=0.05,
    )


@all_layers
@pytest.mark.parametrize("batch", [1, 0])
def test_batches_of_one_and_none(case, batch, rng):
    layer = case.make()
    outputs = layer(draw(case, rng, batch))
    assert tuple(outputs.shape) == (batch, *case.outputs)


@all_layers
def test_examples_do_not_see_each_other(case, rng):
    inputs = draw(case, rng)
    layer = case.make()
    layer(inputs)
    randomize(layer, rng)
    together = to_numpy(layer(inputs))
    alone = to_numpy(layer(inputs[1:2]))
    np.testing.assert_allclose(together[1:2], alone, atol=2e-6)


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
        np.testing.assert_allclose(compiled, eager, atol=2e-6, rtol=1e-5)


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
        loaded.predict(inputs, verbose=0), model.predict(inputs, verbose=0)
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
    model.compile(optimizer=keras.optimizers.SGD(1.0), loss="mse")
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
    np.testing.assert_allclose(
        model.predict(inputs, verbose=0),
        plain_model.predict(inputs, verbose=0),
        atol=1e-6,
    )


@pytest.mark.parametrize(
    "layer", [layers.TransformerBlock, layers.PatchEncoder]
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
        layers.LayerNorm,
        layers.StochasticDepth,
        layers.LayerScale,
    ):
        pytest.skip("takes inputs of any rank")
    shape = (2, 8)
    with pytest.raises(
        ValueError, match=r"rank.*\n?.*Received: shape=\(2, 8\)"
    ):
        case.make()(np.zeros(shape, "float32"))


BAD_ARGUMENTS = [
    (layers.Patches, {"patch_size": 0}, "patch_size=0"),
    (layers.Patches, {"patch_size": (4, -1)}, "patch_size=-1"),
    (layers.Patches, {"patch_size": 2.5}, "patch_size=2.5"),
    (layers.Patches, {"patch_size": 2, "remainder": "drop"}, "'drop'"),
    (layers.Patches, {"patch_size": 2, "data_format": "nchw"}, "'nchw'"),
    (layers.PatchEncoder, {"hidden_dim": 0}, "hidden_dim=0"),
    (layers.PatchEncoder, {"hidden_dim": 8, "position": "1d"}, "'1d'"),
    (layers.PatchEncoder, {"hidden_dim": 8, "dropout": 1.0}, "dropout=1.0"),
    (layers.PatchEncoder, {"hidden_dim": 8, "num_registers": -1}, "-1"),
    (layers.PatchEncoder, {"hidden_dim": 8, "epsilon": 0}, "epsilon=0"),
    (layers.PositionEmbedding, {"kind": "x", "grid_size": 2}, "kind='x'"),
    (layers.SelfAttention, {"num_heads": -2}, "num_heads=-2"),
    (layers.SelfAttention, {"num_heads": 2, "head_dim": 0}, "head_dim=0"),
    (layers.SelfAttention, {"num_heads": 2, "dropout": -0.1}, "dropout=-0.1"),
    (layers.MLP, {"mlp_dim": True}, "mlp_dim=True"),
    (layers.MLP, {"mlp_dim": 4, "activation": "relu"}, "'relu'"),
    (layers.TransformerBlock, {"num_heads": 2}, "mlp_dim=None"),
    (layers.TransformerBlock, {"mlp_dim": 4}, "num_heads=None"),
    (
        layers.TransformerBlock,
        {"num_heads": 2, "mlp_dim": 4, "activation": "tanh"},
        "'tanh'",
    ),
    (
        layers.TransformerBlock,
        {"num_heads": 2, "mlp_dim": 4, "stochastic_depth": 1},
        "stochastic_depth=1",
    ),
    (layers.StochasticDepth, {"rate": float("nan")}, "rate=nan"),
    (layers.LayerScale, {"initial_value": "small"}, "'small'"),
    (layers.LayerNorm, {"epsilon": -1}, "epsilon=-1"),
    (layers.TokenPooling, {"index": -1}, "index=-1"),
    (layers.AveragePooling, {"num_prefix_tokens": 1.5}, "1.5"),
]


@pytest.mark.parametrize("layer, arguments, received", BAD_ARGUMENTS)
def test_bad_arguments_are_refused_by_name(layer, arguments, received):
    with pytest.raises(ValueError, match="Received: ") as error:
        layer(**arguments)
    assert received in str(error.value)


def test_shapes_that_do_not_fit_are_refused_when_built():
    tokens = np.zeros((1, 3, 10), "float32")
    with pytest.raises(ValueError, match="num_heads=4, hidden_dim=10"):
        layers.SelfAttention(4)(tokens)
    with pytest.raises(ValueError, match="multiple of 4 .*hidden_dim=10"):
        layers.PatchEncoder(10, position="sincos_2d")(
            np.zeros((1, 2, 2, 3), "float32")
        )
    with pytest.raises(ValueError, match="less than the number of tokens, 3"):
        layers.TokenPooling(3)(tokens)
    with pytest.raises(ValueError, match="`grid_size` must be given"):
        layers.PatchEncoder(8)(keras.KerasTensor((None, None, None, 3)))


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
