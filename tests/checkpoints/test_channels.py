"""Files for images of other channels than the model's: the numbers of timm."""

import warnings

import keras
import numpy as np
import pytest
from helpers import outputs_of
from oracles import import_oracle, randomize, run

import keras_vit

ARGUMENTS = {"depth": 1, "embed_dim": 64, "num_heads": 1, "img_size": 32}
MEAN, STD = (0.4, 0.5, 0.6), (0.2, 0.3, 0.7)
# What the statistics become.
ADAPTED = {
    1: ((0.5,), (0.4,)),
    2: (MEAN[:2], STD[:2]),
    4: ((*MEAN, 0.4), (*STD, 0.2)),
    7: ((*MEAN, *MEAN, 0.4), (*STD, *STD, 0.2)),
}


@pytest.fixture
def folder(rng, tmp_path):
    timm = import_oracle("timm")
    from timm.models._hub import save_for_hf

    module = timm.create_model(
        "vit_tiny_patch16_224", num_classes=3, **ARGUMENTS
    )
    randomize(module, rng)
    module.pretrained_cfg.update(mean=MEAN, std=STD)
    save_for_hf(module, tmp_path, model_args=ARGUMENTS, safe_serialization=True)
    return tmp_path


def of_timm(folder, channels):
    import timm

    overlay = {"file": str(folder / "model.safetensors"), "num_classes": 3}
    return timm.create_model(
        "vit_tiny_patch16_224",
        pretrained=True,
        pretrained_cfg_overlay=overlay,
        num_classes=3,
        in_chans=channels,
        **ARGUMENTS,
    ).eval()


@pytest.mark.parametrize("channels", ADAPTED)
def test_numbers_are_those_of_timm(channels, folder, rng):
    images = rng.uniform(-1, 1, (2, 32, 32, channels)).astype("float32")
    expected = run(of_timm(folder, channels), images)
    with pytest.warns(UserWarning, match="of 3 channels.*as timm does"):
        model = keras_vit.from_checkpoint(
            folder, num_channels=channels, verbose=0
        )
    own = model.get_layer("rescaling").preprocessing
    np.testing.assert_allclose((own.mean, own.std), ADAPTED[channels])
    pixels = (images * np.array(own.std) + np.array(own.mean)) * 255
    np.testing.assert_allclose(
        outputs_of(model, pixels.astype("float32")),
        expected,
        atol=1e-4 * np.abs(expected).max(),
    )
    with pytest.warns(UserWarning, match="as timm does"):
        by_hand = keras_vit.ViT(
            keras_vit.Variant(1, 64, 256, 1, patch_size=16),
            num_channels=channels,
            weights=folder / "model.safetensors",
        )
    assert by_hand.get_layer("rescaling").preprocessing == own
    for one, other in zip(by_hand.weights, model.weights):
        np.testing.assert_array_equal(
            *map(keras.ops.convert_to_numpy, (one, other))
        )


def test_what_is_given_stays(folder):
    with pytest.warns(UserWarning, match="summed, as timm does"):
        model = keras_vit.from_checkpoint(
            folder, num_channels=1, preprocessing="unit", verbose=0
        )
    assert model.get_layer("rescaling").preprocessing.std == (1.0,)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        keras_vit.from_checkpoint(folder, num_channels=3, verbose=0)


def test_a_model_is_adapted_on_request_alone(folder):
    model = keras_vit.ViT(
        keras_vit.Variant(1, 64, 256, 1, patch_size=16),
        image_size=32,
        num_channels=4,
        num_classes=3,
        activation="gelu",
    )
    file = folder / "model.safetensors"
    with pytest.raises(keras_vit.CheckpointError, match="of another shape"):
        keras_vit.load_checkpoint(model, file)
    with pytest.warns(UserWarning, match="repeated, times 3/4"):
        keras_vit.load_checkpoint(model, file, adapt_channels=True)


def test_a_hybrid_and_an_official_file(rng, tmp_path, randomized):
    """The kernel of the root convolution, by the formula."""
    own = {"image_size": 32, "num_classes": 3}
    variant = keras_vit.Variant(
        1, 16, 32, 2, patch_size=1, stages=(1, 1), width_factor=0.5
    )
    model = randomized(keras_vit.ViT(variant, **own))
    path = tmp_path / "hybrid.npz"
    keras_vit.export_checkpoint(model, path, format="official")
    kernel = keras.ops.convert_to_numpy(model.get_layer("root_conv").kernel)
    with pytest.warns(UserWarning, match="of 3 channels"):
        grey = keras_vit.ViT(variant, num_channels=1, weights=path, **own)
    np.testing.assert_allclose(
        grey.get_layer("root_conv").kernel,
        kernel.sum(2, keepdims=True),
        atol=1e-6,
    )
