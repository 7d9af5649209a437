"""What each library calls the weights of a Vision Transformer: rule tables.

Sources: google-research/vision_transformer and big_vision (`models_vit.py`,
`models/vit.py`, `models/bit_paper.py`), timm 1.0 (`vision_transformer.py`),
transformers 5 (ViT, DeiT, DINOv2), vit-pytorch 1 (`vit.py`).
"""

import re

from keras_vit.weights.rules import (
    PATCHES_HWIO,
    PATCHES_OIHW,
    SAME,
    Format,
    Rule,
    dense,
    linear,
    linear_out,
    norm,
)

# These three stand for one another in many ways (see `tokens`): they have
# roles, where all other weights have paths.
CLS_TOKEN = "patch_encoder/cls_token"
REGISTERS = "patch_encoder/register_tokens"
POSITIONS = "patch_encoder/position_embedding/table"
ROLES = (CLS_TOKEN, REGISTERS, POSITIONS)


def _flax_norm(key, path):
    return norm(key, path, names=("scale", "bias"), separator="/")


def _flax_attention(key, path):
    return (
        *dense(f"{key}/query/", f"{path}/query"),
        *dense(f"{key}/key/", f"{path}/key"),
        *dense(f"{key}/value/", f"{path}/value"),
        *dense(f"{key}/out/", f"{path}/output"),
    )


def _flax_mlp(key, path):
    return (
        *dense(f"{key}/Dense_0/", f"{path}/hidden"),
        *dense(f"{key}/Dense_1/", f"{path}/output"),
    )


def _flax_pooling(key):
    return (
        Rule(f"{key}probe", ("pooling/probe",)),
        *_flax_attention(
            f"{key}MultiHeadDotProductAttention_0", "pooling/attention"
        ),
        *_flax_norm(f"{key}LayerNorm_0", "pooling/norm"),
        *_flax_mlp(f"{key}MlpBlock_0", "pooling/mlp"),
    )


def _flax(attention, mlp_norm, mlp, positions):
    block = "Transformer/encoderblock_{i}"
    return (
        Rule("cls", (CLS_TOKEN,)),
        *(Rule(key, (POSITIONS,)) for key in positions),
        *dense("embedding/", "patch_encoder/projection", PATCHES_HWIO),
        *_flax_norm(f"{block}/LayerNorm_0", "block_{i:02d}/attention_norm"),
        *_flax_attention(f"{block}/{attention}", "block_{i:02d}/attention"),
        *_flax_norm(f"{block}/{mlp_norm}", "block_{i:02d}/mlp_norm"),
        *_flax_mlp(f"{block}/{mlp}", "block_{i:02d}/mlp"),
        *_flax_norm("Transformer/encoder_norm", "encoder_norm"),
        *_flax_pooling("MAPHead_0/"),
        *_flax_pooling(""),  # as ViT-G had it while it was made
        *dense("pre_logits/", "pre_logits"),
        *dense("head/", "head"),
        *_FLAX_TRUNK,
    )


# The ResNet under a hybrid.
_UNIT = ("block{s}/unit{u}/", "stage{s}_unit{u}/")
_FLAX_TRUNK = (
    Rule("conv_root/kernel", ("root_conv/kernel",)),
    *_flax_norm("gn_root", "root_norm"),
    *(
        rule
        for part in ("1", "2", "3", "_proj")
        for rule in (
            Rule(
                f"{_UNIT[0]}conv{part}/kernel",
                (f"{_UNIT[1]}conv{part}/kernel",),
            ),
            *_flax_norm(f"{_UNIT[0]}gn{part}", f"{_UNIT[1]}norm{part}"),
        )
    ),
)

# Modules counted in the order in which they were made, as Flax did before
# 2021: every file in gs://vit_models.
PRE_LINEN = Format(
    name="official",
    marker=r"Transformer/encoderblock(_0)?/LayerNorm_2/scale",
    prefixes=("opt/target/", "params/", ""),
    rules=_flax(
        attention="MultiHeadDotProductAttention_1",
        mlp_norm="LayerNorm_2",
        mlp="MlpBlock_3",
        positions=("Transformer/posembed_input/pos_embedding",),
    ),
)
# Modules counted by kind: the official code and big_vision today.
LINEN = Format(
    name="big_vision",
    marker=r"Transformer/encoderblock(_0)?/LayerNorm_1/scale",
    prefixes=("params/img/", "opt/target/", "params/", ""),
    rules=_flax(
        attention="MultiHeadDotProductAttention_0",
        mlp_norm="LayerNorm_1",
        mlp="MlpBlock_0",
        positions=(
            "pos_embedding",
            "Transformer/posembed_input/pos_embedding",
            "Transformer/pos_embedding",
        ),
    ),
)

