"""Images against texts: the logits of transformers' networks of both."""

import pathlib
import sys

import keras
import numpy as np
import pytest
from opening import opened
from oracles import import_oracle, randomize

import keras_vit

sys.path.append(str(pathlib.Path(__file__).parents[2] / "benchmarks"))
import checkpoint_share_transformers as share  # noqa: E402
from checkpoint_share_transformers import TEXT, TWO, ViT  # noqa: E402

ALT = TEXT | {"project_dim": 16, "max_position_embeddings": 12}
# Class, arguments of its configuration, statistics.
CASES = {
    "CLIPModel": (TWO | {"projection_dim": 24}, "clip"),
    "MetaClip2Model": (TWO | {"projection_dim": 24}, "clip"),
    "ChineseCLIPModel": (TWO | {"projection_dim": 24}, "clip"),
    "AltCLIPModel": (
        {"vision_config": ViT, "text_config": ALT, "projection_dim": 24},
        "clip",
    ),
    "SiglipModel": (TWO, "inception"),
}


@pytest.fixture
def photographs(rng):
    return rng.integers(0, 256, (3, 64, 64, 3)).astype("uint8")


def both(module, images, statistics):
    """Embeddings of two texts, and the logits of images and texts."""
    import torch

    known = keras_vit.preprocessing.get(statistics)
    x = (images / 255 - np.array(known.mean)) / np.array(known.std)
    x = torch.from_numpy(x.transpose(0, 3, 1, 2).copy()).float()
    words = torch.tensor([[5, 6, 7, 49], [9, 8, 30, 49]])
    with torch.no_grad():
        out = module(input_ids=words, pixel_values=x)
    return out.text_embeds.numpy(), out.logits_per_image.numpy()


@pytest.mark.parametrize("name", CASES)
def test_logits_of_transformers(name, rng, tmp_path, photographs):
    import_oracle("transformers")
    arguments, statistics = CASES[name]
    module = share.make(name, arguments)
    randomize(module, rng)
    module.save_pretrained(tmp_path)
    texts, expected = both(module, photographs, statistics)
    model, notes = opened(tmp_path, embedding=True)
    assert "visual_projection" not in notes
    model.save(tmp_path / "model.keras")
    again = keras.saving.load_model(tmp_path / "model.keras")
    for one in (model, again):
        # Of any length.
        given = keras_vit.zero_shot(one, photographs, 3 * texts)
        np.testing.assert_allclose(given, expected, rtol=1e-4, atol=1e-5)
    assert np.ptp(expected) > 1e-2
    if name == "SiglipModel":
        assert model.get_layer("logit_scale").bias == module.logit_bias.item()


def test_a_tower_of_big_vision(rng, tmp_path, photographs, randomized):
    """Its temperature is a logarithm; by the formula."""
    model = randomized(
        keras_vit.ViT(
            keras_vit.Variant(1, 64, 128, 1, patch_size=16),
            image_size=64,
            num_classes=None,
            pooling="attention",
        )
    )
    path = tmp_path / "one.npz"
    keras_vit.export_checkpoint(model, path, format="big_vision")
    with np.load(path) as arrays:
        arrays = {
            f"params/img/{k.split('params/')[-1]}": arrays[k] for k in arrays
        }
    arrays["params/t"] = np.log(np.float32([20.0]))
    arrays["params/b"] = np.float32([-10.0])
    np.savez(tmp_path / "two.npz", **arrays)
    towers, _ = opened(tmp_path / "two.npz", embedding=True)
    x = keras_vit.predict(model, photographs, verbose=0)
    texts = rng.normal(size=(2, 64))
    cosine = (x / np.linalg.norm(x, axis=1, keepdims=True)) @ (
        texts / np.linalg.norm(texts, axis=1, keepdims=True)
    ).T
    given = keras_vit.zero_shot(towers, photographs, texts)
    np.testing.assert_allclose(given, 20 * cosine - 10, rtol=1e-4)


@pytest.mark.parametrize(
    "name, arguments, said",
    [
        ("CLIPVisionModel", ViT, "no network of images and texts"),
        ("Aimv2Model", TWO, "another way"),
    ],
)
def test_what_has_no_embedding_says_so(name, arguments, said, tmp_path):
    import_oracle("transformers")
    share.make(name, arguments).save_pretrained(tmp_path)
    with pytest.raises(keras_vit.CheckpointError, match=said):
        opened(tmp_path, embedding=True)


def test_a_projection_without_a_scale(rng, tmp_path, photographs, capsys):
    import_oracle("transformers")
    module = share.make("CLIPVisionModelWithProjection", ViT)
    module.save_pretrained(tmp_path)
    keras_vit.from_checkpoint(tmp_path, embedding=True, preprocessing="clip")
    assert "# then a projection to 512 numbers\n" in capsys.readouterr().out
    model, _ = opened(tmp_path, embedding=True)
    texts = rng.normal(size=(2, model.output_shape[-1]))
    with pytest.raises(ValueError, match="Pass `scale`"):
        keras_vit.zero_shot(model, photographs, texts)
    ten = keras_vit.zero_shot(model, photographs, texts, scale=10, bias=1)
    one = keras_vit.zero_shot(model, photographs, texts, scale=1)
    np.testing.assert_allclose(ten, 10 * one + 1, rtol=1e-4)
    for bad, part in (
        (texts[:, 1:], "num_texts, 512"),
        (texts[0], "num_texts, 512"),
        (0 * texts, "none of them zero"),
        (np.nan * texts, "must be finite"),
    ):
        with pytest.raises(ValueError, match=part):
            keras_vit.zero_shot(model, photographs, bad, scale=1)


def test_an_embedding_has_no_classes(tmp_path):
    with pytest.raises(ValueError, match="no classes"):
        keras_vit.from_checkpoint(tmp_path, embedding=True, num_classes=3)
