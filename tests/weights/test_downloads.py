"""Downloads against a server on this machine that misbehaves on demand."""

import contextlib
import errno
import hashlib
import http.server
import os
import pathlib
import re
import signal
import subprocess
import sys
import threading
import time
import urllib.parse
import warnings

import pytest

from keras_vit.weights import downloads

BODY = bytes(range(256)) * 1000
OTHER = BODY[::-1]
LARGE = BODY * 16  # 4 MB, several pieces of a download


def sha256_of(body):
    return hashlib.sha256(body).hexdigest()


class Handler(http.server.BaseHTTPRequestHandler):
    """Answers by the first part of the path; the rest is anything."""

    def do_GET(self):
        self.server.requests.append(self.path)
        self.server.headers.append(dict(self.headers))
        kind = self.path.split("?")[0].split("/")[1]
        with contextlib.suppress(OSError):
            getattr(self, f"serve_{kind}", self.serve_missing)()

    def answer(self, body, length=None, status=200, **headers):
        self.send_response(status)
        self.send_header(
            "Content-Length", len(body) if length is None else length
        )
        for name, value in headers.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body)
        self.wfile.flush()

    def serve_ok(self):
        self.answer(BODY)

    serve_vit_models = serve_ok

    def serve_versions(self):
        self.answer(self.path.encode())

    def serve_missing(self):
        self.answer(b"no such page", status=404)

    def serve_broken(self):
        self.answer(b"sorry", status=503)

    def serve_partial(self):
        self.answer(BODY[:10], status=206)

    def serve_truncated(self):
        self.answer(BODY[:-1], length=len(BODY))

    def serve_shaky(self):
        """Most of a file the first time, then all of it."""
        part = len(LARGE) if len(self.server.requests) > 1 else -999
        self.answer(LARGE[:part], length=len(LARGE))

    def serve_stalled(self):
        self.answer(BODY[:1000], length=len(BODY))
        self.server.release.wait(20)

    def serve_silent(self):
        self.server.release.wait(20)

    def serve_half(self):
        """Half of a file the first time, then all of it."""
        if len(self.server.requests) > 1:
            return self.answer(LARGE)
        self.answer(LARGE[: len(LARGE) // 2], length=len(LARGE))
        self.server.release.wait(20)

    def serve_together(self):
        """Nothing until three have asked."""
        self.server.barrier.wait(20)
        self.answer(LARGE)

    def serve_overtaken(self):
        """To the first, another file, after a second has come and gone."""
        if len(self.server.requests) > 1:
            return self.answer(BODY)
        downloads.fetch(self.server.url + self.path)
        self.answer(OTHER)

    def serve_changing(self):
        self.answer((BODY, OTHER)[len(self.server.requests) > 1])

    def serve_unknown_length(self):
        self.send_response(200)
        self.end_headers()
        self.wfile.write(BODY)

    def serve_to(self):
        """Redirects to the address after the question mark."""
        target = urllib.parse.unquote(self.path.partition("?")[2])
        self.answer(b"", status=302, Location=target)

    def log_message(self, *args):
        pass


@pytest.fixture
def server(monkeypatch):
    for name in ("NO_PROXY", "no_proxy"):
        monkeypatch.setenv(name, "127.0.0.1,localhost")
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    server.url = f"http://127.0.0.1:{server.server_port}"
    server.requests, server.headers = [], []
    server.release = threading.Event()
    server.barrier = threading.Barrier(3)
    thread = threading.Thread(
        target=server.serve_forever, kwargs={"poll_interval": 0.01}
    )
    thread.start()

    def stop():
        server.shutdown()
        thread.join()
        server.server_close()

    server.stop = stop
    yield server
    server.release.set()
    if thread.is_alive():
        stop()


@pytest.fixture
def cache(tmp_path, monkeypatch):
    folder = tmp_path / "cache"
    monkeypatch.setenv("KERAS_VIT_HOME", str(folder))
    return folder


def fetch_new(url):
    """The first download of an address without a hash, which warns."""
    with pytest.warns(UserWarning, match="unverified"):
        return downloads.fetch(url)


def names(folder):
    return sorted(path.name for path in folder.iterdir())


def flip_a_byte(path):
    body = bytearray(path.read_bytes())
    body[len(body) // 2] ^= 1
    path.write_bytes(body)


# Local files


def test_local_files_are_used_where_they_are(tmp_path, monkeypatch, cache):
    file = tmp_path / "weights.npz"
    file.write_bytes(BODY)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    assert downloads.fetch(file) == file
    assert downloads.fetch(str(file), sha256=sha256_of(BODY)) == file
    assert downloads.fetch(file, sha256=sha256_of(BODY).upper()) == file
    assert downloads.fetch("~/weights.npz") == file
    assert downloads.fetch("weights.npz").read_bytes() == BODY
    assert not cache.exists()


def test_local_file_with_another_hash_is_refused_and_kept(tmp_path):
    file = tmp_path / "weights.npz"
    file.write_bytes(OTHER)
    with pytest.raises(ValueError) as caught:
        downloads.fetch(file, sha256=sha256_of(BODY))
    assert sha256_of(BODY) in str(caught.value)
    assert sha256_of(OTHER) in str(caught.value)
    assert file.read_bytes() == OTHER


@pytest.mark.parametrize(
    "source",
    ["", "no/such.npz", ".", "file:/etc/passwd", pathlib.Path("https://a/b")],
)
def test_missing_local_file_tells_what_is_understood(source):
    with pytest.raises(FileNotFoundError, match="hf://owner/name") as caught:
        downloads.fetch(source)
    assert f"Received: source={str(source)!r}" in str(caught.value)


@pytest.mark.parametrize("source", [None, 3, b"weights.npz"])
def test_other_sources_are_refused(source):
    with pytest.raises(ValueError, match="`source` must be the path"):
        downloads.fetch(source)


@pytest.mark.parametrize("sha256", ["", "abc", "g" * 64, "a" * 65, 7])
def test_malformed_hash_is_refused(sha256, server, cache):
    with pytest.raises(ValueError, match="`sha256` must be a string of 64"):
        downloads.fetch(f"{server.url}/ok/w", sha256=sha256)
    assert server.requests == []


# Addresses


def test_downloads_the_bytes_into_the_cache(server, cache, capsys):
    url = f"{server.url}/ok/weights.npz"
    path = downloads.fetch(url, sha256=sha256_of(BODY).upper())
    assert path.parent == cache == downloads.cache_folder()
    assert path.read_bytes() == BODY
    assert names(cache) == [path.name, f"{path.name}.sha256"]
    # Others who share the cache can read it.
    assert path.stat().st_mode & 0o777 == 0o666 & ~umask()
    assert server.headers[0]["Accept-Encoding"] == "identity"
    out = capsys.readouterr().out
    assert f"Downloading {url} to {path}\n" in out
    last = out.splitlines()[-1]
    assert f"{len(BODY)}/{len(BODY)}" in last and out.endswith("\n")

    assert downloads.fetch(url, sha256=sha256_of(BODY)) == path
    assert downloads.fetch(url) == path
    assert len(server.requests) == 1
    assert capsys.readouterr().out == ""


def umask():
    mask = os.umask(0)
    os.umask(mask)
    return mask


def test_length_need_not_be_known(server, cache, capsys):
    path = downloads.fetch(
        f"{server.url}/unknown_length/w", sha256=sha256_of(BODY)
    )
    assert path.read_bytes() == BODY
    assert f"{len(BODY)}/Unknown" in capsys.readouterr().out


def test_default_cache_is_that_of_the_operating_system(monkeypatch, tmp_path):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    for value in (None, ""):
        if value is None:
            monkeypatch.delenv("KERAS_VIT_HOME", raising=False)
        else:
            monkeypatch.setenv("KERAS_VIT_HOME", value)
        assert downloads.cache_folder().name == "keras_vit"
    monkeypatch.setenv("HOME", "/home/me")
    monkeypatch.setenv("KERAS_VIT_HOME", "~/weights")
    assert downloads.cache_folder() == pathlib.Path("/home/me/weights")


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
        downloads.fetch(source)
    assert rule in str(caught.value)
    assert str(caught.value).endswith(f"Received: source={source!r}")
    assert not cache.exists()


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "[::1]"])
def test_plain_http_is_for_this_machine(host):
    assert downloads._broken_rule(f"http://{host}:80/w.npz") is None


def test_names_on_google_cloud_storage_keep_their_plus(
    server, cache, monkeypatch
):
    official = "vit_models/imagenet21k+imagenet2012/R50+ViT-B_16.npz"
    real = f"{downloads.GOOGLE_STORAGE}/{official}".replace("+", "%2B")
    asked = []
    monkeypatch.setattr(
        downloads, "_fetch_from_web", lambda url, sha256: asked.append(url)
    )
    downloads.fetch(f"gs://{official}")
    assert real.startswith("https://storage.googleapis.com/vit_models/")
    assert asked == [real]
    monkeypatch.undo()

    monkeypatch.setenv("KERAS_VIT_HOME", str(cache))
    monkeypatch.setattr(downloads, "GOOGLE_STORAGE", server.url)
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
        assert downloads.fetch(url) == path
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
    with pytest.raises(downloads.DownloadError) as caught:
        downloads.fetch(url)
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
    with pytest.raises(downloads.DownloadError) as caught:
        downloads.fetch(url)
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
    with pytest.raises(downloads.DownloadError, match=received):
        downloads.fetch(f"{server.url}/truncated/weights.npz")
    assert names(cache) == []


def test_a_broken_connection_is_tried_once_more(server, cache):
    path = fetch_new(f"{server.url}/shaky/weights.npz")
    assert path.read_bytes() == LARGE
    assert len(server.requests) == 2


@pytest.mark.parametrize("kind", ["stalled", "silent"])
def test_a_server_that_stalls_is_left(kind, server, cache, monkeypatch):
    monkeypatch.setattr(downloads, "READ_TIMEOUT", 0.2)
    start = time.monotonic()
    with pytest.raises(
        downloads.DownloadError, match="sent nothing for 0.2 seconds"
    ):
        downloads.fetch(f"{server.url}/{kind}/weights.npz")
    assert time.monotonic() - start < 10
    assert len(server.requests) == 1
    assert names(cache) == []


def test_nobody_there(server, cache):
    server.stop()
    url = f"{server.url}/ok/weights.npz"
    with pytest.raises(downloads.DownloadError, match="refused") as caught:
        downloads.fetch(url)
    assert url in str(caught.value) and str(cache) in str(caught.value)
    assert names(cache) == []


# Hashes


def test_wrong_hash_is_refused_and_not_kept(server, cache):
    url = f"{server.url}/ok/weights.npz"
    with pytest.raises(ValueError) as caught:
        downloads.fetch(url, sha256=sha256_of(OTHER))
    for part in (url, sha256_of(BODY), sha256_of(OTHER)):
        assert part in str(caught.value)
    assert names(cache) == []
    # A mistaken hash does not harm what is there.
    path = fetch_new(url)
    before = {file: file.read_bytes() for file in cache.iterdir()}
    with pytest.raises(ValueError):
        downloads.fetch(url, sha256=sha256_of(OTHER))
    assert before == {file: file.read_bytes() for file in cache.iterdir()}
    assert path in before


def test_flipped_byte_with_a_known_hash_is_downloaded_again(server, cache):
    url = f"{server.url}/ok/weights.npz"
    path = downloads.fetch(url, sha256=sha256_of(BODY))
    flip_a_byte(path)
    assert downloads.fetch(url, sha256=sha256_of(BODY)) == path
    assert path.read_bytes() == BODY
    assert len(server.requests) == 2


def test_flipped_byte_with_a_recorded_hash_is_an_error(server, cache):
    url = f"{server.url}/ok/weights.npz"
    path = fetch_new(url)
    flip_a_byte(path)
    spoiled = path.read_bytes()
    for _ in range(2):
        with pytest.raises(ValueError) as caught:
            downloads.fetch(url)
        for part in (
            f"Delete {path}",
            url,
            sha256_of(BODY),
            sha256_of(spoiled),
        ):
            assert part in str(caught.value)
    assert path.read_bytes() == spoiled and len(server.requests) == 1
    # What the message says does help.
    path.unlink()
    assert downloads.fetch(url).read_bytes() == BODY


def test_unknown_hash_is_recorded_and_held_to(server, cache):
    url = f"{server.url}/changing/weights.npz"
    with pytest.warns(UserWarning) as warned:
        path = downloads.fetch(url)
    [message] = [str(warning.message) for warning in warned]
    assert url in message and f"sha256='{sha256_of(BODY)}'" in message
    record = path.with_name(f"{path.name}.sha256")
    assert record.read_text() == f"{sha256_of(BODY)}  {path.name}\n"
    assert downloads.fetch(url) == path
    path.unlink()
    with pytest.raises(ValueError) as caught:
        downloads.fetch(url)
    for part in (url, sha256_of(BODY), sha256_of(OTHER), f"delete {record}"):
        assert part in str(caught.value)
    assert names(cache) == [record.name]
    # A hash that is given counts more than one that is recorded.
    assert downloads.fetch(url, sha256_of(OTHER)).read_bytes() == OTHER
    assert downloads.fetch(url) == path


@pytest.mark.parametrize("record", [None, b"", b"0123", b"\xff" * 64])
def test_file_without_a_whole_record_is_not_trusted(record, server, cache):
    url = f"{server.url}/ok/weights.npz"
    path = fetch_new(url)
    path.write_bytes(BODY[:100])
    side = path.with_name(f"{path.name}.sha256")
    side.unlink() if record is None else side.write_bytes(record)
    assert fetch_new(url).read_bytes() == BODY
    assert downloads.fetch(url) == path


def test_the_file_of_a_faster_process_stays(server, cache):
    url = f"{server.url}/overtaken/weights.npz"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        with pytest.raises(ValueError) as caught:
            downloads.fetch(url)
    assert sha256_of(OTHER) in str(caught.value)
    assert downloads.fetch(url).read_bytes() == BODY
    assert len(server.requests) == 2 and len(names(cache)) == 2


# The cache


def test_warm_cache_needs_no_server_and_no_writing(server, cache, monkeypatch):
    known, unknown = f"{server.url}/ok/a.npz", f"{server.url}/ok/b.npz"
    downloads.fetch(known, sha256=sha256_of(BODY))
    fetch_new(unknown)
    server.stop()
    before = {path: path.stat().st_mtime_ns for path in cache.iterdir()}
    monkeypatch.setattr(downloads, "open", read_only_open, raising=False)
    monkeypatch.setattr(pathlib.Path, "write_text", fail)
    for name in ("replace", "mkdir", "unlink", "remove"):
        monkeypatch.setattr(os, name, fail)
    for url in (known, unknown):
        assert downloads.fetch(url).read_bytes() == BODY
    path = downloads.fetch(known, sha256=sha256_of(BODY))
    assert path.read_bytes() == BODY
    monkeypatch.undo()
    assert before == {path: path.stat().st_mtime_ns for path in cache.iterdir()}


def fail(*args, **kwargs):
    raise OSError(errno.EROFS, "Read-only file system")


def read_only_open(path, mode="r", **kwargs):
    return fail() if set(mode) & set("wxa+") else open(path, mode, **kwargs)


@pytest.mark.parametrize("place", ["file", "below_file", "proc"])
def test_cache_that_cannot_be_a_folder(place, server, tmp_path, monkeypatch):
    file = tmp_path / "file"
    file.touch()
    folder = {
        "file": file,
        "below_file": file / "cache",
        "proc": pathlib.Path("/proc/cache"),
    }[place]
    if place == "proc" and not os.path.isdir("/proc/self"):
        pytest.skip("no /proc on this system")
    monkeypatch.setenv("KERAS_VIT_HOME", str(folder))
    with pytest.raises(downloads.DownloadError) as caught:
        downloads.fetch(f"{server.url}/ok/weights.npz")
    for part in (f"cache folder {folder} cannot", "variable KERAS_VIT_HOME"):
        assert part in str(caught.value)
    assert server.requests == []


class FullDisk:
    """A file that holds 1000 bytes."""

    def __init__(self, file):
        self.file = file

    def __enter__(self):
        return self

    def __exit__(self, *exception):
        self.file.close()

    def __getattr__(self, name):
        return getattr(self.file, name)

    def write(self, piece):
        if self.file.tell() + len(piece) > 1000:
            raise OSError(errno.ENOSPC, "No space left on device")
        return self.file.write(piece)


def open_on_full_disk(path, mode="r", **kwargs):
    file = open(path, mode, **kwargs)
    return FullDisk(file) if "x" in mode else file


@pytest.mark.parametrize(
    "owner, name, replacement, reason",
    [
        (downloads, "open", read_only_open, "Read-only file system"),
        (downloads, "open", open_on_full_disk, "No space left on device"),
        (os, "replace", fail, "Read-only file system"),
        (pathlib.Path, "write_text", fail, "Read-only file system"),
    ],
)
def test_read_only_and_full_disks(
    owner, name, replacement, reason, server, cache, monkeypatch
):
    url = f"{server.url}/ok/weights.npz"
    with monkeypatch.context() as patches:
        patches.setattr(owner, name, replacement, raising=False)
        with pytest.raises(downloads.DownloadError) as caught:
            downloads.fetch(url)
    for part in (url, str(cache), reason, "KERAS_VIT_HOME"):
        assert part in str(caught.value)
    assert len(server.requests) == (replacement is not read_only_open)
    assert names(cache) == []
    assert fetch_new(url).read_bytes() == BODY


def test_old_temporary_files_are_swept(server, cache):
    cache.mkdir()
    day = 24 * 60 * 60
    ages = {
        ".partial-old": day + 60,
        ".partial-young": day - 60,
        "mine.npz": 9 * day,
        "tmp12345678": 9 * day,
    }
    for name, age in ages.items():
        (cache / name).touch()
        os.utime(cache / name, (time.time() - age,) * 2)
    path = fetch_new(f"{server.url}/ok/weights.npz")
    assert set(names(cache)) == {
        ".partial-young",
        "mine.npz",
        "tmp12345678",
        path.name,
        f"{path.name}.sha256",
    }


# Several processes

FOLDER = pathlib.Path(downloads.__file__).parent
# Loads the modules by themselves, and a stand-in for Keras, whose start takes
# seconds and which only draws the progress bar.
PRELUDE = f"""
import importlib.util, os, signal, sys, types, warnings
warnings.simplefilter("ignore")
bar = types.SimpleNamespace(update=lambda *args, **kwargs: None)
utils = types.ModuleType("keras.utils")
utils.Progbar = lambda *args, **kwargs: bar
sys.modules["keras.utils"] = utils
sys.modules["keras"] = types.ModuleType("keras")
for name in ("keras_vit", "keras_vit.weights"):
    sys.modules[name] = types.ModuleType(name)
for name in ("downloads", "hub"):
    spec = importlib.util.spec_from_file_location(
        f"keras_vit.weights.{{name}}", f"{FOLDER}/{{name}}.py"
    )
    sys.modules[spec.name] = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(sys.modules[spec.name])
downloads = sys.modules["keras_vit.weights.downloads"]
"""
FETCH = PRELUDE + "print(downloads.fetch(sys.argv[1]), file=sys.stderr)\n"
# Dies in the place of the n-th renaming.
DIE = (
    PRELUDE
    + """
replace, left = os.replace, [int(sys.argv[2])]
def die_or_replace(source, target):
    if not left[0]:
        os.kill(os.getpid(), signal.SIGKILL)
    left[0] -= 1
    replace(source, target)
os.replace = die_or_replace
downloads.fetch(sys.argv[1])
"""
)


def start(script, *arguments):
    return subprocess.Popen(
        [sys.executable, "-c", script, *arguments],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    )


def wait_for(condition):
    deadline = time.monotonic() + 30
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def test_kill_in_the_middle_of_a_download(server, cache):
    url = f"{server.url}/half/weights.npz"
    with start(FETCH, url) as process:
        # Half of the file has been sent; wait until some of it is written.
        wait_for(
            lambda: any(
                part.stat().st_size for part in cache.glob(".partial-*")
            )
        )
        process.send_signal(signal.SIGKILL)
        assert process.wait(20) == -signal.SIGKILL
    [left] = cache.iterdir()
    assert left.name.startswith(".partial-")
    assert 0 < left.stat().st_size < len(LARGE)
    path = fetch_new(url)
    assert path.read_bytes() == LARGE
    assert set(names(cache)) == {
        left.name,
        path.name,
        f"{path.name}.sha256",
    }


@pytest.mark.parametrize("renamed", [0, 1], ids=["record", "file"])
def test_kill_at_the_end_of_a_download(renamed, server, cache):
    url = f"{server.url}/ok/weights.npz"
    with start(DIE, url, str(renamed)) as process:
        assert process.wait(20) == -signal.SIGKILL
    final = [name for name in names(cache) if not name.startswith(".partial-")]
    assert [name.rpartition(".")[2] for name in final] == ["sha256"] * renamed
    # Held to the record if there is one, which then needs no warning.
    path = downloads.fetch(url) if renamed else fetch_new(url)
    assert path.read_bytes() == BODY
    assert downloads.fetch(url) == path
    assert len(server.requests) == 2


def test_three_processes_at_once(server, cache):
    url = f"{server.url}/together/weights.npz"
    processes = [start(FETCH, url) for _ in range(3)]
    paths = set()
    for process in processes:
        output = process.communicate(timeout=30)[1]
        assert process.returncode == 0, output
        paths.add(output.strip())
    # The server waited for all three, so none found the file of another.
    assert len(server.requests) == 3
    [path] = [pathlib.Path(path) for path in paths]
    assert path.read_bytes() == LARGE
    assert names(cache) == [path.name, f"{path.name}.sha256"]
    assert downloads.fetch(url) == path


# The Hugging Face Hub


class HubHandler(http.server.BaseHTTPRequestHandler):
    """As much of the Hub as `hf_hub_download` asks for."""

    commit = "0123456789abcdef0123456789abcdef01234567"
    revisions = ("main", "v1", "refs%2Fpr%2F1", commit)
    files = {
        "owner/full": {
            "model.safetensors": BODY,
            "config.json": b'{"patch_size": 16}',
            "sub/other.npz": OTHER,
        },
        "owner/bare": {"model.safetensors": OTHER},
    }

    def do_HEAD(self):
        owner, name, _, revision, *file = self.path[1:].split("/")
        self.server.requests.append((self.command, self.path))
        body = self.files.get(f"{owner}/{name}", {}).get("/".join(file))
        known = revision in self.revisions
        missing = "EntryNotFound" if known else "RevisionNotFound"
        if f"{owner}/{name}" not in self.files:
            missing = "RepoNotFound"
        found = body is not None and known
        self.send_response(200 if found else 404)
        if found:
            self.send_header("ETag", f'"{sha256_of(body)}"')
        else:
            self.send_header("X-Error-Code", missing)
            body = b""
        if known:
            self.send_header("X-Repo-Commit", self.commit)
        self.send_header("Content-Length", len(body))
        self.end_headers()
        if self.command == "GET":
            self.wfile.write(body)

    do_GET = do_HEAD

    def log_message(self, *args):
        pass


HUB = (
    PRELUDE
    + """
import json
def attempt(source, sha256=None):
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        try:
            result = str(downloads.fetch(source, sha256))
        except Exception as error:
            result = f"{type(error).__name__}: {error}"
    messages = [str(w.message) for w in caught if w.category is UserWarning]
    return result, messages
calls = json.loads(sys.argv[1])
json.dump([attempt(*call) for call in calls], open(sys.argv[2], "w"))
"""
)


def test_hub(server, cache, tmp_path, monkeypatch):
    pytest.importorskip("huggingface_hub")
    import json

    server.RequestHandlerClass = HubHandler
    for name, value in {
        "HF_ENDPOINT": server.url,
        "HF_HOME": str(tmp_path / "hub"),
        "HF_HUB_DISABLE_XET": "1",
        "HF_HUB_DISABLE_TELEMETRY": "1",
        "HF_HUB_DISABLE_PROGRESS_BARS": "1",
    }.items():
        monkeypatch.setenv(name, value)
    monkeypatch.delenv("HF_HUB_OFFLINE", raising=False)

    def attempts(*calls):
        answers = tmp_path / "answers.json"
        with start(HUB, json.dumps(calls), str(answers)) as process:
            assert process.wait(60) == 0, process.stderr.read()
        return json.loads(answers.read_text())

    pinned = f"hf://owner/full@{HubHandler.commit}/model.safetensors"
    newest, version, sub, slashed, bare, *errors, wrong, right = attempts(
        ["hf://owner/full"],
        ["hf://owner/full@v1"],
        [f"hf://owner/full@{HubHandler.commit}/sub/other.npz"],
        ["hf://owner/full@refs%2Fpr%2F1"],
        ["HF://owner/bare@v1"],
        ["hf://owner/full@v1/missing.npz"],
        ["hf://owner/full@v9"],
        ["hf://owner/missing@v1"],
        ["hf://owner/full@v1", sha256_of(OTHER)],
        ["hf://owner/full@v1", sha256_of(BODY)],
    )
    snapshot = tmp_path / "hub/hub/models--owner--full/snapshots"
    path = snapshot / HubHandler.commit / "model.safetensors"
    assert newest[0] == str(path) and path.read_bytes() == BODY
    # The commit is named, as an address that can be used instead.
    assert len(newest[1]) == 1 and pinned in newest[1][0]
    assert version == slashed == right == [str(path), []]
    assert path.with_name("config.json").read_bytes() == (b'{"patch_size": 16}')
    assert sub == [str(path.parent / "sub/other.npz"), []]
    assert pathlib.Path(sub[0]).read_bytes() == OTHER
    assert pathlib.Path(bare[0]).read_bytes() == OTHER and bare[1] == []
    assert not pathlib.Path(bare[0]).with_name("config.json").exists()
    asked = {path for _, path in server.requests}
    # The configuration was asked for by the commit, not by the name.
    assert f"/owner/full/resolve/{HubHandler.commit}/config.json" in asked
    assert "/owner/full/resolve/main/config.json" not in asked
    for (message, _), source in zip(
        errors,
        ["hf://owner/full@v1/missing.npz", "hf://owner/full@v9", "hf://owner"],
    ):
        assert message.startswith("DownloadError: ") and source in message
        assert str(tmp_path / "hub/hub") in message
    assert wrong[0].startswith("ValueError: ")
    assert sha256_of(BODY) in wrong[0] and sha256_of(OTHER) in wrong[0]

    # Without a connection, with and without a configuration.
    server.stop()
    pinned_bare = f"hf://owner/bare@{HubHandler.commit}"
    begin = time.monotonic()
    assert attempts([pinned, sha256_of(BODY)], [pinned_bare]) == [
        [str(path), []],
        bare,
    ]
    assert time.monotonic() - begin < 10


def test_spoiled_file_of_the_hub_is_downloaded_again(tmp_path, monkeypatch):
    commit = HubHandler.commit
    path = tmp_path / "snapshots" / commit / "model.safetensors"
    path.parent.mkdir(parents=True)
    calls = []

    def download(repo, file, revision, force_download):
        calls.append((repo, file, revision, force_download))
        path.write_bytes(BODY if force_download else OTHER)
        return str(path.with_name(file))

    hub = pytest.importorskip("huggingface_hub")
    monkeypatch.setattr(hub, "hf_hub_download", download)
    assert downloads.fetch("hf://a/b@v1", sha256_of(BODY)) == path
    assert calls[:2] == [
        ("a/b", "model.safetensors", "v1", False),
        ("a/b", "model.safetensors", commit, True),
    ]
    with pytest.raises(ValueError, match=sha256_of(LARGE)):
        downloads.fetch("hf://a/b@v1", sha256_of(LARGE))


def test_large_files_of_the_hub_are_held_to_their_stored_hash(
    tmp_path, monkeypatch
):
    """The Hub names them by it, and its client looks at sizes alone."""
    blob = tmp_path / "blobs" / sha256_of(BODY)
    path = tmp_path / "snapshots" / HubHandler.commit / "model.safetensors"
    for file in (blob, path):
        file.parent.mkdir(parents=True)
    path.symlink_to(blob)

    def download(repo, file, revision, force_download):
        if file == path.name:
            blob.write_bytes(BODY if force_download else OTHER)
        return str(path.with_name(file))

    hub = pytest.importorskip("huggingface_hub")
    monkeypatch.setattr(hub, "hf_hub_download", download)
    assert downloads.fetch("hf://a/b@v1").read_bytes() == BODY


def test_hub_is_optional(monkeypatch):
    monkeypatch.setitem(sys.modules, "huggingface_hub", None)
    with pytest.raises(ImportError) as caught:
        downloads.fetch("hf://owner/name@v1")
    assert 'pip install "keras-vit[hub]"' in str(caught.value)


def test_import_costs_nothing():
    """No client is loaded before something is downloaded."""
    script = PRELUDE + (
        "print({'pooch', 'requests', 'huggingface_hub'} & set(sys.modules),"
        " file=sys.stderr)"
    )
    with start(script) as process:
        assert process.stderr.read() == "set()\n"
