"""What torchvision calls the weights of a Vision Transformer.

Source: torchvision 0.28, `models/vision_transformer.py`. Its files are
`state_dict`s of PyTorch; the MLP had other names before 0.12.
"""

from keras_vit.checkpoints.description import Description
from keras_vit.checkpoints.evidence import Evidence
from keras_vit.checkpoints.formats.roles import CLS_TOKEN, POSITIONS
from keras_vit.checkpoints.formats.transformers_describe import preprocessing
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

# Of a width: `vit_b_*`, `vit_l_*` and `vit_h_14`, whose heads are 80 wide.
HEADS = {768: 12, 1024: 16, 1280: 16}
LAYER = "encoder.layers.encoder_layer_{i}."


def describe(evidence: Evidence) -> Description:
    """Returns the `Description` of a file of torchvision."""
    hidden_dim, channels, *patch = evidence.shape("conv_proj.weight")
    depth = evidence.depth(f"{LAYER}self_attention.in_proj_weight")
    first = LAYER.format(i=0)
    new = f"{first}mlp.3.weight" in evidence
    mlp_dim = evidence.shape(
        f"{first}{'mlp.3' if new else 'mlp.linear_2'}.weight"
    )[1]
    rows = evidence.shape("encoder.pos_embedding")[-2]
    grid, _ = evidence.grid(rows, (1,), patch)
    head = evidence.shapes.get("heads.head.weight")
    hidden = evidence.shapes.get("heads.pre_logits.weight")
    return Description(
        format="torchvision",
        variant=Variant(
            depth,
            hidden_dim,
            mlp_dim,
            evidence.heads(hidden_dim, HEADS.get(hidden_dim)),
            tuple(patch),
        ),
        image_size=tuple(cells * edge for cells, edge in zip(grid, patch)),
        num_channels=channels,
        num_classes=head[0] if head else None,
        representation_dim=hidden[0] if hidden else None,
        activation=evidence.given.get("activation") or "gelu",
        epsilon=evidence.given.get("epsilon") or 1e-6,
        pooling="token",
        preprocessing=preprocessing(evidence, "imagenet"),
        resampling="corner_aligned_bicubic",
    )


TORCHVISION = Format(
    name="torchvision",
    describe=describe,
    # As its `interpolate_embeddings`.
    resampling="corner_aligned_bicubic",
    marker=r"encoder\.layers\.encoder_layer_0\.ln_1\.weight",
    activation="gelu",
    epsilon=1e-6,
    rules=(
        Rule("class_token", (CLS_TOKEN,)),
        Rule("encoder.pos_embedding", (POSITIONS,)),
        *convolution("conv_proj"),
        *norm(f"{LAYER}ln_1", "block_{i:02d}/attention_norm"),
        *dense(
            f"{LAYER}self_attention.in_proj_",
            tuple(
                f"block_{{i:02d}}/attention/{part}"
                for part in ("query", "key", "value")
            ),
            LINEAR,
            FLAT,
            ("weight", "bias"),
        ),
        *linear_out(
            f"{LAYER}self_attention.out_proj", "block_{i:02d}/attention/output"
        ),
        *norm(f"{LAYER}ln_2", "block_{i:02d}/mlp_norm"),
        *linear(f"{LAYER}mlp.0", "block_{i:02d}/mlp/hidden"),
        *linear(f"{LAYER}mlp.3", "block_{i:02d}/mlp/output"),
        *linear(f"{LAYER}mlp.linear_1", "block_{i:02d}/mlp/hidden"),
        *linear(f"{LAYER}mlp.linear_2", "block_{i:02d}/mlp/output"),
        *norm("encoder.ln", "encoder_norm"),
        *linear("heads.pre_logits", "pre_logits"),
        *linear("heads.head", "head"),
    ),
)
