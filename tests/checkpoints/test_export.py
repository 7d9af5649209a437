"""`export_checkpoint`: exact round trips, and refusals instead of losses."""

import json

import numpy as np
import pytest
from helpers import to_numpy

import keras_vit
from keras_vit.checkpoints import formats
from keras_vit.layers import PatchEncoder, SelfAttention, TransformerBlock


def read_back(model, twin, tmp_path, format):
    is_npz = format in ("official", "big_vision")
    path = tmp_path / ("model.npz" if is_npz else "model")
    written = keras_vit.export_checkpoint(model, path, format=format)
    keras_vit.load_checkpoint(twin, written)
    for weight, expected in zip(twin.weights, model.weights):
        given, expected = to_numpy(weight), to_numpy(expected)
        assert given.tobytes() == expected.tobytes(), weight.path


ROUND_TRIPS = {
    "official": [
        {},
        {"representation_dim": 7},
        {"pooling": "average"},
        {"pooling": "average", "position": "sincos_2d"},
        {"num_classes": None},
        {"num_channels": 1},
    ],
    "big_vision": [{}, {"pooling": "attention"}, {"pooling": "average"}],
    "timm": [
        {"activation": "gelu"},
        {"activation": "gelu", "num_registers": 3},
        {"pooling": "attention"},
        {"pooling": "average"},
    ],
    "huggingface": [
        {"activation": "gelu", "epsilon": 1e-12},
        {"num_classes": None, "representation_dim": 16},
        {"num_classes": None},
    ],
}


@pytest.mark.parametrize(
    "format, arguments",
    [(name, case) for name, cases in ROUND_TRIPS.items() for case in cases],
    ids=str,
)
def test_round_trips_are_exact_to_the_bit(
    format, arguments, tiny_vit, tmp_path
):
    read_back(tiny_vit(**arguments), tiny_vit(**arguments), tmp_path, format)


def test_round_trip_of_parts_of_ones_own(tiny_vit, tmp_path):
    def parts():
        return {
            "patch_encoder": PatchEncoder(
                16, position_of_cls_token=False, num_registers=2
            ),
            "block": lambda index: TransformerBlock(
                attention=SelfAttention(4, qk_norm=True, use_bias=False),
                mlp_dim=32,
                activation="gelu",
                layer_scale=0.1,
            ),
        }

    read_back(tiny_vit(**parts()), tiny_vit(**parts()), tmp_path, "timm")


def test_official_names_and_shapes_are_those_of_the_paper(tmp_path):
    """Every key of ViT-B/16 on ImageNet-21k, from the layout's description."""
    model = keras_vit.ViT(
        keras_vit.Variant(2, 768, 3072, 12, 16),
        num_classes=21,
        representation_dim=768,
    )
    path = keras_vit.export_checkpoint(model, tmp_path / "ViT-B_16.npz")
    with np.load(path, allow_pickle=False) as arrays:
        shapes = {key: arrays[key].shape for key in arrays}
        assert all(arrays[key].dtype == np.float32 for key in arrays)
    expected = {
        "cls": (1, 1, 768),
        "embedding/kernel": (16, 16, 3, 768),
        "embedding/bias": (768,),
        "Transformer/posembed_input/pos_embedding": (1, 197, 768),
        "Transformer/encoder_norm/scale": (768,),
        "Transformer/encoder_norm/bias": (768,),
        "pre_logits/kernel": (768, 768),
        "pre_logits/bias": (768,),
        "head/kernel": (768, 21),
        "head/bias": (21,),
    }
    for i in range(2):
        block = f"Transformer/encoderblock_{i}/"
        attention = f"{block}MultiHeadDotProductAttention_1/"
        for norm in ("LayerNorm_0", "LayerNorm_2"):
            expected[f"{block}{norm}/scale"] = (768,)
            expected[f"{block}{norm}/bias"] = (768,)
        for part in ("query", "key", "value"):
            expected[f"{attention}{part}/kernel"] = (768, 12, 64)
            expected[f"{attention}{part}/bias"] = (12, 64)
        expected[f"{attention}out/kernel"] = (12, 64, 768)
        expected[f"{attention}out/bias"] = (768,)
        expected[f"{block}MlpBlock_3/Dense_0/kernel"] = (768, 3072)
        expected[f"{block}MlpBlock_3/Dense_0/bias"] = (3072,)
        expected[f"{block}MlpBlock_3/Dense_1/kernel"] = (3072, 768)
        expected[f"{block}MlpBlock_3/Dense_1/bias"] = (768,)
    assert shapes == expected


def test_patches_are_cut_as_convolutions_do(tiny_vit, tmp_path):
    """Row, column, channel: the kernel is a reshape of the official one."""
    model = tiny_vit()
    path = keras_vit.export_checkpoint(model, tmp_path / "model.npz")
    ours = to_numpy(model.get_layer("patch_encoder").projection.kernel)
    theirs = np.load(path)["embedding/kernel"]
    assert theirs.shape == (4, 4, 3, 16)
    np.testing.assert_array_equal(theirs[1, 2, 0], ours[(1 * 4 + 2) * 3 + 0])