# BiT's own `.npz`, with the names of its TensorFlow modules.
_BIT_UNIT = "block{s}/unit{u:02d}/"
BIT = Format(
    name="BiT",
    marker="root_block/standardized_conv2d/kernel",
    prefixes=("resnet/", ""),
    rules=(
        Rule("root_block/standardized_conv2d/kernel", ("root_conv/kernel",)),
        *(
            rule
            for letter, part in (("a", "1"), ("b", "2"), ("c", "3"))
            for rule in (
                Rule(
                    f"{_BIT_UNIT}{letter}/standardized_conv2d/kernel",
                    (f"{_UNIT[1]}conv{part}/kernel",),
                ),
                *norm(
                    f"{_BIT_UNIT}{letter}/group_norm",
                    f"{_UNIT[1]}norm{part}",
                    names=("gamma", "beta"),
                    separator="/",
                ),
            )
        ),
        Rule(
            f"{_BIT_UNIT}a/proj/standardized_conv2d/kernel",
            (f"{_UNIT[1]}conv_proj/kernel",),
        ),
        *norm("group_norm", "final_norm", ("gamma", "beta"), "/"),
        *dense("head/conv2d/", "head"),
    ),
)

TIMM = Format(
    name="timm",
    marker=r"patch_embed\.proj\.weight",
    activation="gelu",
    rules=(
        Rule("cls_token", (CLS_TOKEN,)),
        Rule("reg_token", (REGISTERS,)),
        Rule("dist_token", (REGISTERS,)),
        Rule("pos_embed", (POSITIONS,)),
        *dense(
            "patch_embed.proj.",
            "patch_encoder/projection",
            PATCHES_OIHW,
            SAME,
            ("weight", "bias"),
        ),
        *norm("blocks.{i}.norm1", "block_{i:02d}/attention_norm"),
        *linear(
            "blocks.{i}.attn.qkv",
            "block_{i:02d}/attention/query",
            "block_{i:02d}/attention/key",
            "block_{i:02d}/attention/value",
        ),
        *norm("blocks.{i}.attn.q_norm", "block_{i:02d}/attention/query_norm"),
        *norm("blocks.{i}.attn.k_norm", "block_{i:02d}/attention/key_norm"),
        *linear_out("blocks.{i}.attn.proj", "block_{i:02d}/attention/output"),
        Rule("blocks.{i}.ls1.gamma", ("block_{i:02d}/attention_scale/scale",)),
        *norm("blocks.{i}.norm2", "block_{i:02d}/mlp_norm"),
        # SwiGLU in one matrix, its gate first; plain; SwiGLU in two.
        *linear(
            "blocks.{i}.mlp.fc1",
            "block_{i:02d}/mlp/gate",
            "block_{i:02d}/mlp/hidden",
        ),
        *linear("blocks.{i}.mlp.fc1", "block_{i:02d}/mlp/hidden"),
        *linear("blocks.{i}.mlp.fc1_g", "block_{i:02d}/mlp/gate"),
        *linear("blocks.{i}.mlp.fc1_x", "block_{i:02d}/mlp/hidden"),
        *linear("blocks.{i}.mlp.fc2", "block_{i:02d}/mlp/output"),
        Rule("blocks.{i}.ls2.gamma", ("block_{i:02d}/mlp_scale/scale",)),
        *norm("norm", "encoder_norm"),
        *norm("fc_norm", "pooling_norm"),
        Rule("attn_pool.latent", ("pooling/probe",)),
        *linear("attn_pool.q", "pooling/attention/query"),
        *linear(
            "attn_pool.kv", "pooling/attention/key", "pooling/attention/value"
        ),
        *linear_out("attn_pool.proj", "pooling/attention/output"),
        *norm("attn_pool.norm", "pooling/norm"),
        *linear("attn_pool.mlp.fc1", "pooling/mlp/hidden"),
        *linear("attn_pool.mlp.fc2", "pooling/mlp/output"),
        *linear("head", "head"),
        *linear("head_dist", "distillation_head"),
    ),
)

