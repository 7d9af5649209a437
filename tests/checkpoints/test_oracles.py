"""timm, transformers and vit-pytorch: their models here, ours there.

Models with random weights, built by the other library and saved as it saves:
equal logits after loading, and equal logits from what we export.
"""

import functools
import json

import numpy as np
import pytest
from oracles import images, import_oracle, randomize, run, save

import keras_vit
from keras_vit.layers import (
    AveragePooling,
    PatchEncoder,
    SelfAttention,
    TransformerBlock,
)

SIZE = (28, 42)  # a rectangle: 4 x 6 patches of 7 pixels
VARIANT = keras_vit.Variant(2, 24, 40, 3, patch_size=7)


def build(**arguments):
    arguments = {
        "image_size": SIZE,
        "num_classes": 5,
        "preprocessing": None,
        **arguments,
    }
    return keras_vit.ViT(VARIANT, **arguments)


def assert_equal_logits(model, module, rng, atol=2e-5):
    x = images(rng, *model.input_shape[1:3])
    expected = run(module, x)
    given = model.predict(x, verbose=0)
    assert given.shape == expected.shape
    np.testing.assert_allclose(given, expected, atol=atol, rtol=1e-5)


TIMM_SIZES = {
    "img_size": SIZE,
    "patch_size": 7,
    "num_classes": 5,
    "embed_dim": 24,
    "depth": 2,
    "num_heads": 3,
    "mlp_ratio": 40.5 / 24,
}


def timm_model(rng, **arguments):
    import_oracle("timm")
    from timm.models.vision_transformer import VisionTransformer

    module = VisionTransformer(**TIMM_SIZES, **arguments)
    randomize(module, rng)
    return module


def block(**arguments):
    return lambda index: TransformerBlock(3, 40, activation="gelu", **arguments)


def qk_norm_block(index):
    attention = SelfAttention(3, qk_norm=True)
    return TransformerBlock(mlp_dim=40, attention=attention, activation="gelu")


def no_bias_block(index):
    attention = SelfAttention(3, use_bias=False)
    return TransformerBlock(mlp_dim=40, attention=attention, activation="gelu")


def positions_without_class(**arguments):
    return PatchEncoder(24, position_of_cls_token=False, **arguments)


TIMM = {
    "class token": ({}, lambda: {}),
    "no bias": ({"qkv_bias": False}, lambda: {"block": no_bias_block}),
    "average": (
        {"global_pool": "avg", "class_token": False, "fc_norm": False},
        lambda: {"pooling": "average"},
    ),
    "fc_norm": (
        {"global_pool": "avg", "class_token": False},
        lambda: {"pooling": "average", "norm_after_pooling": True},
    ),
    "MAP": (
        {"global_pool": "map", "class_token": False},
        lambda: {"pooling": "attention"},
    ),
    "LayerScale": (
        {"init_values": 0.5},
        lambda: {"block": block(layer_scale=1.0)},
    ),
    "QK-norm": ({"qk_norm": True}, lambda: {"block": qk_norm_block}),
    # Every prefix token has a position: those of registers go into them.
    "registers": (
        {"reg_tokens": 2},
        lambda: {"patch_encoder": PatchEncoder(24, num_registers=2)},
    ),
    "registers without positions": (
        {"reg_tokens": 2, "no_embed_class": True},
        lambda: {"patch_encoder": positions_without_class(num_registers=2)},
    ),
    # A class token without a row, in a model that has one: a row of zeros.
    "positions without class token": ({"no_embed_class": True}, lambda: {}),
}


@pytest.mark.parametrize("name", TIMM)
def test_timm(name, rng, tmp_path):
    theirs, ours = TIMM[name]
    module = timm_model(rng, **theirs)
    file = save(module, tmp_path / "model.safetensors")
    model = build(weights=file, **ours())
    assert_equal_logits(model, module, rng)


@pytest.mark.parametrize("swiglu", ["packed", "apart"])
def test_timm_swiglu(swiglu, rng, tmp_path):
    import_oracle("timm")
    from timm.layers import GluMlp, SwiGLU
    from torch.nn import SiLU

    if swiglu == "packed":
        layer = functools.partial(GluMlp, gate_last=False)
        width = 20  # of each half
    else:
        layer, width = SwiGLU, 40
    module = timm_model(rng, mlp_layer=layer, act_layer=SiLU)
    file = save(module, tmp_path / "model.safetensors")
    model = keras_vit.ViT(
        keras_vit.Variant(2, 24, width, 3, 7),
        image_size=SIZE,
        num_classes=5,
        preprocessing=None,
        activation="swiglu",
        weights=file,
    )
    assert_equal_logits(model, module, rng)


