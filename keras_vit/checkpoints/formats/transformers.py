"""What Hugging Face's transformers calls the weights of ViT, DeiT and DINOv2.

Sources: transformers 5, `models/vit`, `models/deit`, `models/dinov2`,
`models/dinov2_with_registers`.
"""

from keras_vit.checkpoints.formats.roles import CLS_TOKEN, POSITIONS, REGISTERS
from keras_vit.checkpoints.formats.transformers_describe import (
    describe_dinov2,
    describe_vit,
)
from keras_vit.checkpoints.rules import (
    PATCHES_OIHW,
    SAME,
    Format,
    Rule,
    dense,
    linear,
    linear_out,
    norm,
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
    describe=describe_vit,
    resampling="torch_bicubic",
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
    describe=describe_dinov2,
    resampling="torch_bicubic",
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
