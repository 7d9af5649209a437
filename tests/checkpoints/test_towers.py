"""Trunks of transformers opened by their file alone.

Small random networks as their library writes them, in one call, equal numbers.
The classes of transformers are those of `benchmarks/checkpoint_share.py`.
"""

import json
import pathlib
import re
import sys
import warnings

import numpy as np
import pytest
from opening import assert_agrees, opened
from oracles import import_oracle, randomize, save

import keras_vit

sys.path.append(str(pathlib.Path(__file__).parents[2] / "benchmarks"))
import checkpoint_share_transformers as share  # noqa: E402
from checkpoint_share_transformers import (  # noqa: E402
    PAIRS,
    QUERIES,
    RATIO,
    TEXT,
    TWO,
    ViT,
    average,
    logits,
    naflex,
    of,
    patches,
    pooled,
    token,
)

# What no `ViT` computes, or other formats are asked to read.
REFUSED = {
    "YolosModel": "YOLOS",
    "VitPoseBackbone": "VitPose",
    "VideoMAEModel": "videos",
}
ELSEWHERE = ("DINOv3ViTModel", "VitDetModel", "SamVisionModel", "HieraModel")
CASES = {
    name: (statistics, *case)
    for statistics, cases in share.CASES.items()
    for name, case in cases.items()
}
OPENED = [name for name in CASES if name not in (*REFUSED, *ELSEWHERE)]


@pytest.fixture
def photographs(rng):
    return rng.integers(0, 256, (2, 64, 64, 3)).astype("uint8")


@pytest.mark.parametrize("name", OPENED)
def test_class_of_transformers(name, rng, tmp_path, photographs):
    import_oracle("transformers")
    statistics, arguments, value = CASES[name]
    module = share.make(name, arguments)
    randomize(module, rng)
    module.save_pretrained(tmp_path)
    model, notes = opened(tmp_path)
    assert_agrees(model, lambda x: value(module, x), photographs, statistics)
    if name != "TimmWrapperForImageClassification":
        assert f"published with are taken, '{statistics}'" in notes


def inside(path, value):
    """The value of a part of a part."""

    def of_module(module, x):
        for name in path.split("."):
            module = getattr(module, name)
        return value(module, x)

    return of_module


def logits_of_naflex(module, x):
    return naflex(module, x, "logits")


def class_of_depth_anything(module, x):
    trunk = module.backbone
    x = trunk.encoder(trunk.embeddings(x)).last_hidden_state
    return trunk.layernorm(x)[:, 0]


