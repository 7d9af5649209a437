"""What transformers calls the weights of DINOv3, and what network they are of.

Source: transformers 5, `models/dinov3_vit`: `configuration_dinov3_vit.py` and
`modeling_dinov3_vit.py`. Its rotary positions take the centres of the patches
in an image from -1 to 1, so that they fit images of any size.
"""

from keras_vit.checkpoints.description import Description
from keras_vit.checkpoints.evidence import Evidence
from keras_vit.checkpoints.formats.roles import CLS_TOKEN, REGISTERS
from keras_vit.checkpoints.formats.timm_describe import pair
from keras_vit.checkpoints.formats.transformers_describe import (
    ACTIVATIONS,
    attention_biases,
    preprocessing,
    vision_config,
)
from keras_vit.checkpoints.rules import (
    Format,
    Rule,
    convolution,
    linear,
    linear_out,
    norm,
)
from keras_vit.variants import Variant

LAYER = "layer.{i}."
DEFAULT_SIZE = 224  # of `DINOv3ViTConfig`
THETA = 100.0  # likewise


def describe(evidence: Evidence) -> Description:
    """Returns the `Description` of `DINOv3ViTModel`."""
    config = vision_config(evidence)
    hidden_dim, channels, *patch = evidence.shape(
        "embeddings.patch_embeddings.weight"
    )
    depth = evidence.depth(f"{LAYER}attention.q_proj.weight")
    mlp_dim = evidence.shape(f"{LAYER.format(i=0)}mlp.down_proj.weight")[1]
    heads = evidence.heads(hidden_dim, config.get("num_attention_heads"))
    patch_encoder = {"position": None}
    registers = evidence.tokens("embeddings.register_tokens")
    if registers:
        patch_encoder["num_registers"] = registers

    gated = evidence.in_blocks(f"{LAYER}mlp.gate_proj.weight", depth)
    act = config.get("hidden_act")
    if act is None and gated and not evidence.given.get("activation"):
        evidence.notes.append(
            f"Nothing says which activation '{evidence.path}' has: SiLU, as "
            "all that were published with a gate. Pass `activation` if it is "
            "another."
        )
    mlp = {"gated": True} if gated else {}
    if not evidence.in_blocks(f"{LAYER}mlp.down_proj.bias", depth):
        mlp["use_bias"] = False
    grid = _grid(evidence, pair(config.get("image_size")), patch)
    return Description(
        format="transformers",
        variant=Variant(depth, hidden_dim, mlp_dim, heads, tuple(patch)),
        image_size=tuple(cells * edge for cells, edge in zip(grid, patch)),
        num_channels=channels,
        activation=evidence.activation(
            act, "silu" if gated else "gelu", ACTIVATIONS
        ),
        epsilon=evidence.given.get("epsilon")
        or config.get("layer_norm_eps")
        or 1e-5,
        pooling="token",
        patch_encoder=patch_encoder,
        attention={
            "layer": "RotaryAttention",
            "grid_size": grid,
            "num_prefix_tokens": 1 + registers,
            "base": _theta(config),
            "pairing": "half",
            "coordinates": "normalized",
            **attention_biases(
                evidence,
                depth,
                f"{LAYER}attention.q_proj",
                f"{LAYER}attention.k_proj",
                f"{LAYER}attention.o_proj",
            ),
        },
        mlp=mlp,
        block={"layer_scale": 1.0},
        preprocessing=preprocessing(evidence, "imagenet"),
    )


def _grid(evidence, size, patch):
    """Rows and columns, of any of which the weights are right."""
    grid = evidence.given.get("file_grid")
    if grid is not None:
        return tuple(grid)
    if size is None:
        evidence.notes.append(
            f"Nothing says for which images '{evidence.path}' is, and any will "
            f"do: the model is for {DEFAULT_SIZE} x {DEFAULT_SIZE} pixels. "
            "Pass `image_size` for others."
        )
        size = (DEFAULT_SIZE, DEFAULT_SIZE)
    return tuple(edge // cell for edge, cell in zip(size, patch))


def _theta(config):
    """The base of the frequencies, by its name of now or of before."""
    nested = config.get("rope_parameters") or {}
    return float(nested.get("rope_theta") or config.get("rope_theta") or THETA)


DINOV3 = Format(
    name="DINOv3",
    describe=describe,
    resampling="torch_bicubic",
    marker=(
        r"embeddings\.patch_embeddings\.weight",
        r"layer\.0\.attention\.q_proj\.weight",
        r"layer\.0\.layer_scale1\.lambda1",
    ),
    activation="gelu",
    epsilon=1e-5,
    unused=r"embeddings\.mask_token|rope_embeddings\..*",
    rules=(
        Rule("embeddings.cls_token", (CLS_TOKEN,)),
        Rule("embeddings.register_tokens", (REGISTERS,)),
        *convolution("embeddings.patch_embeddings"),
        *norm(f"{LAYER}norm1", "block_{i:02d}/attention_norm"),
        *(
            rule
            for part in ("query", "key", "value")
            for rule in linear(
                f"{LAYER}attention.{part[0]}_proj",
                f"block_{{i:02d}}/attention/{part}",
            )
        ),
        *linear_out(
            f"{LAYER}attention.o_proj", "block_{i:02d}/attention/output"
        ),
        Rule(
            f"{LAYER}layer_scale1.lambda1",
            ("block_{i:02d}/attention_scale/scale",),
        ),
        *norm(f"{LAYER}norm2", "block_{i:02d}/mlp_norm"),
        *linear(f"{LAYER}mlp.gate_proj", "block_{i:02d}/mlp/gate"),
        *linear(f"{LAYER}mlp.up_proj", "block_{i:02d}/mlp/hidden"),
        *linear(f"{LAYER}mlp.down_proj", "block_{i:02d}/mlp/output"),
        Rule(
            f"{LAYER}layer_scale2.lambda1", ("block_{i:02d}/mlp_scale/scale",)
        ),
        *norm("norm", "encoder_norm"),
    ),
)
