"""What transformers calls the image towers of CLIP, SigLIP and BLIP.

CLIP, MetaCLIP 2, Chinese-CLIP, AltCLIP, OWL-ViT, SigLIP 1 and 2, BLIP, MLCD:
one set of names, alone or beside a tower of texts. Sources: transformers 5,
`models/clip`, `models/siglip`, `models/siglip2`, `models/blip`,
`models/owlvit` and `models/mlcd`: `configuration_*.py` and `modeling_*.py`.
"""

import dataclasses
import math

from keras_vit.checkpoints.description import Description
from keras_vit.checkpoints.evidence import Evidence
from keras_vit.checkpoints.formats.roles import CLS_TOKEN, POSITIONS
from keras_vit.checkpoints.formats.timm_describe import pair
from keras_vit.checkpoints.formats.transformers_describe import (
    ACTIVATIONS,
    LANGUAGE,
    STATISTICS,
    attention_biases,
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
    for_all_blocks,
    linear,
    linear_out,
    norm,
)
from keras_vit.variants import Variant

# Of `model_type` without `_vision_model`: `hidden_act`, `layer_norm_eps` and
# `num_attention_heads` where `config.json` leaves them out.
DEFAULTS = {
    "clip": ("quick_gelu", 1e-5, 12),
    "metaclip_2": ("quick_gelu", 1e-5, 12),
    "chinese_clip": ("quick_gelu", 1e-5, 12),
    "altclip": ("quick_gelu", 1e-5, 12),
    "owlvit": ("quick_gelu", 1e-5, 12),
    "owlv2": ("quick_gelu", 1e-5, 12),
    "siglip": ("gelu_pytorch_tanh", 1e-6, 12),
    "siglip2": ("gelu_pytorch_tanh", 1e-6, 12),
    "blip": ("gelu", 1e-5, 12),
    "mlcd": ("gelu", 1e-5, 16),
}
# Angles of the class token of MLCD, one array for all blocks.
ANGLES = "class_pos_emb"
THETA = 10_000.0
# The second is how the two towers of AltCLIP are written.
LAYERS = ("encoder.layers.{i}.", "encoder.layer.{i}.")
LAYER = LAYERS[0]
# The beginnings of what stands beside a tower of images.
BESIDE = (
    *("text_model.", "text_encoder.", "text_decoder.", "text_projection."),
    *("text_proj.", "visual_projection.", "vision_proj.", "itm_head."),
    *("class_head.", "box_head.", "objectness_head.", "layer_norm."),
    *LANGUAGE,
)
UNUSED = (
    r"logit_scale|logit_bias|embeddings\.position_ids|layer_norm\..*"
    r"|(text_\w+|visual_projection|vision_proj|lm_head)\..*"
    r"|(itm|class|box|objectness)_head\..*"
    r"|(model\.)?(language_model|multi_modal_projector)\..*"
)


