"""Files of weights: `.npz` and `.safetensors`, checked before they are trusted.

A checkpoint comes from a stranger. Both readers look at names, shapes and
dtypes first and read an array only when asked, one at a time, so that a file
that lies costs nothing and a good one needs no second copy in memory. Nothing
is ever unpickled. `writers` makes such files.
"""

import collections
import concurrent.futures
import os
import pathlib
import re
import zipfile
import zlib

import numpy as np

from keras_vit.checkpoints.guards import (
    CheckpointError,
    check_contents,
    reading,
    shown,
)

# Float types of the leaves that real checkpoints hold; all become float32.
FLOATS = ("float16", "bfloat16", "float32", "float64")
# The JAX world writes bfloat16 into `.npz` as two opaque bytes.
NPZ_BFLOAT16 = ("|V2", "<V2")
# Others unpack any number of bytes at once.
COMPRESSIONS = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)
ALIGNMENT = 64
# Beyond this no Vision Transformer has a weight; a flipped exponent bit has.
LARGEST_WEIGHT = 1e4
# Whole numbers that PyTorch keeps beside weights, and makes anew by itself.
COUNTERS = re.compile(
    r"(.*\.)?(position_ids|relative_position_index|num_batches_tracked)"
)


def open_arrays(path):
    """Opens a file of weights by its first bytes, whatever its name.

    Args:
        path: path of an `.npz` or `.safetensors` file.

    Returns:
        An `NpzFile` or a `SafetensorsFile`: `shapes`, a dict from key to
        shape; `read(key)`, the array; `check(key)`, which raises if the array
        is damaged or not finite; both are context managers.

    Raises:
        CheckpointError: if the file is neither, or not whole.
    """
    path = pathlib.Path(path)
    with open(path, "rb") as file:
        start = file.read(16)
    if start.startswith(b"PK"):
        return NpzFile(path)
    if start.startswith(b"\x89HDF") or path.suffix in (".h5", ".hdf5"):
        raise CheckpointError(_about_hdf5(path))
    if len(start) >= 10 and start[8:9] == b"{":
        return SafetensorsFile(path)
    raise CheckpointError(
        f"'{path}' is neither an .npz nor a .safetensors file, or is "
        f"truncated or corrupt. It begins with: {start!r}"
    )


class NpzFile:
    """The arrays of an `.npz` file, `numpy.savez`' zip of `.npy` members.

    Args:
        path: path of the file.
    """

    def __init__(self, path):
        self.path = path
        self._members = {}
        with reading(path):
            self._zip = zipfile.ZipFile(path)
        try:
            self._read_headers()
        except BaseException:
            self._zip.close()
            raise
        self.shapes = {
            key: member.shape for key, member in self._members.items()
        }

    def _read_headers(self):
        infos = self._zip.infolist()
        names = [info.orig_filename for info in infos]
        if "config.json" in names and "model.weights.h5" in names:
            raise CheckpointError(
                f"'{self.path}' is a Keras model: open it with "
                "`keras.models.load_model`."
            )
        size = sum(info.file_size for info in infos)
        check_contents(self.path, names, size)
        for info, name in zip(infos, names):
            _check_member_name(self.path, name)
            key = name.removesuffix(".npy")
            if key in self._members:
                raise CheckpointError(
                    f"'{self.path}' holds two arrays of one name: "
                    f"'{shown(key)}'"
                )
            with reading(self.path, key):
                self._members[key] = _NpyMember(self._zip, info)
                self._members[key].check_header(self.path, key)

    def read(self, key):
        """Returns an array, of any of the float types."""
        with reading(self.path, key):
            return self._members[key].read()

    def check(self, key):
        """Raises if the array is damaged or has numbers that cannot be."""
        # Not for the others: beside weights an optimizer counts its steps.
        _check_float(self.path, key, self._members[key].dtype)
        with reading(self.path, key):
            array = self._members[key].read(check_sum=True)
        check_values(self.path, key, array)

    def __enter__(self):
        return self

    def __exit__(self, *exception):
        self._zip.close()


class _NpyMember:
    """One array in the zip: its header read, its data not yet."""

    def __init__(self, archive, info):
        self._archive, self._info = archive, info
        if info.compress_type not in COMPRESSIONS:
            raise ValueError(
                f"unknown compression {info.compress_type}: NumPy's are "
                "stored and deflated"
            )
        with archive.open(info) as stream:
            version = np.lib.format.read_magic(stream)
            read_header = {
                (1, 0): np.lib.format.read_array_header_1_0,
                (2, 0): np.lib.format.read_array_header_2_0,
            }.get(version)
            if read_header is None:
                raise ValueError(f"unknown .npy version {version}")
            self.shape, self._fortran, self._dtype = read_header(stream)
            self._header_size = stream.tell()

    @property
    def dtype(self):
        own = self._dtype
        return "bfloat16" if own.str in NPZ_BFLOAT16 else own.name

    def check_header(self, path, key):
        if self._dtype.hasobject:
            raise CheckpointError(
                f"'{path}' holds pickled objects at '{shown(key)}', which "
                "could run any code and are never read."
            )
        # Python integers: a shape may be made to overflow any other.
        size = self._dtype.itemsize
        for edge in self.shape:
            size *= edge
        held = self._info.file_size - self._header_size
        if size != held or min(self.shape, default=0) < 0:
            raise CheckpointError(
                f"'{path}' lies about '{shown(key)}': its header declares "
                f"{size:,} bytes, the file holds {held:,}."
            )

    def read(self, check_sum=False):
        """Returns the array; bytes that do not match their sum raise."""
        if self._info.compress_type == zipfile.ZIP_STORED:
            data = self._read_stored(check_sum)
        else:
            # Unpacking verifies the sum by itself.
            with self._archive.open(self._info) as stream:
                # Without a number all is unpacked, whatever was declared.
                data = stream.read(self._info.file_size)
            data = np.frombuffer(data, np.uint8)
            data = data[self._header_size :]
        array = data.view(self._dtype)
        order = "F" if self._fortran else "C"
        array = array.reshape(self.shape, order=order)
        if self._dtype.str in NPZ_BFLOAT16:
            # bfloat16 is the upper half of a float32.
            array = array.view(np.uint16).astype(np.uint32) << 16
            array = array.view(np.float32)
        return array

    def _read_stored(self, check_sum):
        # Straight from the disk into the array: `zipfile` would copy it in
        # small pieces, at half the speed.
        info = self._info
        with open(self._archive.filename, "rb") as file:
            # The local header may have other extra fields than the directory.
            file.seek(info.header_offset + 26)
            lengths = np.frombuffer(file.read(4), "<u2")
            file.seek(int(lengths.sum()), os.SEEK_CUR)
            header = file.read(self._header_size)
            data = _empty(info.file_size - self._header_size)
            if file.readinto(data) != data.size:
                raise EOFError("the file ends within the array")
        if check_sum and zlib.crc32(data, zlib.crc32(header)) != info.CRC:
            raise zipfile.BadZipFile("its bytes do not match their check sum")
        return data


