"""What network a file of timm's `models/eva.py` is of, and its own names.

EVA, EVA-02, DINOv3, EUPE, LingBot, Perception Encoder, RoPE-ViT. Rotary
positions have no arrays (but for learned frequencies), so the name of the
architecture decides, and `model_args` in `config.json` where they differ.
Sources: timm 1.0.31, `models/eva.py`, `layers/attention.py` and
`layers/pos_embed_sincos.py`.
"""

import dataclasses
import re

import numpy as np

from keras_vit.checkpoints.formats import timm_describe
from keras_vit.checkpoints.formats.timm_describe import pair
from keras_vit.checkpoints.guards import CheckpointError
from keras_vit.checkpoints.rules import (
    DEEPEST,
    FLAT,
    Layout,
    Rule,
    linear,
)

# Any of these is in `models/eva.py` alone.
MARKER = r"(blocks\.0\.(gamma_1|attn\.q_bias|attn\.q_proj\.weight)|rope\.freqs)"

# What its class is given, under timm's names: the defaults,
DEFAULTS = {
    "global_pool": "avg",
    "use_rot_pos_emb": False,
    "use_post_norm": False,
    "rope_type": "cat",
    "rope_temperature": 10_000.0,
    "rope_rotate_half": False,
    "rope_grid_indexing": "ij",
    "rope_grid_offset": 0.0,
    "ref_feat_shape": None,
    "attn_pool_num_heads": None,
}
_ROPE = {"use_rot_pos_emb": True}
_TOKEN = {"global_pool": "token"}
_DINOV3 = {
    **_ROPE,
    "rope_type": "dinov3",
    "rope_temperature": 100.0,
    "rope_rotate_half": True,
}
_EVA02 = {**_ROPE, "ref_feat_shape": 16}
_ROPE_VIT = {
    **_ROPE,
    **_TOKEN,
    "rope_grid_indexing": "xy",
    "rope_temperature": 100.0,
}
_PE = {
    **_ROPE,
    "rope_grid_indexing": "xy",
    "rope_grid_offset": 1.0,
    "ref_feat_shape": 32,
}
_CORE = {**_PE, "global_pool": "map", "attn_pool_num_heads": 8}
# and what differs, by the name of the architecture: first row that matches.
ARCHITECTURES = (
    (r"dinov3", _DINOV3),
    (r"lingbot|sapiens2", {**_DINOV3, **_TOKEN}),
    (
        r"_rope_mixed_",
        {**_ROPE_VIT, "rope_type": "mixed", "rope_temperature": 10.0},
    ),
    (r"_rope_reg", _EVA02),
    (r"_rope_", _ROPE_VIT),
    (r"vit_pe_core_gigantic", {**_CORE, "rope_grid_offset": 0.0}),
    (r"vit_pe_core_base", {**_CORE, "ref_feat_shape": 14}),
    (r"vit_pe_core_", {**_CORE, "ref_feat_shape": 24}),
    (r"vit_pe_\w+_gigantic", {**_PE, "rope_grid_offset": 0.0}),
    (r"vit_pe_", _PE),
    (r"eva02_enormous", {**_TOKEN, "use_post_norm": True}),
    (r"eva02_\w+_clip_", {**_EVA02, **_TOKEN}),
    (r"eva02_", _EVA02),
    (r"eva_giant_\w+_clip_", _TOKEN),
    (r"eva_giant_", {}),
)
EPSILONS = r"dinov3|lingbot|vit_pe_"  # 1e-5; all others 1e-6
POOLINGS = {"token": "token", "avg": "average", "map": "attention", "": None}


