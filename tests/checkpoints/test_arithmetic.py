"""Equal weights are not equal networks: refused on the way in and out."""

import json

import numpy as np
import pytest
from helpers import outputs_of
from oracles import import_oracle

import keras_vit
from keras_vit.layers import (
    MLP,
    RotaryAttention,
    SelfAttention,
    SparseAttention,
    TransformerBlock,
    WindowAttention,
)

GRID = (2, 3)


def with_attention(attention, **arguments):
    return {
        "block": lambda index: TransformerBlock(
            attention=attention(),
            mlp_dim=32,
            activation="gelu",
            **arguments,
        )
    }


OTHERS = {
    "rotary": with_attention(lambda: RotaryAttention(4, GRID, 1)),
    "sparse": with_attention(lambda: SparseAttention(4, 3)),
    "post-norm": with_attention(lambda: SelfAttention(4), norm_after=True),
}


@pytest.fixture
def plain_file(tiny_vit, tmp_path):
    model = tiny_vit(activation="gelu")
    return keras_vit.export_checkpoint(model, tmp_path / "timm", format="timm")


@pytest.mark.parametrize("kind", OTHERS)
def test_a_plain_file_into_another_network(kind, plain_file, tiny_vit):
    model = tiny_vit(**OTHERS[kind])
    before = model.get_weights()
    with pytest.raises(keras_vit.CheckpointError, match="other arithmetic"):
        keras_vit.load_checkpoint(model, plain_file)
    for old, new in zip(before, model.get_weights()):
        np.testing.assert_array_equal(old, new)
    keras_vit.load_checkpoint(model, plain_file, check_numerics=False)


def test_another_pooling(tiny_vit, tmp_path):
    """Class token or mean, the arrays are the same."""
    file = keras_vit.export_checkpoint(
        tiny_vit(activation="gelu"), tmp_path, format="timm"
    )
    config = json.loads((tmp_path / "config.json").read_text("utf-8"))
    config["model_args"]["global_pool"] = "avg"
    (tmp_path / "config.json").write_text(json.dumps(config), "utf-8")
    with pytest.raises(keras_vit.CheckpointError, match="pooling='average'"):
        keras_vit.load_checkpoint(tiny_vit(activation="gelu"), file)
    # A trunk, and a head of one's own, are free to take what they want.
    keras_vit.load_checkpoint(
        tiny_vit(activation="gelu", num_classes=3), file, reset_head=True
    )


@pytest.mark.parametrize("kind", OTHERS)
@pytest.mark.parametrize("format", ["timm", "huggingface"])
def test_another_network_does_not_leave_as_a_plain_one(
    kind, format, tiny_vit, tmp_path
):
    with pytest.raises(ValueError, match="has no such blocks"):
        keras_vit.export_checkpoint(
            tiny_vit(**OTHERS[kind]), tmp_path / "out", format=format
        )
    assert not (tmp_path / "out").exists()


ODD = {
    "head_dim=8": with_attention(lambda: SelfAttention(4, head_dim=8)),
    "WindowAttention": {
        "pooling": "average",
        **with_attention(lambda: WindowAttention(4, 1, GRID)),
    },
    "position='sincos_2d'": {"position": "sincos_2d", "activation": "gelu"},
    "no final norm": {"final_norm": False, "activation": "gelu"},
    "layer_scale=": {
        "block": lambda index: TransformerBlock(
            4, 32, activation="gelu", layer_scale=1.0 if index else None
        )
    },
    "gated=True": {
        "block": lambda index: TransformerBlock(
            4, mlp=MLP(32, activation="gelu", gated=True)
        )
    },
}


@pytest.mark.parametrize("kind", ODD)
def test_what_timm_could_not_open_is_refused(kind, tiny_vit, tmp_path):
    with pytest.raises(ValueError, match=kind):
        keras_vit.export_checkpoint(
            tiny_vit(**ODD[kind]), tmp_path / "out", format="timm"
        )


def test_a_norm_after_pooling_leaves_for_timm(tiny_vit, tmp_path, rng):
    timm = import_oracle("timm")
    import torch

    model = tiny_vit(
        pooling="average",
        norm_after_pooling=True,
        activation="gelu",
        preprocessing="imagenet",
    )
    keras_vit.export_checkpoint(model, tmp_path / "m", format="timm")
    module = timm.create_model(f"local-dir:{tmp_path / 'm'}", pretrained=True)
    images = rng.integers(0, 256, (2, 8, 12, 3)).astype("uint8")
    # As timm's own pipeline does it, from the configuration in the folder.
    stated = module.pretrained_cfg
    pixels = (images / 255 - np.array(stated["mean"])) / stated["std"]
    pixels = torch.from_numpy(pixels.transpose(0, 3, 1, 2)).float()
    expected = module.eval()(pixels).detach().numpy()
    given = outputs_of(model, images)
    np.testing.assert_allclose(
        given, expected, atol=1e-5 * np.abs(expected).max()
    )
    again = keras_vit.from_checkpoint(tmp_path / "m", verbose=0)
    np.testing.assert_allclose(
        outputs_of(again, images), given, atol=1e-5 * np.abs(given).max()
    )


def test_npz_files_have_no_place_for_statistics(tiny_vit, tmp_path):
    model = tiny_vit(preprocessing="clip")
    with pytest.raises(ValueError, match=r"in \[-1, 1\]"):
        keras_vit.export_checkpoint(model, tmp_path / "m.npz")


@pytest.mark.parametrize(
    "change, message",
    [
        ({"num_heads": 2}, "num_heads=2"),
        ({"act_layer": "quick_gelu"}, "activation='quick_gelu'"),
        ({"act_layer": "mystery"}, "'mystery'"),
    ],
)
def test_what_the_configuration_says_counts(
    change, message, plain_file, tiny_vit
):
    path = plain_file.with_name("config.json")
    config = json.loads(path.read_text(encoding="utf-8"))
    config["model_args"] |= change
    path.write_text(json.dumps(config), encoding="utf-8")
    with pytest.raises(keras_vit.CheckpointError, match=message):
        keras_vit.load_checkpoint(tiny_vit(activation="gelu"), plain_file)


def test_other_pixels_are_refused(plain_file, tiny_vit):
    path = plain_file.with_name("config.json")
    config = json.loads(path.read_text(encoding="utf-8"))
    config["pretrained_cfg"] |= {"mean": [0.485, 0.456, 0.406]}
    path.write_text(json.dumps(config), encoding="utf-8")
    with pytest.raises(keras_vit.CheckpointError, match="mean=.*0.485"):
        keras_vit.load_checkpoint(tiny_vit(activation="gelu"), plain_file)
