"""What transformers calls the weights of AIMv2's tower, and what it is.

Source: transformers 5, `models/aimv2`: `configuration_aimv2.py` and
`modeling_aimv2.py`.
"""

from keras_vit.checkpoints.description import Description
from keras_vit.checkpoints.evidence import Evidence
from keras_vit.checkpoints.formats.roles import POSITIONS
from keras_vit.checkpoints.formats.timm_describe import pair
from keras_vit.checkpoints.formats.transformers_describe import (
    ACTIVATIONS,
    attention_biases,
    left_aside,
    preprocessing,
)
from keras_vit.checkpoints.formats.transformers_towers import (
    BESIDE,
    LAYER,
    UNUSED,
    attention_rules,
    family_of,
)
from keras_vit.checkpoints.guards import CheckpointError
from keras_vit.checkpoints.rules import (
    Format,
    Rule,
    convolution,
    linear,
    norm,
)
from keras_vit.variants import Variant


def describe_aimv2(evidence: Evidence) -> Description:
    """Returns the `Description` of the tower of AIMv2."""
    config, _ = family_of(evidence)
    projection = "embeddings.patch_embed"
    hidden_dim, channels, *patch = evidence.shape(f"{projection}.weight")
    attention = f"{LAYER}attention."
    depth = evidence.depth(f"{attention}q_proj.weight")
    mlp_dim = evidence.shape(f"{LAYER.format(i=0)}ffn.down_proj.weight")[1]
    table = "embeddings.position_embedding.weight"
    if table not in evidence:
        raise CheckpointError(
            f"'{evidence.path}' has no table of positions: it is one for "
            "images of any size (`is_native` of AIMv2), which is not read."
        )
    rows = evidence.shape(table)[-2]
    grid, _ = evidence.grid(rows, (0,), patch, pair(config.get("image_size")))
    patch_encoder = {"cls_token": False, "norm_after": True}
    if f"{projection}.bias" not in evidence:
        patch_encoder["use_bias"] = False
    activation = evidence.activation(
        config.get("hidden_act"), "silu", ACTIVATIONS
    )
    mlp = {} if activation == "silu" else {"gated": True}
    if not evidence.in_blocks(f"{LAYER}ffn.down_proj.bias", depth):
        mlp["use_bias"] = False
    left_aside(evidence, *BESIDE)
    if "head.cls_token" in evidence:
        evidence.notes.append(
            f"The model of '{evidence.path}' returns the mean of its patches: "
            "the pooling of AIMv2, attention with a query that is not "
            "projected, is left out."
        )
    return Description(
        format="transformers",
        variant=Variant(
            depth,
            hidden_dim,
            mlp_dim,
            evidence.heads(
                hidden_dim,
                config.get("num_attention_heads")
                or (6 if evidence.config else None),
            ),
            tuple(patch),
        ),
        image_size=tuple(cells * edge for cells, edge in zip(grid, patch)),
        num_channels=channels,
        activation="swiglu" if activation == "silu" else activation,
        epsilon=evidence.given.get("epsilon")
        or config.get("rms_norm_eps", 1e-5),
        pooling="average",
        norm="rms",
        patch_encoder=patch_encoder,
        attention=attention_biases(
            evidence,
            depth,
            f"{attention}q_proj",
            f"{attention}k_proj",
            f"{attention}out_proj",
        ),
        mlp=mlp,
        preprocessing=preprocessing(evidence, "clip"),
        resampling="torch_bicubic",
    )


AIMV2 = Format(
    name="AIMv2",
    describe=describe_aimv2,
    resampling="torch_bicubic",
    marker=r"embeddings\.patch_embed\.weight",
    prefixes=("vision_model.", ""),
    activation="swiglu",
    epsilon=1e-5,
    unused=rf"{UNUSED}|head\..*",
    rules=(
        Rule("embeddings.position_embedding.weight", (POSITIONS,)),
        *convolution("embeddings.patch_embed"),
        *norm("embeddings.rms_norm", "patch_encoder/embedding_norm"),
        *norm(f"{LAYER}rms_norm1", "block_{i:02d}/attention_norm"),
        *attention_rules(f"{LAYER}attention"),
        *norm(f"{LAYER}rms_norm2", "block_{i:02d}/mlp_norm"),
        *linear(f"{LAYER}ffn.gate_proj", "block_{i:02d}/mlp/gate"),
        *linear(f"{LAYER}ffn.up_proj", "block_{i:02d}/mlp/hidden"),
        *linear(f"{LAYER}ffn.down_proj", "block_{i:02d}/mlp/output"),
        *norm("rms_norm", "encoder_norm"),
    ),
)
