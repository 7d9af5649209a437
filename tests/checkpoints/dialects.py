"""The arrays of a model under the names of the Flax codebases, then and now.

Shared by the tests that load them.
"""

import re

import numpy as np
from helpers import to_numpy

import keras_vit


def official(model, tmp_path):
    """The arrays of a model under the official names of 2020."""
    path = keras_vit.export_checkpoint(model, tmp_path / "official.npz")
    with np.load(path) as arrays:
        return dict(arrays)


def save(arrays, tmp_path, name="file.npz"):
    np.savez(tmp_path / name, **arrays)
    return tmp_path / name


def renamed(arrays, *replacements):
    for old, new in replacements:
        arrays = {re.sub(old, new, key): x for key, x in arrays.items()}
    return arrays


def linen(arrays):
    """The names of the official code today."""
    return renamed(
        arrays,
        ("MultiHeadDotProductAttention_1", "MultiHeadDotProductAttention_0"),
        ("LayerNorm_2", "LayerNorm_1"),
        ("MlpBlock_3", "MlpBlock_0"),
    )


def big_vision(arrays):
    """Positions at the top, without a row for the class token."""
    arrays = renamed(linen(arrays), ("Transformer/posembed_input/", ""))
    table = arrays["pos_embedding"]
    if "cls" in arrays:
        arrays["cls"] = arrays["cls"] + table[:, :1]
        arrays["pos_embedding"] = table[:, 1:]
    return arrays


def assert_equal_weights(model, source):
    for weight, expected in zip(model.weights, source.weights):
        np.testing.assert_array_equal(
            to_numpy(weight), to_numpy(expected), err_msg=weight.path
        )
