"""Class tokens, registers and positions, which files hold in many ways."""

import numpy as np
import pytest
from dialects import assert_equal_weights, big_vision, linen, official, save
from helpers import to_numpy

import keras_vit
from keras_vit.layers import PatchEncoder

GRID = (2, 3)  # of `tiny_vit`: 8x12 images, 4x4 patches


def test_models_without_positions_or_class_token(tiny_vit, tmp_path):
    for arguments in (
        {"pooling": "average", "position": "sincos_2d"},
        {"pooling": "average"},
        {"pooling": "average", "position": None},
        # A single patch, so a table of a single row.
        {"pooling": "average", "image_size": 4},
    ):
        source, model = tiny_vit(**arguments), tiny_vit(**arguments)
        arrays = official(source, tmp_path)
        assert "cls" not in arrays
        keras_vit.load_checkpoint(model, save(arrays, tmp_path))
        assert_equal_weights(model, source)


def test_positions_are_resized_only_when_asked(tiny_vit, tmp_path):
    source = tiny_vit(image_size=(12, 12))
    path = save(official(source, tmp_path), tmp_path)
    with pytest.raises(ValueError, match=r"\(3, 3\), expected \(2, 3\)"):
        keras_vit.load_checkpoint(tiny_vit(), path)
    model = tiny_vit()
    keras_vit.load_checkpoint(model, path, resize_positions="corner_aligned")
    old = to_numpy(source.get_layer("patch_encoder").position_embedding.table)
    new = to_numpy(model.get_layer("patch_encoder").position_embedding.table)
    np.testing.assert_array_equal(new[0], old[0])  # the class token
    # Two rows from three: the outer ones.
    grid = old[1:].reshape(3, 3, -1)[::2].reshape(6, -1)
    np.testing.assert_allclose(new[1:], grid, atol=1e-7)


@pytest.mark.parametrize("method", ["bilinear", "bicubic"])
def test_other_ways_to_resize(method, tiny_vit, tmp_path):
    path = save(official(tiny_vit(image_size=(12, 12)), tmp_path), tmp_path)
    model = tiny_vit(image_size=(12, 24))
    keras_vit.load_checkpoint(model, path, resize_positions=method)
    with pytest.raises(ValueError, match="resize_positions='nearest'"):
        keras_vit.load_checkpoint(model, path, resize_positions="nearest")


def test_a_rectangular_table_of_another_grid_has_to_be_named(
    tiny_vit, tmp_path
):
    source = tiny_vit(image_size=(8, 20))
    path = save(official(source, tmp_path), tmp_path)
    options = {"resize_positions": "corner_aligned"}
    with pytest.raises(ValueError, match="10 positions|11 positions"):
        keras_vit.load_checkpoint(tiny_vit(), path, **options)
    with pytest.raises(ValueError, match="file_grid"):
        keras_vit.load_checkpoint(tiny_vit(), path, file_grid=(3, 4), **options)
    model = tiny_vit(image_size=(8, 12))
    keras_vit.load_checkpoint(model, path, file_grid=(2, 5), **options)
    old = to_numpy(source.get_layer("patch_encoder").position_embedding.table)
    new = to_numpy(model.get_layer("patch_encoder").position_embedding.table)
    # Three columns from five: the outer ones and the middle.
    grid = old[1:].reshape(2, 5, -1)[:, ::2].reshape(6, -1)
    np.testing.assert_allclose(new[1:], grid, atol=1e-7)


@pytest.mark.parametrize("rows, slot", [(196, False), (197, True)])
def test_196_and_197_positions(rows, slot, tmp_path):
    """With a class token a table of 14x14 may have a row for it or not."""
    variant = keras_vit.Variant(1, 8, 8, 2, patch_size=4)
    source = keras_vit.ViT(variant, image_size=56, num_classes=2)
    table = np.arange(197 * 8, dtype="float32").reshape(1, 197, 8) / 8
    source.get_layer("patch_encoder").position_embedding.table.assign(table[0])
    arrays = official(source, tmp_path)
    if not slot:
        arrays = big_vision(arrays)
        assert arrays["pos_embedding"].shape == (1, rows, 8)
    for image_size in (56, (60, 52)):  # 14x14, and 15x13: 195 positions
        model = keras_vit.ViT(variant, image_size=image_size, num_classes=2)
        path = save(arrays, tmp_path)
        kwargs = {"resize_positions": "corner_aligned"}
        if not slot and image_size != 56:
            # 196 rows might be a class token and 15x13: not guessed.
            with pytest.raises(ValueError, match="Say which it is"):
                keras_vit.load_checkpoint(model, path, **kwargs)
            kwargs["file_grid"] = (14, 14)
        keras_vit.load_checkpoint(model, path, **kwargs)
        encoder = model.get_layer("patch_encoder")
        new = to_numpy(encoder.position_embedding.table)
        cls_token = to_numpy(encoder.cls_token_weight)
        # Token and row are only ever added to one another.
        np.testing.assert_allclose(new[0] + cls_token[0, 0], table[0, 0])
        np.testing.assert_allclose(new[1], table[0, 1], rtol=1e-6)
        np.testing.assert_allclose(new[-1], table[0, -1], rtol=1e-6)


def test_class_token_without_a_position_takes_up_its_row(tiny_vit, tmp_path):
    source = tiny_vit()
    path = save(official(source, tmp_path), tmp_path)
    encoder = PatchEncoder(16, position_of_cls_token=False)
    model = tiny_vit(patch_encoder=encoder)
    keras_vit.load_checkpoint(model, path)
    images = np.random.default_rng(1).uniform(0, 255, (2, 8, 12, 3))
    np.testing.assert_allclose(
        model.predict(images, verbose=0),
        source.predict(images, verbose=0),
        atol=1e-5,
    )


@pytest.mark.parametrize("shape", [(16,), (7, 15), (7, 4, 4), ()])
def test_position_tables_of_no_such_shape(shape, tiny_vit, tmp_path):
    arrays = official(tiny_vit(), tmp_path)
    key = "Transformer/posembed_input/pos_embedding"
    arrays[key] = np.zeros(shape, "float32")
    with pytest.raises(keras_vit.CheckpointError, match="vectors of 16"):
        keras_vit.load_checkpoint(tiny_vit(), save(arrays, tmp_path))


def test_two_position_tables(tiny_vit, tmp_path):
    arrays = linen(official(tiny_vit(), tmp_path))
    table = arrays["Transformer/posembed_input/pos_embedding"]
    arrays["pos_embedding"] = table + 1
    with pytest.raises(
        ValueError, match=r"without a place .*\n  pos_embedding"
    ):
        keras_vit.load_checkpoint(tiny_vit(), save(arrays, tmp_path))
