"""Weights in several files, in files of PyTorch, and under other names.

`open_weights` gives one view on all of them, as `files.open_arrays` does on one
file. PyTorch reads its own format, tensors alone, and only where it is
installed; no object of a file is ever made.
"""

import os
import pathlib
import zipfile

import numpy as np

from keras_vit.checkpoints import formats
from keras_vit.checkpoints.files import FLOATS, check_values, open_arrays
from keras_vit.checkpoints.folders import BACKBONE, is_index, read_index
from keras_vit.checkpoints.guards import (
    CheckpointError,
    check_contents,
    reading,
    shown,
)
from keras_vit.checkpoints.keras_weights import KerasWeightsFile

TORCH_SUFFIXES = (".pth", ".pt", ".bin", ".ckpt", ".tar")
# Under which names training scripts keep the weights beside all else, the ones
# for use first.
STATES = (
    "model_ema",
    "state_dict_ema",
    "teacher",
    "target_encoder",
    "state_dict",
    "model",
    "module",
    "model_state_dict",
)


def open_weights(path):
    """Opens whatever holds weights.

    Args:
        path: path of an `.npz` or `.safetensors` file, of the
            `*.index.json` of several, of a file of PyTorch, or of the
            `model.weights.h5` of KerasHub.

    Returns:
        What `open_arrays` returns, under the names that the library of the
        file saves them by: without wrappers.

    Raises:
        CheckpointError: if the file is damaged, none of these, or one of
            PyTorch and that is not installed.
    """
    path = pathlib.Path(path)
    if is_index(path):
        arrays = ShardedFile(path)
    elif _is_of_torch(path):
        arrays = TorchFile(path)
    elif path.name == BACKBONE:
        arrays = KerasWeightsFile(path)
        if formats.recognise(arrays.shapes) is None:
            # Of a model that Keras itself saved, which says what to do.
            arrays.__exit__(None, None, None)
            arrays = open_arrays(path)
    else:
        arrays = open_arrays(path)
    names = formats.saved_names(arrays.shapes)
    if all(name == key for name, key in names.items()):
        return arrays
    return Renamed(arrays, names)


def _is_of_torch(path):
    with open(path, "rb") as file:
        start = file.read(4)
    # A pickle of old, or a zip that is not NumPy's.
    old = start[:1] == b"\x80"
    return old or (start == b"PK\x03\x04" and path.suffix in TORCH_SUFFIXES)


class ShardedFile:
    """Several `.safetensors` files, and the index that names their arrays.

    Args:
        path: path of the index, a JSON file whose `weight_map` says in which
            file of the same folder each array is.
    """

    def __init__(self, path):
        self.path = path
        folder = pathlib.Path(path).parent
        where = read_index(path)
        check_contents(path, where)
        self._files, self.shapes = {}, {}
        try:
            for name in sorted(set(where.values())):
                if not (folder / name).is_file():
                    raise CheckpointError(
                        f"'{path}' names the file '{shown(name)}', which is "
                        "not beside it: a part of the weights is missing."
                    )
                self._files[name] = open_arrays(folder / name)
            for key, name in where.items():
                if key not in self._files[name].shapes:
                    raise CheckpointError(
                        f"'{path}' says that '{name}' holds '{shown(key)}', "
                        "which it does not."
                    )
                self.shapes[key] = self._files[name].shapes[key]
        except BaseException:
            self.__exit__(None, None, None)
            raise
        self._where = where

    def metadata(self):
        """Returns the notes in the headers, a dict of strings."""
        notes = {}
        for file in self._files.values():
            notes |= file.metadata()
        return notes

    def read(self, key):
        """Returns an array, of any of the float types."""
        return self._files[self._where[key]].read(key)

    def check(self, key):
        """Raises if the array is damaged or has numbers that cannot be."""
        self._files[self._where[key]].check(key)

    def __enter__(self):
        return self

    def __exit__(self, *exception):
        for file in self._files.values():
            file.__exit__(*exception)


