"""Outputs of the original implementations, from their own weights.

The maps from their names to weight paths stand here; a reader of checkpoints
is not needed for it.
"""

import json
import re

import numpy as np
import pytest
from conftest import to_numpy
from safetensors.numpy import load_file

import keras_vit
from keras_vit.layers import PatchEncoder, TransformerBlock

pytestmark = pytest.mark.reference


@pytest.fixture
def read_case(reference_cases):
    def read(name):
        folder = reference_cases / name
        case = json.loads((folder / "case.json").read_text())
        if (folder / "weights.npz").exists():
            weights = dict(np.load(folder / "weights.npz"))
        else:
            weights = load_file(folder / "weights.safetensors")
        inputs = np.load(folder / "inputs.npz")["images"]
        return case, weights, inputs, dict(np.load(folder / "expected.npz"))

    return read


def assign(model, arrays):
    """Writes arrays by weight path; no path may be left over on either side."""
    weights = {weight.path: weight for weight in model.weights}
    assert sorted(weights) == sorted(arrays)
    for path, array in arrays.items():
        weights[path].assign(array.reshape(weights[path].shape))


def check(case, expected, **given):
    for name, output in given.items():
        tolerance = case["expected"][name]
        np.testing.assert_allclose(
            output,
            expected[name],
            atol=tolerance["atol"],
            rtol=tolerance["rtol"],
            err_msg=name,
        )


def rename(weights, rules):
    """Each name by the first rule that matches the whole of it."""
    renamed = {}
    for name, array in weights.items():
        for pattern, replacement in rules:
            if match := re.fullmatch(pattern, name):
                if replacement:
                    path = match.expand(replacement)
                    renamed[re.sub(r"block_(\d)\b", r"block_0\1", path)] = array
                break
        else:
            raise AssertionError(f"no rule for {name}")
    return renamed


LINEN = "Transformer/encoderblock_(\\d)/"
OFFICIAL_RULES = [
    ("cls", "patch_encoder/cls_token"),
    (r"embedding/(\w+)", r"patch_encoder/projection/\1"),
    (
        "Transformer/posembed_input/pos_embedding",
        "patch_encoder/position_embedding/table",
    ),
    (LINEN + "LayerNorm_0/scale", r"block_\1/attention_norm/gamma"),
    (LINEN + "LayerNorm_0/bias", r"block_\1/attention_norm/beta"),
    (LINEN + "LayerNorm_2/scale", r"block_\1/mlp_norm/gamma"),
    (LINEN + "LayerNorm_2/bias", r"block_\1/mlp_norm/beta"),
    (LINEN + r"Multi\w+/out/(\w+)", r"block_\1/attention/output/\2"),
    (LINEN + r"Multi\w+/(\w+)/(\w+)", r"block_\1/attention/\2/\3"),
    (LINEN + r"MlpBlock_3/Dense_0/(\w+)", r"block_\1/mlp/hidden/\2"),
    (LINEN + r"MlpBlock_3/Dense_1/(\w+)", r"block_\1/mlp/output/\2"),
    ("Transformer/encoder_norm/scale", "encoder_norm/gamma"),
    ("Transformer/encoder_norm/bias", "encoder_norm/beta"),
    (r"((?:pre_logits|head)/\w+)", r"\1"),
]


def variant_of(config):
    transformer = config["transformer"]
    return keras_vit.Variant(
        num_layers=transformer["num_layers"],
        hidden_dim=config["hidden_size"],
        mlp_dim=transformer["mlp_dim"],
        num_heads=transformer["num_heads"],
        patch_size=tuple(config["patches"]["size"]),
    )


def official_model(config, **arguments):
    return keras_vit.ViT(
        variant_of(config),
        image_size=tuple(config["image_hw"]),
        representation_dim=config["representation_size"],
        include_rescaling=False,
        **{"num_classes": config["num_classes"], **arguments},
    )


def outputs(model, images, *taps):
    extractor = keras_vit.feature_extractor(model, list(taps))
    return extractor.predict(images, verbose=0)


def test_official_class_token_and_pre_logits(read_case):
    case, weights, images, expected = read_case("vit_token_pre_logits")
    model = official_model(case["config"])
    assign(model, rename(weights, OFFICIAL_RULES))
    taps = outputs(model, images, "encoder_norm", "pre_logits", "head")
    check(
        case,
        expected,
        encoded=taps["encoder_norm"],
        pre_logits=taps["pre_logits"],
        logits=taps["head"],
    )