_HF_LAYER = "encoder.layer.{i}."
_HF_COMMON = (
    Rule("embeddings.cls_token", (CLS_TOKEN,)),
    Rule("embeddings.distillation_token", (REGISTERS,)),
    Rule("embeddings.register_tokens", (REGISTERS,)),
    Rule("embeddings.position_embeddings", (POSITIONS,)),
    *dense(
        "embeddings.patch_embeddings.projection.",
        "patch_encoder/projection",
        PATCHES_OIHW,
        SAME,
        ("weight", "bias"),
    ),
    *(
        rule
        for part in ("query", "key", "value")
        for rule in linear(
            f"{_HF_LAYER}attention.attention.{part}",
            f"block_{{i:02d}}/attention/{part}",
        )
    ),
    *linear_out(
        f"{_HF_LAYER}attention.output.dense", "block_{i:02d}/attention/output"
    ),
    *norm("layernorm", "encoder_norm"),
    *linear("pooler.dense", "pre_logits"),
    *linear("classifier", "head"),
    *linear("cls_classifier", "head"),
    *linear("distillation_classifier", "distillation_head"),
)
HUGGING_FACE = Format(
    name="huggingface",
    marker=r"encoder\.layer\.0\.layernorm_before\.weight",
    prefixes=("vit.", "deit.", ""),
    activation="gelu",
    epsilon=1e-12,
    # What the pre-training by masked images has and nothing else needs.
    unused=r"embeddings\.mask_token",
    rules=(
        *_HF_COMMON,
        *norm(f"{_HF_LAYER}layernorm_before", "block_{i:02d}/attention_norm"),
        *norm(f"{_HF_LAYER}layernorm_after", "block_{i:02d}/mlp_norm"),
        *linear(f"{_HF_LAYER}intermediate.dense", "block_{i:02d}/mlp/hidden"),
        *linear(f"{_HF_LAYER}output.dense", "block_{i:02d}/mlp/output"),
    ),
)
DINOV2 = Format(
    name="DINOv2",
    marker=r"encoder\.layer\.0\.layer_scale1\.lambda1",
    prefixes=("dinov2_with_registers.", "dinov2.", ""),
    activation="gelu",
    unused=r"embeddings\.mask_token",
    rules=(
        *_HF_COMMON,
        *norm(f"{_HF_LAYER}norm1", "block_{i:02d}/attention_norm"),
        Rule(
            f"{_HF_LAYER}layer_scale1.lambda1",
            ("block_{i:02d}/attention_scale/scale",),
        ),
        *norm(f"{_HF_LAYER}norm2", "block_{i:02d}/mlp_norm"),
        *linear(
            f"{_HF_LAYER}mlp.weights_in",
            "block_{i:02d}/mlp/gate",
            "block_{i:02d}/mlp/hidden",
        ),
        *linear(f"{_HF_LAYER}mlp.weights_out", "block_{i:02d}/mlp/output"),
        *linear(f"{_HF_LAYER}mlp.fc1", "block_{i:02d}/mlp/hidden"),
        *linear(f"{_HF_LAYER}mlp.fc2", "block_{i:02d}/mlp/output"),
        Rule(
            f"{_HF_LAYER}layer_scale2.lambda1",
            ("block_{i:02d}/mlp_scale/scale",),
        ),
    ),
)


def _vit_pytorch(attention, mlp):
    layer = "transformer.layers.{i}."
    return (
        *norm(f"{layer}{attention[0]}", "block_{i:02d}/attention_norm"),
        *linear(
            f"{layer}{attention[1]}",
            "block_{i:02d}/attention/query",
            "block_{i:02d}/attention/key",
            "block_{i:02d}/attention/value",
        ),
        *linear_out(f"{layer}{attention[2]}", "block_{i:02d}/attention/output"),
        *norm(f"{layer}{mlp[0]}", "block_{i:02d}/mlp_norm"),
        *linear(f"{layer}{mlp[1]}", "block_{i:02d}/mlp/hidden"),
        *linear(f"{layer}{mlp[2]}", "block_{i:02d}/mlp/output"),
    )


VIT_PYTORCH = Format(
    name="vit-pytorch",
    marker=r"to_patch_embedding\.1\.weight",
    activation="gelu",
    epsilon=1e-5,  # PyTorch's own
    rules=(
        Rule("cls_token", (CLS_TOKEN,)),
        Rule("pos_embedding", (POSITIONS,)),
        # Norm, projection, norm; before 2023 the projection alone.
        *norm("to_patch_embedding.1", "patch_encoder/patch_norm"),
        *linear("to_patch_embedding.1", "patch_encoder/projection"),
        *linear("to_patch_embedding.2", "patch_encoder/projection"),
        *norm("to_patch_embedding.3", "patch_encoder/embedding_norm"),
        *_vit_pytorch(
            ("0.norm", "0.to_qkv", "0.to_out.0"),
            ("1.net.0", "1.net.1", "1.net.4"),
        ),
        *_vit_pytorch(  # SimpleViT, without dropout
            ("0.norm", "0.to_qkv", "0.to_out"),
            ("1.net.0", "1.net.1", "1.net.3"),
        ),
        *_vit_pytorch(  # until 2023
            ("0.norm", "0.fn.to_qkv", "0.fn.to_out.0"),
            ("1.norm", "1.fn.net.0", "1.fn.net.3"),
        ),
        *norm("transformer.norm", "encoder_norm"),
        *linear("mlp_head", "head"),
        *linear("linear_head", "head"),
        *norm("mlp_head.0", "pooling_norm"),
        *linear("mlp_head.1", "head"),
    ),
)

FORMATS = (PRE_LINEN, LINEN, BIT, TIMM, DINOV2, HUGGING_FACE, VIT_PYTORCH)


def recognise(keys):
    """Returns the format and the prefix of a file, from its keys alone.

    Args:
        keys: the keys in the file.

    Returns:
        A `Format` and a string, or `None` if the keys are of none.
    """
    for known in FORMATS:
        for prefix in known.prefixes:
            pattern = re.compile(re.escape(prefix) + known.marker)
            if any(pattern.fullmatch(key) for key in keys):
                return known, prefix
    return None