WORDS = TEXT | {
    "bos_token_id": 1,
    "eos_token_id": 2,
    "sep_token_id": 3,
    "pad_token_id": 0,
    "encoder_hidden_size": 64,
}
LLM = TEXT | {"num_key_value_heads": 2}
NECK = {"neck_hidden_sizes": [16] * 4, "fusion_hidden_size": 16}
NAFLEX = {"vision_config": ViT | {"num_patches": 16}, "text_config": TEXT}
LABELS = share.LABELS
# Class, arguments of its configuration, the value, statistics, what is noted.
LARGER = {
    "classifier of CLIP": (
        "CLIPForImageClassification", TWO | LABELS, logits, "clip", None,
    ),
    "CLIP with projection": (
        "CLIPVisionModelWithProjection", ViT, of("vision_model", pooled),
        "clip", "'visual_projection'",
    ),
    "CLIP with GELU": (
        "CLIPVisionModel", ViT | {"hidden_act": "gelu"}, pooled, "clip", None,
    ),
    "MetaCLIP 2": ("MetaClip2VisionModel", ViT, pooled, "clip", None),
    "AltCLIP": (
        "AltCLIPModel",
        {
            "vision_config": ViT,
            "text_config": TEXT
            | {"project_dim": 16, "max_position_embeddings": 12},
        },
        of("vision_model", pooled), "clip", "'text_model'",
    ),
    "Chinese-CLIP": (
        "ChineseCLIPModel", TWO, of("vision_model", pooled), "clip",
        "'text_model'",
    ),
    "classifier of SigLIP2": (
        "Siglip2ForImageClassification", NAFLEX | LABELS, logits_of_naflex,
        "inception", "NaFlex",
    ),
    "SigLIP2": (
        "Siglip2Model", NAFLEX, of("vision_model", naflex), "inception",
        "'text_model'",
    ),
    "SigLIP without pooling": (
        "SiglipVisionModel", ViT | {"vision_use_head": False}, average,
        "inception", None,
    ),
    "BLIP": (
        "BlipForConditionalGeneration",
        {"vision_config": ViT, "text_config": WORDS},
        of("vision_model", token), "clip", "the same norm once more",
    ),
    "detection": (
        "Owlv2ForObjectDetection", TWO, inside("owlv2.vision_model", pooled),
        "clip", "'box_head'",
    ),
    "LLaVA": (
        "LlavaForConditionalGeneration",
        {
            "vision_config": ViT | {"model_type": "clip_vision_model"},
            "text_config": LLM | {"model_type": "llama"},
        },
        inside("model.vision_tower", pooled), "clip", "'language_model'",
    ),
    "InternVL": (
        "InternVLForConditionalGeneration",
        {
            "vision_config": ViT | PAIRS | {"model_type": "internvl_vision"},
            "text_config": LLM | {"model_type": "qwen2"},
            "image_token_id": 5,
        },
        inside("model.vision_tower", patches), "imagenet", "'language_model'",
    ),
    "InternVL, RMS": (
        "InternVLVisionModel", ViT | PAIRS | {"norm_type": "rms_norm"},
        patches, "imagenet", None,
    ),
    "InternVL, class token": (
        "InternVLVisionModel",
        ViT | PAIRS | {"use_mean_pooling": False, "attention_bias": True},
        token, "imagenet", None,
    ),
    "depth": (
        "DPTForDepthEstimation",
        ViT | NECK | {"backbone_out_indices": [0, 1, 1, 1]},
        of("dpt", token), "inception", "'neck', 'head'",
    ),
    "depth of DINOv2": (
        "DepthAnythingForDepthEstimation",
        NECK | {
            "backbone_config": RATIO | {
                "model_type": "dinov2", "num_hidden_layers": 4,
                "out_indices": [1, 2, 3, 4], "reshape_hidden_states": False,
            },
            "reassemble_hidden_size": 64, "patch_size": 16,
            "head_hidden_size": 8,
        },
        class_of_depth_anything, "imagenet", "'head', 'neck'",
    ),
    "BEiT with positions": (
        "BeitForImageClassification",
        ViT | LABELS | {"use_absolute_position_embeddings": True},
        logits, "inception", None,
    ),
    "BEiT, class token": (
        "BeitModel", ViT | {"use_mean_pooling": False}, pooled, "inception",
        None,
    ),
    "classifier of Data2Vec": (
        "Data2VecVisionForImageClassification", ViT | LABELS, logits,
        "inception", None,
    ),
    "classifier of I-JEPA": (
        "IJepaForImageClassification", ViT | LABELS, logits, "imagenet", None,
    ),
    "DeiT with two heads": (
        "DeiTForImageClassificationWithTeacher", ViT | LABELS, logits,
        "imagenet", None,
    ),
    "AIMv2 beside texts": (
        "Aimv2Model", TWO, of("vision_model", average), "clip",
        "a query that is not projected",
    ),
    "AIMv2 with biases": (
        "Aimv2VisionModel",
        ViT | {
            "qkv_bias": True, "mlp_bias": True, "use_head": False,
            "hidden_act": "gelu",
        },
        average, "clip", None,
    ),
    "classifier of DINOv2": (
        "Dinov2WithRegistersForImageClassification",
        RATIO | LABELS | {"use_swiglu_ffn": True},
        of("dinov2_with_registers", pooled), "imagenet",
        "the class token and the mean of the patches together, 128 numbers "
        "for 7 classes",
    ),
    "EoMT, SwiGLU": (
        "EomtForUniversalSegmentation",
        RATIO | QUERIES | {"use_swiglu_ffn": True},
        share.trunk_of_eomt, "imagenet", "trunk alone",
    ),
}  # fmt: skip


@pytest.mark.parametrize("kind", LARGER)
def test_trunk_of_a_larger_network(kind, rng, tmp_path, photographs):
    import_oracle("transformers")
    name, arguments, value, statistics, noted = LARGER[kind]
    module = share.make(name, arguments)
    randomize(module, rng)
    module.save_pretrained(tmp_path)
    model, notes = opened(tmp_path)
    assert_agrees(model, lambda x: value(module, x), photographs, statistics)
    assert noted is None or noted in notes


