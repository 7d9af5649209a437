"""Where weights come from: files, addresses, and networks that fail."""

import os
import pathlib
import re
import sys
import time
import urllib.parse

import pytest
from servers import (
    BODY,
    LARGE,
    OTHER,
    PRELUDE,
    fetch_new,
    names,
    sha256_of,
    start,
)

from keras_vit.checkpoints import fetch as door
from keras_vit.checkpoints import transport, web
from keras_vit.checkpoints.fetch import fetch
from keras_vit.checkpoints.transport import DownloadError

# Local files


def test_local_files_are_used_where_they_are(tmp_path, monkeypatch, cache):
    file = tmp_path / "weights.npz"
    file.write_bytes(BODY)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    assert fetch(file) == file
    assert fetch(str(file), sha256=sha256_of(BODY)) == file
    assert fetch(file, sha256=sha256_of(BODY).upper()) == file
    assert fetch("~/weights.npz") == file
    assert fetch("weights.npz").read_bytes() == BODY
    assert not cache.exists()


def test_local_file_with_another_hash_is_refused_and_kept(tmp_path):
    file = tmp_path / "weights.npz"
    file.write_bytes(OTHER)
    with pytest.raises(ValueError) as caught:
        fetch(file, sha256=sha256_of(BODY))
    assert sha256_of(BODY) in str(caught.value)
    assert sha256_of(OTHER) in str(caught.value)
    assert file.read_bytes() == OTHER


@pytest.mark.parametrize(
    "source",
    ["", "no/such.npz", ".", "file:/etc/passwd", pathlib.Path("https://a/b")],
)
def test_missing_local_file_tells_what_is_understood(source):
    with pytest.raises(FileNotFoundError, match="hf://owner/name") as caught:
        fetch(source)
    assert f"Received: source={str(source)!r}" in str(caught.value)


@pytest.mark.parametrize("source", [None, 3, b"weights.npz"])
def test_other_sources_are_refused(source):
    with pytest.raises(ValueError, match="`source` must be the path"):
        fetch(source)


@pytest.mark.parametrize("sha256", ["", "abc", "g" * 64, "a" * 65, 7])
def test_malformed_hash_is_refused(sha256, server, cache):
    with pytest.raises(ValueError, match="`sha256` must be a string of 64"):
        fetch(f"{server.url}/ok/w", sha256=sha256)
    assert server.requests == []


# Addresses


def test_downloads_the_bytes_into_the_cache(server, cache, capsys):
    url = f"{server.url}/ok/weights.npz"
    path = fetch(url, sha256=sha256_of(BODY).upper())
    assert path.parent == cache == web.cache_folder()
    assert path.read_bytes() == BODY
    assert names(cache) == [path.name, f"{path.name}.sha256"]
    # Others who share the cache can read it.
    assert path.stat().st_mode & 0o777 == 0o666 & ~umask()
    assert server.headers[0]["Accept-Encoding"] == "identity"
    out = capsys.readouterr().out
    assert f"Downloading {url} to {path}\n" in out
    last = out.splitlines()[-1]
    assert f"{len(BODY)}/{len(BODY)}" in last and out.endswith("\n")

    assert fetch(url, sha256=sha256_of(BODY)) == path
    assert fetch(url) == path
    assert len(server.requests) == 1
    assert capsys.readouterr().out == ""


def umask():
    mask = os.umask(0)
    os.umask(mask)
    return mask


def test_length_need_not_be_known(server, cache, capsys):
    path = fetch(f"{server.url}/unknown_length/w", sha256=sha256_of(BODY))
    assert path.read_bytes() == BODY
    assert f"{len(BODY)}/Unknown" in capsys.readouterr().out


def test_default_cache_is_that_of_the_operating_system(monkeypatch, tmp_path):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    for value in (None, ""):
        if value is None:
            monkeypatch.delenv("KERAS_VIT_HOME", raising=False)
        else:
            monkeypatch.setenv("KERAS_VIT_HOME", value)
        assert web.cache_folder().name == "keras_vit"
    monkeypatch.setenv("HOME", "/home/me")
    monkeypatch.setenv("KERAS_VIT_HOME", "~/weights")
    assert web.cache_folder() == pathlib.Path("/home/me/weights")