def describe(evidence):
    """Returns the `Description` of a file of timm, of any of its ViTs."""
    arguments = arguments_of(evidence)
    if arguments is None:
        _check_plain(evidence)
        return timm_describe.describe(evidence)
    plain = timm_describe.describe(evidence)
    depth = plain.variant.num_layers
    _check_known(evidence, arguments, depth)

    own = attention(evidence, plain)
    pooling = "map" if "attn_pool.latent" in evidence else None
    pooling = pooling or arguments["global_pool"]
    if pooling not in POOLINGS:
        raise CheckpointError(
            f"'{evidence.path}' is pooled by {pooling!r}, which no model here "
            f"does. Known: {', '.join(map(repr, POOLINGS))}."
        )
    name = str(evidence.config.get("architecture", ""))
    block = dict(plain.block)
    if evidence.in_blocks("blocks.{i}.gamma_1", depth):
        block["layer_scale"] = 1.0
    if arguments["use_post_norm"]:
        block["norm_after"] = True
    size = plain.image_size
    if arguments["use_rot_pos_emb"]:
        size = size or size_of_grid(evidence, plain.variant.patch_size)
        own |= _rotary(evidence, plain, size, arguments)
    pool = _pool(evidence, plain.variant, arguments)
    return dataclasses.replace(
        plain,
        image_size=size,
        epsilon=evidence.given.get("epsilon")
        or (1e-5 if re.search(EPSILONS, name) else 1e-6),
        pooling=POOLINGS[pooling],
        attention=own,
        block=block,
        pool=pool,
    )


def arguments_of(evidence):
    """Returns what timm gives `Eva` for a file, or `None` if it is no `Eva`.

    Args:
        evidence: the `Evidence`.
    """
    name = str(evidence.config.get("architecture", ""))
    found = [own for key, own in ARCHITECTURES if re.search(key, name)]
    if not found:
        return None
    stated = evidence.config.get("model_args") or {}
    pool = evidence.config.get("global_pool")
    return {
        **DEFAULTS,
        **found[0],
        **({} if pool is None else {"global_pool": pool}),
        **stated,
    }


def _check_plain(evidence):
    """Raises if a file is of `Eva`, and nothing says of which."""
    no_norm = not {"norm.weight", "fc_norm.weight"} & set(evidence.shapes)
    # CLIP has the norm in front, and never one of the other two.
    perception = "norm_pre.weight" in evidence and (
        "attn_pool.latent" in evidence or no_norm
    )
    if perception or any(re.fullmatch(MARKER, key) for key in evidence.shapes):
        raise CheckpointError(
            f"'{evidence.path}' is of timm's EVA family, most of which have "
            "rotary positions, of which names and shapes tell nothing. Put the "
            "`config.json` of timm beside it, whose 'architecture' does. "
            f"Received: architecture={evidence.config.get('architecture')!r}"
        )


def _check_known(evidence, arguments, depth):
    first = "blocks.0.gamma_1" in evidence
    if first and "blocks.0.gamma_2" not in evidence:
        raise CheckpointError(
            f"'{evidence.path}' has LayerScale behind the attention alone "
            "(Sapiens2): no block here does."
        )
    rotary = arguments["use_rot_pos_emb"]
    if rotary and arguments["rope_type"] not in ("cat", "dinov3", "mixed"):
        raise CheckpointError(
            f"'{evidence.path}' has rotary positions of the kind "
            f"{arguments['rope_type']!r}: `RotaryAttention` knows 'cat', "
            "'dinov3' and 'mixed'."
        )


def attention(evidence, plain):
    """Returns biases, norms and heads of the attention, as arguments of it.

    Args:
        evidence: the `Evidence`.
        plain: the `Description` by `timm_describe`.
    """
    depth, heads = plain.variant.num_layers, plain.variant.num_heads
    has = lambda key: evidence.in_blocks(f"blocks.{{i}}.attn.{key}", depth)  # noqa: E731
    own = dict(plain.attention)
    own.pop("use_bias", None)
    if not (has("qkv.bias") or has("q_bias") or has("q_proj.bias")):
        own["use_bias"] = False
    elif not (has("qkv.bias") or has("k_proj.bias")):
        own["use_key_bias"] = False
    if has("k_proj.weight"):
        width = evidence.shape("blocks.0.attn.q_proj.weight")[0] // heads
        found = {
            evidence.shape(f"blocks.{i}.attn.k_proj.weight")[0] // width
            for i in range(depth)
        }
        if len(found) > 1:
            raise CheckpointError(
                f"'{evidence.path}' has {sorted(found)} heads of keys in its "
                "blocks (Sapiens2): no network of one kind of block."
            )
        if found != {heads}:
            own["num_kv_heads"] = found.pop()
    return own