@pytest.mark.parametrize("head", ["file", "new"])
def test_official_checkpoint_at_another_resolution(
    head, read_case, reference_cases
):
    """A table of 3x3 positions, resampled in the graph for a 5x5 grid."""
    case, weights, images, expected = read_case("vit_resize")
    config = case["config"]["checkpoint"]
    arrays = rename(weights, OFFICIAL_RULES)
    if head == "new":
        new = dict(np.load(reference_cases / "vit_resize" / "new_head.npz"))
        for name, array in new.items():
            arrays[f"head/{name.split('/')[-1]}"] = array
    encoder = PatchEncoder(config["hidden_size"], grid_size=3)
    model = official_model(
        {**config, "image_hw": images.shape[1:3]},
        num_classes=arrays["head/bias"].shape[0],
        patch_encoder=encoder,
    )
    assign(model, arrays)
    taps = outputs(model, images, "encoder_norm", "pre_logits", "head")
    if head == "new":
        check(
            case,
            expected,
            encoded=taps["encoder_norm"],
            pre_logits_new=taps["pre_logits"],
            logits_new_head=taps["head"],
            pos_embedding=to_numpy(
                encoder.position_embedding.positions(
                    5, 5, config["hidden_size"]
                )
            )[None],
        )
    else:
        check(case, expected, logits_file_head=taps["head"])


def split_qkv(arrays, fused, num_heads):
    """timm stores query, key and value as the rows of one matrix."""
    for name in [name for name in arrays if fused in name]:
        array = arrays.pop(name)
        for part, piece in zip(("query", "key", "value"), np.split(array, 3)):
            arrays[name.replace(fused, part)] = piece
    return arrays


def torch_to_keras(arrays, patch_size, channels=3):
    """Linear layers of PyTorch hold `(out, in)`; kernels here `(in, out)`."""
    converted = {}
    for path, array in arrays.items():
        if path == "patch_encoder/projection/kernel":
            # (D, C, P, P) -> (P P C, D)
            array = array.transpose(2, 3, 1, 0)
            array = array.reshape(patch_size**2 * channels, -1)
        elif path.endswith("/kernel"):
            array = array.T
        converted[path] = array
    return converted


TIMM_RULES = [
    ("cls_token", "patch_encoder/cls_token"),
    ("reg_token", "patch_encoder/register_tokens"),
    ("pos_embed", "patch_encoder/position_embedding/table"),
    (r"patch_embed\.proj\.weight", "patch_encoder/projection/kernel"),
    (r"patch_embed\.proj\.bias", "patch_encoder/projection/bias"),
    (r"blocks\.(\d)\.norm1\.weight", r"block_\1/attention_norm/gamma"),
    (r"blocks\.(\d)\.norm1\.bias", r"block_\1/attention_norm/beta"),
    (r"blocks\.(\d)\.norm2\.weight", r"block_\1/mlp_norm/gamma"),
    (r"blocks\.(\d)\.norm2\.bias", r"block_\1/mlp_norm/beta"),
    (r"blocks\.(\d)\.attn\.qkv\.weight", r"block_\1/attention/qkv/kernel"),
    (r"blocks\.(\d)\.attn\.qkv\.bias", r"block_\1/attention/qkv/bias"),
    (r"blocks\.(\d)\.attn\.proj\.weight", r"block_\1/attention/output/kernel"),
    (r"blocks\.(\d)\.attn\.proj\.bias", r"block_\1/attention/output/bias"),
    (r"blocks\.(\d)\.ls1\.gamma", r"block_\1/attention_scale/scale"),
    (r"blocks\.(\d)\.ls2\.gamma", r"block_\1/mlp_scale/scale"),
    (r"blocks\.(\d)\.mlp\.fc1\.weight", r"block_\1/mlp/hidden/kernel"),
    (r"blocks\.(\d)\.mlp\.fc1\.bias", r"block_\1/mlp/hidden/bias"),
    (r"blocks\.(\d)\.mlp\.fc2\.weight", r"block_\1/mlp/output/kernel"),
    (r"blocks\.(\d)\.mlp\.fc2\.bias", r"block_\1/mlp/output/bias"),
    (r"norm\.weight", "encoder_norm/gamma"),
    (r"norm\.bias", "encoder_norm/beta"),
    (r"head\.weight", "head/kernel"),
    (r"head\.bias", "head/bias"),
]


