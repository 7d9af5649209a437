"""What OpenAI's CLIP and open_clip call the weights of their image towers.

Sources: open_clip 2, `transformer.py` (`VisionTransformer`), `model.py` and
`model_configs/*.json`; OpenAI's `clip/model.py`, which has the same names.
Towers that open_clip takes from timm stand under `visual.trunk.` with timm's
names.
"""

import dataclasses

from keras_vit.checkpoints.description import Description
from keras_vit.checkpoints.evidence import Evidence
from keras_vit.checkpoints.formats.roles import CLS_TOKEN, POSITIONS
from keras_vit.checkpoints.formats.timm import TIMM
from keras_vit.checkpoints.formats.transformers_describe import (
    ACTIVATIONS,
    left_aside,
    preprocessing,
    vision_config,
)
from keras_vit.checkpoints.guards import CheckpointError
from keras_vit.checkpoints.rules import (
    FLAT,
    LINEAR,
    Format,
    Rule,
    convolution,
    dense,
    linear,
    linear_out,
    norm,
)
from keras_vit.variants import Variant

# Of a width: ViT-H, ViT-g, ViT-bigG and ViT-e have wider heads than 64.
HEADS = {768: 12, 1024: 16, 1280: 16, 1408: 16, 1664: 16, 1792: 16}
LAYER = "visual.transformer.resblocks.{i}."
# The tower of texts, and what joins the two.
_UNUSED = (
    r"logit_scale|logit_bias|text_projection|positional_embedding"
    r"|(token_embedding|transformer|ln_final|text)\..*"
)


def describe(evidence: Evidence) -> Description:
    """Returns the `Description` of an image tower of CLIP."""
    # transformers' own configuration lies beside it as often as not.
    config = vision_config(evidence)
    hidden_dim, channels, *patch = evidence.shape("visual.conv1.weight")
    depth = evidence.depth(f"{LAYER}attn.in_proj_weight")
    if "visual.attn_pool.query" in evidence:
        raise CheckpointError(
            f"'{evidence.path}' pools by attention as CoCa does, with norms "
            "of its own: no pooling here does so."
        )
    name = config.get("hidden_act")
    if name is None and not evidence.given.get("activation"):
        raise CheckpointError(
            f"'{evidence.path}' does not say which GELU it has. Pass "
            "`activation`: 'quick_gelu' for OpenAI's weights and those whose "
            "name has 'quickgelu', DFN's and MetaCLIP's among them; 'gelu' "
            "for LAION's and all others."
        )
    patch_encoder = {
        "use_bias": "visual.conv1.bias" in evidence,
        "norm_tokens": "visual.ln_pre.weight" in evidence,
    }
    rows = evidence.shape("visual.positional_embedding")[-2]
    grid, _ = evidence.grid(rows, (1,), patch)
    mlp_dim = evidence.shape(f"{LAYER.format(i=0)}mlp.c_proj.weight")[1]
    scaled = evidence.in_blocks(f"{LAYER}ls_1.gamma", depth)
    if "visual.proj" in evidence and not evidence.given.get("embedding"):
        width = evidence.shape("visual.proj")[-1]
        evidence.notes.append(
            f"The model of '{evidence.path}' returns the class token after "
            f"its norm. The embedding of {width} numbers that texts are "
            "compared with is that times `visual.proj`: pass `embedding=True`."
        )
    return Description(
        format="open_clip",
        variant=Variant(
            depth,
            hidden_dim,
            mlp_dim,
            evidence.heads(
                hidden_dim,
                config.get("num_attention_heads") or HEADS.get(hidden_dim),
            ),
            tuple(patch),
        ),
        image_size=tuple(cells * edge for cells, edge in zip(grid, patch)),
        num_channels=channels,
        activation=evidence.activation(name, "gelu", ACTIVATIONS),
        epsilon=evidence.given.get("epsilon") or 1e-5,
        pooling="token",
        patch_encoder=patch_encoder,
        block={"layer_scale": 1.0} if scaled else {},
        preprocessing=preprocessing(evidence, "clip"),
        resampling="bicubic",
    )


def describe_timm(evidence: Evidence) -> Description:
    """Returns the `Description` of a tower that open_clip has from timm."""
    left_aside(evidence, "text.", "visual.head.")
    return dataclasses.replace(TIMM.describe(evidence), num_classes=None)


OPEN_CLIP = Format(
    name="open_clip",
    describe=describe,
    resampling="bicubic",
    # In front of all: the tower of texts has the same names without it.
    marker=r"visual\.transformer\.resblocks\.0\.attn\.in_proj_weight",
    activation="gelu",
    epsilon=1e-5,
    unused=rf"visual\.proj|{_UNUSED}",
    rules=(
        Rule("visual.class_embedding", (CLS_TOKEN,)),
        Rule("visual.positional_embedding", (POSITIONS,)),
        *convolution("visual.conv1"),
        *norm("visual.ln_pre", "patch_encoder/token_norm"),
        *norm(f"{LAYER}ln_1", "block_{i:02d}/attention_norm"),
        *dense(
            f"{LAYER}attn.in_proj_",
            tuple(
                f"block_{{i:02d}}/attention/{part}"
                for part in ("query", "key", "value")
            ),
            LINEAR,
            FLAT,
            ("weight", "bias"),
        ),
        *linear_out(f"{LAYER}attn.out_proj", "block_{i:02d}/attention/output"),
        Rule(f"{LAYER}ls_1.gamma", ("block_{i:02d}/attention_scale/scale",)),
        *norm(f"{LAYER}ln_2", "block_{i:02d}/mlp_norm"),
        *linear(f"{LAYER}mlp.c_fc", "block_{i:02d}/mlp/hidden"),
        *linear(f"{LAYER}mlp.c_proj", "block_{i:02d}/mlp/output"),
        Rule(f"{LAYER}ls_2.gamma", ("block_{i:02d}/mlp_scale/scale",)),
        *norm("visual.ln_post", "encoder_norm"),
    ),
)
OPEN_CLIP_TIMM = dataclasses.replace(
    TIMM,
    name="open_clip with a tower of timm",
    describe=describe_timm,
    prefixes=("visual.trunk.",),
    unused=rf"{_UNUSED}|visual\.head\..*|{TIMM.unused}",
)