def describe(evidence: Evidence) -> Description:
    """Returns the `Description` of a tower of CLIP, SigLIP or BLIP."""
    config, family = family_of(evidence)
    kernel = evidence.shape("embeddings.patch_embedding.weight")
    if len(kernel) == 2:
        kernel = _flat_kernel(evidence, kernel, config)
    hidden_dim, channels, *patch = kernel
    layer = next(
        (
            one
            for one in LAYERS
            if f"{one.format(i=0)}layer_norm1.weight" in evidence
        ),
        LAYER,
    )
    packed = f"{layer.format(i=0)}self_attn.qkv.weight" in evidence
    query, key, output = (
        ("qkv", "qkv", "projection")
        if packed
        else ("q_proj", "k_proj", "out_proj")
    )
    depth = evidence.depth(f"{layer}self_attn.{query}.weight")
    act, epsilon, heads = DEFAULTS.get(family, (None, 1e-5, None))
    act = config.get("hidden_act", act)
    if act is None and not evidence.given.get("activation"):
        raise CheckpointError(
            f"Nothing beside '{evidence.path}' says which GELU it has, and "
            "towers of these names have three. Pass `activation`: "
            "'quick_gelu' (OpenAI's CLIP), 'gelu' (LAION's, BLIP) or "
            "'gelu_tanh' (SigLIP)."
        )
    cls_token = "embeddings.class_embedding" in evidence
    patch_encoder = {"cls_token": cls_token}
    if "embeddings.patch_embedding.bias" not in evidence:
        patch_encoder["use_bias"] = False
    if {"pre_layrnorm.weight", "pre_layernorm.weight"} & set(evidence.shapes):
        patch_encoder["norm_tokens"] = True
    size, rotary = pair(config.get("image_size")), {}
    if ANGLES in evidence:
        grid = _grid_of_mlcd(evidence, size, patch)
        rotary = _rotary(config, grid)
        patch_encoder["position"] = None
    else:
        table = "embeddings.position_embedding"
        table = table if table in evidence else f"{table}.weight"
        rows = evidence.shape(table)[-2]
        grid, _ = evidence.grid(rows, (int(cls_token),), patch, size)
    head = evidence.shapes.get("classifier.weight")
    pooling = "token" if cls_token else "average"
    if "head.probe" in evidence and not head:
        pooling = "attention"
    mlp_dim = evidence.shape(f"{layer.format(i=0)}mlp.fc2.weight")[1]
    left_aside(evidence, *BESIDE)
    if family == "blip":
        evidence.notes.append(
            f"The model of '{evidence.path}' returns the class token after "
            "the last norm. `pooler_output` of BLIP is that, through the same "
            "norm once more."
        )
    return Description(
        format="transformers",
        variant=Variant(
            depth,
            hidden_dim,
            mlp_dim,
            evidence.heads(
                hidden_dim, config.get("num_attention_heads", heads)
            ),
            tuple(patch),
        ),
        image_size=tuple(cells * edge for cells, edge in zip(grid, patch)),
        num_channels=channels,
        num_classes=head[0] if head else None,
        activation=evidence.activation(act, "gelu", ACTIVATIONS),
        epsilon=evidence.given.get("epsilon")
        or config.get("layer_norm_eps", epsilon),
        pooling=pooling,
        patch_encoder=patch_encoder,
        attention=rotary
        | attention_biases(
            evidence,
            depth,
            f"{layer}self_attn.{query}",
            f"{layer}self_attn.{key}",
            f"{layer}self_attn.{output}",
        ),
        preprocessing=preprocessing(evidence, _statistics(evidence, family)),
        resampling="smooth_bilinear"
        if family == "siglip2"
        else "torch_bicubic",
    )


def describe_clip_classifier(evidence: Evidence) -> Description:
    """Returns the `Description` of CLIP's classifier.

    It averages the patches as they leave the last block, before any norm.
    """
    return dataclasses.replace(
        describe(evidence), pooling="average", final_norm=False
    )


