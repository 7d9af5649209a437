"""Private pieces of Keras: which are there, and that nobody else uses any."""

import ast
import pathlib

import keras
import pytest

import keras_vit
from keras_vit import keras_gaps, keras_gaps_of_runs

PACKAGE = pathlib.Path(keras_vit.__file__).parent
PRIVATE = (*keras_gaps.PRIVATE, *keras_gaps_of_runs.PRIVATE)


def owner(path):
    """An instance, which has what `__init__` and `build` make."""
    if path == "keras.optimizers.Adam":
        optimizer = keras.optimizers.Adam()
        optimizer.build([keras.Variable([0.0])])
        return optimizer
    return {
        "keras.layers.Layer": keras.layers.Layer,
        "keras.Model": keras.Sequential(),
        "keras.Variable": keras.Variable([0.0]),
    }[path]


@pytest.mark.parametrize("path, name", PRIVATE)
def test_keras_has_what_is_used(path, name):
    if name == "jax_state_sync" and keras.backend.backend() != "jax":
        pytest.skip("JAX only: other backends keep variables in the model")
    assert hasattr(owner(path), name), f"this Keras has no {path}.{name}"


def test_nobody_else_touches_them():
    private = {name for _, name in PRIVATE}
    for file in PACKAGE.rglob("*.py"):
        if file.name in ("keras_gaps.py", "keras_gaps_of_runs.py"):
            continue
        for node in ast.walk(ast.parse(file.read_text("utf-8"))):
            if isinstance(node, ast.Attribute):
                assert node.attr not in private, f"{file.name}: {node.attr}"
            if isinstance(node, ast.FunctionDef):
                assert node.name not in private, f"{file.name}: {node.name}"


def test_recomputed_layers_keep_flags_and_draws():
    """What `Layer.rematerialized_call` is for, with `training` in the call."""
    with keras.RematScope(mode="full"):
        layer = keras_vit.layers.TransformerBlock(2, 8, dropout=0.5, seed=1)
    inputs = keras.Input((3, 4))
    model = keras.Model(inputs, layer(inputs))
    model.compile("sgd", "mse")
    x = keras.random.normal((4, 3, 4), seed=0)
    loss = model.train_on_batch(x, x)
    assert loss == pytest.approx(loss) and loss > 0
