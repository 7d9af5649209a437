"""What is trained, in a form that two runs can compare.

Not part of it: names that Keras counts up, seeds (a checkpoint brings the
random states), how a step is compiled, and metrics.
"""

import hashlib
import json
import pathlib

import keras
import numpy as np

_LEFT_OUT = {
    "build_config",
    "inbound_nodes",
    "input_layers",
    "module",
    "name",
    "output_layers",
    "registered_name",
    "seed",
    "shared_object_id",
}
# Rows of an array that stand for it: all of them would take too long.
_ROWS = 64
_SHOWN = 4


def identity(model, arguments, steps):
    """Describes a training.

    Args:
        model: a compiled and built model.
        arguments: those of `fit`, by name.
        steps: steps of an epoch, or `None`.

    Returns:
        A dict that JSON can hold.
    """
    return {
        "backend": keras.backend.backend(),
        "model": {
            "architecture": _config_of(model),
            "variables": [
                [variable.path, list(variable.shape), str(variable.dtype)]
                for variable in model.weights
            ],
        },
        "optimizer": _config_of(model.optimizer),
        "loss": _loss_of(model),
        "data": {**_data(arguments), "steps_of_an_epoch": steps},
    }


def differences(saved, now):
    """Says how two identities differ, in a few lines, or returns `""`."""
    saved, now = dict(_leaves(saved)), dict(_leaves(now))
    found = [
        f"{key}: {saved.get(key, 'nothing')!r} in the checkpoint, "
        f"{now.get(key, 'nothing')!r} now"
        for key in [*saved, *(key for key in now if key not in saved)]
        if saved.get(key, "nothing") != now.get(key, "nothing")
    ]
    more = len(found) - _SHOWN
    found[_SHOWN:] = [f"and {more} more"] if more > 0 else []
    return "\n".join(found)


def _config_of(thing):
    try:
        return _plain(keras.saving.serialize_keras_object(thing))
    except (NotImplementedError, TypeError, ValueError):
        # Classes without `get_config`: the variables still tell.
        return type(thing).__name__


def _loss_of(model):
    try:
        compiled = model.get_compile_config()
    except (NotImplementedError, TypeError, ValueError):
        return None
    return _plain({key: compiled.get(key) for key in ("loss", "loss_weights")})


def _data(arguments):
    x = arguments["x"]
    found = {"type": type(x).__name__}
    for name in ("batch_size", "shuffle", "drop_remainder", "shard"):
        if hasattr(x, name):
            found[name] = _plain(getattr(x, name))
    if isinstance(x, keras.utils.PyDataset):
        # Here a seed is the order of the images.
        found["order_from_seed"] = _plain(getattr(x, "seed", None))
        found["augment"] = _callable(getattr(x, "augment", None))
        parts = {name: getattr(x, name, None) for name in ("images", "labels")}
        if hasattr(x, "paths"):
            names = ["/".join(pathlib.Path(p).parts[-2:]) for p in x.paths]
            parts["images"] = np.array(names)
    else:
        found["batch_size"] = arguments.get("batch_size")
        parts = {name: arguments.get(name) for name in ("x", "y")}
    for name, part in parts.items():
        if isinstance(part, np.ndarray):
            found[name] = _array(part)
    return found


def _array(array):
    rows = np.unique(np.linspace(0, len(array) - 1, _ROWS).astype(int))
    digest = hashlib.sha256(array[rows].tobytes())
    return {
        "shape": list(array.shape),
        "dtype": str(array.dtype),
        "digest_of_some_rows": digest.hexdigest()[:16],
    }


def _callable(function):
    """A name of a function, or of an object with its plain settings."""
    if function is None or hasattr(function, "__qualname__"):
        return getattr(function, "__qualname__", None)
    return _plain({"type": type(function).__name__, **vars(function)})


def _plain(thing):
    """Turns a structure into one of JSON, without what is left out."""

    def rest(value):
        if isinstance(value, keras.layers.Layer):
            return keras.saving.serialize_keras_object(value)
        return type(value).__name__

    def pruned(value):
        if isinstance(value, dict):
            return {
                key: pruned(part)
                for key, part in value.items()
                if key not in _LEFT_OUT
            }
        return [pruned(x) for x in value] if isinstance(value, list) else value

    return pruned(json.loads(json.dumps(thing, default=rest)))


def _leaves(thing, path=""):
    parts = thing
    if isinstance(thing, list):
        parts = dict(enumerate(thing))
    if not isinstance(parts, dict) or not parts:
        yield path, thing
        return
    for key, part in parts.items():
        yield from _leaves(part, f"{path}/{key}" if path else str(key))
