"""`segmentation_model`: every patch answers for its own pixels."""

import keras
import numpy as np
import pytest
from helpers import EAGER, randomize, to_numpy

import keras_vit
from keras_vit.ops.resize import resize_matrix

SIZE = (16, 24)


@pytest.fixture
def backbone():
    def build(**arguments):
        variant = keras_vit.Variant(1, 16, 32, 4, patch_size=8)
        return keras_vit.ViT(variant, **{"image_size": SIZE, **arguments})

    return build


def hybrid():
    variant = keras_vit.Variant(
        1, 16, 32, 4, patch_size=1, stages=(1, 1), width_factor=0.5
    )
    return keras_vit.ViT(variant, image_size=(33, 24))


@pytest.mark.parametrize("tap", ["encoder_norm", "block_00"])
def test_feature_map_puts_tokens_where_their_patches_are(tap, backbone, rng):
    model = backbone(num_registers=2)
    images = rng.uniform(0, 255, (2, *SIZE, 3))
    taps = keras_vit.feature_extractor(model, tap)
    tokens = taps.predict(images, verbose=0)
    maps = keras_vit.models.feature_map(model, tap).predict(images, verbose=0)
    assert maps.shape == (2, 2, 3, 16)
    np.testing.assert_array_equal(maps[:, 1, 2], tokens[:, 3 + 5])


# Each option under each decoder; only what is alike for both, the tokens that
# make the map, once.
PADDED = {"image_size": (13, 22), "remainder": "pad"}
FIRST = {"data_format": "channels_first"}
COARSE = {"dtype": "mixed_bfloat16"}


@pytest.mark.parametrize(
    "decoder, arguments",
    [
        ("linear", {"image_size": None, "pooling": "average"}),
        ("linear", {**PADDED, **FIRST, **COARSE}),
        ("conv", {"image_size": None}),
        ("conv", {**PADDED, **COARSE}),
        ("conv", FIRST),
    ],
    ids=str,
)
def test_logits_for_every_pixel(decoder, arguments, backbone, rng, tmp_path):
    model = keras_vit.segmentation_model(
        backbone(**arguments), 3, decoder=decoder, decoder_dim=8
    )
    randomize(model, rng)
    height, width = arguments.get("image_size") or SIZE
    images = rng.uniform(0, 255, (2, height, width, 3))
    if "data_format" in arguments:
        images = images.transpose(0, 3, 1, 2)
    model.compile("adam", **keras_vit.recipes.segmentation(3), **EAGER)
    labels = rng.integers(0, 3, (2, height, width))
    model.fit(images, labels, verbose=0)
    logits = model.predict(images, verbose=0)
    assert logits.shape == (2, height, width, 3)
    assert logits.dtype == np.float32 and np.isfinite(logits).all()
    model.save(tmp_path / "model.keras")
    loaded = keras.models.load_model(tmp_path / "model.keras")
    np.testing.assert_array_equal(loaded.predict(images, verbose=0), logits)


def test_a_linear_head_is_interpolated_between_the_centres_of_patches(
    backbone, rng
):
    model = keras_vit.segmentation_model(backbone(), 3)
    randomize(model, rng)
    images = rng.uniform(0, 255, (1, *SIZE, 3))
    taps = keras_vit.feature_extractor(model, ["classes", "crop"])
    given = taps.predict(images, verbose=0)
    cells, logits = given["classes"][0], given["crop"][0]
    expected = np.einsum(
        "Yy,Xx,yxc->YXc",
        resize_matrix(16, 2, "bilinear"),
        resize_matrix(24, 3, "bilinear"),
        cells,
    )
    np.testing.assert_allclose(logits, expected, atol=1e-5)


def test_the_parts_of_a_new_decoder(backbone):
    model = keras_vit.segmentation_model(backbone(), 3, decoder="conv")
    assert not to_numpy(model.get_layer("classes").kernel).any()
    assert [layer.name for layer in model.layers][-11:] == [
        "conv1", "conv1_norm", "conv1_gelu", "enlarge1",
        "conv2", "conv2_norm", "conv2_gelu", "enlarge2",
        "classes", "logits", "crop",
    ]  # fmt: skip


def test_a_hybrid_and_another_resolution(rng):
    model = keras_vit.segmentation_model(hybrid(), 4)
    assert model.output_shape == (None, 33, 24, 4)
    larger = keras_vit.change_resolution(model, (40, 64))
    assert larger.output_shape == (None, 40, 64, 4)
    for old, new in zip(model.weights, larger.weights):
        if "position" not in old.path:
            np.testing.assert_array_equal(to_numpy(old), to_numpy(new))


def test_ignored_pixels_count_neither_in_loss_nor_in_iou():
    objective = keras_vit.recipes.segmentation(3)
    labels = np.array([[[0, 1, 255], [2, 255, 1]]])
    logits = np.zeros((1, 2, 3, 3), "float32")
    predicted = np.array([[[0, 1, 0], [1, 2, 1]]])
    np.put_along_axis(logits, predicted[..., None], 2.0, axis=-1)
    # log-sum-exp minus the logit of the label, over the four that count
    norm = np.log(np.exp(2) + 2)
    losses = np.array([norm - 2, norm - 2, norm, norm - 2])
    loss = objective["loss"](labels, logits)
    total = losses.sum() / float(loss)
    assert total == pytest.approx(4) or total == pytest.approx(6)
    (metric,) = objective["metrics"]
    metric.update_state(labels, logits)
    # Class 0: 1 of 1; class 1: 2 of 3; class 2: 0 of 1.
    assert float(metric.result()) == pytest.approx((1 + 2 / 3 + 0) / 3)


@pytest.mark.parametrize(
    "arguments, message",
    [
        ({"num_classes": 0}, "num_classes=0"),
        ({"decoder": "unet"}, "decoder='unet'"),
        ({"decoder_dim": 0}, "decoder_dim=0"),
    ],
)
def test_bad_arguments(arguments, message, backbone):
    with pytest.raises(ValueError, match=message):
        keras_vit.segmentation_model(
            backbone(), **{"num_classes": 2, **arguments}
        )


def test_backbones_that_will_not_do(backbone):
    with pytest.raises(ValueError, match="PatchEncoder. Received: 0"):
        keras_vit.segmentation_model(keras_vit.ResNet(((1,), 0.5)), 2)
    with pytest.raises(ValueError, match="remainder='crop'"):
        keras_vit.segmentation_model(
            backbone(image_size=(17, 24), remainder="crop"), 2
        )
