"""A file alone makes the model: sizes, arithmetic, pixels and weights."""

import json
import warnings

import numpy as np
import pytest
from helpers import SHARED, outputs_of
from oracles import import_oracle, randomize

import keras_vit

PIXELS = (64, 64)
NAMED = keras_vit.preprocessing.NAMED


@pytest.fixture
def photographs(rng):
    return rng.integers(0, 256, (2, *PIXELS, 3)).astype("uint8")


def prepared(images, preprocessing):
    """What the other library's pipeline makes of uint8 images."""
    mean, std = preprocessing.mean, preprocessing.std
    x = (images / 255 - np.array(mean)) / np.array(std)
    return x.transpose(0, 3, 1, 2).astype("float32")


def run(module, pixels):
    import torch

    with torch.no_grad():
        y = module(torch.from_numpy(pixels.copy()))
    return y.numpy() if hasattr(y, "numpy") else y


def assert_equal(given, expected):
    """To 1e-5 of the largest value: sums of float32 in another order."""
    expected = np.asarray(expected)
    assert given.shape == expected.shape
    np.testing.assert_allclose(
        given, expected, atol=1e-5 * np.abs(expected).max()
    )


TIMM = {
    "plain": ("vit_tiny_patch16_224", {}),
    "headless": ("vit_tiny_patch16_224", {"num_classes": 0}),
    "LayerScale, class token without position": (
        "deit3_small_patch16_224",
        {},
    ),
    "MAP": ("vit_base_patch16_siglip_224", {}),
    "average without class token": ("vit_base_patch16_siglip_gap_224", {}),
    "average with class token": ("eva_large_patch14_196", {"patch_size": 16}),
    "registers": ("vit_base_patch14_reg4_dinov2", {"patch_size": 16}),
    "SwiGLU": (
        "vit_giant_patch14_dinov2",
        {"patch_size": 16, "mlp_ratio": 4.0},
    ),
    "QK-norm": ("vit_tiny_patch16_224", {"qk_norm": True}),
    "norm of the sequence": ("vit_base_patch16_clip_224", {}),
    "quick GELU": ("vit_base_patch16_clip_quickgelu_224", {}),
    "norm behind the branch": ("vit_base_patch16_rpn_224", {}),
    "no last norm": ("vit_base_patch16_radio_v3", {}),
    "norms of heads and MLP": ("beit3_base_patch16_224", {}),
    "RMSNorm, no biases": ("aimv2_large_patch14_224", {"patch_size": 16}),
}


@pytest.mark.parametrize("kind", TIMM)
def test_timm(kind, rng, tmp_path, photographs, capsys):
    timm = import_oracle("timm")
    from timm.models._hub import save_for_hf

    name, own = TIMM[kind]
    arguments = {
        "depth": 2, "embed_dim": 64, "num_heads": 4, "img_size": 64, **own
    }  # fmt: skip
    arguments.setdefault("num_classes", 7)
    module = timm.create_model(name, **arguments)
    randomize(module, rng)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        save_for_hf(
            module, tmp_path, model_args=arguments, safe_serialization=True
        )
    model = keras_vit.from_checkpoint(tmp_path)
    stated = keras_vit.Preprocessing(
        module.pretrained_cfg["mean"], module.pretrained_cfg["std"]
    )
    expected = run(module, prepared(photographs, stated))
    assert_equal(outputs_of(model, photographs), expected)
    # What it prints makes the same by hand.
    names = {"keras_vit": keras_vit, "layers": keras_vit.layers}
    by_hand = eval(capsys.readouterr().out, names)
    by_hand.set_weights(model.get_weights())
    assert_equal(outputs_of(by_hand, photographs), expected)


def distilled(folder, rng, num_classes=7):
    """A small DeiT of timm with two heads, and its statistics."""
    timm = import_oracle("timm")
    from timm.models._hub import save_for_hf

    own = {
        "depth": 2, "embed_dim": 64, "num_heads": 4, "img_size": 64,
        "num_classes": num_classes,
    }  # fmt: skip
    module = timm.create_model("deit_tiny_distilled_patch16_224", **own)
    randomize(module, rng)
    save_for_hf(module, folder, model_args=own, safe_serialization=True)
    stated = module.pretrained_cfg
    return module, keras_vit.Preprocessing(stated["mean"], stated["std"])


