"""`save` gives what `model.save` does, and never loses the file before."""

import errno
import os
import zipfile

import keras
import numpy as np
import pytest
from helpers import to_numpy

import keras_vit


def test_it_loads_as_what_model_save_writes(tiny_vit, tmp_path):
    model = tiny_vit()
    model.compile(**keras_vit.recipes.adamw(4))
    model.optimizer.build(model.trainable_variables)
    path = keras_vit.save(model, tmp_path / "model.keras")
    assert [x.name for x in tmp_path.iterdir()] == ["model.keras"]
    loaded = keras.saving.load_model(path)
    for given, expected in zip(loaded.weights, model.weights):
        np.testing.assert_array_equal(to_numpy(given), to_numpy(expected))
    assert loaded.optimizer.get_config() == model.optimizer.get_config()


def test_a_full_disk_leaves_the_old_file(tiny_vit, tmp_path, monkeypatch):
    model = tiny_vit()
    path = keras_vit.save(model, tmp_path / "model.keras")
    old = path.read_bytes()

    def full(*args, **kwargs):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as patch:
        # The configuration is written by then, the weights are not.
        patch.setattr(zipfile.ZipFile, "writestr", full)
        patch.setattr(zipfile._ZipWriteFile, "write", full)
        with pytest.raises(OSError, match="model.keras.*No space left"):
            keras_vit.save(model, path)
    assert path.read_bytes() == old
    assert [x.name for x in tmp_path.iterdir()] == ["model.keras"]


def test_other_suffixes_are_refused(tiny_vit, tmp_path):
    with pytest.raises(ValueError, match="end in .keras.*model.h5"):
        keras_vit.save(tiny_vit(), tmp_path / "model.h5")