def test_timm_opens_an_official_export(rng, tmp_path, randomized):
    """The exact GELU of timm and its resampling aside, the same model."""
    import_oracle("timm")
    from timm.models.vision_transformer import VisionTransformer

    model = randomized(build())
    path = keras_vit.export_checkpoint(
        model, tmp_path / "model.npz", preprocessing="inception"
    )
    module = VisionTransformer(**TIMM_SIZES, act_layer="gelu_tanh").eval()
    module.load_pretrained(str(path))
    assert_equal_logits(model, module, rng)


EXPORTS = {
    "class token": lambda: {},
    "tanh GELU": lambda: {"activation": "gelu_tanh"},
    "headless": lambda: {"num_classes": None},
    "average": lambda: {"pooling": "average"},
    "MAP": lambda: {"pooling": "attention"},
    "LayerScale": lambda: {"block": block(layer_scale=1.0)},
    "QK-norm": lambda: {"block": qk_norm_block},
    "registers": lambda: {"patch_encoder": PatchEncoder(24, num_registers=2)},
    "registers without positions": lambda: {
        "patch_encoder": positions_without_class(num_registers=2)
    },
    "class token without position": lambda: {
        "patch_encoder": positions_without_class()
    },
}


@pytest.mark.parametrize("name", EXPORTS)
def test_timm_opens_an_export(name, rng, tmp_path, randomized):
    timm = import_oracle("timm")
    ours = EXPORTS[name]()
    if "block" not in ours:
        ours = {"activation": "gelu", **ours}
    model = randomized(build(**ours))
    keras_vit.export_checkpoint(
        model, tmp_path / "model", format="timm", preprocessing="inception"
    )
    module = timm.create_model(
        f"local-dir:{tmp_path / 'model'}", pretrained=True
    ).eval()
    assert_equal_logits(model, module, rng, atol=1e-5)


def hugging_face(kind, rng, tmp_path, **arguments):
    transformers = import_oracle("transformers")
    configuration, model = kind
    module = getattr(transformers, model)(
        getattr(transformers, configuration)(
            **{
                "hidden_size": 24,
                "num_hidden_layers": 2,
                "num_attention_heads": 3,
                "image_size": list(SIZE),
                "patch_size": 7,
                "num_labels": 5,
                **arguments,
            }
        )
    )
    randomize(module, rng)
    module.save_pretrained(tmp_path)
    return module, tmp_path / "model.safetensors"


VIT = {"intermediate_size": 40}
DINO = {"mlp_ratio": 2, "layerscale_value": 0.5}


@pytest.mark.parametrize("act", ["gelu", "gelu_pytorch_tanh"])
def test_transformers_vit(act, rng, tmp_path):
    """The `config.json` beside the file tells activation and epsilon."""
    kind = ("ViTConfig", "ViTForImageClassification")
    module, file = hugging_face(
        kind, rng, tmp_path, hidden_act=act, layer_norm_eps=1e-5, **VIT
    )
    model = build(weights=file)
    assert model.get_layer("block_00").epsilon == 1e-5
    assert_equal_logits(model, module, rng)


def test_transformers_pooler_is_pre_logits(rng, tmp_path):
    kind = ("ViTConfig", "ViTModel")
    module, file = hugging_face(kind, rng, tmp_path, **VIT)
    model = build(weights=file, num_classes=None, representation_dim=24)

    def pooler(x):
        return module(x).pooler_output

    assert_equal_logits(model, pooler, rng)


def test_transformers_deit_with_its_distillation_token(rng, tmp_path):
    """The token is a register whose position has been added to it."""
    kind = ("DeiTConfig", "DeiTForImageClassification")
    module, file = hugging_face(kind, rng, tmp_path, **VIT)
    model = build(weights=file, num_registers=1)
    assert_equal_logits(model, module, rng)


def test_transformers_deit_with_two_heads(rng, tmp_path):
    kind = ("DeiTConfig", "DeiTForImageClassificationWithTeacher")
    module, file = hugging_face(kind, rng, tmp_path, **VIT)
    backbone = build(
        num_registers=1, activation="gelu", epsilon=1e-12, num_classes=None
    )
    model = keras_vit.pretraining.distillation_model(backbone, num_classes=5)
    keras_vit.load_checkpoint(model, file)
    assert_equal_logits(model, module, rng)


