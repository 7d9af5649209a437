"""Weights files by their address: `fetch` is the door to all of them.

A path, `https://`, `gs://` (both by `web`) or `hf://` (by `hugging_face`). It
returns the path of a local file that is whole. Left out: what is inside it.
"""

import os
import pathlib
import re
import urllib.parse

from keras_vit.checkpoints.folders import NAMES
from keras_vit.checkpoints.hugging_face import fetch_from_hub
from keras_vit.checkpoints.transport import broken_rule, sha256_of
from keras_vit.checkpoints.web import fetch_from_web

GOOGLE_STORAGE = "https://storage.googleapis.com"
FORMS = (
    "the path of a file or folder, the name of a preset (see "
    "`keras_vit.presets()`), https://host/path, gs://bucket/key or "
    "hf://owner/name[@revision][/path/in/repo]"
)


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

    The Hub keeps its files in its own cache, with `config.json` and
    `preprocessor_config.json` of the same revision beside them if there are
    any. The file defaults to `model.safetensors`, or what a folder has in its
    place, and the revision to the newest; in a revision, `%2F` stands for a
    slash. Of weights in several files the index is returned, when all that it
    names lie beside it. Without `sha256`, and each of several, a large file is
    held to the hash under which the Hub stores it. One that is not the right
    one is downloaded once more, then refused; the Hub's cache is left as it
    is.

    Args:
        source: string or path, see above.
        sha256: the hash that the file must have, 64 hexadecimal digits; of
            weights in several files, the hash of the index. A file in the
            cache with another hash is downloaded anew.

    Returns:
        A `pathlib.Path`.

    Raises:
        ValueError: if `source` has none of these forms, is no regular file or
            an address that is refused, or if the file has another hash than
            the one that is given or recorded; then a download is not kept.
        FileNotFoundError: if `source` is a path without a file, or a folder
            without weights.
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
    return fetch_from_web(url, sha256)


def _weights_in(folder):
    """Returns the file of weights in a folder of timm or transformers."""
    for name in NAMES:
        if (folder / name).is_file():
            return folder / name
    raise FileNotFoundError(
        f"`source` must be {FORMS}; this folder holds none of "
        f"{', '.join(NAMES)}. "
        f"Received: source={str(folder)!r}"
    )


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
    if str(source) and path.is_dir():
        path = _weights_in(path)
    if str(source) and path.exists() and not path.is_file():
        # A pipe would wait for ever, a device never end.
        raise ValueError(
            f"`source` must be {FORMS}; this is no regular file. "
            f"Received: source={str(source)!r}"
        )
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
