"""Every attention of the paper and its sources, as part of a whole model."""

import keras
import numpy as np
import pytest
from helpers import EAGER, randomize, to_numpy

import keras_vit
from keras_vit.layers import (
    AxialBlock,
    RelativeAttention,
    RelativeBiasAttention,
    RelativeMLPAttention,
    RotaryAttention,
    SparseAttention,
    TransformerBlock,
    WindowAttention,
)


def with_attention(make, width):
    return lambda grid: (
        lambda index: TransformerBlock(mlp_dim=width, attention=make(grid))
    )


def variants(heads, width, prefix=1):
    """Arguments of `ViT`, as functions of the grid."""
    return {
        "axial": lambda grid: {
            "pooling": "average",
            "block": lambda index: AxialBlock(heads, width, grid),
        },
        "windows": lambda grid: {
            "pooling": "average",
            "block": with_attention(
                lambda grid: WindowAttention(heads, (2, 2), grid), width
            )(grid),
        },
        "sparse": lambda grid: {
            "block": with_attention(
                lambda grid: SparseAttention(heads, k=5), width
            )(grid),
        },
        "relative": lambda grid: {
            "position": None,
            "block": with_attention(
                lambda grid: RelativeAttention(heads), width
            )(grid),
        },
        "bias": lambda grid: {
            "position": None,
            "block": with_attention(
                lambda grid: RelativeBiasAttention(heads, grid, prefix), width
            )(grid),
        },
        # A class token has no place: in the last block it would see no bias.
        "bias of an MLP": lambda grid: {
            "position": None,
            "pooling": "average",
            "block": with_attention(
                lambda grid: RelativeMLPAttention(heads, grid), width
            )(grid),
        },
        "rotary": lambda grid: {
            "position": None,
            "block": with_attention(
                lambda grid: RotaryAttention(heads, grid, prefix),
                width,
            )(grid),
        },
    }


NAMES = list(variants(2, 8))


@pytest.fixture
def build(rng):
    def build(name, **more):
        variant = keras_vit.Variant(2, 16, 32, 4, patch_size=4)
        arguments = variants(4, 32)[name]((2, 4))
        model = keras_vit.ViT(
            variant,
            image_size=(8, 16),
            num_classes=3,
            **{**arguments, **more},
        )
        randomize(model, rng)
        return model

    return build


@pytest.mark.parametrize("name", NAMES)
def test_trains_saves_loads_and_changes_resolution(name, build, rng, tmp_path):
    model = build(name)
    images = rng.uniform(0, 255, (4, 8, 16, 3))
    model.compile(keras.optimizers.SGD(0.01), "mse", **EAGER)
    before = [to_numpy(w).copy() for w in model.trainable_weights]
    model.fit(images, np.ones((4, 3)), verbose=0)
    for weight, old in zip(model.trainable_weights, before):
        # They move all logits of a query alike.
        if not weight.path.endswith(("key/bias", "bias_output/bias")):
            assert not np.array_equal(to_numpy(weight), old), weight.path
    model.save(tmp_path / "model.keras")
    loaded = keras.models.load_model(tmp_path / "model.keras")
    assert [w.path for w in loaded.weights] == [w.path for w in model.weights]
    np.testing.assert_array_equal(
        loaded.predict(images, verbose=0), model.predict(images, verbose=0)
    )
    with pytest.warns(UserWarning, match="starts anew"):
        larger = keras_vit.change_resolution(model, (16, 24))
    larger_images = rng.uniform(0, 255, (2, 16, 24, 3))
    assert np.isfinite(larger.predict(larger_images, verbose=0)).all()
    again = keras_vit.change_resolution(larger, (8, 16))
    for old, new in zip(model.weights, again.weights):
        resampled = ("position", "offset", "bias_table")
        if not any(name in old.path for name in resampled):
            np.testing.assert_array_equal(to_numpy(old), to_numpy(new))


@pytest.mark.parametrize("name", NAMES)
def test_half_precision_stays_close(name, build, rng):
    model, half = build(name), build(name, dtype="mixed_bfloat16")
    half.set_weights(model.get_weights())
    images = rng.uniform(0, 255, (2, 8, 16, 3))
    given = half.predict(images, verbose=0)
    assert given.dtype == np.float32
    np.testing.assert_allclose(
        given, model.predict(images, verbose=0), atol=0.15, rtol=0.1
    )


def test_relative_offsets_stretch_with_the_sequence(build):
    """The outermost offsets stay outermost, and none stays none."""
    model = build("relative")
    larger = keras_vit.change_resolution(model, (16, 24))
    old, new = (
        to_numpy(m.get_layer("block_01").attention.offset_table)
        for m in (model, larger)
    )
    assert (len(old), len(new)) == (2 * 9 - 1, 2 * 25 - 1)
    np.testing.assert_allclose(new[[0, 24, 48]], old[[0, 8, 16]], atol=1e-6)


@pytest.mark.slow
@pytest.mark.parametrize("name", [*NAMES, "hybrid"])
def test_reads_digits(name):
    """On the real scans of the quickstart: 0.95 and better."""
    keras.utils.set_random_seed(0)
    (x_train, y_train), (x_test, y_test) = keras_vit.data.load("digits")
    if name == "hybrid":
        variant = keras_vit.Variant(
            2, 64, 128, 4, patch_size=1, stages=(1,), width_factor=0.5
        )
        # The stem takes a quarter of the edge: digits as large as that.
        x_train, x_test = (
            np.kron(x, np.ones((1, 4, 4, 1), x.dtype))
            for x in (x_train, x_test)
        )
        arguments = {"image_size": 32}
    else:
        variant = keras_vit.Variant(4, 64, 128, 4, patch_size=2)
        arguments = variants(4, 128, prefix=0)[name]((4, 4))
        # As in the quickstart: all tokens in a row, and no class token.
        arguments |= {"image_size": 8, "pooling": "flatten"}
    model = keras_vit.ViT(variant, num_channels=1, num_classes=10, **arguments)
    steps = keras_vit.recipes.total_steps(len(x_train), 64, 30)
    model.compile(**keras_vit.recipes.adamw(steps, learning_rate=2e-3))
    model.fit(x_train, y_train, batch_size=64, epochs=30, verbose=0)
    logits = model.predict(x_test, verbose=0)
    accuracy = (logits.argmax(axis=1) == y_test).mean()
    print(f"{name}: {accuracy:.4f}")
    assert accuracy >= 0.95
