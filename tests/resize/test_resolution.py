"""Other image sizes and other patches, with values from SciPy and by hand."""

import keras
import numpy as np
import pytest
import scipy.ndimage
from helpers import EAGER, outputs_of, randomize, to_numpy

import keras_vit
from keras_vit.layers import PatchEncoder
from keras_vit.ops.resize import (
    METHODS,
    resize_grid,
    resize_matrix,
    resize_offset_table,
    resize_patch_kernel,
)


def table_of(model):
    encoder = model.get_layer("patch_encoder")
    return to_numpy(encoder.position_embedding.table)


def test_from_224_to_384():
    """The paper's case: parameter counts, positions and all other weights."""
    model = keras_vit.ViT("Ti/16")
    larger = keras_vit.change_resolution(model, 384)
    # As the official modules have them at both sizes.
    assert (model.count_params(), larger.count_params()) == (
        5_717_416,
        5_790_376,
    )
    old, new = table_of(model), table_of(larger)
    np.testing.assert_array_equal(new[0], old[0])
    expected = scipy.ndimage.zoom(
        old[1:].reshape(14, 14, 192), (24 / 14, 24 / 14, 1), order=1
    )
    np.testing.assert_allclose(
        new[1:].reshape(24, 24, 192), expected, atol=1e-6
    )
    rest = [
        (to_numpy(a), to_numpy(b))
        for a, b in zip(model.weights, larger.weights)
        if "position" not in a.path
    ]
    assert len(rest) == 199
    assert all(np.array_equal(a, b) for a, b in rest)


def test_rectangle_trains_saves_and_loads(tmp_path):
    variant = keras_vit.Variant(1, 16, 32, 4, patch_size=16)
    model = keras_vit.ViT(variant, image_size=224, num_classes=3)
    tall = keras_vit.change_resolution(model, (224, 160))
    assert tall.input_shape == (None, 224, 160, 3)
    expected = scipy.ndimage.zoom(
        table_of(model)[1:].reshape(14, 14, 16), (1, 10 / 14, 1), order=1
    )
    np.testing.assert_allclose(
        table_of(tall)[1:].reshape(14, 10, 16), expected, atol=1e-6
    )
    tall.compile("sgd", "mse", **EAGER)
    images = np.random.default_rng(0).uniform(0, 255, (2, 224, 160, 3))
    tall.fit(images, np.ones((2, 3)), verbose=0)
    tall.save(tmp_path / "tall.keras")
    loaded = keras.models.load_model(tmp_path / "tall.keras")
    np.testing.assert_array_equal(
        loaded.predict(images, verbose=0), tall.predict(images, verbose=0)
    )


def ramp(rows, columns, dim):
    y, x = np.meshgrid(np.arange(rows), np.arange(columns), indexing="ij")
    slopes = np.linspace(-1, 1, dim)
    grid = 0.5 * y[..., None] / (rows - 1) + slopes * x[..., None] / (
        columns - 1
    )
    return grid.astype("float32")


def test_ramps_come_back_exactly(tiny_vit):
    """Down and up again: linear functions lose nothing."""
    model = tiny_vit(image_size=(36, 20))  # 9 x 5
    grid = ramp(9, 5, 16)
    table = np.concatenate([np.full((1, 16), 7.0), grid.reshape(45, 16)])
    model.get_layer("patch_encoder").position_embedding.table.assign(table)
    small = keras_vit.change_resolution(model, (20, 12))
    np.testing.assert_allclose(
        table_of(small)[1:].reshape(5, 3, 16), ramp(5, 3, 16), atol=1e-7
    )
    again = keras_vit.change_resolution(small, (36, 20))
    np.testing.assert_allclose(table_of(again), table, atol=1e-7)


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize(
    "old, new", [((7, 7), (12, 12)), ((5, 9), (8, 4)), ((14, 14), (5, 3))]
)
def test_grids_are_resized_as_scipy_and_pytorch_do(method, old, new, rng):
    grid = rng.normal(size=(*old, 3))
    if method == "corner_aligned":
        zoom = (new[0] / old[0], new[1] / old[1], 1)
        expected = scipy.ndimage.zoom(grid, zoom, order=1)
    else:
        torch = pytest.importorskip("torch")
        expected = torch.nn.functional.interpolate(
            torch.from_numpy(grid.transpose(2, 0, 1)[None].copy()),
            size=new,
            mode="bilinear" if "bilinear" in method else "bicubic",
            align_corners=method == "corner_aligned_bicubic",
            antialias=method in ("bicubic", "smooth_bilinear"),
        )[0].numpy()
        expected = expected.transpose(1, 2, 0)
    given = resize_grid(grid, new, method)
    np.testing.assert_allclose(given, expected, atol=1e-12)


