"""Weights as Keras saves them: `.weights.h5`, of the models that have names.

An HDF5 file can point at other files, hold arrays that are made as they are
read, and lie about sizes. What does so is refused before anything is read.
"""

import pathlib

from keras_vit.checkpoints.files import FLOATS, check_values
from keras_vit.checkpoints.folders import BACKBONE
from keras_vit.checkpoints.guards import CheckpointError

# What a task of KerasHub has on top of its backbone.
TASK = "task.weights.h5"
# Beyond these a file has no model in it.
DEEPEST, MOST_ITEMS = 32, 100_000


class KerasWeightsFile:
    """The arrays of a `.weights.h5` file, but for those of an optimizer.

    Args:
        path: path of the file. Beside a backbone of KerasHub its task is read
            too, under names that begin with `task/`.
    """

    def __init__(self, path):
        self.path = path = pathlib.Path(path)
        self._files, self._arrays, self._items = [], {}, 0
        try:
            self._add(path, "")
            task = path.with_name(TASK)
            if path.name == BACKBONE and task.is_file():
                self._add(task, "task/")
        except BaseException:
            self.__exit__(None, None, None)
            raise
        self.shapes = {key: tuple(x.shape) for key, x in self._arrays.items()}

    def _add(self, path, prefix):
        import h5py

        try:
            self._files.append(h5py.File(path, "r"))
            self._walk(path, self._files[-1], prefix, DEEPEST)
        except CheckpointError:
            raise
        # h5py raises of these kinds, depending on what is broken.
        except (OSError, KeyError, RuntimeError, TypeError, ValueError) as e:
            raise CheckpointError(
                f"'{path}' is truncated or corrupt: {e}"
            ) from e

    def _walk(self, path, group, prefix, levels):
        import h5py

        for name in group:
            key = f"{prefix}{name}"
            self._items += 1
            if not levels or self._items > MOST_ITEMS:
                raise CheckpointError(
                    f"'{path}' holds no model: it has more than {DEEPEST} "
                    f"levels or {MOST_ITEMS:,} items, at {key!r}."
                )
            if not isinstance(group.get(name, getlink=True), h5py.HardLink):
                raise CheckpointError(
                    f"'{path}' points at something else at {key!r}, which is "
                    "not read."
                )
            if name == "optimizer" and group.name == "/":
                continue
            item = group[name]
            if isinstance(item, h5py.Group):
                self._walk(path, item, f"{key}/", levels - 1)
            else:
                _check_dataset(path, key, item)
                self._arrays[key] = item

    def metadata(self):
        """Returns no notes: the format has none."""
        return {}

    def read(self, key):
        """Returns an array, of any of the float types."""
        return self._arrays[key][()]

    def check(self, key):
        """Raises if the array has numbers that cannot be."""
        check_values(self.path, key, self.read(key))

    def __enter__(self):
        return self

    def __exit__(self, *exception):
        for file in self._files:
            file.close()


def _check_dataset(path, key, item):
    import h5py

    if not isinstance(item, h5py.Dataset) or item.is_virtual or item.external:
        raise CheckpointError(
            f"'{path}' has its array {key!r} elsewhere, which is not read."
        )
    if item.dtype.name not in FLOATS:
        raise CheckpointError(
            f"'{path}' holds no floats at {key!r}. Received: dtype={item.dtype}"
        )
    # Keras packs nothing, so every number has its place in the file.
    stored = item.id.get_storage_size()
    if item.chunks is not None or stored != item.nbytes:
        raise CheckpointError(
            f"'{path}' lies about {key!r}: its shape needs {item.nbytes:,} "
            f"bytes, the file holds {stored:,}, or has them in pieces."
        )