# Facts that no default and no shape tells.
ODD = {
    "hidden_act": "silu",
    "layer_norm_eps": 1e-2,
    "num_attention_heads": 2,
    "patch_size": 8,
}
# The same of something else.
OTHER = {
    "hidden_act": "gelu",
    "layer_norm_eps": 0.005,
    "num_attention_heads": 64,
    "patch_size": 3,
    "image_size": 999,
    "num_channels": 5,
}


@pytest.mark.parametrize(
    "kind",
    ["CLIPModel", "SiglipModel", "BLIP", "SigLIP2", "LLaVA", "InternVL",
     "depth of DINOv2", "detection", "AIMv2 beside texts"],
)  # fmt: skip
def test_facts_of_a_tower_stand_where_it_is_nested(
    kind, rng, tmp_path, photographs
):
    import_oracle("transformers")
    if kind in CASES:
        statistics, arguments, value = CASES[kind]
        name = kind
    else:
        name, arguments, value, statistics, _ = LARGER[kind]
    (nest,) = {"vision_config", "backbone_config"} & set(arguments)
    own = dict(ODD)
    if kind in ("SigLIP2", "depth of DINOv2"):
        del own["patch_size"]  # its value here takes patches of 16
    if kind == "InternVL":
        own |= PAIRS | {"patch_size": [8, 8]}
    if kind == "AIMv2 beside texts":
        own["rms_norm_eps"] = own.pop("layer_norm_eps")
    arguments = arguments | {nest: arguments[nest] | own}
    module = share.make(name, arguments)
    randomize(module, rng)
    module.save_pretrained(tmp_path)
    file = tmp_path / "config.json"
    file.write_text(
        json.dumps(json.loads(file.read_text("utf-8")) | OTHER), "utf-8"
    )
    model, _ = opened(tmp_path)
    assert_agrees(model, lambda x: value(module, x), photographs, statistics)
    with warnings.catch_warnings():
        # Of what else the file holds, which `opened` has heard already.
        warnings.simplefilter("ignore")
        keras_vit.load_checkpoint(model, tmp_path)


def test_the_encoder_of_a_reader(rng, tmp_path, photographs):
    """TrOCR and its kin: a ViT beside a decoder of texts."""
    transformers = import_oracle("transformers")
    config = transformers.VisionEncoderDecoderConfig(
        encoder=ViT | ODD | {"model_type": "vit"},
        decoder=TEXT
        | {"model_type": "bert", "is_decoder": True}
        | {"add_cross_attention": True},
    )
    module = transformers.VisionEncoderDecoderModel(config)
    randomize(module, rng)
    module.save_pretrained(tmp_path)
    model, _ = opened(tmp_path)
    encoder = of("encoder", pooled)
    assert_agrees(model, lambda x: encoder(module, x), photographs, "inception")


def test_the_head_of_dinov2_says_what_it_takes(rng, tmp_path):
    """Class token and mean, 128 numbers, into a head for 64."""
    import_oracle("transformers")
    name = "Dinov2ForImageClassification"
    module = share.make(name, RATIO | LABELS)
    randomize(module, rng)
    module.save_pretrained(tmp_path)
    headless, notes = opened(tmp_path)
    assert headless.output_shape == (None, 64)
    assert "reset_head" not in notes

    model, _ = opened(tmp_path, num_classes=7)
    said = (
        "head is one for 7 classes from 128 numbers, the model's is one for 7 "
        "classes from 64 numbers (that of DINOv2 takes the class token and the "
        "mean of the patches side by side): the model starts from zero"
    )
    with pytest.warns(UserWarning, match=re.escape(said)):
        keras_vit.load_checkpoint(model, tmp_path, check_numerics=False)
    assert not np.any(model.get_layer("head").get_weights()[0])
    with pytest.raises(keras_vit.CheckpointError, match="side by side"):
        keras_vit.load_checkpoint(
            model, tmp_path, reset_head=False, check_numerics=False
        )


