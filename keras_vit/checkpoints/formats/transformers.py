"""What Hugging Face's transformers calls the weights of ViT and its kin.

ViT, DeiT, MAE, MSN, I-JEPA, DPT; DINOv2 with and without registers; BEiT and
Data2Vec; InternVL; EoMT. Sources: transformers 5, `models/vit` and the folders
of the others. `transformers_towers` has CLIP, SigLIP and theirs.
"""

import dataclasses
import re

from keras_vit.checkpoints.formats import relative_biases, transformers_beit
from keras_vit.checkpoints.formats.roles import CLS_TOKEN, POSITIONS, REGISTERS
from keras_vit.checkpoints.formats.transformers_describe import (
    describe_dinov2,
    describe_dinov2_classifier,
    describe_eomt,
    describe_internvl,
    describe_vit,
)
from keras_vit.checkpoints.rules import (
    Format,
    Rule,
    convolution,
    linear,
    linear_out,
    norm,
)

# What transformers 5 calls the parts of a block in memory, and `state_dict()`
# with it, and what `save_pretrained` makes of it: `conversion_mapping.py`.
_IN_MEMORY = {
    ".attention.q_proj.": ".attention.attention.query.",
    ".attention.k_proj.": ".attention.attention.key.",
    ".attention.v_proj.": ".attention.attention.value.",
    ".attention.o_proj.": ".attention.output.dense.",
}
_IN_MEMORY_OF_VIT = {
    ".mlp.fc1.": ".intermediate.dense.",
    ".mlp.fc2.": ".output.dense.",
}
_LAYERS_OF_VIT = re.compile(r"(^|\.)layers\.(?=\d+\.)")
_MARKS_OF_MEMORY = tuple(
    re.compile(rf"(.*\.)?{name}\.weight")
    for name in (
        r"embeddings\.patch_embeddings\.projection",
        r"(layers|encoder\.layer)\.0\.attention\.o_proj",
    )
)
_HF_LAYER = "encoder.layer.{i}."
_HF_COMMON = (
    Rule("embeddings.cls_token", (CLS_TOKEN,)),
    Rule("embeddings.position_embeddings", (POSITIONS,)),
    *convolution("embeddings.patch_embeddings.projection"),
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
_REGISTERS = Rule("embeddings.register_tokens", (REGISTERS,))
_HF_MLP = (
    *norm(f"{_HF_LAYER}layernorm_before", "block_{i:02d}/attention_norm"),
    *norm(f"{_HF_LAYER}layernorm_after", "block_{i:02d}/mlp_norm"),
    *linear(f"{_HF_LAYER}intermediate.dense", "block_{i:02d}/mlp/hidden"),
    *linear(f"{_HF_LAYER}output.dense", "block_{i:02d}/mlp/output"),
)
_LAMBDAS = (
    Rule(f"{_HF_LAYER}lambda_1", ("block_{i:02d}/attention_scale/scale",)),
    Rule(f"{_HF_LAYER}lambda_2", ("block_{i:02d}/mlp_scale/scale",)),
)
HUGGING_FACE = Format(
    name="huggingface",
    describe=describe_vit,
    resampling="torch_bicubic",
    # Not a name of the blocks: MSN's classifier has them without the prefix.
    marker=r"embeddings\.patch_embeddings\.projection\.weight",
    prefixes=("vit.", "deit.", "ijepa.", "dpt.", ""),
    activation="gelu",
    epsilon=1e-12,
    # What pre-training by masked images, or DPT's decoder, has beside a trunk.
    unused=r"embeddings\.mask_token|(decoder|neck|head|auxiliary_head)\..*",
    rules=(
        Rule("embeddings.distillation_token", (REGISTERS,)),
        *_HF_COMMON,
        *_HF_MLP,
    ),
)
BEIT = Format(
    name="BEiT",
    describe=transformers_beit.describe,
    resampling="torch_bicubic",
    marker=r"encoder\.layer\.0\.lambda_1",
    prefixes=("beit.", "data2vec_vision.", ""),
    activation="gelu",
    epsilon=1e-12,
    unused=rf"embeddings\.mask_token|lm_head\..*|{relative_biases.INDEX}",
    rules=(
        *_HF_COMMON,
        *_HF_MLP,
        *_LAMBDAS,
        *norm("pooler.layernorm", "pooling_norm"),
        *transformers_beit.RULES,
    ),
)
INTERNVL = Format(
    name="InternVL",
    describe=describe_internvl,
    resampling="torch_bicubic",
    marker=r"encoder\.layer\.0\.attention\.projection_layer\.weight",
    activation="gelu",
    unused=r"embeddings\.mask_token|lm_head\..*"
    r"|(model\.)?(language_model|multi_modal_projector)\..*",
    rules=(
        *_HF_COMMON,
        *_HF_MLP,
        *_LAMBDAS,
        *(
            rule
            for part in ("query", "key", "value")
            for rule in linear(
                f"{_HF_LAYER}attention.{part[0]}_proj",
                f"block_{{i:02d}}/attention/{part}",
            )
        ),
        *linear_out(
            f"{_HF_LAYER}attention.projection_layer",
            "block_{i:02d}/attention/output",
        ),
        *linear(f"{_HF_LAYER}mlp.fc1", "block_{i:02d}/mlp/hidden"),
        *linear(f"{_HF_LAYER}mlp.fc2", "block_{i:02d}/mlp/output"),
    ),
)


def _dinov2(layer):
    """The rules of a block of DINOv2 after its attention."""
    block = "block_{i:02d}/"
    return (
        *norm(f"{layer}norm1", f"{block}attention_norm"),
        Rule(
            f"{layer}layer_scale1.lambda1", (f"{block}attention_scale/scale",)
        ),
        *norm(f"{layer}norm2", f"{block}mlp_norm"),
        *linear(
            f"{layer}mlp.weights_in", f"{block}mlp/gate", f"{block}mlp/hidden"
        ),
        *linear(f"{layer}mlp.weights_out", f"{block}mlp/output"),
        *linear(f"{layer}mlp.gate_proj", f"{block}mlp/gate"),
        *linear(f"{layer}mlp.up_proj", f"{block}mlp/hidden"),
        *linear(f"{layer}mlp.down_proj", f"{block}mlp/output"),
        *linear(f"{layer}mlp.fc1", f"{block}mlp/hidden"),
        *linear(f"{layer}mlp.fc2", f"{block}mlp/output"),
        Rule(f"{layer}layer_scale2.lambda1", (f"{block}mlp_scale/scale",)),
    )


DINOV2 = Format(
    name="DINOv2",
    describe=describe_dinov2,
    resampling="torch_bicubic",
    marker=r"encoder\.layer\.0\.layer_scale1\.lambda1",
    prefixes=("dinov2.", ""),
    activation="gelu",
    # The decoder is that of Depth Anything.
    unused=r"embeddings\.mask_token|(neck|head)\..*",
    rules=(*_HF_COMMON, *_dinov2(_HF_LAYER)),
)
# Published with positions that are smoothed where they shrink.
DINOV2_WITH_REGISTERS = dataclasses.replace(
    DINOV2,
    name="DINOv2 with registers",
    resampling="bicubic",
    marker=(DINOV2.marker, _REGISTERS.key.replace(".", r"\.")),
    prefixes=("dinov2_with_registers.", ""),
    rules=(_REGISTERS, *DINOV2.rules),
)


def dinov2_to_write(*, registers: bool, gated: bool) -> Format:
    """Returns DINOv2 with the names of one MLP, where reading takes both."""
    form = DINOV2_WITH_REGISTERS if registers else DINOV2
    own = ".mlp.weights_" if gated else ".mlp.fc"
    rules = tuple(
        rule
        for rule in form.rules
        if own in rule.key or ".mlp." not in rule.key
    )
    return dataclasses.replace(form, rules=rules)


DINOV2_CLASSIFIERS = tuple(
    dataclasses.replace(
        trunk,
        name=f"{trunk.name} and a linear head",
        marker=(DINOV2.marker, r"classifier\.weight", *others),
        describe=describe_dinov2_classifier,
        about_head="that of DINOv2 takes the class token and the mean of the "
        "patches side by side",
    )
    for trunk, others in (
        (DINOV2_WITH_REGISTERS, DINOV2_WITH_REGISTERS.marker[1:]),
        (DINOV2, ()),
    )
)
EOMT = Format(
    name="EoMT",
    describe=describe_eomt,
    resampling="torch_bicubic",
    marker=r"layers\.0\.layer_scale1\.lambda1",
    activation="gelu",
    unused=r"embeddings\.mask_token|attn_mask_probs|query\.weight"
    r"|(class_predictor|criterion|mask_head|upscale_block)\..*",
    rules=(
        *_HF_COMMON,
        _REGISTERS,
        Rule("embeddings.position_embeddings.weight", (POSITIONS,)),
        *_dinov2("layers.{i}."),
        *(
            rule
            for part in ("query", "key", "value")
            for rule in linear(
                f"layers.{{i}}.attention.{part[0]}_proj",
                f"block_{{i:02d}}/attention/{part}",
            )
        ),
        *linear_out(
            "layers.{i}.attention.out_proj", "block_{i:02d}/attention/output"
        ),
    ),
)


def in_memory_to_saved(keys):
    """Returns a dict from the name that transformers saves to the key.

    Args:
        keys: the keys of a file, perhaps those of a `state_dict()`.
    """
    if "embeddings.patch_embeddings.weight" in keys:  # DINOv3
        return {re.sub(r"^model\.layer\.", "layer.", key): key for key in keys}
    if not all(any(map(mark.fullmatch, keys)) for mark in _MARKS_OF_MEMORY):
        return {key: key for key in keys}

    def saved(key):
        key, of_vit = _LAYERS_OF_VIT.subn(r"\1encoder.layer.", key)
        names = _IN_MEMORY | (_IN_MEMORY_OF_VIT if of_vit else {})
        for new, old in names.items():
            key = key.replace(new, old)
        return key

    return {saved(key): key for key in keys}
