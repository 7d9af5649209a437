"""A model made with a dtype policy has that policy, and so a scaled loss."""

import keras
import numpy as np
import pytest

import keras_vit

SCALED = keras.optimizers.LossScaleOptimizer


def backbone(tiny_vit, **arguments):
    return tiny_vit(
        image_size=8, dtype="mixed_float16", pooling="average", **arguments
    )


BUILDERS = {
    "ViT": lambda vit: vit,
    "ResNet": lambda vit: keras_vit.ResNet(
        ((1, 1, 1, 1), 0.5),
        image_size=32,
        num_classes=3,
        dtype="mixed_float16",
    ),
    "segmentation_model": lambda vit: keras_vit.segmentation_model(vit, 3),
    "masked_patch_model": keras_vit.pretraining.masked_patch_model,
    "masked_autoencoder": lambda vit: keras_vit.pretraining.masked_autoencoder(
        vit, decoder_dim=8, decoder_layers=1, decoder_heads=1
    ),
    "transfer": lambda vit: keras_vit.transfer(vit, 4),
    "change_resolution": lambda vit: keras_vit.change_resolution(vit, 12),
}


@pytest.mark.parametrize("name", BUILDERS)
def test_the_loss_is_scaled(name, tiny_vit, tmp_path):
    model = BUILDERS[name](backbone(tiny_vit))
    assert model.dtype_policy.name == "mixed_float16"
    loss = {} if "masked" in name else {"loss": "mse"}
    model.compile("adam", **loss)
    assert isinstance(model.optimizer, SCALED)
    model.optimizer.build(model.trainable_variables)
    model.save(tmp_path / "model.keras")
    again = keras.saving.load_model(tmp_path / "model.keras")
    assert again.dtype_policy.name == "mixed_float16"
    assert isinstance(again.optimizer, SCALED)
    for given, expected in zip(
        again.optimizer.variables, model.optimizer.variables, strict=True
    ):
        np.testing.assert_array_equal(
            keras.ops.convert_to_numpy(given),
            keras.ops.convert_to_numpy(expected),
        )


def test_pixels_are_not_rounded_to_the_policy(tiny_vit, rng):
    """Images stay in float32 up to the layer that scales them."""
    model = backbone(tiny_vit)
    scaled = keras_vit.feature_extractor(model, "rescaling")
    images = rng.uniform(0, 255, (2, 8, 8, 3)).astype("float32")
    expected = (images / 127.5 - 1).astype("float16")
    given = keras.ops.convert_to_numpy(scaled(images))
    np.testing.assert_allclose(given, expected, atol=2**-10)


def test_models_of_float32_are_those_of_keras(tiny_vit):
    x = keras.Input((1,))
    assert type(tiny_vit()) is type(keras.Model(x, x + 1))
