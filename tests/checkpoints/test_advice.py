"""Pixels as the libraries that trained a network cut them from a file."""

import json

import keras
import numpy as np
import pytest
from oracles import import_oracle

import keras_vit
from keras_vit.checkpoints import advice

Image = pytest.importorskip("PIL.Image")
Preprocessing = keras_vit.Preprocessing

# Height and width: landscape, portrait, odd sides, smaller than a model.
SIZES = [(157, 236), (243, 121), (99, 100), (20, 31)]


def of_advice(tiny_vit, own):
    own = Preprocessing((0.4, 0.5, 0.6), (0.5,) * 3, **own)
    return tiny_vit(image_size=own.image_size, preprocessing=own)


TIMM = [
    {"crop_pct": 1.0, "crop_mode": "center", "interpolation": "bicubic"},
    {"crop_pct": 0.9, "crop_mode": "center", "interpolation": "bicubic"},
    {"crop_pct": 0.888, "crop_mode": "center", "interpolation": "bilinear"},
    {"crop_pct": 0.95, "crop_mode": "squash", "interpolation": "bicubic"},
    {"crop_pct": 1.0, "crop_mode": "squash", "interpolation": "bilinear"},
    {"crop_pct": 1.0, "crop_mode": "border", "interpolation": "bicubic"},
    {"crop_pct": 0.8, "crop_mode": "border", "interpolation": "lanczos"},
    {},
]


@pytest.mark.parametrize("stated", TIMM)
@pytest.mark.parametrize("image_size", [(64, 64), (48, 64)])
def test_pixels_of_timm(stated, image_size, tiny_vit, photograph):
    import_oracle("timm")
    from timm.data import create_transform, resolve_data_config

    stated = stated | {
        "input_size": (3, *image_size),
        "mean": (0.4, 0.5, 0.6),
        "std": (0.5, 0.5, 0.5),
    }
    config = resolve_data_config(pretrained_cfg=stated)
    transform = create_transform(**config, normalize=False)
    own = advice.read({"pretrained_cfg": stated}, {})
    model = of_advice(tiny_vit, own)
    for size in SIZES:
        image = Image.fromarray(photograph(*size))
        expected = transform(image).numpy().transpose(1, 2, 0)
        np.testing.assert_array_equal(
            keras_vit.load_image(image, model), expected
        )


TRANSFORMERS = [
    ("clip", {"size": {"shortest_edge": 64}, "crop_size": 64}),
    ("bit", {"size": {"shortest_edge": 73}, "crop_size": 64}),
    ("bit", {"size": {"shortest_edge": 74}, "crop_size": 64, "resample": 2}),
    ("vit", {"size": {"height": 64, "width": 64}}),
    ("siglip", {"size": {"height": 64, "width": 64}}),
    ("deit", {"size": {"height": 73, "width": 73}, "crop_size": 64}),
]


@pytest.mark.parametrize("kind, stated", TRANSFORMERS)
def test_pixels_of_transformers(kind, stated, tiny_vit, photograph):
    import_oracle("transformers")
    module = pytest.importorskip(
        f"transformers.models.{kind}.image_processing_pil_{kind}"
    )
    (name,) = module.__all__
    raw = {"do_rescale": False, "do_normalize": False}
    processor = getattr(module, name)(**stated, **raw)
    own = advice.read({}, json.loads(processor.to_json_string()))
    assert own["image_size"] == (64, 64)
    model = of_advice(tiny_vit, own)
    for size in SIZES:
        image = Image.fromarray(photograph(*size))
        expected = processor(image)["pixel_values"][0].transpose(1, 2, 0)
        np.testing.assert_array_equal(
            keras_vit.load_image(image, model), expected
        )


def test_every_edge_of_transformers_is_kept():
    """As a fraction: 7377 of these pairs do not come back by division."""
    for crop in range(16, 600, 7):
        for edge in range(crop, 700):
            stated = {
                "size": {"shortest_edge": edge},
                "do_center_crop": True,
                "crop_size": {"height": crop, "width": crop},
            }
            fraction = advice.read({}, stated)["crop_fraction"]
            assert int(crop // fraction) == edge or crop / fraction == edge


@pytest.mark.parametrize("kind", ["huggingface", "timm"])
@pytest.mark.parametrize("resize", ["shortest", "squash", "longest"])
def test_advice_goes_out_and_comes_back(kind, resize, tmp_path):
    own = {
        "crop_fraction": 0.9,
        "resize": resize,
        "interpolation": "bicubic",
        "crop_rounding": "down" if kind == "huggingface" else "even",
    }
    if (resize, kind) == ("longest", "huggingface"):
        pytest.skip("transformers has no such resize")
    variant = keras_vit.Variant(1, 64, 32, 1, patch_size=16)
    model = keras_vit.ViT(
        variant,
        image_size=64,
        num_classes=3,
        activation="gelu",
        preprocessing=Preprocessing((0.5,), (0.5,), **own),
    )
    keras_vit.export_checkpoint(model, tmp_path, format=kind)
    again = keras_vit.from_checkpoint(tmp_path, verbose=0)
    found = again.get_layer("rescaling").preprocessing
    assert found.image_size == (64, 64)
    for name, value in own.items():
        if name == "crop_fraction":
            assert int(64 / found.crop_fraction) == int(64 / value)
        else:
            assert getattr(found, name) == value
    named = keras_vit.from_checkpoint(tmp_path, preprocessing="unit", verbose=0)
    named = named.get_layer("rescaling").preprocessing
    assert (named.std, named.resize) == ((1.0,) * 3, resize)
    whole = keras_vit.Preprocessing((0.1,), (1.0,), 0.5)
    given = keras_vit.from_checkpoint(tmp_path, preprocessing=whole, verbose=0)
    given = given.get_layer("rescaling").preprocessing
    assert given == whole.for_channels(3)
    again.save(tmp_path / "model.keras")
    saved = keras.saving.load_model(tmp_path / "model.keras")
    assert saved.get_layer("rescaling").preprocessing == found
