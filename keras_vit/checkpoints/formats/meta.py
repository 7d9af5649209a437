"""What Meta's own releases add to timm's names: DINO, MAE and DINOv2.

Sources: facebookresearch `dino`, `mae` and `dinov2`: `vision_transformer.py`
and `models_mae.py`. A file with nothing but the trunk of DINO or MAE has timm's
names and opens as one of timm.
"""

import dataclasses

from keras_vit.checkpoints.description import Description
from keras_vit.checkpoints.evidence import Evidence
from keras_vit.checkpoints.formats.roles import REGISTERS
from keras_vit.checkpoints.formats.timm import TIMM
from keras_vit.checkpoints.formats.transformers_describe import (
    left_aside,
    preprocessing,
)
from keras_vit.checkpoints.rules import Rule, linear

# Of a width: MAE's ViT-H has heads of width 80.
HEADS = {192: 3, 384: 6, 768: 12, 1024: 16, 1280: 16, 1536: 24}


def describe(evidence: Evidence) -> Description:
    """Returns the `Description` of a file of Meta."""
    stated = preprocessing(evidence, "imagenet")
    shapes = {_as_in_timm(key): shape for key, shape in evidence.shapes.items()}
    given = {"preprocessing": stated, **evidence.given}
    dim = shapes.get("patch_embed.proj.weight", [None])[0]
    if dim in HEADS:
        given.setdefault("num_heads", HEADS[dim])
    left_aside(evidence, "decoder_", "head.", "module.head.")
    registers = "register_tokens" in evidence
    return dataclasses.replace(
        TIMM.describe(
            dataclasses.replace(evidence, shapes=shapes, given=given)
        ),
        format="Meta",
        resampling="bicubic" if registers else "torch_bicubic",
    )


def _as_in_timm(key):
    key = key.replace("register_tokens", "reg_token")
    return key.replace(".mlp.w12.", ".mlp.fc1.").replace(
        ".mlp.w3.", ".mlp.fc2."
    )


def _meta(name, *markers, unused, resampling="torch_bicubic"):
    return dataclasses.replace(
        TIMM,
        name=name,
        describe=describe,
        resampling=resampling,
        marker=(TIMM.marker, *markers),
        unused=rf"mask_token|{unused}",
        rules=(
            Rule("register_tokens", (REGISTERS,)),
            *linear(
                "blocks.{i}.mlp.w12",
                "block_{i:02d}/mlp/gate",
                "block_{i:02d}/mlp/hidden",
            ),
            *linear("blocks.{i}.mlp.w3", "block_{i:02d}/mlp/output"),
            *TIMM.rules,
        ),
    )


META = (
    # `dinov2/hub/backbones.py`: smoothed where positions shrink.
    _meta(
        "DINOv2 of Meta with registers",
        "register_tokens",
        unused="$",
        resampling="bicubic",
    ),
    _meta("DINOv2 of Meta", "mask_token", r"blocks\.0\.ls1\.gamma", unused="$"),
    _meta("MAE of Meta", r"decoder_embed\.weight", unused=r"decoder_.*"),
    _meta(
        "DINO of Meta",
        r"(module\.)?head\.last_layer\..*",
        unused=r"(module\.)?head\..*",
    ),
)