def _rotary(evidence, plain, size, arguments):
    """The arguments of `RotaryAttention` that are off their defaults."""
    patch, kind = plain.variant.patch_size, arguments["rope_type"]
    prefix = int(plain.patch_encoder["cls_token"])
    prefix += plain.patch_encoder.get("num_registers", 0)
    half = arguments["rope_rotate_half"]
    own = {
        "layer": "RotaryAttention",
        "grid_size": tuple(edge // cell for edge, cell in zip(size, patch)),
        "num_prefix_tokens": prefix,
        "base": float(arguments["rope_temperature"]),
        "pairing": "half" if half else "interleaved",
        "indexing": arguments["rope_grid_indexing"],
    }
    offset = float(arguments["rope_grid_offset"])
    if offset and kind != "mixed":
        own["grid_offset"] = offset
    if kind == "dinov3":
        own["coordinates"] = "normalized"
    elif kind == "mixed":
        own["mixed"] = True
    elif arguments["ref_feat_shape"] is not None:
        own["reference_grid"] = pair(arguments["ref_feat_shape"])
    return own


def size_of_grid(evidence, patch):
    """Returns height and width by the grid that the caller states.

    Args:
        evidence: the `Evidence`.
        patch: height and width of a patch.
    """
    grid = evidence.given.get("file_grid")
    if grid is None:
        raise CheckpointError(
            f"'{evidence.path}' has no table of positions, and nothing says "
            "for which grid it is. Pass `file_grid=(rows, columns)`."
        )
    return tuple(cells * edge for cells, edge in zip(grid, patch))


def _pool(evidence, variant, arguments):
    """What of the attention pooling is not as in the blocks."""
    if "attn_pool.latent" not in evidence:
        return {}
    blocks = {
        # What the file says, whatever a caller does.
        "num_heads": evidence.stated.get("num_heads", variant.num_heads),
        "mlp_dim": variant.mlp_dim,
    }
    own = {
        "num_heads": arguments["attn_pool_num_heads"] or blocks["num_heads"],
        "mlp_dim": evidence.shape("attn_pool.mlp.fc2.weight")[1],
    }
    return {name: n for name, n in own.items() if n != blocks[name]}


# The frequencies of all blocks in one array, `(2, depth, heads, pairs)`.
_OF_ALL_BLOCKS = Layout(
    shape=lambda shapes, patch: (2, len(shapes), *shapes[0][1:]),
    read=lambda array, shapes: [array[:, i] for i in range(len(shapes))],
    write=lambda weights, patch: np.stack(weights, axis=1),
)
RULES = (
    *(
        rule
        for part in ("query", "key", "value")
        for rule in linear(
            f"blocks.{{i}}.attn.{part[0]}_proj",
            f"block_{{i:02d}}/attention/{part}",
        )
    ),
    *(
        Rule(
            f"blocks.{{i}}.attn.{part[0]}_bias",
            (f"block_{{i:02d}}/attention/{part}/bias",),
            FLAT,
        )
        for part in ("query", "value")
    ),
    Rule("blocks.{i}.gamma_1", ("block_{i:02d}/attention_scale/scale",)),
    Rule("blocks.{i}.gamma_2", ("block_{i:02d}/mlp_scale/scale",)),
    # As many blocks as the model has: the first rule counts that fits it.
    *(
        Rule(
            "rope.freqs",
            tuple(f"block_{i:02d}/attention/frequencies" for i in range(depth)),
            _OF_ALL_BLOCKS,
        )
        for depth in range(DEEPEST, 0, -1)
    ),
)
