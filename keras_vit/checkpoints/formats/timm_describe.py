"""What network a file of timm is of: `vision_transformer`, `deit`, hybrids.

Sources: timm 1.0, `models/vision_transformer.py`, `models/deit.py`,
`models/vision_transformer_hybrid.py`. The keys tell nearly all. What they do
not (heads, activation, epsilon) stands in `config.json`: as `model_args`, or in
the name of the architecture.
"""

import re

from keras_vit.checkpoints.description import Description
from keras_vit.variants import Variant

ACTIVATIONS = {
    "gelu": "gelu",
    "gelu_tanh": "gelu_tanh",
    "quick_gelu": "quick_gelu",
    "quickgelu": "quick_gelu",
    "silu": "silu",
    "swish": "silu",
    "relu": "relu",
}
# fmt: off
# Of a network that has one, by its name: first row that matches.
HEADS = (
    (r"aimv2_",                                   lambda dim: dim // 128),
    (r"test_vit\d?$",                             lambda dim: dim // 32),
    (r"vit_5b_.*sapiens2|vit_7b_.*dinov3",        lambda dim: 32),
    (r"huge_plus_.*dinov3|giant_.*(lingbot|sapiens2)", lambda dim: dim // 64),
    (r"naflexvit_giant",                          lambda dim: dim // 64),
    (r"huge|giant|gigantic|enormous|so400m",      lambda dim: 16),
    (r"",                                         lambda dim: dim // 64),
)
NAMED_ACTIVATIONS = (
    (r"quickgelu",                                "quick_gelu"),
    (r"vit_base_patch32_siglip|giantopt.*siglip", "gelu_tanh"),
    (r"naflexvit_.*siglip",                       "gelu_tanh"),
    (r"vit_large_patch16_siglip(_gap)?_512",      "gelu_tanh"),
    (r"so400m_patch16_siglip",                    "gelu_tanh"),
    (r"",                                         None),
)
NAMED_EPSILONS = (
    (r"clip_(?!.*eva)|beit3|dinov3|lingbot|vit_pe_|aimv2", 1e-5),
    (r"",                                         1e-6),
)
# fmt: on
# Of the ResNets under hybrids, in the form of BiT: `GroupNorm` of PyTorch has
# 1e-5, and `_resnetv2` gives 1e-8 to the kernels.
TRUNK = {
    "epsilon": 1e-5,
    "kernel_epsilon": 1e-8,
    "kernel_epsilon_in": "variance",
}

# Of `global_pool`.
POOLINGS = {"token": "token", "avg": "average", "map": "attention"}


def describe(evidence):
    """Returns the `Description` of a file with timm's names."""
    config = evidence.config
    arguments = config.get("model_args") or {}
    stated = config.get("pretrained_cfg") or {}
    name = str(config.get("architecture", ""))

    kernel = evidence.shape("patch_embed.proj.weight")
    hidden_dim, channels, *patch = kernel
    stages = stages_of(evidence)
    if stages is not None:
        stem = "stem." if stages else ""
        _, channels, *_ = evidence.shape(
            f"patch_embed.backbone.{stem}conv.weight"
        )
    depth = evidence.depth("blocks.{i}.attn.proj.weight")
    mlp_dim = evidence.shape("blocks.0.mlp.fc2.weight")[1]
    in_blocks = lambda key: evidence.in_blocks(f"blocks.{{i}}.{key}", depth)  # noqa: E731

    head_dim = None
    if "blocks.0.attn.q_norm.weight" in evidence:
        (head_dim,) = evidence.shape("blocks.0.attn.q_norm.weight")
    heads = evidence.heads(
        hidden_dim,
        arguments.get("num_heads")
        or (first(HEADS, name)(hidden_dim) if name else None),
        head_dim,
    )
    activation = evidence.activation(
        arguments.get("act_layer") or first(NAMED_ACTIVATIONS, name),
        "gelu",
        ACTIVATIONS,
    )
    packed = "blocks.0.mlp.fc1.weight" in evidence and (
        evidence.shape("blocks.0.mlp.fc1.weight")[0] == 2 * mlp_dim
    )
    gated = packed or "blocks.0.mlp.fc1_g.weight" in evidence
    epsilon = evidence.given.get("epsilon") or first(NAMED_EPSILONS, name)

    cls_token = "cls_token" in evidence
    registers = sum(
        evidence.shape(key)[-2]
        for key in ("reg_token", "dist_token")
        if key in evidence
    )
    patch_encoder = {"num_registers": registers} if registers else {}
    size = arguments.get("img_size") or stated.get("input_size", [None])[-2:]
    size = pair(size)
    variant = Variant(depth, hidden_dim, mlp_dim, heads, tuple(patch), stages)
    if "pos_embed" in evidence:
        rows = evidence.shape("pos_embed")[-2]
        prefixes = (int(cls_token) + registers, int(cls_token), 0)
        cell = tuple(edge * variant.stride for edge in patch)
        grid, prefix = evidence.grid(rows, prefixes, cell, size)
        if cls_token and not prefix:
            patch_encoder["position_of_cls_token"] = False
        size = tuple(cells * edge for cells, edge in zip(grid, cell))
    else:
        patch_encoder["position"] = None
    if "norm_pre.weight" in evidence:
        patch_encoder["norm_tokens"] = True
    if "patch_embed.norm.weight" in evidence:
        patch_encoder["norm_after"] = True
    if "patch_embed.proj.bias" not in evidence:
        patch_encoder["use_bias"] = False

    attention = {}
    if not in_blocks("attn.qkv.bias"):
        attention["use_bias"] = False
    if not in_blocks("attn.proj.bias"):
        attention["use_output_bias"] = False
    if in_blocks("attn.q_norm.weight"):
        attention["qk_norm"] = True
    if in_blocks("attn.norm.weight"):
        attention["output_norm"] = True
    mlp = {} if in_blocks("mlp.fc2.bias") else {"use_bias": False}
    if in_blocks("mlp.norm.weight"):
        mlp["norm"] = "layer"
    block = {"layer_scale": 1.0} if in_blocks("ls1.gamma") else {}
    if "rpn" in name or "ResPost" in str(arguments.get("block_fn")):
        # Keys and shapes are those of norms at the start of the branches.
        block["norm_after"] = True

    pooling = arguments.get("global_pool") or config.get("global_pool")
    if pooling in POOLINGS:
        evidence.stated["pooling"] = POOLINGS[pooling]
    if "attn_pool.latent" in evidence:
        pooling = "map"
    if pooling is None:
        after = "fc_norm.weight" in evidence
        pooling = "token" if cls_token and not after else "avg"
    num_classes = None
    if "head.weight" in evidence:
        num_classes = evidence.shape("head.weight")[0]
    elif "dist_token" in evidence:
        evidence.notes.append(
            f"'{evidence.path}' has a distillation token and no heads: the "
            "model returns the class token, where timm returns the mean of the "
            "two."
        )
    return Description(
        format="timm",
        variant=variant,
        image_size=size,
        num_channels=channels,
        num_classes=num_classes,
        distilled="head_dist.weight" in evidence,
        activation="swiglu" if gated else activation,
        epsilon=epsilon,
        pooling=POOLINGS.get(pooling, "token" if cls_token else "average"),
        final_norm="norm.weight" in evidence,
        norm_after_pooling="fc_norm.weight" in evidence,
        trunk={} if stages is None else TRUNK,
        patch_encoder={"cls_token": cls_token, **patch_encoder},
        attention=attention,
        mlp=mlp,
        block=block,
        norm="layer" if in_blocks("norm1.bias") else "rms",
        preprocessing=evidence.preprocessing(
            stated.get("mean"), stated.get("std")
        ),
        resampling="bicubic",
    )


def stages_of(evidence):
    """Returns the residual units in each stage of a hybrid's ResNet.

    Args:
        evidence: the `Evidence`.

    Returns:
        A tuple, empty for the stem alone, or `None` where patches are cut from
        the image.
    """
    backbone = "patch_embed.backbone."
    if f"{backbone}conv.weight" in evidence:
        return ()
    if f"{backbone}stem.conv.weight" not in evidence:
        return None
    unit = f"{backbone}stages.{{s}}.blocks.{{i}}.conv1.weight"
    count = evidence.depth(unit.replace("{i}", "0").replace("{s}", "{i}"))
    return tuple(
        evidence.depth(unit.replace("{s}", str(stage)))
        for stage in range(count)
    )


def first(rows, name):
    """Returns the value of the first row whose pattern a name has in it."""
    return next(value for pattern, value in rows if re.search(pattern, name))


def pair(size):
    """Returns height and width of what a configuration states, or `None`."""
    if isinstance(size, int):
        return size, size
    if isinstance(size, (list, tuple)) and len(size) == 2:
        return tuple(map(int, size))
    return None
