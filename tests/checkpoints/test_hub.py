"""`hf://` addresses, against as much of the Hub as its client asks for."""

import http.server
import json
import pathlib
import sys
import time

import pytest
from servers import (
    BODY,
    LARGE,
    OTHER,
    PRELUDE,
    sha256_of,
    start,
)

from keras_vit.checkpoints.fetch import fetch


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
            result = str(fetch(source, sha256))
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
        return json.loads(answers.read_text("utf-8"))

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
    assert fetch("hf://a/b@v1", sha256_of(BODY)) == path
    assert calls[:2] == [
        ("a/b", "model.safetensors", "v1", False),
        ("a/b", "model.safetensors", commit, True),
    ]
    with pytest.raises(ValueError, match=sha256_of(LARGE)):
        fetch("hf://a/b@v1", sha256_of(LARGE))


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
    assert fetch("hf://a/b@v1").read_bytes() == BODY


def test_hub_is_optional(monkeypatch):
    monkeypatch.setitem(sys.modules, "huggingface_hub", None)
    with pytest.raises(ImportError) as caught:
        fetch("hf://owner/name@v1")
    assert 'pip install "keras3-vit[hub]"' in str(caught.value)
