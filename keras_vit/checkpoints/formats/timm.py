"""What timm calls the weights of a Vision Transformer.

Sources: timm 1.0, `models/vision_transformer.py`, and for the ResNets under
hybrids `models/vision_transformer_hybrid.py` and `models/resnetv2.py`;
`timm_eva` has what `models/eva.py` adds, `timm_naflex` what
`models/naflexvit.py` does, `timm_relative` what relative position biases do.
"""

import dataclasses

from keras_vit.checkpoints.formats import (
    relative_biases,
    timm_eva,
    timm_naflex,
    timm_relative,
)
from keras_vit.checkpoints.formats.roles import CLS_TOKEN, POSITIONS, REGISTERS
from keras_vit.checkpoints.rules import (
    OIHW,
    Format,
    Rule,
    convolution,
    linear,
    linear_out,
    norm,
)

# The ResNet under a hybrid; where there is the stem alone, `stem.` is missing.
_BACKBONE = "patch_embed.backbone."
_UNIT = (f"{_BACKBONE}stages.{{s}}.blocks.{{u}}.", "stage{S}_unit{U}/")


def _trunk(key, conv, norm_path, number=""):
    """The rules of a convolution and of the norm behind it."""
    return (
        Rule(f"{key}conv{number}.weight", (f"{conv}/kernel",), OIHW),
        *norm(f"{key}norm{number}", norm_path),
    )


TRUNK = (
    *_trunk(f"{_BACKBONE}stem.", "root_conv", "root_norm"),
    *_trunk(_BACKBONE, "root_conv", "root_norm"),
    *(
        rule
        for n in (1, 2, 3)
        for rule in _trunk(
            _UNIT[0], f"{_UNIT[1]}conv{n}", f"{_UNIT[1]}norm{n}", n
        )
    ),
    *_trunk(
        f"{_UNIT[0]}downsample.", f"{_UNIT[1]}conv_proj", f"{_UNIT[1]}norm_proj"
    ),
)

TIMM = Format(
    name="timm",
    marker=r"patch_embed\.proj\.weight",
    activation="gelu",
    describe=timm_eva.describe,
    resampling="bicubic",
    rules=(
        Rule("cls_token", (CLS_TOKEN,)),
        Rule("reg_token", (REGISTERS,)),
        Rule("dist_token", (REGISTERS,)),
        Rule("pos_embed", (POSITIONS,)),
        *convolution("patch_embed.proj"),
        *norm("patch_embed.norm", "patch_encoder/embedding_norm"),
        *norm("norm_pre", "patch_encoder/token_norm"),
        *norm("blocks.{i}.norm1", "block_{i:02d}/attention_norm"),
        *linear(
            "blocks.{i}.attn.qkv",
            "block_{i:02d}/attention/query",
            "block_{i:02d}/attention/key",
            "block_{i:02d}/attention/value",
        ),
        *norm("blocks.{i}.attn.q_norm", "block_{i:02d}/attention/query_norm"),
        *norm("blocks.{i}.attn.k_norm", "block_{i:02d}/attention/key_norm"),
        *norm("blocks.{i}.attn.norm", "block_{i:02d}/attention/output_norm"),
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
        *norm("blocks.{i}.mlp.norm", "block_{i:02d}/mlp/norm"),
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
        *TRUNK,
    ),
)
TIMM_EVA = dataclasses.replace(
    TIMM,
    name="timm's EVA",
    marker=(TIMM.marker, timm_eva.MARKER),
    rules=(*timm_eva.RULES, *TIMM.rules),
)
TIMM_NAFLEX = dataclasses.replace(
    TIMM,
    name="timm's NaFlex",
    marker=timm_naflex.MARKER,
    describe=timm_naflex.describe,
    rules=(*timm_naflex.RULES, *TIMM.rules),
)
TIMM_RELATIVE = dataclasses.replace(
    TIMM,
    name="timm with relative biases",
    marker=(TIMM.marker, timm_relative.MARKER),
    describe=timm_relative.describe,
    unused=rf"{relative_biases.INDEX}|mask_token|lm_head\..*",
    rules=(*timm_eva.RULES, *TIMM.rules, *timm_relative.RULES),
)