def _grid_of_mlcd(evidence, size, patch):
    """Rows and columns of patches, which the weights do not tell."""
    grid = evidence.given.get("file_grid")
    if grid is None and size is None:
        raise CheckpointError(
            f"'{evidence.path}' has no table of positions, and nothing says "
            "for which grid it is. Pass `file_grid=(rows, columns)`."
        )
    evidence.notes.append(
        f"All blocks of '{evidence.path}' share '{ANGLES}': each block of the "
        "model has a copy, and training lets them differ."
    )
    return tuple(grid or (edge // cell for edge, cell in zip(size, patch)))


def _rotary(config, grid):
    """The positions of MLCD, as arguments of the attention."""
    nested = config.get("rope_parameters") or {}
    return {
        "layer": "RotaryAttention",
        "grid_size": grid,
        "num_prefix_tokens": 1,
        "base": float(nested.get("rope_theta") or THETA),
        "pairing": "half",
        "prefix_angles": True,
    }


def _flat_kernel(evidence, kernel, config):
    """The shape of a projection of flat patches, as of a convolution."""
    hidden_dim, width = kernel
    channels = config.get("num_channels", 3)
    edge = config.get("patch_size") or math.isqrt(width // channels)
    if channels * edge**2 != width:
        raise CheckpointError(
            f"'{evidence.path}': {width} numbers are no patch of {edge} x "
            f"{edge} pixels with {channels} channels."
        )
    evidence.notes.append(
        f"'{evidence.path}' is for images of any shape (NaFlex of SigLIP2): "
        "the model is for squares of the size of the position table. Pass "
        "`image_size` for others."
    )
    return hidden_dim, channels, edge, edge


def family_of(evidence: Evidence) -> tuple[dict, str]:
    """Returns the configuration of the tower, and the name of its family."""
    config = vision_config(evidence)
    name = str(config.get("model_type") or evidence.config.get("model_type"))
    return config, name.removesuffix("_vision_model").removesuffix("_vision")


def _statistics(evidence, family):
    if family in STATISTICS:
        return STATISTICS[family]
    return "inception" if "head.probe" in evidence else None


def attention_rules(key: str) -> tuple[Rule, ...]:
    """Returns the rules of an attention of four arrays and their biases."""
    return (
        *(
            rule
            for part in ("query", "key", "value")
            for rule in linear(
                f"{key}.{part[0]}_proj", f"block_{{i:02d}}/attention/{part}"
            )
        ),
        *linear_out(f"{key}.out_proj", "block_{i:02d}/attention/output"),
    )


def _tower_block(layer):
    """The rules of a block, its names beginning with `layer`."""
    return (
        *norm(f"{layer}layer_norm1", "block_{i:02d}/attention_norm"),
        *linear(
            f"{layer}self_attn.qkv",
            "block_{i:02d}/attention/query",
            "block_{i:02d}/attention/key",
            "block_{i:02d}/attention/value",
        ),
        *linear_out(
            f"{layer}self_attn.projection", "block_{i:02d}/attention/output"
        ),
        *attention_rules(f"{layer}self_attn"),
        *norm(f"{layer}layer_norm2", "block_{i:02d}/mlp_norm"),
        *linear(f"{layer}mlp.fc1", "block_{i:02d}/mlp/hidden"),
        *linear(f"{layer}mlp.fc2", "block_{i:02d}/mlp/output"),
    )


_POOL = "pooling/attention/"
TOWERS = Format(
    name="CLIP of transformers",
    describe=describe,
    resampling="torch_bicubic",
    # No tower of texts has one.
    marker=r"embeddings\.patch_embedding\.weight",
    prefixes=("vision_model.", ""),
    activation="quick_gelu",
    epsilon=1e-5,
    unused=UNUSED,
    rules=(
        Rule("embeddings.class_embedding", (CLS_TOKEN,)),
        Rule("embeddings.position_embedding.weight", (POSITIONS,)),
        Rule("embeddings.position_embedding", (POSITIONS,)),
        *convolution("embeddings.patch_embedding"),
        *norm("pre_layrnorm", "patch_encoder/token_norm"),
        *norm("pre_layernorm", "patch_encoder/token_norm"),
        *(rule for layer in LAYERS for rule in _tower_block(layer)),
        *norm("post_layernorm", "encoder_norm"),
        Rule("head.probe", ("pooling/probe",)),
        *dense(
            "head.attention.in_proj_",
            (f"{_POOL}query", f"{_POOL}key", f"{_POOL}value"),
            LINEAR,
            FLAT,
            ("weight", "bias"),
        ),
        *linear_out("head.attention.out_proj", f"{_POOL}output"),
        *norm("head.layernorm", "pooling/norm"),
        *linear("head.mlp.fc1", "pooling/mlp/hidden"),
        *linear("head.mlp.fc2", "pooling/mlp/output"),
        *linear("classifier", "head"),
        *for_all_blocks(
            Rule(ANGLES, ("block_{i:02d}/attention/prefix_angles",))
        ),
    ),
)
# With the pooling of big_vision.
SIGLIP = dataclasses.replace(
    TOWERS,
    name="SigLIP of transformers",
    marker=(TOWERS.marker, r"head\.probe"),
    activation="gelu_tanh",
    epsilon=1e-6,
)
# It averages patches; the pooling of the tower is in the file, and unused.
SIGLIP_CLASSIFIER = dataclasses.replace(
    SIGLIP,
    name="SigLIP's classifier of transformers",
    marker=(*SIGLIP.marker, r"classifier\.weight"),
    unused=rf"{UNUSED}|head\..*",
)
# Flattened patches in place of a convolution, their colours last as here.
_FLAT = {
    "resampling": "smooth_bilinear",
    "rules": (
        *linear("embeddings.patch_embedding", "patch_encoder/projection"),
        *TOWERS.rules,
    ),
}
SIGLIP2 = dataclasses.replace(
    SIGLIP,
    name="SigLIP2 of transformers",
    marker=(TOWERS.marker, (TOWERS.marker, 2)),
    **_FLAT,
)
SIGLIP2_CLASSIFIER = dataclasses.replace(
    SIGLIP_CLASSIFIER,
    name="SigLIP2's classifier of transformers",
    marker=(*SIGLIP_CLASSIFIER.marker, (TOWERS.marker, 2)),
    **_FLAT,
)
BLIP = dataclasses.replace(
    TOWERS,
    name="BLIP of transformers",
    marker=(TOWERS.marker, r"encoder\.layers\.0\.self_attn\.qkv\.weight"),
    activation="gelu",
)
# It averages patches before the norm, which is in the file, and unused.
CLIP_CLASSIFIER = dataclasses.replace(
    TOWERS,
    name="CLIP's classifier of transformers",
    describe=describe_clip_classifier,
    marker=(TOWERS.marker, r"pre_layrnorm\.weight", r"classifier\.weight"),
    unused=rf"{UNUSED}|post_layernorm\..*",
)
TOWERS_OF_TRANSFORMERS = (  # a special one before the general one
    SIGLIP2_CLASSIFIER,
    SIGLIP2,
    SIGLIP_CLASSIFIER,
    SIGLIP,
    BLIP,
    CLIP_CLASSIFIER,
    TOWERS,
)
