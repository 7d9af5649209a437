"""What network a file of timm with relative position biases is of.

BEiT, from `models/beit.py`, and the relative-position ViTs of
`models/vision_transformer_relpos.py`. What they share with EVA and with the
ordinary ViT is in `timm_eva` and `timm_describe`. Sources: timm 1.0.31, these
and `layers/pos_embed_rel.py`.
"""

import dataclasses

from keras_vit.checkpoints.description import Description
from keras_vit.checkpoints.evidence import Evidence, UndescribedError
from keras_vit.checkpoints.formats import (
    relative_biases,
    timm_describe,
    timm_eva,
)
from keras_vit.checkpoints.formats.transformers_describe import left_aside
from keras_vit.checkpoints.guards import CheckpointError
from keras_vit.checkpoints.rules import Rule, for_all_blocks, linear

TABLE = "relative_position_bias_table"
# Of a block and of all blocks: BEiT's, then the others'.
PLACES = (
    ("blocks.{i}.attn.", "rel_pos_bias."),
    ("blocks.{i}.attn.rel_pos.", "shared_rel_pos."),
)
MARKER = (
    r"(blocks\.0\.attn\.(rel_pos\.)?|rel_pos_bias\.|shared_rel_pos\.)"
    rf"({TABLE}|mlp\.fc1\.weight)"
)


def describe(evidence: Evidence) -> Description:
    """Returns the `Description` of BEiT and of ViTs with relative biases."""
    depth = evidence.depth("blocks.{i}.attn.proj.weight")
    key = _key(evidence, depth)
    table = key.endswith(TABLE)
    heads = evidence.shape(key)[1 if table else 0]
    plain = timm_describe.describe(
        dataclasses.replace(
            evidence, given={"num_heads": heads, **evidence.given}
        )
    )
    _check_norms(evidence, plain, key)
    left_aside(evidence, "lm_head.")

    block = dict(plain.block)
    if evidence.in_blocks("blocks.{i}.gamma_1", depth):
        block["layer_scale"] = 1.0
    prefix = int(plain.patch_encoder["cls_token"])
    patch = plain.variant.patch_size
    if table:
        biases = relative_biases.of_table(
            evidence, key, prefix, patch, plain.image_size
        )
    else:
        biases = _of_mlp(evidence, key, prefix, patch, plain.image_size)
    return dataclasses.replace(
        plain,
        image_size=tuple(
            cells * edge for cells, edge in zip(biases["grid_size"], patch)
        ),
        attention=timm_eva.attention(evidence, plain) | biases,
        block=block,
    )


def _key(evidence, depth):
    """Of the biases: of the first block, or of all."""
    for end in (TABLE, "mlp.fc2.weight"):
        for of_block, of_all in PLACES:
            key = relative_biases.find(
                evidence, depth, of_block + end, of_all + end
            )
            if key is not None:
                return key
    raise UndescribedError(f"'{evidence.path}' lacks a part of its biases")


def _of_mlp(evidence, key, prefix, patch, image_size):
    """What an MLP says, whose weights know no grid."""
    if key.replace("weight", "bias") not in evidence:
        raise CheckpointError(
            f"'{evidence.path}' makes its biases as Swin V2 does, through a "
            "sigmoid (`rel_pos_type='mlp-swin'`): no attention here does."
        )
    size = image_size or timm_eva.size_of_grid(evidence, patch)
    return {
        "layer": "RelativeMLPAttention",
        "grid_size": tuple(edge // cell for edge, cell in zip(size, patch)),
        "num_prefix_tokens": prefix,
        "bias_dim": evidence.shape(key)[1],
    }


def _check_norms(evidence, plain, key):
    """Raises where nothing says at which end of the branches norms are."""
    if "rel_pos." not in key or "layer_scale" in plain.block:
        return
    if not evidence.config.get("architecture"):
        raise CheckpointError(
            f"'{evidence.path}' has no LayerScale, as timm's ViTs with norms "
            "at the end of the branches, and nothing says whether it is one. "
            "Put the `config.json` of timm beside it, whose 'architecture' "
            "does."
        )


_PATH = "block_{i:02d}/attention/"
RULES = tuple(
    rule
    for of_block, of_all in PLACES
    for end, path in (
        (TABLE, f"{_PATH}bias_table"),
        ("mlp.fc1", f"{_PATH}bias_hidden"),
        ("mlp.fc2", f"{_PATH}bias_output"),
    )
    for key, share in (
        (of_block + end, lambda rule: (rule,)),
        (of_all + end, for_all_blocks),
    )
    for one in ((Rule(key, (path,)),) if end == TABLE else linear(key, path))
    for rule in share(one)
)
