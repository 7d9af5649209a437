"""What timm's `models/naflexvit.py` calls its weights, and of what network.

A Vision Transformer whose position table has two axes and is resampled for
every image: here for images of one size, that of the configuration unless the
caller says another. Its patches are read by a linear layer, and its prefix
tokens have no positions. Source: timm 1.0.31.
"""

import dataclasses
import math
import re

from keras_vit.checkpoints.description import Description
from keras_vit.checkpoints.evidence import Evidence
from keras_vit.checkpoints.formats import timm_describe, timm_eva
from keras_vit.checkpoints.formats.roles import (
    CLS_TOKEN,
    COLUMNS,
    POSITIONS,
    REGISTERS,
    ROWS,
)
from keras_vit.checkpoints.formats.timm_describe import first, pair
from keras_vit.checkpoints.guards import CheckpointError
from keras_vit.checkpoints.rules import Rule, linear, norm

MARKER = r"embeds\.proj\.weight"
# How positions are resampled, as timm has it: the defaults,
DEFAULTS = {
    "pos_embed_interp_mode": "bicubic",
    "pos_embed_antialias": True,
    "pos_embed_align_corners": False,
    "pos_embed_ar_preserving": False,
}
_RADIO = {
    "pos_embed_interp_mode": "bilinear",
    "pos_embed_antialias": False,
    "pos_embed_ar_preserving": True,
}
# and what differs, by the name of the architecture: first row that matches.
ARCHITECTURES = (
    (
        r"(base|huge)_patch16_radio_v3",
        {**_RADIO, "pos_embed_align_corners": True},
    ),
    (r"radio", _RADIO),
    (r"siglip", {"pos_embed_interp_mode": "bilinear"}),
    (r"_par(fac)?_", {"pos_embed_ar_preserving": True}),
    (r"", {}),
)
# What no model here computes, by argument: the values that are none of that.
PLAIN = {
    "rope_type": (None, "", "none"),
    "attn_type": (None, "standard"),
    "attn_layer": (None, "", "attn"),
    "attn_gated": (None, False),
    "pool_include_prefix": (None, False),
    "patchify_channels_last": (None, True),
    "embed_proj_type": (None, "linear"),
}


def describe(evidence: Evidence) -> Description:
    """Returns the `Description` of a file with the names of `NaFlexVit`."""
    arguments = evidence.config.get("model_args") or {}
    name = str(evidence.config.get("architecture", ""))
    _check_plain(evidence, arguments)
    grid = _grid(evidence)
    plain = timm_describe.describe(
        dataclasses.replace(
            evidence,
            shapes=_classic(evidence, arguments, name, grid),
            given=evidence.given | ({"file_grid": grid} if grid else {}),
        )
    )
    patch = plain.variant.patch_size
    stated = evidence.config.get("pretrained_cfg") or {}
    size = pair(
        evidence.given.get("image_size")
        or arguments.get("img_size")
        or stated.get("input_size", [None])[-2:]
    )
    if grid is None:
        return dataclasses.replace(plain, image_size=size)
    size = size or plain.image_size
    wanted = tuple(-(-edge // cell) for edge, cell in zip(size, patch))
    own = DEFAULTS | first(ARCHITECTURES, name) | arguments
    return dataclasses.replace(
        plain,
        image_size=size,
        resampling=_resampling(evidence, own, grid, wanted),
    )


def _check_plain(evidence, arguments):
    """Raises if a file is of what no model here computes."""
    odd = {
        name: arguments[name]
        for name, plain in PLAIN.items()
        if name in arguments and arguments[name] not in plain
    }
    if odd or timm_eva.arguments_of(evidence) is not None:
        raise CheckpointError(
            f"'{evidence.path}' is of a `NaFlexVit` with parts that no model "
            f"here has. Received: {odd or evidence.config['architecture']}"
        )


def _grid(evidence):
    """Rows and columns of the position table, or `None` without one."""
    if "embeds.pos_embed" in evidence:
        _, rows, columns, _ = evidence.shape("embeds.pos_embed")
        return rows, columns
    if "embeds.pos_embed_y" in evidence:
        return (
            evidence.shape("embeds.pos_embed_y")[1],
            evidence.shape("embeds.pos_embed_x")[1],
        )
    return None


def _classic(evidence, arguments, name, grid):
    """The shapes under the names, and in the form, of `VisionTransformer`."""
    shapes = {}
    for key, shape in evidence.shapes.items():
        key = re.sub(r"^embeds\.(?=(cls|reg)_token)", "", key)
        shapes[re.sub(r"^embeds\.(?=proj|norm)", "patch_embed.", key)] = shape
    width, pixels = evidence.shape("embeds.proj.weight")
    patch = re.search(r"_patch(\d+)", name)
    patch = pair(arguments.get("patch_size") or (patch and int(patch[1])))
    if patch is None:
        patch = (math.isqrt(pixels // 3),) * 2
    channels = pixels // math.prod(patch)
    shapes["patch_embed.proj.weight"] = (width, channels, *patch)
    if grid is not None:
        shapes["pos_embed"] = (1, math.prod(grid), width)
    return shapes


def _resampling(evidence, own, grid, wanted):
    """The name of the method, see `resize_matrix`."""
    if grid == wanted:
        return "bicubic"  # nothing to resample
    if own["pos_embed_ar_preserving"] and len(set(wanted)) > 1:
        raise CheckpointError(
            f"'{evidence.path}' has positions that are resampled for a square "
            f"and cut. Open it for a square. Received: a grid of {wanted}"
        )
    if "embeds.pos_embed_y" in evidence:
        return "bilinear"
    smooth, aligned = own["pos_embed_antialias"], own["pos_embed_align_corners"]
    shrinks = any(new < old for new, old in zip(wanted, grid))
    known = {
        ("bilinear", True): "corner_aligned",
        ("bilinear", False): "smooth_bilinear" if smooth else "bilinear",
        ("bicubic", False): "bicubic" if smooth else "torch_bicubic",
    }
    method = known.get((own["pos_embed_interp_mode"], aligned))
    if method is None or (smooth and shrinks and aligned):
        raise CheckpointError(
            f"'{evidence.path}' has positions of a grid of {grid}, which timm "
            "resamples as no method here does. Pass `image_size`, for a grid "
            f"as large or larger. Received: a grid of {wanted}, mode="
            f"{own['pos_embed_interp_mode']!r}, antialias={smooth}, "
            f"align_corners={aligned}"
        )
    return method


RULES = (
    Rule("embeds.cls_token", (CLS_TOKEN,)),
    Rule("embeds.reg_token", (REGISTERS,)),
    Rule("embeds.pos_embed", (POSITIONS,)),
    # The table is their sum.
    Rule("embeds.pos_embed_y", (ROWS,)),
    Rule("embeds.pos_embed_x", (COLUMNS,)),
    *linear("embeds.proj", "patch_encoder/projection"),
    *norm("embeds.norm", "patch_encoder/embedding_norm"),
)