@pytest.mark.parametrize("method", METHODS)
def test_matrices_keep_constants_and_identities(method):
    for new, old in [(1, 1), (1, 4), (4, 1), (3, 7), (7, 3)]:
        matrix = resize_matrix(new, old, method)
        assert matrix.shape == (new, old) and matrix.dtype == np.float64
        np.testing.assert_allclose(matrix.sum(axis=1), 1)
    np.testing.assert_allclose(resize_matrix(6, 6, method), np.eye(6))
    with pytest.raises(ValueError, match="method='area'"):
        resize_matrix(2, 2, "area")


def test_equals_what_the_graph_does_on_the_fly(tiny_vit, rng):
    """The host's matrices in float64 and the graph's in float32."""
    model = tiny_vit(image_size=None)
    images = rng.uniform(0, 255, (2, 20, 12, 3))
    fixed = keras_vit.change_resolution(model, (20, 12))
    np.testing.assert_allclose(
        fixed.predict(images, verbose=0),
        model.predict(images, verbose=0),
        atol=1e-5,
    )


@pytest.mark.parametrize(
    "arguments",
    [
        {"position": "sincos_2d", "pooling": "average"},
        {"position": None, "pooling": None},
        {"num_registers": 2},
        {"pooling": "attention", "representation_dim": 6},
        {"data_format": "channels_first"},
        {"dtype": "mixed_bfloat16"},
        {"remainder": "pad"},
    ],
    ids=str,
)
def test_every_kind_of_model(arguments, tiny_vit, rng):
    model = tiny_vit(**arguments)
    larger = keras_vit.change_resolution(model, (16, 20))
    assert [layer.name for layer in larger.layers] == [
        layer.name for layer in model.layers
    ]
    assert [w.path for w in larger.weights] == [w.path for w in model.weights]
    assert larger.name == model.name
    for old, new in zip(model.layers, larger.layers):
        assert old.dtype_policy.name == new.dtype_policy.name
    # Back to where it came from: all but the positions is as it was.
    again = keras_vit.change_resolution(larger, (8, 12))
    for old, new in zip(model.weights, again.weights):
        if "position" not in old.path:
            np.testing.assert_array_equal(to_numpy(old), to_numpy(new))
    shape = larger.input_shape[1:]
    assert np.isfinite(larger.predict(rng.uniform(0, 255, (2, *shape)))).all()


def test_learned_2d_tables_are_resized_a_side(tiny_vit):
    encoder = PatchEncoder(16, position="learned_2d")
    model = tiny_vit(patch_encoder=encoder)  # 2 x 3
    larger = keras_vit.change_resolution(model, (12, 20))  # 3 x 5
    old = model.get_layer("patch_encoder").position_embedding
    new = larger.get_layer("patch_encoder").position_embedding
    columns = to_numpy(old.column_table)
    rows = to_numpy(old.row_table)
    np.testing.assert_allclose(
        to_numpy(new.row_table),
        [rows[0], (rows[0] + rows[1]) / 2, rows[1]],
        atol=1e-7,
    )
    np.testing.assert_allclose(
        to_numpy(new.column_table)[::2], columns, atol=1e-7
    )
    np.testing.assert_array_equal(
        to_numpy(new.prefix_table), to_numpy(old.prefix_table)
    )


def test_models_of_ones_own(tiny_vit, rng):
    """A nested backbone, a head of your own, a second input."""
    backbone = tiny_vit(num_classes=None)
    images = keras.Input((8, 12, 3), name="pictures")
    age = keras.Input((1,), name="age")
    x = keras.layers.Concatenate()([backbone(images), age])
    x = keras.layers.BatchNormalization(name="batch_norm")(x)
    outputs = keras.layers.Dense(2, name="diagnosis")(x)
    model = keras.Model({"pictures": images, "age": age}, outputs, name="mine")
    randomize(model, rng)
    larger = keras_vit.change_resolution(model, (16, 8))
    assert larger.name == "mine"
    given = larger.predict(
        {"pictures": rng.uniform(0, 255, (3, 16, 8, 3)), "age": np.ones((3, 1))}
    )
    assert given.shape == (3, 2)
    inner = larger.get_layer(backbone.name)
    expected = resize_grid(table_of(backbone)[1:].reshape(2, 3, 16), (4, 2))
    np.testing.assert_allclose(
        table_of(inner)[1:], expected.reshape(8, 16), atol=1e-6
    )