def test_two_heads(rng, tmp_path, photographs, capsys):
    """The mean of both, as timm gives at inference."""
    import keras

    module, stated = distilled(tmp_path, rng)
    expected = run(module, prepared(photographs, stated))
    model = keras_vit.from_checkpoint(tmp_path)
    assert_equal(outputs_of(model, photographs), expected)
    names = {"keras_vit": keras_vit, "layers": keras_vit.layers}
    by_hand = eval(capsys.readouterr().out, names)
    by_hand.set_weights(model.get_weights())
    assert_equal(outputs_of(by_hand, photographs), expected)
    model.save(tmp_path / "model.keras")
    again = keras.saving.load_model(tmp_path / "model.keras")
    assert_equal(outputs_of(again, photographs), expected)


def test_two_heads_for_other_classes_and_sizes(rng, tmp_path, photographs):
    module, stated = distilled(tmp_path, rng)
    open_ = keras_vit.from_checkpoint
    model = open_(
        tmp_path, num_classes=5, image_size=(32, 48), name="pets", verbose=0
    )
    assert model.input_shape[1:3] == (32, 48) and model.name == "pets"
    assert model.output_shape == (None, 5)
    for head in ("head", "distillation_head"):
        assert not np.any(model.get_layer(head).kernel)
    import torch

    # Without heads, the class token.
    model = open_(tmp_path, num_classes=None, verbose=0)
    pixels = torch.from_numpy(prepared(photographs, stated))
    with torch.no_grad():
        expected = module.forward_features(pixels)[:, 0]
    assert_equal(outputs_of(model, photographs), expected.numpy())


def test_a_distillation_token_without_heads(rng, tmp_path):
    """timm gives the mean of two tokens then."""
    distilled(tmp_path, rng, num_classes=0)
    with pytest.warns(UserWarning, match="the mean of the two"):
        keras_vit.from_checkpoint(tmp_path, verbose=0)


TRANSFORMERS = {
    "ViT": ("ViTConfig", "ViTForImageClassification", {}),
    "ViT, pooler": ("ViTConfig", "ViTModel", {}),
    "DINOv2": ("Dinov2Config", "Dinov2Model", {"mlp_ratio": 2}),
    "DINOv2, SwiGLU": (
        "Dinov2Config",
        "Dinov2Model",
        {"mlp_ratio": 2, "use_swiglu_ffn": True},
    ),
    "DINOv2, registers": (
        "Dinov2WithRegistersConfig",
        "Dinov2WithRegistersModel",
        {"mlp_ratio": 2, "num_register_tokens": 4},
    ),
}


@pytest.mark.parametrize("kind", TRANSFORMERS)
def test_transformers(kind, rng, tmp_path, photographs):
    transformers = import_oracle("transformers")
    config, model, own = TRANSFORMERS[kind]
    arguments = {
        "hidden_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4,
        "image_size": 64, "patch_size": 16, "num_labels": 7, **own,
    }  # fmt: skip
    if config == "ViTConfig":
        arguments["intermediate_size"] = 96
    module = getattr(transformers, model)(
        getattr(transformers, config)(**arguments)
    )
    randomize(module, rng)
    module.save_pretrained(tmp_path)
    imagenet = NAMED["imagenet"]
    (tmp_path / "preprocessor_config.json").write_text(
        json.dumps(
            {
                "image_mean": imagenet.mean,
                "image_std": imagenet.std,
                "do_normalize": True,
                "resample": 3,
                "do_center_crop": True,
                "crop_size": {"height": 56, "width": 56},
                "size": {"shortest_edge": 64},
            }
        ),
        encoding="utf-8",
    )
    ours = keras_vit.from_checkpoint(tmp_path, verbose=0)
    expected = run(module, prepared(photographs, imagenet))
    if "logits" in expected:
        expected = expected.logits
    else:
        expected = expected.pooler_output
    assert_equal(outputs_of(ours, photographs), expected.numpy())
    layer = ours.get_layer("rescaling").preprocessing
    assert (layer.crop_fraction, layer.interpolation) == (0.875, "bicubic")