def _empty(size):
    """Bytes at an address that JAX takes as its own without a copy."""
    data = np.empty(size + ALIGNMENT, np.uint8)
    start = -data.ctypes.data % ALIGNMENT
    return data[start : start + size]


class SafetensorsFile:
    """The arrays of a `.safetensors` file, whose header the library checks.

    Args:
        path: path of the file.
    """

    def __init__(self, path):
        import safetensors

        self.path = path
        with reading(path):
            self._file = safetensors.safe_open(path, framework="numpy")
            self._file.__enter__()
        self.shapes, self._dtypes = {}, {}
        keys = self._file.keys()
        check_contents(path, keys)
        for key in keys:
            with reading(path, key):
                piece = self._file.get_slice(key)
                dtype = {"BF16": "bfloat16"}.get(
                    piece.get_dtype(),
                    piece.get_dtype().lower().replace("f", "float"),
                )
                if dtype not in FLOATS and COUNTERS.fullmatch(key):
                    continue
                self._dtypes[key] = dtype
                self.shapes[key] = tuple(piece.get_shape())

    def metadata(self):
        """Returns the notes in the header, a dict of strings."""
        return self._file.metadata() or {}

    def read(self, key):
        """Returns an array, of any of the float types."""
        with reading(self.path, key):
            return self._file.get_tensor(key)

    def check(self, key):
        """Raises if the array has numbers that cannot be.

        The format has no check sums: a flipped bit shows only if it makes a
        number impossible.
        """
        _check_float(self.path, key, self._dtypes[key])
        check_values(self.path, key, self.read(key))

    def __enter__(self):
        return self

    def __exit__(self, *exception):
        self._file.__exit__(*exception)


def check_all(arrays, keys):
    """Checks arrays of an open file, two at a time.

    Args:
        arrays: an open file.
        keys: the keys to check.

    Raises:
        CheckpointError: if an array is damaged or not finite.
    """
    # Sums and reads let other threads run.
    with concurrent.futures.ThreadPoolExecutor(max_workers=2) as pool:
        for _ in pool.map(arrays.check, keys):
            pass


def read_ahead(arrays, keys):
    """Yields arrays of an open file, the next two being read meanwhile.

    Args:
        arrays: an open file.
        keys: the keys to read.
    """
    with concurrent.futures.ThreadPoolExecutor(max_workers=2) as pool:
        waiting = collections.deque()
        for key in keys:
            waiting.append(pool.submit(arrays.read, key))
            if len(waiting) > 2:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()


def _check_member_name(path, name):
    parts = name.replace("\\", "/").split("/")
    bad = (
        "\0" in name
        or "\\" in name
        or name.startswith("/")
        or ".." in parts
        or ":" in parts[0]
    )
    if bad:
        raise CheckpointError(
            f"'{path}' holds a name that points out of it: '{shown(name)}'"
        )
    if not name.endswith(".npy"):
        raise CheckpointError(
            f"'{path}' is a zip, but not one of arrays: '{shown(name)}'"
        )


def _check_float(path, key, dtype):
    if dtype not in FLOATS:
        raise CheckpointError(
            f"'{path}' holds no floats at '{shown(key)}'. "
            f"Received: dtype={shown(dtype)}"
        )


def check_values(path, key, array):
    """Raises if an array has numbers that no weight can have."""
    if not array.size:
        return
    # NaN survives both, so two passes without a copy tell all.
    low, high = float(np.min(array)), float(np.max(array))
    if not (np.isfinite(low) and np.isfinite(high)):
        kind = "NaN" if np.isnan(low) or np.isnan(high) else "infinity"
        raise CheckpointError(f"'{path}' holds {kind} at '{shown(key)}'.")
    if max(-low, high) > LARGEST_WEIGHT:
        raise CheckpointError(
            f"'{path}' holds a weight of {max(low, high, key=abs):g} at "
            f"'{shown(key)}', beyond {LARGEST_WEIGHT:g}: it must be damaged."
        )


def _about_hdf5(path):
    import h5py

    try:
        h5py.File(path, "r").close()
    except OSError as error:
        return f"'{path}' is truncated or corrupt: {error}"
    return (
        f"'{path}' is an HDF5 file, which can point at other files and is not "
        "read here. Weights that Keras saved: `model.load_weights`; others: "
        "ask for .npz or .safetensors."
    )