def test_a_dense_prediction_model_keeps_working(tiny_vit, rng):
    backbone = tiny_vit(num_classes=None, pooling=None, image_size=None)
    logits = keras.layers.Dense(4, name="pixels")(backbone.output)
    model = keras.Model(backbone.input, logits)
    larger = keras_vit.change_resolution(model, (16, 20))
    assert larger.output_shape == (None, 20, 4)


def test_a_saved_and_loaded_model_changes_too(tiny_vit, tmp_path):
    model = tiny_vit()
    model.save(tmp_path / "model.keras")
    loaded = keras.models.load_model(tmp_path / "model.keras")
    ours, theirs = (
        keras_vit.change_resolution(x, (12, 12)) for x in (model, loaded)
    )
    np.testing.assert_array_equal(table_of(ours), table_of(theirs))


def test_trainable_flags_stay(tiny_vit):
    model = tiny_vit()
    keras_vit.freeze(model, "block_00")
    model.get_layer("block_01").mlp.hidden.trainable = False
    larger = keras_vit.change_resolution(model, (12, 12))
    assert [w.path for w in larger.trainable_weights] == [
        w.path for w in model.trainable_weights
    ]
    hidden = larger.get_layer("block_01").mlp.hidden
    assert not hidden.trainable and larger.get_layer("block_01").trainable


def test_the_optimizer_starts_anew_and_says_so(tiny_vit, rng):
    model = tiny_vit()
    model.compile(keras.optimizers.SGD(0.25, momentum=0.9), "mse", **EAGER)
    # Nothing to lose yet, so nothing to say.
    assert keras_vit.change_resolution(model, (12, 12)).compiled
    images = rng.uniform(0, 255, (4, 8, 12, 3))
    model.fit(images, np.ones((4, 5)), batch_size=2, verbose=0)
    with pytest.warns(UserWarning, match="has made 2 steps"):
        larger = keras_vit.change_resolution(model, (12, 12))
    assert int(larger.optimizer.iterations) == 0
    assert float(larger.optimizer.learning_rate) == 0.25
    larger.fit(rng.uniform(0, 255, (4, 12, 12, 3)), np.ones((4, 5)), verbose=0)


def test_the_old_model_is_left_alone(tiny_vit):
    model = tiny_vit()
    before = [to_numpy(w).copy() for w in model.weights]
    larger = keras_vit.change_resolution(model, (12, 12))
    for weight in larger.weights:
        weight.assign(np.zeros(weight.shape))
    for weight, value in zip(model.weights, before):
        np.testing.assert_array_equal(to_numpy(weight), value)


def test_what_cannot_be_resized_is_refused_by_name(tiny_vit):
    with pytest.raises(ValueError, match="head/kernel"):
        keras_vit.change_resolution(tiny_vit(pooling="flatten"), (16, 16))
    with pytest.raises(ValueError, match="image_size=0"):
        keras_vit.change_resolution(tiny_vit(), 0)
    with pytest.raises(ValueError, match="method='nearest'"):
        keras_vit.change_resolution(tiny_vit(), 16, method="nearest")
    with pytest.raises(ValueError, match="multiple|divi"):
        keras_vit.change_resolution(tiny_vit(), (10, 12))
    with pytest.raises(ValueError, match="one input of shape"):
        tokens = keras.Input((4, 8))
        keras_vit.change_resolution(keras.Model(tokens, tokens), 16)
    with pytest.raises(ValueError, match="functional"):
        keras_vit.change_resolution("model.keras", 16)


def test_larger_patches_give_the_same_tokens_for_enlarged_images(rng):
    """FlexiViT, section 3.4: exact when patches grow."""
    kernel = rng.normal(size=(4 * 4 * 3, 8)).astype("float32")
    patch = rng.normal(size=(4, 4, 3))
    for new in [(8, 8), (6, 4), (7, 5)]:
        enlarged = np.stack(
            [
                resize_grid(patch[..., [c]], new, "bilinear")[..., 0]
                for c in range(3)
            ],
            axis=-1,
        )
        resized = resize_patch_kernel(kernel, (4, 4), new)
        np.testing.assert_allclose(
            enlarged.reshape(-1) @ resized,
            patch.reshape(-1) @ kernel,
            atol=1e-5,
        )


