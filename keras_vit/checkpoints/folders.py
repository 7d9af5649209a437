"""What a folder of weights holds: the name of the file, or of its index.

The same on disk and on the Hub. Left out: what is inside the files.
"""

import pathlib

from keras_vit.checkpoints.guards import CheckpointError, read_json, shown

# KerasHub's name of a backbone's weights.
BACKBONE = "model.weights.h5"
# What libraries call the file of weights in a folder, in the order of use.
NAMES = (
    "model.safetensors",
    "model.safetensors.index.json",
    "open_clip_model.safetensors",
    "pytorch_model.bin",
    BACKBONE,
)
INDEX = ".index.json"


def is_index(path):
    """Returns whether a file only says which others hold the weights."""
    return pathlib.PurePath(path).name.endswith(INDEX)


def read_index(path):
    """Returns which file of the same folder holds each array.

    Args:
        path: path of the index, a JSON file with a `weight_map`.

    Returns:
        A dict from the name of an array to the name of a file.

    Raises:
        CheckpointError: if it is no index, or names a file elsewhere.
    """
    where = _weight_map(path)
    for name in where.values():
        if {"/", "\\", ":"} & set(name) or name in ("", ".", ".."):
            raise CheckpointError(
                f"'{path}' names a file outside its folder: '{shown(name)}'"
            )
    return where


def _weight_map(path):
    content = read_json(pathlib.Path(path))
    where = content.get("weight_map") if isinstance(content, dict) else None
    if isinstance(where, dict) and all(
        isinstance(x, str) for x in where.values()
    ):
        return where
    raise CheckpointError(
        f"'{path}' must be JSON with a `weight_map` from arrays to files."
    )
