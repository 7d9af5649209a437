"""`hf://` addresses, against as much of the Hub as its client asks for."""

import http.server
import json
import pathlib
import sys
import time

import numpy as np
import pytest
import safetensors.numpy
from helpers import outputs_of
from servers import (
    BODY,
    LARGE,
    OTHER,
    PRELUDE,
    sha256_of,
    start,
)

import keras_vit
from keras_vit.checkpoints.fetch import fetch


def index(*files):
    """An index of arrays that lie in these files."""
    return json.dumps({"weight_map": {f"x.{f}": f for f in files}}).encode()


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
        "owner/parts": {
            "model.safetensors.index.json": index("a.bin", "b.bin"),
            "a.bin": BODY,
            "b.bin": OTHER,
            "preprocessor_config.json": b'{"image_mean": [0.5]}',
            "sub/x.index.json": index("y.bin"),
            "sub/y.bin": OTHER,
        },
        "owner/torn": {
            "model.safetensors.index.json": index("a.bin", "b.bin"),
            "a.bin": BODY,
        },
        "owner/escape": {"model.safetensors.index.json": index("../a.bin")},
        "owner/empty": {"README.md": BODY},
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


@pytest.fixture
def attempts(server, cache, tmp_path, monkeypatch):
    """What becomes of addresses in a process of its own."""
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

    def run(*calls):
        answers = tmp_path / "answers.json"
        with start(HUB, json.dumps(calls), str(answers)) as process:
            assert process.wait(60) == 0, process.stderr.read()
        return json.loads(answers.read_text("utf-8"))

    return run


def test_hub(server, attempts, tmp_path):
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


def test_weights_in_several_files(server, attempts, tmp_path):
    parts, sub, *errors = attempts(
        ["hf://owner/parts@v1"],
        ["hf://owner/parts@v1/sub/x.index.json"],
        ["hf://owner/torn@v1"],
        ["hf://owner/escape@v1"],
        ["hf://owner/empty@v1"],
    )
    snapshot = tmp_path / "hub/hub/models--owner--parts/snapshots"
    folder = snapshot / HubHandler.commit
    assert parts == [str(folder / "model.safetensors.index.json"), []]
    assert (folder / "a.bin").read_bytes() == BODY
    assert (folder / "b.bin").read_bytes() == OTHER
    assert b"image_mean" in (folder / "preprocessor_config.json").read_bytes()
    assert sub == [str(folder / "sub/x.index.json"), []]
    assert (folder / "sub/y.bin").read_bytes() == OTHER
    # All of one commit, also where a revision has a name.
    asked = {path for _, path in server.requests}
    assert f"/owner/parts/resolve/{HubHandler.commit}/b.bin" in asked
    assert "/owner/parts/resolve/v1/b.bin" not in asked

    torn, escape, empty = [message for message, _ in errors]
    assert torn.startswith("DownloadError: b.bin of hf://owner/torn@v1 ")
    assert escape.startswith("CheckpointError: ") and "'../a.bin'" in escape
    assert empty.startswith("DownloadError: hf://owner/empty@v1 names no file")
    assert "pytorch_model.bin" in empty

    # What is in the cache is used without a connection.
    server.stop()
    begin = time.monotonic()
    assert attempts([f"hf://owner/parts@{HubHandler.commit}"]) == [parts]
    assert time.monotonic() - begin < 10


def test_each_of_several_files_is_held_to_its_stored_hash(
    tmp_path, monkeypatch
):
    snapshot = tmp_path / "snapshots" / HubHandler.commit
    blob = tmp_path / "blobs" / sha256_of(BODY)
    for folder in (snapshot, blob.parent):
        folder.mkdir(parents=True)
    (snapshot / "m.index.json").write_bytes(index("a.bin"))
    (snapshot / "a.bin").symlink_to(blob)
    forced = []

    def download(repo, file, revision, force_download):
        if file == "a.bin":
            forced.append(force_download)
            blob.write_bytes(OTHER)
        return str(snapshot / file)

    hub = pytest.importorskip("huggingface_hub")
    monkeypatch.setattr(hub, "hf_hub_download", download)
    with pytest.raises(ValueError, match=sha256_of(OTHER)):
        fetch("hf://a/b@v1/m.index.json")
    assert forced == [False, True]


def test_a_missing_part_changes_nothing(tmp_path, monkeypatch):
    """A network opened from several files of the Hub, and one torn."""
    hub = pytest.importorskip("huggingface_hub")
    from huggingface_hub.errors import EntryNotFoundError

    variant = keras_vit.Variant(2, 32, 64, 2, patch_size=8)
    shapes = {"image_size": 16, "num_classes": 5, "activation": "gelu"}
    model = keras_vit.ViT(variant, **shapes)
    file = tmp_path / "snapshots" / HubHandler.commit / "model.safetensors"
    keras_vit.export_checkpoint(model, file.parent, format="timm")
    arrays = safetensors.numpy.load_file(file)
    file.unlink()
    where = {key: f"{i % 2}.safetensors" for i, key in enumerate(arrays)}
    for name in sorted(set(where.values())):
        part = {key: arrays[key] for key in arrays if where[key] == name}
        safetensors.numpy.save_file(part, file.with_name(name))
    file.with_name("model.safetensors.index.json").write_text(
        json.dumps({"weight_map": where}), "utf-8"
    )

    def download(repo, name, revision, force_download):
        if not file.with_name(name).is_file():
            raise EntryNotFoundError(name)
        return str(file.with_name(name))

    monkeypatch.setattr(hub, "hf_hub_download", download)
    images = np.full((1, 16, 16, 3), 99, "uint8")
    source = f"hf://a/b@{HubHandler.commit}"
    same = keras_vit.from_checkpoint(source, verbose=0)
    expected = outputs_of(model, images)
    np.testing.assert_allclose(outputs_of(same, images), expected, atol=1e-6)

    file.with_name("1.safetensors").unlink()
    other = keras_vit.ViT(variant, **shapes)
    before = [np.array(weight) for weight in other.weights]
    with pytest.raises(keras_vit.checkpoints.DownloadError, match="1.safe"):
        keras_vit.load_checkpoint(other, source)
    for weight, value in zip(other.weights, before):
        np.testing.assert_array_equal(weight, value)


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
        fetch(f"hf://owner/name@{HubHandler.commit}")
    assert 'pip install "keras3-vit[hub]"' in str(caught.value)