@pytest.mark.parametrize(
    "source, rule",
    [
        ("http://example.invalid/w.npz", "start with https://"),
        ("http://127.0.0.1.example.invalid/w.npz", "start with https://"),
        ("http://127.0.0.1@example.invalid/w.npz", "start with https://"),
        ("http://169.254.169.254/latest", "start with https://"),
        ("file:///etc/passwd", "start with https://"),
        ("FILE:///etc/passwd", "start with https://"),
        ("ftp://127.0.0.1/w.npz", "start with https://"),
        ("doi://10.1/w.npz", "start with https://"),
        ("://w.npz", "start with https://"),
        ("https://example.invalid", "a file on it"),
        ("https://example.invalid/", "a file on it"),
        ("https://example.invalid?w.npz", "a file on it"),
        ("https:///w.npz", "a file on it"),
        ("https://example.invalid/a/../w.npz", "'..'"),
        ("https://example.invalid/a/%2e%2E/w.npz", "'..'"),
        ("https://example.invalid/a/..%2fw.npz", "'..'"),
        ("https://example.invalid/a/..%5cw.npz", "backslash"),
        ("https://example.invalid\\@127.0.0.1/w.npz", "backslash"),
        ("https://example.invalid/a\nb", "control character"),
        ("https://[::1/w.npz", "valid address"),
        ("https://example.invalid:port/w.npz", "valid address"),
        ("gs://bucket", "gs://bucket/key"),
        ("gs://bucket/", "gs://bucket/key"),
        ("gs:///key", "gs://bucket/key"),
        ("gs://user@host/key", "gs://bucket/key"),
        ("gs://bucket/../key", "'..'"),
        ("gs://../key", "'..'"),
        ("gs://bucket/a\\b", "backslash"),
        ("hf://name", "hf://owner/name"),
        ("hf://", "hf://owner/name"),
        ("hf://owner/name/../other", "hf://owner/name"),
        ("hf://owner/name/%2e%2e/other", "hf://owner/name"),
        ("hf://owner/..", "hf://owner/name"),
        ("hf://owner/name@..", "hf://owner/name"),
        ("hf://owner/name@..%2f..%2fx", "hf://owner/name"),
        ("hf://owner/name//etc/passwd", "hf://owner/name"),
        ("hf://owner/name/a\\..\\b", "hf://owner/name"),
    ],
)
def test_addresses_are_refused_unasked(source, rule, cache, monkeypatch):
    # Whatever got through would fail here, and say something else.
    monkeypatch.setitem(sys.modules, "pooch", None)
    monkeypatch.setitem(sys.modules, "huggingface_hub", None)
    with pytest.raises(ValueError) as caught:
        fetch(source)
    assert rule in str(caught.value)
    assert str(caught.value).endswith(f"Received: source={source!r}")
    assert not cache.exists()


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "[::1]"])
def test_plain_http_is_for_this_machine(host):
    assert transport.broken_rule(f"http://{host}:80/w.npz") is None


def test_names_on_google_cloud_storage_keep_their_plus(
    server, cache, monkeypatch
):
    official = "vit_models/imagenet21k+imagenet2012/R50+ViT-B_16.npz"
    real = f"{door.GOOGLE_STORAGE}/{official}".replace("+", "%2B")
    asked = []
    monkeypatch.setattr(
        door, "fetch_from_web", lambda url, sha256: asked.append(url)
    )
    fetch(f"gs://{official}")
    assert real.startswith("https://storage.googleapis.com/vit_models/")
    assert asked == [real]
    monkeypatch.undo()

    monkeypatch.setenv("KERAS_VIT_HOME", str(cache))
    monkeypatch.setattr(door, "GOOGLE_STORAGE", server.url)
    path = fetch_new(f"gs://{official}")
    assert path.read_bytes() == BODY
    assert path.name.endswith("-R50+ViT-B_16.npz")
    fetch_new("gs://vit_models/a b/100%?#.npz")
    assert server.requests == [
        "/vit_models/imagenet21k%2Bimagenet2012/R50%2BViT-B_16.npz",
        "/vit_models/a%20b/100%25%3F%23.npz",
    ]


def test_two_versions_of_one_name_are_both_kept(server, cache):
    urls = [
        f"{server.url}/versions/1/ViT.npz",
        f"{server.url}/versions/2/ViT.npz",
        f"{server.url}/versions/2/ViT.npz?revision=3",
    ]
    paths = [fetch_new(url) for url in urls]
    assert len(set(paths)) == 3
    assert all(path.name.endswith("-ViT.npz") for path in paths)
    server.stop()
    for url, path in zip(urls, paths):
        assert fetch(url) == path
        assert path.read_bytes().decode() == url.removeprefix(server.url)