def test_timm_with_registers_and_layer_scale(read_case):
    case, weights, images, expected = read_case("timm_registers_layerscale")
    config = case["config"]
    dim, heads = config["embed_dim"], config["num_heads"]
    mlp_dim = weights["blocks.0.mlp.fc1.bias"].shape[0]

    def block(index):
        return TransformerBlock(
            heads,
            mlp_dim,
            activation="gelu",
            layer_scale=config["init_values"],
        )

    model = keras_vit.ViT(
        keras_vit.Variant(
            config["depth"], dim, mlp_dim, heads, config["patch_size"]
        ),
        image_size=config["img_size"],
        num_classes=config["num_classes"],
        include_rescaling=False,
        patch_encoder=PatchEncoder(
            dim,
            num_registers=config["reg_tokens"],
            position_of_cls_token=False,
        ),
        block=block,
    )
    arrays = split_qkv(rename(weights, TIMM_RULES), "qkv", heads)
    assign(model, torch_to_keras(arrays, config["patch_size"]))
    taps = outputs(model, images, "encoder_norm", "pre_logits", "head")
    check(
        case,
        expected,
        features=taps["encoder_norm"],
        pre_logits=taps["pre_logits"],
        logits=taps["head"],
    )


HF_BLOCK = r"vit\.encoder\.layer\.(\d)\."
TRANSFORMERS_RULES = [
    (r"vit\.embeddings\.cls_token", "patch_encoder/cls_token"),
    (
        r"vit\.embeddings\.position_embeddings",
        "patch_encoder/position_embedding/table",
    ),
    (
        r"vit\.embeddings\.patch_embeddings\.projection\.weight",
        "patch_encoder/projection/kernel",
    ),
    (
        r"vit\.embeddings\.patch_embeddings\.projection\.bias",
        "patch_encoder/projection/bias",
    ),
    (HF_BLOCK + r"layernorm_before\.weight", r"block_\1/attention_norm/gamma"),
    (HF_BLOCK + r"layernorm_before\.bias", r"block_\1/attention_norm/beta"),
    (HF_BLOCK + r"layernorm_after\.weight", r"block_\1/mlp_norm/gamma"),
    (HF_BLOCK + r"layernorm_after\.bias", r"block_\1/mlp_norm/beta"),
    (
        HF_BLOCK + r"attention\.attention\.(\w+)\.weight",
        r"block_\1/attention/\2/kernel",
    ),
    (
        HF_BLOCK + r"attention\.attention\.(\w+)\.bias",
        r"block_\1/attention/\2/bias",
    ),
    (
        HF_BLOCK + r"attention\.output\.dense\.weight",
        r"block_\1/attention/output/kernel",
    ),
    (
        HF_BLOCK + r"attention\.output\.dense\.bias",
        r"block_\1/attention/output/bias",
    ),
    (HF_BLOCK + r"intermediate\.dense\.weight", r"block_\1/mlp/hidden/kernel"),
    (HF_BLOCK + r"intermediate\.dense\.bias", r"block_\1/mlp/hidden/bias"),
    (HF_BLOCK + r"output\.dense\.weight", r"block_\1/mlp/output/kernel"),
    (HF_BLOCK + r"output\.dense\.bias", r"block_\1/mlp/output/bias"),
    (r"vit\.layernorm\.weight", "encoder_norm/gamma"),
    (r"vit\.layernorm\.bias", "encoder_norm/beta"),
    (r"vit\.pooler\..*", None),
    (r"classifier\.weight", "head/kernel"),
    (r"classifier\.bias", "head/bias"),
]


def test_hugging_face_classifier(read_case):
    """Exact GELU and an epsilon of 1e-12: the second image tells."""
    case, weights, images, expected = read_case("transformers_classifier")
    config = case["config"]
    model = keras_vit.ViT(
        keras_vit.Variant(
            config["num_hidden_layers"],
            config["hidden_size"],
            config["intermediate_size"],
            config["num_attention_heads"],
            config["patch_size"],
        ),
        image_size=config["image_size"],
        num_classes=config["num_labels"],
        include_rescaling=False,
        activation="gelu",
        epsilon=1e-12,
    )
    arrays = rename(weights, TRANSFORMERS_RULES)
    assign(model, torch_to_keras(arrays, config["patch_size"]))
    taps = outputs(model, images, "encoder_norm", "head")
    check(
        case,
        expected,
        last_hidden_state=taps["encoder_norm"],
        logits=taps["head"],
    )


PURE = ["Ti_16", "S_16", "S_32", "B_16", "B_32", "L_16", "L_32", "H_14"]


@pytest.mark.parametrize("name", PURE)
def test_cost_equals_the_official_one(name, reference_cases):
    table = json.loads((reference_cases / "param_counts.json").read_text())
    official = table["models"][f"ViT-{name}"]
    variant = name.replace("_", "/")
    for image_size in (224, 384):
        # 14 does not divide 384: the official convolution crops.
        cost = keras_vit.cost(variant, image_size=image_size, remainder="crop")
        counts = official["params"][f"{image_size}/classes1000"]
        assert cost.parameters == counts["total"]
        assert cost.macs == official["forward"][str(image_size)]["macs"]