def test_smaller_patches_are_the_least_squares_solution(rng):
    kernel = rng.normal(size=(4 * 6 * 2, 3))
    given = resize_patch_kernel(kernel, (4, 6), (2, 3))
    # All pixels at once, channel by channel, as big_vision does it.
    matrix = np.kron(
        resize_matrix(2, 4, "bilinear"), resize_matrix(3, 6, "bilinear")
    )
    for channel in range(2):
        old = kernel.reshape(24, 2, 3)[:, channel]
        expected = np.linalg.lstsq(matrix.T, old, rcond=None)[0]
        np.testing.assert_allclose(
            given.reshape(6, 2, 3)[:, channel], expected, atol=1e-12
        )


def test_change_patch_size(tiny_vit, rng):
    """On images enlarged with their patches the model says the same."""
    model = tiny_vit(image_size=(8, 12))
    twice = keras_vit.resize.change_patch_size(model, 8, image_size=(16, 24))
    assert twice.get_layer("patches").patch_size == (8, 8)
    np.testing.assert_array_equal(table_of(twice), table_of(model))
    images = rng.uniform(0, 255, (2, 8, 12, 3)).astype("float32")
    cells = images.reshape(2, 2, 4, 3, 4, 3)
    matrix = resize_matrix(8, 4, "bilinear")
    enlarged = np.einsum("Yy,Xx,brycxk->brYcXk", matrix, matrix, cells)
    enlarged = enlarged.reshape(2, 16, 24, 3)
    np.testing.assert_allclose(
        twice.predict(enlarged, verbose=0),
        model.predict(images, verbose=0),
        atol=1e-4,
    )
    # Images as they are: more patches, and positions for them.
    finer = keras_vit.resize.change_patch_size(model, (2, 4))
    assert finer.get_layer("patches").output.shape == (None, 4, 3, 24)
    assert table_of(finer).shape == (13, 16)
    assert np.isfinite(finer.predict(images, verbose=0)).all()


def test_patch_sizes_that_cannot_be_changed(tiny_vit):
    encoder = PatchEncoder(16, norm_before=True)
    with pytest.raises(ValueError, match="norm_before=True"):
        keras_vit.resize.change_patch_size(tiny_vit(patch_encoder=encoder), 2)
    tokens = keras.Input((4, 4, 8))
    with pytest.raises(ValueError, match="Patches. Received: 0"):
        keras_vit.resize.change_patch_size(keras.Model(tokens, tokens), 2)


def test_lora_comes_back_merged_and_all_that_it_held_learns(tiny_vit, rng):
    model = tiny_vit()
    keras_vit.freeze(model, taps="patch_encoder")
    keras_vit.transfer_learning.enable_lora(model, rank=2)
    for weight in model.trainable_weights:
        weight.assign(rng.normal(0, 0.2, weight.shape))
    larger = keras_vit.change_resolution(model, (8, 12))
    images = rng.uniform(0, 255, (2, 8, 12, 3))
    np.testing.assert_allclose(
        outputs_of(larger, images), outputs_of(model, images), atol=1e-5
    )
    frozen = {w.path for w in larger.non_trainable_weights}
    assert frozen == {w.path for w in larger.get_layer("patch_encoder").weights}


def test_one_cell_to_the_left_stays_one_cell_to_the_left(rng):
    """A table of offsets is no picture of the grid."""
    table = rng.normal(size=(7 * 5 + 3, 2))
    larger = resize_offset_table(table, (4, 3), (9, 7))
    assert larger.shape == (17 * 13 + 3, 2)
    np.testing.assert_array_equal(larger[-3:], table[-3:])
    old, new = table[:-3].reshape(7, 5, 2), larger[:-3].reshape(17, 13, 2)
    # Around offset zero, which is in the middle, and at the four corners.
    np.testing.assert_allclose(new[7:10, 5:8], old[2:5, 1:4], atol=1e-12)
    np.testing.assert_allclose(
        new[::16, ::12],
        old[::6, ::4],
        atol=1e-4,  # of the ratio, 1e-6
    )
