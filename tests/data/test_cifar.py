"""CIFAR from local copies, and what is said where there is no network."""

import io

import keras
import numpy as np
import pytest

from keras_vit import data

Image = pytest.importorskip("PIL.Image")


def local_copy(path, splits, rng):
    """Writes a local copy: columns of two images, as lossless WebP."""
    arrays, pixels = {}, {}
    for split, labels in splits.items():
        images = rng.integers(0, 256, (len(labels), 32, 32, 3)).astype("uint8")
        streams = []
        for column in images.reshape(-1, 64, 32, 3):
            buffer = io.BytesIO()
            Image.fromarray(column).save(buffer, "WEBP", lossless=True)
            streams.append(buffer.getvalue())
        ends = np.cumsum([0, *map(len, streams)])
        arrays[f"{split}_webp"] = np.frombuffer(b"".join(streams), "uint8")
        arrays[f"{split}_offsets"] = ends
        arrays[f"{split}_labels"] = np.array(labels, "uint8")
        pixels[split] = images
    np.savez(path, **arrays)
    return pixels


def test_cifar_from_local_copies(tmp_path, monkeypatch, rng):
    monkeypatch.setenv("KERAS_VIT_DATA", str(tmp_path))
    first = local_copy(
        tmp_path / "cifar100.npz", {"train": [3, 99], "test": [0, 1]}, rng
    )
    rest = local_copy(
        tmp_path / "cifar100_train_rest.npz", {"train": [7, 8]}, rng
    )
    (x_train, y_train), (x_test, y_test) = data.load("cifar100")
    expected = np.concatenate([first["train"], rest["train"]])
    np.testing.assert_array_equal(x_train, expected)
    np.testing.assert_array_equal(x_test, first["test"])
    assert y_train.tolist() == [3, 99, 7, 8] and y_train.dtype == np.int64
    assert y_test.tolist() == [0, 1]
    assert len(data.class_names("cifar100")) == 100

    (tmp_path / "cifar10.npz").write_bytes(b"half a file")
    with pytest.raises(ValueError, match="cifar10.npz.*is damaged"):
        data.load("cifar10")


def test_a_download_that_fails_says_what_to_do(tmp_path, monkeypatch):
    def load_data():
        raise Exception("URL fetch failure on https://example.org: None")

    monkeypatch.delenv("KERAS_VIT_DATA", raising=False)
    monkeypatch.setattr(keras.datasets.cifar10, "load_data", load_data)
    with pytest.raises(
        OSError, match="URL fetch failure.*\n.*no network.*copy"
    ):
        data.load("cifar10")