class TorchFile:
    """The tensors of a file that PyTorch wrote.

    Args:
        path: path of the file.
    """

    def __init__(self, path):
        self.path = path
        try:
            import torch
        except ImportError as error:
            raise CheckpointError(
                f"'{path}' is a file of PyTorch, which is not installed. "
                "Convert it where it is: `safetensors.torch.save_file("
                "torch.load(path, weights_only=True), 'model.safetensors')`."
            ) from error
        self._check_zip()
        try:
            content = torch.load(path, map_location="cpu", weights_only=True)
        except Exception as error:  # PyTorch raises of many kinds
            raise CheckpointError(
                f"'{path}' is truncated or corrupt, or holds other things than "
                "tensors, which are not read: making them could run any "
                f"program. PyTorch stopped with {type(error).__name__}."
            ) from error
        tensors = _state_in(content)
        if not tensors:
            raise CheckpointError(f"'{path}' holds no dict of tensors.")
        # Tensors may share their numbers, or have one in all places.
        size = sum(x.numel() * x.element_size() for x in tensors.values())
        check_contents(path, tensors, size)
        self._tensors = {
            key: x.detach()
            for key, x in tensors.items()
            if x.is_floating_point()
        }
        self.shapes = {key: tuple(x.shape) for key, x in self._tensors.items()}
        for key, x in self._tensors.items():
            if str(x.dtype).removeprefix("torch.") not in FLOATS:
                raise CheckpointError(
                    f"'{path}' holds no known floats at '{shown(key)}': "
                    f"{x.dtype}"
                )

    def _check_zip(self):
        """Refuses a zip that unpacks to more than weights do."""
        if zipfile.is_zipfile(self.path):
            with reading(self.path), zipfile.ZipFile(self.path) as archive:
                infos = archive.infolist()
            size = sum(info.file_size for info in infos)
            check_contents(self.path, [x.filename for x in infos], size)

    def metadata(self):
        """Returns no notes: the format has none."""
        return {}

    def read(self, key):
        """Returns an array, in float32."""
        with reading(self.path, key):
            return np.asarray(self._tensors[key].float().numpy())

    def check(self, key):
        """Raises if the array has numbers that cannot be."""
        check_values(self.path, key, self.read(key))

    def __enter__(self):
        return self

    def __exit__(self, *exception):
        self._tensors = {}


def _state_in(content, depth=3):
    """Returns the dict of tensors inside of what a training script saved."""
    import torch

    if not isinstance(content, dict) or not depth:
        return {}
    tensors = {
        key: value
        for key, value in content.items()
        if isinstance(key, str) and isinstance(value, torch.Tensor)
    }
    if len(tensors) > 1:
        return tensors
    for name in STATES:
        if name in content:
            found = _state_in(content[name], depth - 1)
            if found:
                return found
    return {}


def _parts(keys, kept):
    """The names of the parts that stand beside the one that is kept."""
    kept_pieces = [key.split(".") for key in kept]
    shared = os.path.commonprefix(kept_pieces)
    parts = set()
    for key in set(keys).difference(kept):
        pieces = key.split(".")
        parts.add(pieces[len(os.path.commonprefix([pieces, shared]))])
    return sorted(parts)


class Renamed:
    """Open arrays under other names, or a part of them.

    Args:
        arrays: what `open_arrays` returned.
        names: dict from name to key in the file. What it leaves out belongs
            to another part of a larger network.
    """

    def __init__(self, arrays, names):
        self._arrays, self._keys = arrays, names
        self.path = arrays.path
        self.shapes = {name: arrays.shapes[key] for name, key in names.items()}
        self.left_out = _parts(arrays.shapes, list(names.values()))

    def metadata(self):
        """Returns the notes of the file, a dict of strings."""
        return self._arrays.metadata()

    def read(self, key):
        """Returns an array, of any of the float types."""
        return self._arrays.read(self._keys[key])

    def check(self, key):
        """Raises if the array is damaged or has numbers that cannot be."""
        self._arrays.check(self._keys[key])

    def __enter__(self):
        return self

    def __exit__(self, *exception):
        self._arrays.__exit__(*exception)
