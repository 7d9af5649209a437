"""Weights files from the web, kept in a cache.

Downloads arrive under a temporary name, are compared with a hash and only then
take their final name in `cache_folder()`. `transport` brings the bytes. Left
out: what is inside the files.
"""

import contextlib
import hashlib
import os
import pathlib
import re
import time
import urllib.parse
import uuid
import warnings

from keras_vit.checkpoints.transport import (
    DownloadError,
    network_reason,
    receive,
    sha256_of,
)

# Temporary files of this age, in seconds, were left by a process that died.
STALE_AFTER = 24 * 60 * 60
TEMPORARY = ".partial-"


def cache_folder():
    """Returns the folder that downloaded weights are kept in.

    Returns:
        A `pathlib.Path`: the environment variable `KERAS_VIT_HOME`, or the
        folder that the operating system has for caches, such as
        `~/.cache/keras_vit`. It need not exist yet.

    Example:

    ```python
    os.environ["KERAS_VIT_HOME"] = "/data/weights"
    cache_folder()  # PosixPath('/data/weights')
    ```
    """
    folder = os.environ.get("KERAS_VIT_HOME")
    if not folder:
        import pooch

        folder = pooch.os_cache("keras_vit")
    return pathlib.Path(os.path.expanduser(folder)).absolute()


def fetch_from_web(url, sha256):
    """Returns the path of the file of a web address, downloading it if need be.

    Args:
        url: an address that `broken_rule` has nothing against.
        sha256: the hash that the file must have, or `None`.
    """
    path = cache_folder() / _file_name(url)
    try:
        if not _is_cached(path, url, sha256):
            _download(url, path, sha256)
    except OSError as error:
        # What `requests` raises is an OSError as well.
        reason = network_reason(error) or (
            f"the cache folder {cache_folder()} cannot be used ({error}). Set "
            "the environment variable KERAS_VIT_HOME to another folder"
        )
        raise DownloadError(
            f"{url} could not be downloaded to {path}: {reason}"
        ) from error
    return path


def _file_name(url):
    """A name that tells two addresses apart that end in the same name."""
    path = urllib.parse.unquote(urllib.parse.urlsplit(url).path)
    name = path.rstrip("/").rpartition("/")[2]
    name = re.sub(r"[^\w.+-]", "_", name, flags=re.ASCII)
    return f"{hashlib.sha256(url.encode()).hexdigest()[:16]}-{name[-100:]}"


def _is_cached(path, url, sha256):
    recorded = _read_record(path)
    expected = sha256 or recorded
    if expected is None:
        # Not made by `_keep`, so nothing says that the file is whole.
        return False
    actual = sha256_of(path)
    if actual is not None and actual != expected and sha256 is None:
        # The record was never checked by anybody, so it may not overwrite.
        raise ValueError(
            f"The file downloaded from {url} has changed since: its sha256 is "
            f"{actual}, and {recorded} is on record. Delete {path} to "
            f"download it again. Received: source={url!r}"
        )
    return actual == expected


def _download(url, path, sha256):
    path.parent.mkdir(parents=True, exist_ok=True)
    _sweep(path.parent)
    print(f"Downloading {url} to {path}")
    # Each process has its own. Unlike the files of `tempfile`, and so of
    # `pooch.retrieve`, this one can be read by others who share the cache,
    # and has a name that nobody else's files have.
    part = path.with_name(f"{TEMPORARY}{uuid.uuid4().hex}-{path.name}")
    try:
        with open(part, "xb") as file:
            receive(url, file)
            file.flush()
            os.fsync(file.fileno())
        _keep(part, path, url, sha256)
    finally:
        with contextlib.suppress(OSError):
            part.unlink()


def _sweep(folder):
    """Deletes what downloads left that were killed long ago."""
    for part in folder.glob(f"{TEMPORARY}*"):
        with contextlib.suppress(OSError):
            if time.time() - part.stat().st_mtime > STALE_AFTER:
                part.unlink()


def _keep(part, path, url, sha256):
    """Checks a whole download and gives it its final name.

    The hash is recorded first and the file renamed second, each in one step.
    A process killed before leaves nothing; killed in between, a record
    without a file, to which the next download is held; after, a whole file
    with its record. A file without a record is never trusted. Of two
    processes that receive different files, the second one to come here finds
    the record of the first and is refused. Should they come at the very same
    instant, file and record may differ, which the next call finds.
    """
    actual = sha256_of(part)
    # Read again: another process may have been here since.
    recorded = _read_record(path)
    if sha256 is not None and actual != sha256:
        raise ValueError(
            f"The file at {url} must have the hash `sha256`, but has {actual}."
            f" The download was deleted. Received: sha256={sha256!r}"
        )
    if sha256 is None and recorded not in (None, actual):
        raise ValueError(
            f"{url} must hold the file that it held when it was first "
            f"downloaded, of sha256 {recorded}, but has {actual}. The download"
            f" was deleted. If the new file is right, pass its `sha256` or "
            f"delete {_record_of(path)}. Received: source={url!r}"
        )
    if recorded != actual:
        _write_record(part, path, actual)
    os.replace(part, path)
    if sha256 is None and recorded is None:
        warnings.warn(
            f"Nothing says that {url} holds the right file: its integrity is "
            f"unverified. Its hash is recorded and will be checked from now "
            f"on; to check it from the start, pass sha256={actual!r}."
        )


def _record_of(path):
    return path.with_name(f"{path.name}.sha256")


def _read_record(path):
    """The recorded hash, or None if there is no whole record."""
    try:
        text = _record_of(path).read_text("utf-8", "replace")
    except (FileNotFoundError, NotADirectoryError):
        return None
    # As `sha256sum --check` reads it: the hash and the name of the file.
    match = re.match(r"([0-9a-f]{64})\s", text)
    return match and match[1]


def _write_record(part, path, sha256):
    temporary = _record_of(part)
    try:
        temporary.write_text(f"{sha256}  {path.name}\n", "utf-8")
        os.replace(temporary, _record_of(path))
    finally:
        with contextlib.suppress(OSError):
            temporary.unlink()
