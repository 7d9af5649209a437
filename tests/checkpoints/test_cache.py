"""What is kept of a download, and what is trusted of what was kept."""

import errno
import os
import pathlib
import signal
import time
import warnings

import pytest
from servers import (
    BODY,
    FETCH,
    LARGE,
    OTHER,
    PRELUDE,
    fetch_new,
    names,
    sha256_of,
    start,
)

from keras_vit.checkpoints import web
from keras_vit.checkpoints.fetch import fetch
from keras_vit.checkpoints.transport import DownloadError


def flip_a_byte(path):
    body = bytearray(path.read_bytes())
    body[len(body) // 2] ^= 1
    path.write_bytes(body)


# Hashes


def test_wrong_hash_is_refused_and_not_kept(server, cache):
    url = f"{server.url}/ok/weights.npz"
    with pytest.raises(ValueError) as caught:
        fetch(url, sha256=sha256_of(OTHER))
    for part in (url, sha256_of(BODY), sha256_of(OTHER)):
        assert part in str(caught.value)
    assert names(cache) == []
    # A mistaken hash does not harm what is there.
    path = fetch_new(url)
    before = {file: file.read_bytes() for file in cache.iterdir()}
    with pytest.raises(ValueError):
        fetch(url, sha256=sha256_of(OTHER))
    assert before == {file: file.read_bytes() for file in cache.iterdir()}
    assert path in before


def test_flipped_byte_with_a_known_hash_is_downloaded_again(server, cache):
    url = f"{server.url}/ok/weights.npz"
    path = fetch(url, sha256=sha256_of(BODY))
    flip_a_byte(path)
    assert fetch(url, sha256=sha256_of(BODY)) == path
    assert path.read_bytes() == BODY
    assert len(server.requests) == 2


def test_flipped_byte_with_a_recorded_hash_is_an_error(server, cache):
    url = f"{server.url}/ok/weights.npz"
    path = fetch_new(url)
    flip_a_byte(path)
    spoiled = path.read_bytes()
    for _ in range(2):
        with pytest.raises(ValueError) as caught:
            fetch(url)
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
    assert fetch(url).read_bytes() == BODY


def test_unknown_hash_is_recorded_and_held_to(server, cache):
    url = f"{server.url}/changing/weights.npz"
    with pytest.warns(UserWarning) as warned:
        path = fetch(url)
    [message] = [str(warning.message) for warning in warned]
    assert url in message and f"sha256='{sha256_of(BODY)}'" in message
    record = path.with_name(f"{path.name}.sha256")
    assert record.read_text("utf-8") == f"{sha256_of(BODY)}  {path.name}\n"
    assert fetch(url) == path
    path.unlink()
    with pytest.raises(ValueError) as caught:
        fetch(url)
    for part in (url, sha256_of(BODY), sha256_of(OTHER), f"delete {record}"):
        assert part in str(caught.value)
    assert names(cache) == [record.name]
    # A hash that is given counts more than one that is recorded.
    assert fetch(url, sha256_of(OTHER)).read_bytes() == OTHER
    assert fetch(url) == path


@pytest.mark.parametrize("record", [None, b"", b"0123", b"\xff" * 64])
def test_file_without_a_whole_record_is_not_trusted(record, server, cache):
    url = f"{server.url}/ok/weights.npz"
    path = fetch_new(url)
    path.write_bytes(BODY[:100])
    side = path.with_name(f"{path.name}.sha256")
    side.unlink() if record is None else side.write_bytes(record)
    assert fetch_new(url).read_bytes() == BODY
    assert fetch(url) == path


def test_the_file_of_a_faster_process_stays(server, cache):
    url = f"{server.url}/overtaken/weights.npz"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        with pytest.raises(ValueError) as caught:
            fetch(url)
    assert sha256_of(OTHER) in str(caught.value)
    assert fetch(url).read_bytes() == BODY
    assert len(server.requests) == 2 and len(names(cache)) == 2


# The folder


def test_warm_cache_needs_no_server_and_no_writing(server, cache, monkeypatch):
    known, unknown = f"{server.url}/ok/a.npz", f"{server.url}/ok/b.npz"
    fetch(known, sha256=sha256_of(BODY))
    fetch_new(unknown)
    server.stop()
    before = {path: path.stat().st_mtime_ns for path in cache.iterdir()}
    monkeypatch.setattr(web, "open", read_only_open, raising=False)
    monkeypatch.setattr(pathlib.Path, "write_text", fail)
    for name in ("replace", "mkdir", "unlink", "remove"):
        monkeypatch.setattr(os, name, fail)
    for url in (known, unknown):
        assert fetch(url).read_bytes() == BODY
    path = fetch(known, sha256=sha256_of(BODY))
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
    with pytest.raises(DownloadError) as caught:
        fetch(f"{server.url}/ok/weights.npz")
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
        (web, "open", read_only_open, "Read-only file system"),
        (web, "open", open_on_full_disk, "No space left on device"),
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
        with pytest.raises(DownloadError) as caught:
            fetch(url)
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
fetch(sys.argv[1])
"""
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
    path = fetch(url) if renamed else fetch_new(url)
    assert path.read_bytes() == BODY
    assert fetch(url) == path
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
    assert fetch(url) == path
