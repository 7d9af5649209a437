"""Weights files from the Hugging Face Hub: the `hf://` addresses of `fetch`.

The Hub's own client does the work and keeps the files in its own cache; it is
an optional dependency, imported here as it is needed.
"""

import pathlib
import re
import urllib.parse
import warnings

from keras_vit.checkpoints.transport import DownloadError, sha256_of
from keras_vit.extras import require

HUB_SOURCE = re.compile(
    r"(?P<repo>[\w.-]+/[\w.-]+)(@(?P<revision>[^/@]+))?(/(?P<file>.+))?",
    re.ASCII,
)


def fetch_from_hub(source, rest, sha256):
    """Returns the path of a file of the Hub, downloading it if need be.

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
    repo, revision = match["repo"], match["revision"]
    file = match["file"] or "model.safetensors"
    if revision is not None:
        revision = urllib.parse.unquote(revision)
    path = _hub_download(source, repo, file, revision)
    # The Hub's cache has `snapshots/<commit>/<file>`.
    commit = path.parts[-1 - len(pathlib.PurePosixPath(file).parts)]
    if not re.fullmatch("[0-9a-f]{40}", commit):
        commit = None
    if revision is None:
        pin = f", which is hf://{repo}@{commit}/{file}" if commit else ""
        warnings.warn(
            f"{source} names no revision, so the newest was taken{pin}. Name "
            "the revision to get the same file again."
        )
    # The Hub's client looks at sizes alone.
    sha256 = sha256 or _stored_hash(path)
    if sha256 is not None and sha256_of(path) != sha256:
        path = _hub_download(source, repo, file, commit or revision, force=True)
        if sha256_of(path) != sha256:
            raise ValueError(
                f"The file at {source} must have the hash `sha256`, but has "
                f"{sha256_of(path)}, see {path}. Received: sha256={sha256!r}"
            )
    # By its commit, so that it belongs to the file even if both are replaced
    # on the Hub just now.
    if not _is_known_to_hub_cache(repo, "config.json", commit):
        _hub_download(
            source, repo, "config.json", commit or revision, optional=True
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


def _hub_download(source, repo, file, revision, force=False, optional=False):
    require(
        "huggingface_hub",
        "hub",
        "Files of the Hugging Face Hub are read by huggingface_hub",
    )
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