def test_timm_deit_with_two_heads(rng, tmp_path):
    timm = import_oracle("timm")
    module = timm.create_model(
        "deit_tiny_distilled_patch16_224",
        img_size=SIZE,
        patch_size=7,
        embed_dim=24,
        depth=2,
        num_heads=3,
        mlp_ratio=40 / 24,
        num_classes=5,
    )
    randomize(module, rng)
    backbone = build(num_registers=1, activation="gelu", num_classes=None)
    model = keras_vit.pretraining.distillation_model(backbone, num_classes=5)
    keras_vit.load_checkpoint(
        model, save(module, tmp_path / "deit.safetensors")
    )
    assert_equal_logits(model, module, rng)


@pytest.mark.parametrize("registers", [0, 4])
@pytest.mark.parametrize("swiglu", [False, True])
def test_transformers_dinov2(swiglu, registers, rng, tmp_path):
    name = "Dinov2WithRegisters" if registers else "Dinov2"
    more = {"num_register_tokens": registers} if registers else {}
    module, file = hugging_face(
        (f"{name}Config", f"{name}Model"),
        rng,
        tmp_path,
        use_swiglu_ffn=swiglu,
        image_size=28,  # transformers takes the square root of the positions
        **DINO,
        **more,
    )
    # transformers: two thirds of the width, rounded up to a multiple of 8.
    width = 32 if swiglu else 48
    activation = "swiglu" if swiglu else "gelu"
    model = keras_vit.ViT(
        keras_vit.Variant(2, 24, width, 3, 7),
        image_size=28,
        num_classes=None,
        preprocessing=None,
        num_registers=registers,
        block=lambda index: TransformerBlock(
            3, width, activation=activation, layer_scale=1.0
        ),
        weights=file,
    )
    taps = keras_vit.feature_extractor(model, "encoder_norm")
    assert_equal_logits(taps, lambda x: module(x).last_hidden_state, rng)


def test_transformers_opens_an_export(rng, tmp_path, randomized):
    transformers = import_oracle("transformers")
    model = randomized(build(activation="gelu", epsilon=1e-12))
    keras_vit.export_checkpoint(
        model, tmp_path, format="huggingface", preprocessing="inception"
    )
    module, report = transformers.ViTForImageClassification.from_pretrained(
        tmp_path, output_loading_info=True
    )
    assert not any(report[key] for key in ("missing_keys", "unexpected_keys"))
    assert_equal_logits(model, module.eval(), rng, atol=1e-5)


def test_transformers_opens_an_export_with_pooler(rng, tmp_path, randomized):
    transformers = import_oracle("transformers")
    model = randomized(build(num_classes=None, representation_dim=24))
    keras_vit.export_checkpoint(
        model, tmp_path, format="huggingface", preprocessing="inception"
    )
    config = json.loads((tmp_path / "config.json").read_text("utf-8"))
    assert config["hidden_act"] == "gelu_pytorch_tanh"
    module = transformers.ViTModel.from_pretrained(tmp_path).eval()
    assert_equal_logits(
        model, lambda x: module(x).pooler_output, rng, atol=1e-5
    )


VIT_PYTORCH = {
    "image_size": SIZE,
    "patch_size": 7,
    "num_classes": 5,
    "dim": 24,
    "depth": 2,
    "heads": 3,
    "dim_head": 10,
    "mlp_dim": 40,
}


def test_vit_pytorch(rng, tmp_path):
    """Patch norms, heads of a free width, no biases for q, k and v."""
    vit_pytorch = import_oracle("vit_pytorch")
    module = vit_pytorch.ViT(**VIT_PYTORCH)
    randomize(module, rng)
    file = save(module, tmp_path / "model.safetensors")
    model = build(**vit_pytorch_parts(), weights=file)
    assert_equal_logits(model, module, rng)


def test_simple_vit(rng, tmp_path):
    import_oracle("vit_pytorch")
    from vit_pytorch.simple_vit import SimpleViT

    module = SimpleViT(**VIT_PYTORCH)
    randomize(module, rng)
    file = save(module, tmp_path / "model.safetensors")
    parts = vit_pytorch_parts(
        position="sincos_2d", cls_token=False, output_bias=False
    )
    model = build(**parts, pooling=AveragePooling(), weights=file)
    assert_equal_logits(model, module, rng)


def vit_pytorch_parts(position="learned_1d", cls_token=True, output_bias=True):
    def block(index):
        return TransformerBlock(
            mlp_dim=40,
            attention=SelfAttention(
                3,
                head_dim=10,
                use_bias=False,
                use_output_bias=output_bias,
            ),
            activation="gelu",
            epsilon=1e-5,
        )

    encoder = PatchEncoder(
        24,
        position=position,
        cls_token=cls_token,
        norm_before=True,
        norm_after=True,
        epsilon=1e-5,
    )
    return {"patch_encoder": encoder, "block": block}
