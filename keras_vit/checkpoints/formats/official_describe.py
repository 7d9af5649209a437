"""What network a file of the official code, or of big_vision, is of.

Sources: `vit_jax/models_vit.py`, `models_resnet.py`; big_vision,
`models/vit.py`.
Attention kernels have their heads as an axis, so nothing is left to say but the
size of the images, and that only for rectangles.
"""

import re

from keras_vit.checkpoints.description import Description
from keras_vit.checkpoints.evidence import UndescribedError
from keras_vit.variants import ROOT_WIDTH, Variant

BLOCK = "Transformer/encoderblock_{i}/"
STACK = "Transformer/encoderblock/"


def describe(evidence):
    """Returns the `Description` of a file with the names of Flax modules."""
    attention = "MultiHeadDotProductAttention_"
    attention += "1" if _is_pre_linen(evidence) else "0"
    mlp = "MlpBlock_3" if _is_pre_linen(evidence) else "MlpBlock_0"
    if f"{STACK}{mlp}/Dense_0/kernel" in evidence:
        # All blocks in one array each, for `nn.scan`.
        depth, hidden_dim, mlp_dim = evidence.shape(
            f"{STACK}{mlp}/Dense_0/kernel"
        )
        heads = evidence.shape(f"{STACK}{attention}/query/kernel")[-2]
    else:
        depth = evidence.depth(f"{BLOCK}{mlp}/Dense_0/kernel")
        first = BLOCK.format(i=0)
        hidden_dim, mlp_dim = evidence.shape(f"{first}{mlp}/Dense_0/kernel")
        heads = evidence.shape(f"{first}{attention}/query/kernel")[-2]

    height, width, channels, _ = evidence.shape("embedding/kernel")
    stages, width_factor = None, 1.0
    if "conv_root/kernel" in evidence:
        stages = _stages(evidence)
        *_, channels, root = evidence.shape("conv_root/kernel")
        width_factor = root / ROOT_WIDTH
    variant = Variant(
        depth, hidden_dim, mlp_dim, heads, (height, width), stages, width_factor
    )

    cls_token = "cls" in evidence
    pooling = "token" if cls_token else "average"
    if any(key in evidence for key in ("MAPHead_0/probe", "probe")):
        pooling = "attention"
    patch_encoder = {"cls_token": cls_token}
    size = None
    for key in (
        "Transformer/posembed_input/pos_embedding",
        "Transformer/pos_embedding",
        "pos_embedding",
    ):
        if key not in evidence:
            continue
        rows = evidence.shape(key)[-2]
        # big_vision adds positions before it puts the class token there.
        has_row = int(cls_token and key != "pos_embedding")
        cell = tuple(edge * variant.stride for edge in (height, width))
        grid, prefix = evidence.grid(
            rows, (has_row, int(cls_token), 0), cell, evidence.image_size
        )
        if cls_token and not prefix:
            patch_encoder["position_of_cls_token"] = False
        size = tuple(cells * edge for cells, edge in zip(grid, cell))
    if size is None:
        raise UndescribedError(
            f"'{evidence.path}' has no positions: they are computed, and the "
            "file does not say how. Build the model with `ViT(..., "
            "position='sincos_2d')`, and use `load_checkpoint`."
        )
    head = evidence.shapes.get("head/kernel")
    dense = evidence.shapes.get("pre_logits/kernel")
    return Description(
        format="official",
        variant=variant,
        image_size=size,
        num_channels=channels,
        num_classes=head[-1] if head else None,
        activation=evidence.given.get("activation") or "gelu_tanh",
        epsilon=evidence.given.get("epsilon") or 1e-6,
        pooling=pooling,
        representation_dim=dense[-1] if dense else None,
        patch_encoder=patch_encoder,
        # Both codes bring pixels to [-1, 1] in every configuration.
        preprocessing=evidence.preprocessing(0.5, 0.5),
    )


def _is_pre_linen(evidence):
    return any(
        re.fullmatch(r"Transformer/encoderblock(_0)?/LayerNorm_2/scale", key)
        for key in evidence.shapes
    )


def _stages(evidence):
    """The residual units in each stage of the ResNet."""
    units = {}
    for key in evidence.shapes:
        match = re.fullmatch(r"block(\d+)/unit(\d+)/conv1/kernel", key)
        if match:
            stage, unit = map(int, match.groups())
            units[stage] = max(units.get(stage, 0), unit)
    if sorted(units) != list(range(1, len(units) + 1)):
        raise UndescribedError(
            f"'{evidence.path}' must have the stages 1, 2 and on of a ResNet. "
            f"Received: {sorted(units)}"
        )
    return tuple(units[stage] for stage in sorted(units))