@pytest.mark.parametrize(
    "name, own, said",
    [
        *((name, None, said) for name, said in REFUSED.items()),
        (
            "BeitModel",
            {"use_relative_position_bias": True, "image_size": (64, 48)},
            "exchanges",
        ),
        ("InternVLVisionModel", {"use_qk_norm": True}, "use_qk_norm"),
        ("Aimv2VisionModel", {"is_native": True}, "is_native"),
        ("ViTModel", {"hidden_act": "mish"}, "'mish'.*Pass `activation`"),
    ],
)  # fmt: skip
def test_what_is_refused_says_why(name, own, said, tmp_path):
    import_oracle("transformers")
    module = share.make(name, CASES[name][1] | (own or {}))
    module.save_pretrained(tmp_path)
    with pytest.raises(keras_vit.CheckpointError, match=said):
        opened(tmp_path)


@pytest.mark.parametrize("name", ["DINOv3ViTModel", "Dinov2WithRegistersModel"])
def test_registers_of_which_there_are_none(name, rng, tmp_path, photographs):
    """The file has an array for them, of no rows."""
    import_oracle("transformers")
    statistics, arguments, value = CASES[name]
    module = share.make(name, arguments | {"num_register_tokens": 0})
    randomize(module, rng)
    module.save_pretrained(tmp_path)
    model, _ = opened(tmp_path)
    assert model.get_layer("patch_encoder").num_prefix_tokens == 1
    assert_agrees(model, lambda x: value(module, x), photographs, statistics)


def test_a_clip_without_its_projection(rng, tmp_path, photographs):
    """As saved by those who need the towers alone."""
    import_oracle("transformers")
    from safetensors.numpy import load_file, save_file

    module = share.make("CLIPModel", TWO)
    randomize(module, rng)
    module.save_pretrained(tmp_path)
    arrays = load_file(tmp_path / "model.safetensors")
    del arrays["visual_projection.weight"]
    save_file(arrays, tmp_path / "model.safetensors")
    model, notes = opened(tmp_path)
    assert "visual_projection" not in notes
    tower = of("vision_model", pooled)
    assert_agrees(model, lambda x: tower(module, x), photographs, "clip")


def test_an_unknown_array_is_still_an_error(rng, tmp_path):
    """What stands beside a trunk is known by name, and all else refused."""
    import_oracle("transformers")
    from safetensors.numpy import load_file, save_file

    share.make("CLIPModel", TWO).save_pretrained(tmp_path)
    arrays = load_file(tmp_path / "model.safetensors")
    arrays["adapter.weight"] = np.zeros(3, "float32")
    save_file(arrays, tmp_path / "model.safetensors")
    with pytest.raises(keras_vit.CheckpointError, match=r"adapter\.weight"):
        opened(tmp_path)


def test_without_configuration_the_gelu_is_asked_for(
    rng, tmp_path, photographs
):
    import_oracle("transformers")
    module = share.make("CLIPVisionModel", ViT | {"num_attention_heads": 1})
    randomize(module, rng)
    module.save_pretrained(tmp_path)
    (tmp_path / "config.json").unlink()
    with pytest.raises(keras_vit.CheckpointError, match="Pass `activation`"):
        opened(tmp_path)
    model, notes = opened(
        tmp_path, activation="quick_gelu", preprocessing="clip"
    )
    assert "1, of width 64, are assumed" in notes
    assert_agrees(model, lambda x: pooled(module, x), photographs, "clip")


def test_a_siglip_of_transformers_by_name_of_weights(rng, tmp_path):
    """`ViT(weights=)` takes the activation and epsilon of the format."""
    import_oracle("transformers")
    share.make("SiglipVisionModel", ViT).save_pretrained(tmp_path)
    model = keras_vit.ViT(
        keras_vit.Variant(2, 64, 128, 4, patch_size=16),
        image_size=64,
        num_classes=None,
        pooling="attention",
        weights=tmp_path / "model.safetensors",
    )
    assert model.get_layer("block_00").mlp.activation == "gelu_tanh"


def test_save_is_what_the_library_does(rng, tmp_path):
    """A plain `state_dict` opens as a folder does."""
    import_oracle("transformers")
    module = share.make("SiglipVisionModel", ViT | {"num_attention_heads": 1})
    file = save(module, tmp_path / "state.safetensors")
    model, notes = opened(file, activation="gelu_tanh")
    assert "'inception'" in notes and model.output_shape == (None, 64)
