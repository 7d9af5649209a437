"""A whole model as a `.keras` file, which appears whole or not at all."""

import os
import pathlib

import keras

from keras_vit.checkpoints.writers import replacing
from keras_vit.threads import beside_training


def save(model: keras.Model, path: str | os.PathLike) -> pathlib.Path:
    """Saves a model as `model.save` does, and never loses the file before.

    `model.save` empties the old file before it writes the new one, so a full
    disk or a kill leaves neither. Here the new file is written beside it, comes
    to the disk, and takes its place in one step. Another thread may train the
    model meanwhile; on JAX training then waits, and the file has the state
    between two steps.

    Args:
        model: a `keras.Model`.
        path: path of the file, which ends in .keras. It is replaced if it
            exists.

    Returns:
        The path.

    Raises:
        ValueError: if `path` does not end in .keras.
        OSError: if the file cannot be written; the old one is intact.

    Example:

    ```python
    keras_vit.save(model, "pets.keras")
    model = keras.saving.load_model("pets.keras")
    ```
    """
    path = pathlib.Path(path)
    if path.suffix != ".keras":
        raise ValueError(
            f"`path` must end in .keras. Received: path={str(path)!r}"
        )
    with replacing(path) as temporary:
        beside_training(model, lambda: model.save(temporary))
    return path