def test_names_in_the_cache_are_harmless(server, cache):
    path = fetch_new(f"{server.url}/ok/a%2Fb%00;rm%20*%20{'x' * 300}.npz/")
    assert path.parent == cache and path.read_bytes() == BODY
    hash_and_name = r"[0-9a-f]{16}-[\w.+-]{1,100}"
    assert re.fullmatch(hash_and_name, path.name)
    assert path.suffix == ".npz"


def test_redirects_are_followed_to_allowed_addresses(server, cache):
    url = f"{server.url}/to?{server.url}/to%3F/ok/weights.npz"
    assert fetch_new(url).read_bytes() == BODY
    assert len(server.requests) == 3


@pytest.mark.parametrize(
    "target",
    [
        "http://example.invalid/w.npz",
        "//example.invalid/w.npz",
        "file:///etc/passwd",
        "ftp://127.0.0.1/w.npz",
        "https://example.invalid/%2e%2e/w.npz",
    ],
)
def test_other_redirects_are_not_followed(target, server, cache):
    # The second of two, so that the first is not the only one looked at.
    second = f"/to?{urllib.parse.quote(target, safe='')}"
    url = f"{server.url}/to?{urllib.parse.quote(second, safe='')}"
    full = f"http:{target}" if target.startswith("//") else target
    with pytest.raises(DownloadError) as caught:
        fetch(url)
    # A name that cannot be resolved would tell so: nobody asked.
    assert f"redirects to {full!r}, but an address must" in str(caught.value)
    assert len(server.requests) == 2
    assert names(cache) == []


# Errors of the network


@pytest.mark.parametrize(
    "kind, reason, tries",
    [
        ("missing", "the address does not exist (404 Not Found)", 1),
        ("broken", "the server answered 503", 1),
        ("partial", "the server answered 206", 1),
        ("truncated", "the connection broke before the file was whole", 2),
    ],
)
def test_failed_downloads_leave_nothing(kind, reason, tries, server, cache):
    url = f"{server.url}/{kind}/weights.npz"
    with pytest.raises(DownloadError) as caught:
        fetch(url)
    for part in (url, reason, f"{cache}/"):
        assert part in str(caught.value)
    assert len(server.requests) == tries
    assert names(cache) == []


def test_truncated_is_noticed_by_urllib3_1_too(server, cache, monkeypatch):
    import urllib3

    request = urllib3.connection.HTTPConnection.request

    def careless(*args, **kwargs):
        return request(*args, **{**kwargs, "enforce_content_length": False})

    monkeypatch.setattr(urllib3.connection.HTTPConnection, "request", careless)
    received = f"{len(BODY) - 1} of {len(BODY)} bytes"
    with pytest.raises(DownloadError, match=received):
        fetch(f"{server.url}/truncated/weights.npz")
    assert names(cache) == []


def test_a_broken_connection_is_tried_once_more(server, cache):
    path = fetch_new(f"{server.url}/shaky/weights.npz")
    assert path.read_bytes() == LARGE
    assert len(server.requests) == 2


@pytest.mark.parametrize("kind", ["stalled", "silent"])
def test_a_server_that_stalls_is_left(kind, server, cache, monkeypatch):
    monkeypatch.setattr(transport, "READ_TIMEOUT", 0.2)
    start = time.monotonic()
    with pytest.raises(DownloadError, match="sent nothing for 0.2 seconds"):
        fetch(f"{server.url}/{kind}/weights.npz")
    assert time.monotonic() - start < 10
    assert len(server.requests) == 1
    assert names(cache) == []


def test_nobody_there(server, cache):
    server.stop()
    url = f"{server.url}/ok/weights.npz"
    with pytest.raises(DownloadError, match="refused") as caught:
        fetch(url)
    assert url in str(caught.value) and str(cache) in str(caught.value)
    assert names(cache) == []


def test_import_costs_nothing():
    """No client is loaded before something is downloaded."""
    script = PRELUDE + (
        "print({'pooch', 'requests', 'huggingface_hub'} & set(sys.modules),"
        " file=sys.stderr)"
    )
    with start(script) as process:
        assert process.stderr.read() == "set()\n"
