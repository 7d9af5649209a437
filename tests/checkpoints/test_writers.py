"""Files of weights appear whole or not at all, and the same each time."""

import os

import numpy as np
import pytest
import safetensors.numpy

from keras_vit.checkpoints import writers


def test_writers_replace_whole_files_or_none(tmp_path, monkeypatch):
    """A disk that fills up: the old checkpoint stays, nothing else does."""
    path = tmp_path / "weights.npz"
    writers.write_npz(path, {"a": np.ones(3)})
    old = path.read_bytes()

    def full(*args, **kwargs):
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(np.lib.format, "write_array", full)
        with pytest.raises(OSError, match="weights.npz.*No space left"):
            writers.write_npz(path, {"a": np.zeros(3)})
    assert path.read_bytes() == old
    with monkeypatch.context() as patch:
        patch.setattr(os, "replace", full)
        with pytest.raises(OSError, match="weights.safetensors"):
            writers.write_safetensors(
                tmp_path / "weights.safetensors", {"a": np.zeros(3)}
            )
    with monkeypatch.context() as patch:
        patch.setattr(safetensors.numpy, "save_file", full_of_safetensors)
        with pytest.raises(OSError, match="weights.safetensors.*No space"):
            writers.write_safetensors(
                tmp_path / "weights.safetensors", {"a": np.zeros(3)}
            )
    assert [file.name for file in tmp_path.iterdir()] == ["weights.npz"]


def full_of_safetensors(*args, **kwargs):
    raise safetensors.SafetensorError("I/O error: No space left on device")


def test_equal_weights_make_equal_files(tmp_path):
    for name in ("one.npz", "two.npz"):
        writers.write_npz(tmp_path / name, {"a/b": np.arange(5.0)})
    one, two = tmp_path / "one.npz", tmp_path / "two.npz"
    assert one.read_bytes() == two.read_bytes()
    np.testing.assert_array_equal(np.load(one)["a/b"], np.arange(5.0))


def test_a_full_disk_is_an_os_error_of_all_writers(tmp_path, monkeypatch):
    """safetensors has an error of its own."""
    import safetensors.numpy

    def full(*args, **kwargs):
        raise safetensors.SafetensorError("No space left on device")

    monkeypatch.setattr(safetensors.numpy, "save_file", full)
    with pytest.raises(OSError, match="weights.safetensors.*No space left"):
        writers.write_safetensors(
            tmp_path / "weights.safetensors", {"a": np.zeros(3)}
        )
    assert not list(tmp_path.iterdir())


def test_scalars_stay_scalars(tmp_path):
    import safetensors.numpy

    path = tmp_path / "weights.safetensors"
    writers.write_safetensors(path, {"a": np.float32(3)})
    assert safetensors.numpy.load_file(path)["a"].shape == ()
