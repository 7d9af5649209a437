"""Weights files from the Hugging Face Hub: the `hf://` addresses of `fetch`.

The Hub's own client does the work and keeps the files in its own cache; it is
an optional dependency, imported here as it is needed.
"""

import pathlib
import re
import urllib.parse
import warnings

from keras_vit.checkpoints.folders import (
    BACKBONE,
    NAMES,
    is_index,
    read_index,
)
from keras_vit.checkpoints.transport import DownloadError, sha256_of
from keras_vit.extras import require

HUB_SOURCE = re.compile(
    r"(?P<repo>[\w.-]+/[\w.-]+)(@(?P<revision>[^/@]+))?(/(?P<file>.+))?",
    re.ASCII,
)
COMMIT = re.compile("[0-9a-f]{40}")
# What lies beside weights and says what they are of.
BESIDE = ("config.json", "preprocessor_config.json")
BESIDE_KERAS_HUB = ("task.weights.h5", "task.json", "image_converter.json")


def fetch_from_hub(source, rest, sha256):
    """Returns the path of a file of the Hub, downloading it if need be.

    Of weights in several files, of their index, once all of them are there.

    Args:
        source: the whole address, for messages.
        rest: what follows `hf://`.
        sha256: the hash that the file must have, or `None`.
    """
    match = HUB_SOURCE.fullmatch(rest)
    parts = re.split("[/@]", urllib.parse.unquote(rest))
    if not match or "\\" in rest or {"", ".", ".."} & set(parts):
        raise ValueError(
            "`source` on the Hugging Face Hub must be "
            "hf://owner/name[@revision][/path/in/repo]. "
            f"Received: source={source!r}"
        )
    require(
        "huggingface_hub",
        "hub",
        "Files of the Hugging Face Hub are read by huggingface_hub",
    )
    repo, revision, file = match["repo"], match["revision"], match["file"]
    if revision is not None:
        revision = urllib.parse.unquote(revision)
    if file is None:
        file, path = _hub_download_of_folder(source, repo, revision)
    else:
        path = _hub_download(source, repo, file, revision)
    # The Hub's cache has `snapshots/<commit>/<file>`.
    commit = path.parts[-1 - len(pathlib.PurePosixPath(file).parts)]
    if not COMMIT.fullmatch(commit):
        commit = None
    if revision is None:
        pin = f", which is hf://{repo}@{commit}/{file}" if commit else ""
        warnings.warn(
            f"{source} names no revision, so the newest was taken{pin}. Name "
            "the revision to get the same file again."
        )
    # By its commit, so that all belong together even if they are replaced on
    # the Hub just now.
    revision = commit or revision
    path = _held_to_hash(source, repo, file, revision, path, sha256)
    if is_index(file):
        folder = pathlib.PurePosixPath(file).parent
        for name in sorted(set(read_index(path).values())):
            shard = str(folder / name)
            found = _hub_download(source, repo, shard, revision)
            _held_to_hash(source, repo, shard, revision, found)
    beside = BESIDE
    if file == BACKBONE:
        beside += BESIDE_KERAS_HUB
    for name in beside:
        if not _is_known_to_hub_cache(repo, name, commit):
            _hub_download(source, repo, name, revision, optional=True)
    return path


def _hub_download_of_folder(source, repo, revision):
    """Returns name and path of the weights where an address names no file."""
    for name in NAMES[:-1]:
        if _is_known_to_be_missing(repo, name, revision):
            continue
        path = _hub_download(source, repo, name, revision, optional=True)
        if path is not None:
            return name, path
    try:
        return NAMES[-1], _hub_download(source, repo, NAMES[-1], revision)
    except DownloadError as error:
        raise DownloadError(
            f"{source} names no file, and none of {', '.join(NAMES)} could be "
            f"had. The last: {error}"
        ) from error


def _held_to_hash(source, repo, file, revision, path, sha256=None):
    """Returns the path of a file with the right hash, or raises."""
    # The Hub's client looks at sizes alone.
    sha256 = sha256 or _stored_hash(path)
    if sha256 is not None and sha256_of(path) != sha256:
        path = _hub_download(source, repo, file, revision, force=True)
        if sha256_of(path) != sha256:
            raise ValueError(
                f"The file at {source} must have the hash `sha256`, but has "
                f"{sha256_of(path)}, see {path}. Received: sha256={sha256!r}"
            )
    return path


def _stored_hash(path):
    """The hash by which the Hub's cache names a large file, or None."""
    name = path.resolve().name
    return name if re.fullmatch("[0-9a-f]{64}", name) else None


def _is_known_to_hub_cache(repo, file, commit):
    """Whether the cache has a file, or knows that the commit has none."""
    from huggingface_hub import try_to_load_from_cache

    # Asking the Hub again takes long where there is no connection.
    return commit is not None and (
        try_to_load_from_cache(repo, file, revision=commit) is not None
    )


def _is_known_to_be_missing(repo, file, revision):
    """Whether the cache knows that a commit has no such file."""
    if revision is None or not COMMIT.fullmatch(revision):
        return False  # another day it may
    from huggingface_hub import try_to_load_from_cache

    found = try_to_load_from_cache(repo, file, revision=revision)
    return found is not None and not isinstance(found, str)


def _hub_download(source, repo, file, revision, force=False, optional=False):
    from huggingface_hub import constants, hf_hub_download
    from huggingface_hub.errors import EntryNotFoundError

    try:
        return pathlib.Path(
            hf_hub_download(repo, file, revision=revision, force_download=force)
        )
    # The Hub's client has changed the library that it calls the network with,
    # and lets its errors through, which are of many kinds.
    except Exception as error:
        if optional and isinstance(error, EntryNotFoundError):
            return None
        raise DownloadError(
            f"{file} of {source} could not be downloaded to "
            f"{constants.HF_HUB_CACHE}: {error}"
        ) from error