REFUSED = [
    ("official", {"num_registers": 2}, "register_tokens"),
    ("official", {"activation": "gelu"}, "activation='gelu'"),
    ("official", {"epsilon": 1e-12}, "1e-12"),
    ("official", {"pooling": "attention"}, "pooling='attention'"),
    ("official", {"position": "learned_2d"}, "row_table"),
    ("timm", {"representation_dim": 8, "activation": "gelu"}, "pre_logits"),
    ("timm", {"activation": "swiglu"}, "swiglu"),
    ("huggingface", {"pooling": "average"}, "pooling='average'"),
    ("huggingface", {"num_registers": 1}, "register_tokens"),
]


@pytest.mark.parametrize("format, arguments, message", REFUSED, ids=str)
def test_what_a_format_cannot_hold_is_refused(
    format, arguments, message, tiny_vit, tmp_path
):
    path = tmp_path / ("out.npz" if format == "official" else "out")
    with pytest.raises(ValueError, match="format") as error:
        keras_vit.export_checkpoint(tiny_vit(**arguments), path, format=format)
    assert message in str(error.value)
    assert not list(tmp_path.iterdir())


def test_paths_that_do_not_suit_the_format(tiny_vit, tmp_path):
    with pytest.raises(ValueError, match="must end in .npz"):
        keras_vit.export_checkpoint(tiny_vit(), tmp_path / "weights")
    with pytest.raises(ValueError, match="must be a folder"):
        keras_vit.export_checkpoint(
            tiny_vit(), tmp_path / "weights.npz", format="timm"
        )
    with pytest.raises(ValueError, match="format='onnx'"):
        keras_vit.export_checkpoint(tiny_vit(), "x", format="onnx")


def test_a_head_beside_the_pooler_has_no_place_at_hugging_face(
    tiny_vit, tmp_path
):
    """Its classifier does not look at the pooler."""
    with pytest.raises(ValueError, match="pre_logits"):
        keras_vit.export_checkpoint(
            tiny_vit(representation_dim=16),
            tmp_path / "out",
            format="huggingface",
        )


def test_somebody_must_say_how_images_are_prepared(tiny_vit, tmp_path):
    silent = tiny_vit(activation="gelu", preprocessing=None)
    with pytest.raises(ValueError, match="nothing says how.*=None"):
        keras_vit.export_checkpoint(silent, tmp_path / "out", "timm")
    with pytest.raises(ValueError, match="must be left out for.*its own"):
        keras_vit.export_checkpoint(
            tiny_vit(activation="gelu"),
            tmp_path / "out",
            "timm",
            preprocessing="clip",
        )
    assert not list(tmp_path.iterdir())
    keras_vit.export_checkpoint(
        silent, tmp_path, "timm", preprocessing="imagenet"
    )
    config = json.loads((tmp_path / "config.json").read_text("utf-8"))
    stated = config["pretrained_cfg"]
    assert stated["mean"] == [0.485, 0.456, 0.406]
    # Of such files there is one kind, which is for [-1, 1].
    keras_vit.export_checkpoint(
        tiny_vit(preprocessing=None), tmp_path / "model.npz"
    )


def test_configs_say_how_images_are_prepared(tiny_vit, tmp_path):
    model = tiny_vit(activation="gelu", epsilon=1e-12)
    keras_vit.export_checkpoint(model, tmp_path, format="huggingface")
    config = json.loads(
        (tmp_path / "preprocessor_config.json").read_text("utf-8")
    )
    assert config["size"] == {"height": 8, "width": 12}
    assert config["image_mean"] == config["image_std"] == [0.5, 0.5, 0.5]


def test_rules_read_and_write_the_same_names():
    for form in formats.FORMATS:
        for rule in form.rules:
            # A capital letter counts from 1.
            numbers = {"i": 11, "s": 3, "u": 12, "S": 4, "U": 13}
            key = rule.key.format(**numbers)
            paths = rule.match(key)
            assert paths == tuple(p.format(**numbers) for p in rule.paths)
            assert rule.key_for(paths[0]) == key


def test_official_names_of_hybrids_and_bit_are_known():
    """The models come later; the names stand."""
    hybrid = {
        rule.key: rule.paths[0]
        for rule in formats.PRE_LINEN.rules
        if "{s}" in rule.key or "root" in rule.key
    }
    # conv_root, gn_root x2, and three convolutions and shortcut of a unit,
    # each with a kernel and a norm.
    assert len(hybrid) == 3 + 4 * 3
    found = formats.recognise(["resnet/root_block/standardized_conv2d/kernel"])
    assert found == (formats.BIT, "resnet/")
