"""Files of weights, written whole or not at all.

A temporary file beside the target takes its place in one step, so that a full
disk or a killed process leaves what was there before. `files` reads them.
"""

import contextlib
import os
import pathlib
import tempfile
import zipfile

import numpy as np


def write_npz(path, arrays):
    """Writes arrays as `numpy.savez` does, but whole or not at all.

    Args:
        path: path of the file.
        arrays: dict from key to array.
    """
    with _replacing(path) as temporary:
        with zipfile.ZipFile(temporary, "w") as archive:
            for key, array in arrays.items():
                # A date of its own would make equal weights unequal files.
                info = zipfile.ZipInfo(f"{key}.npy")
                with archive.open(info, "w", force_zip64=True) as stream:
                    np.lib.format.write_array(
                        stream, np.ascontiguousarray(array), allow_pickle=False
                    )


def write_safetensors(path, arrays, metadata=None):
    """Writes arrays as `safetensors` does, but whole or not at all.

    Args:
        path: path of the file.
        arrays: dict from key to array.
        metadata: dict of strings for the header, or `None`.
    """
    from safetensors.numpy import save_file

    arrays = {key: np.ascontiguousarray(arrays[key]) for key in arrays}
    with _replacing(path) as temporary:
        save_file(arrays, temporary, metadata=metadata)


def write_text(path, text):
    """Writes a text file, whole or not at all."""
    with _replacing(path) as temporary:
        pathlib.Path(temporary).write_text(text, encoding="utf-8")


@contextlib.contextmanager
def _replacing(path):
    """Yields a name beside `path`, which takes its place at the end."""
    path = pathlib.Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, temporary = tempfile.mkstemp(
        prefix=f".{path.name}.", dir=path.parent
    )
    os.close(handle)
    try:
        yield temporary
        with open(temporary, "rb+") as file:
            os.fsync(file.fileno())
        # `mkstemp` gives a file to its owner alone; a checkpoint is to share.
        mask = os.umask(0)
        os.umask(mask)
        os.chmod(temporary, 0o666 & ~mask)
        os.replace(temporary, path)
    except OSError as error:
        raise OSError(
            error.errno, f"'{path}' could not be written: {error.strerror}"
        ) from error
    finally:
        pathlib.Path(temporary).unlink(missing_ok=True)