@pytest.mark.parametrize("edge", [224, 518])
def test_a_real_network_at_two_sizes(edge):
    """DINOv2 ViT-S/14 against ONNX Runtime and transformers.

    The tolerances are those of the data: ONNX Runtime and transformers agree
    to 2.9e-5 at 224 pixels, where the largest value is 10.7.
    """
    file = SHARED / "data" / "dinov2s_saliency.safetensors"
    if not file.exists():
        pytest.skip("no ../shared/data/dinov2s_saliency.safetensors")
    with np.load(file.with_name("dinov2s_saliency_expected.npz")) as arrays:
        image = arrays[f"image_{edge}"]
        expected = arrays["tokens_224"]
        first, mean = arrays["tokens_518_first"], arrays["tokens_518_mean"]
    with pytest.warns(UserWarning, match="6, of width 64"):
        model = keras_vit.from_checkpoint(
            file, image_size=edge, preprocessing="imagenet", verbose=0
        )
    tokens = keras_vit.feature_extractor(model, "encoder_norm")
    tokens = outputs_of(tokens, image[None].astype("uint8"))[0]
    if edge == 224:
        np.testing.assert_allclose(tokens, expected, atol=1e-4)
    else:
        np.testing.assert_allclose(tokens[:64], first, atol=1e-4)
        np.testing.assert_allclose(tokens[1:].mean(0), mean, atol=1e-4)


def test_what_files_do_not_say_is_said(tmp_path, tiny_vit, photographs):
    variant = keras_vit.Variant(1, 60, 32, 3, patch_size=16)
    model = keras_vit.ViT(
        variant, image_size=64, num_classes=3, activation="gelu"
    )
    keras_vit.export_checkpoint(model, tmp_path, format="timm")
    (tmp_path / "config.json").unlink()
    with pytest.raises(keras_vit.CheckpointError, match="Pass `num_heads`"):
        keras_vit.from_checkpoint(tmp_path)
    with pytest.warns(UserWarning, match="Pass `preprocessing="):
        again = keras_vit.from_checkpoint(tmp_path, num_heads=3)
    assert_equal(outputs_of(again, photographs), outputs_of(model, photographs))


def test_another_head_and_size(tmp_path):
    variant = keras_vit.Variant(1, 64, 32, 1, patch_size=16)
    model = keras_vit.ViT(variant, image_size=64, num_classes=3)
    keras_vit.export_checkpoint(model, tmp_path / "m.npz", format="official")
    open_ = keras_vit.from_checkpoint
    again = open_(tmp_path / "m.npz", verbose=0)
    assert again.input_shape[1:3] == (64, 64) and again.output_shape[-1] == 3
    again = open_(
        tmp_path / "m.npz", image_size=(32, 48), num_classes=5, verbose=0
    )
    assert again.input_shape[1:3] == (32, 48) and again.output_shape[-1] == 5
    assert not np.any(again.get_layer("head").kernel)
    again = open_(tmp_path / "m.npz", num_classes=None, verbose=0)
    assert again.output_shape == (None, 64)


@pytest.mark.parametrize("name", ["imagenet", "clip", "unit"])
def test_pixel_statistics_survive_saving(name, tmp_path, photographs, tiny_vit):
    """Against the formula, uint8 in; through `.keras` and another size."""
    import keras

    model = tiny_vit(image_size=(8, 12), preprocessing=name)
    images = photographs[:, :8, :12]
    plain = tiny_vit(image_size=(8, 12), preprocessing=None)
    plain.set_weights(model.get_weights())
    known = NAMED[name].for_channels(3)
    expected = outputs_of(plain, prepared(images, known).transpose(0, 2, 3, 1))
    assert_equal(outputs_of(model, images), expected)
    model.save(tmp_path / "model.keras")
    again = keras.saving.load_model(tmp_path / "model.keras")
    assert_equal(outputs_of(again, images), expected)
    larger = keras_vit.change_resolution(model, (16, 12))
    assert larger.get_layer("rescaling").preprocessing == known
