"""Weights files from a path or a web address; `hub` has the Hugging Face Hub.

`fetch` gives the path of a local file that is whole: downloads arrive under a
temporary name, are compared with a hash and only then take their final name
in `cache_folder()`. `transport` brings the bytes. Left out: what is inside the
files.
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

from keras_vit.weights.transport import broken_rule, network_reason, receive

# Temporary files of this age, in seconds, were left by a process that died.
STALE_AFTER = 24 * 60 * 60
TEMPORARY = ".partial-"
GOOGLE_STORAGE = "https://storage.googleapis.com"
FORMS = (
    "the path of a file, https://host/path, gs://bucket/key or "
    "hf://owner/name[@revision][/path/in/repo]"
)


class DownloadError(OSError):
    """A file could not be downloaded or could not be kept in the cache.

    The message gives the address, the reason and the path in the cache.
    """


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


def fetch(source, sha256=None):
    """Returns the path of a local weights file, downloading it if need be.

    | `source` | is |
    |---|---|
    | `"folder/weights.npz"` | a file, used where it is |
    | `"https://host/path/weights.npz"` | downloaded once |
    | `"gs://bucket/key.npz"` | a public object of Google Cloud Storage |
    | `"hf://owner/name@revision/file"` | a file of the Hugging Face Hub |

    Plain `http://` is taken from this machine itself only, and a redirect is
    followed only to an address that would be taken by itself.

    Downloads are kept in `cache_folder()`, each address under a name of its
    own. A hash makes sure that a file is the right one, today and later. If
    `sha256` is not given, the hash of the first download is recorded beside
    the file, and the file as well as later downloads are held to it. What is
    in the cache is used without a connection and without writing anything.

    The Hub keeps its files in its own cache, with `config.json` of the same
    revision beside them if there is one. The file defaults to
    `model.safetensors` and the revision to the newest; in a revision, `%2F`
    stands for a slash. Without `sha256` a large file is held to the hash under
    which the Hub stores it. One that is not the right one is downloaded once
    more, then refused; the Hub's cache is left as it is.

    Args:
        source: string or path, see above.
        sha256: the hash that the file must have, 64 hexadecimal digits. A
            file in the cache with another hash is downloaded anew.

    Returns:
        A `pathlib.Path`.

    Raises:
        ValueError: if `source` has none of these forms or is an address that
            is refused, or if the file has another hash than the one that is
            given or recorded; then a download is not kept.
        FileNotFoundError: if `source` is a path without a file.
        DownloadError: if the download fails, or the cache cannot be written.
        ImportError: if `huggingface_hub` is needed and not installed.

    Example:

    ```python
    path = fetch("gs://vit_models/imagenet21k+imagenet2012/R50+ViT-B_16.npz")
    ```
    """
    sha256 = _check_sha256(sha256)
    if not isinstance(source, (str, os.PathLike)):
        raise ValueError(
            f"`source` must be {FORMS}. Received: source={source!r}"
        )
    scheme, separator, rest = str(source).partition("://")
    # A path object is a path, whatever it looks like.
    if not separator or not isinstance(source, str) or "/" in scheme:
        return _fetch_local(source, sha256)
    if scheme.lower() == "hf":
        from keras_vit.weights.hub import fetch_from_hub

        return fetch_from_hub(source, rest, sha256)
    url = source
    if scheme.lower() == "gs":
        # Keys hold '+' and spaces, which mean something else in an address.
        url = f"{GOOGLE_STORAGE}/{urllib.parse.quote(rest)}"
        if not re.fullmatch(r"[\w.-]+/.+", rest, re.ASCII | re.DOTALL):
            raise ValueError(
                "`source` on Google Cloud Storage must be gs://bucket/key. "
                f"Received: source={source!r}"
            )
    rule = broken_rule(url)
    if rule:
        raise ValueError(f"`source` {rule}. Received: source={source!r}")
    return _fetch_from_web(url, sha256)


def _check_sha256(sha256):
    if sha256 is None:
        return None
    if not isinstance(sha256, str) or not re.fullmatch(
        "[0-9a-fA-F]{64}", sha256
    ):
        raise ValueError(
            "`sha256` must be a string of 64 hexadecimal digits. "
            f"Received: sha256={sha256!r}"
        )
    return sha256.lower()


def _fetch_local(source, sha256):
    path = pathlib.Path(os.path.expanduser(source))
    if not path.is_file():
        raise FileNotFoundError(
            f"`source` must be {FORMS}; there is no such file. "
            f"Received: source={str(source)!r}"
        )
    if sha256 is not None:
        actual = sha256_of(path)
        if actual != sha256:
            raise ValueError(
                f"`source` must be the file of `sha256`, but has {actual}. "
                f"Received: source={str(source)!r}, sha256={sha256!r}"
            )
    return path


def _fetch_from_web(url, sha256):
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


def sha256_of(path):
    """The hash of a file, or None if there is no file."""
    try:
        with open(path, "rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except (FileNotFoundError, NotADirectoryError):
        return None
