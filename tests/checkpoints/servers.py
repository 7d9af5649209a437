"""A server on this machine that misbehaves on demand, and who asks it.

Shared by the tests of web, of the cache they go to, and of the Hub.
"""

import contextlib
import hashlib
import http.server
import pathlib
import subprocess
import sys
import threading
import urllib.parse

import pytest

from keras_vit.checkpoints import web
from keras_vit.checkpoints.fetch import fetch

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
        fetch(self.server.url + self.path)
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


@contextlib.contextmanager
def serving(monkeypatch):
    """Runs the server; what it was asked is in `requests` and `headers`."""
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
    try:
        yield server
    finally:
        server.release.set()
        if thread.is_alive():
            stop()


def cache_in(tmp_path, monkeypatch):
    """Makes `fetch` keep its files there; returns the folder."""
    folder = tmp_path / "cache"
    monkeypatch.setenv("KERAS_VIT_HOME", str(folder))
    return folder


def fetch_new(url):
    """The first download of an address without a hash, which warns."""
    with pytest.warns(UserWarning, match="unverified"):
        return fetch(url)


def names(folder):
    return sorted(path.name for path in folder.iterdir())


FOLDER = pathlib.Path(web.__file__).parent
# Loads the modules by themselves, and a stand-in for Keras, whose start takes
# seconds and which only draws the progress bar.
PRELUDE = f"""
import importlib.metadata, importlib.util, os, signal, sys, types, warnings
warnings.simplefilter("ignore")
bar = types.SimpleNamespace(update=lambda *args, **kwargs: None)
utils = types.ModuleType("keras.utils")
utils.Progbar = lambda *args, **kwargs: bar
sys.modules["keras.utils"] = utils
sys.modules["keras"] = types.ModuleType("keras")
sys.modules["keras"].__version__ = importlib.metadata.version("keras")
for name in ("keras_vit", "keras_vit.checkpoints"):
    sys.modules[name] = types.ModuleType(name)
rooms = "keras_vit", "keras_vit.checkpoints"
for room, name in [
    (rooms[0], "extras"),
    (rooms[1], "guards"),
    (rooms[1], "files"),
    (rooms[1], "folders"),
    (rooms[1], "transport"),
    (rooms[1], "web"),
    (rooms[1], "hugging_face"),
    (rooms[1], "fetch"),
]:
    folder = "{FOLDER}" if room == rooms[1] else "{FOLDER.parent}"
    spec = importlib.util.spec_from_file_location(
        f"{{room}}.{{name}}", f"{{folder}}/{{name}}.py"
    )
    sys.modules[spec.name] = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(sys.modules[spec.name])
fetch = sys.modules["keras_vit.checkpoints.fetch"].fetch
"""
# Downloads the address it is given.
FETCH = PRELUDE + "print(fetch(sys.argv[1]), file=sys.stderr)\n"


def start(script, *arguments):
    return subprocess.Popen(
        [sys.executable, "-c", script, *arguments],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    )
