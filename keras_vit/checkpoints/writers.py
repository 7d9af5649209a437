"""Files of weights, written whole or not at all.

A temporary file beside the target takes its place in one step, so that a full
disk or a killed process leaves what was there before. `files` reads them.
"""

import contextlib
import errno
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
    with replacing(path) as temporary:
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
    from safetensors import SafetensorError
    from safetensors.numpy import save_file

    # Not `ascontiguousarray`, which gives a scalar an axis.
    arrays = {key: np.asarray(arrays[key], order="C") for key in arrays}
    with replacing(path) as temporary:
        try:
            save_file(arrays, temporary, metadata=metadata)
        except SafetensorError as error:
            # How it puts what the operating system says.
            raise OSError(None, str(error)) from error


def write_text(path, text):
    """Writes a text file, whole or not at all."""
    with replacing(path) as temporary:
        pathlib.Path(temporary).write_text(text, encoding="utf-8")


@contextlib.contextmanager
def alone(path):
    """Lets one process at a time read a file, add to it and write it anew.

    The system frees the lock of a process that dies. On a disk that knows no
    locks nobody waits.

    Args:
        path: path of the file, which need not exist.
    """
    path = pathlib.Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    # Not the file itself: writing puts another one into its place.
    beside = path.with_name(f".{path.name}.lock")
    file = _locked(beside)
    try:
        yield
    finally:
        if os.name == "nt":
            # Windows deletes no open file, and none that others wait for.
            file.close()
            with contextlib.suppress(OSError):
                beside.unlink()
        else:
            beside.unlink(missing_ok=True)
            file.close()


def _locked(path):
    """Opens and locks the file that stands at a path."""
    while True:
        file = open(path, "ab")
        try:
            _lock(file)
            # Who waited may hold a file that its last owner has deleted.
            with contextlib.suppress(FileNotFoundError):
                if os.path.samestat(os.fstat(file.fileno()), os.stat(path)):
                    return file
        except BaseException:
            file.close()
            raise
        file.close()


def _lock(file):
    try:
        if os.name == "nt":
            import msvcrt

            # It gives up after ten seconds.
            msvcrt.locking(file.fileno(), msvcrt.LK_LOCK, 1)
        else:
            import fcntl

            fcntl.flock(file, fcntl.LOCK_EX)
    except OSError as error:
        if error.errno not in (errno.ENOLCK, errno.ENOTSUP, errno.ENOSYS):
            raise


@contextlib.contextmanager
def replacing(path):
    """Yields a name beside `path`, which takes its place at the end."""
    path = pathlib.Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    # The suffix too, by which Keras knows what to write.
    handle, temporary = tempfile.mkstemp(
        prefix=f".{path.name}.", suffix=path.suffix, dir=path.parent
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
        _sync_folder(path.parent)
    except OSError as error:
        raise OSError(
            error.errno, f"'{path}' could not be written: {error.strerror}"
        ) from error
    finally:
        pathlib.Path(temporary).unlink(missing_ok=True)


def _sync_folder(folder):
    """Puts the name of a file on the disk, as `fsync` does its bytes."""
    if os.name == "nt":
        return  # Windows opens no folder
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
