"""What network a folder of transformers is of: ViT, DeiT, MAE, MSN, DINOv2.

Sources: transformers 5, `configuration_vit.py`, `configuration_dinov2.py` and
`image_processing_*`. `config.json` says nearly all; without one, a file is
described as far as its names and shapes go.
"""

from keras_vit.checkpoints.description import Description
from keras_vit.checkpoints.formats.timm_describe import pair
from keras_vit.variants import Variant

# Of `hidden_act`, in `transformers/activations.py`.
ACTIVATIONS = {
    "gelu": "gelu",
    "gelu_new": "gelu_tanh",
    "gelu_fast": "gelu_tanh",
    "gelu_pytorch_tanh": "gelu_tanh",
    "gelu_accurate": "gelu_tanh",
    "quick_gelu": "quick_gelu",
    "relu": "relu",
    "silu": "silu",
    "swish": "silu",
}
LAYER = "encoder.layer.{i}."


def describe_vit(evidence):
    """Returns the `Description` of ViT, DeiT and their kin."""
    return _describe(evidence, "intermediate.dense", "output.dense", 1e-12)


def describe_dinov2(evidence):
    """Returns the `Description` of DINOv2, with registers or without."""
    gated = f"{LAYER.format(i=0)}mlp.weights_out.weight" in evidence
    out = "mlp.weights_out" if gated else "mlp.fc2"
    return _describe(evidence, None, out, 1e-6, gated=gated)


def _describe(evidence, hidden, out, epsilon, gated=False):
    config = evidence.config
    projection = "embeddings.patch_embeddings.projection"
    hidden_dim, channels, *patch = evidence.shape(f"{projection}.weight")
    query = f"{LAYER}attention.attention.query."
    depth = evidence.depth(f"{query}weight")
    mlp_dim = evidence.shape(f"{LAYER.format(i=0)}{out}.weight")[1]
    variant = Variant(
        depth,
        hidden_dim,
        mlp_dim,
        evidence.heads(hidden_dim, config.get("num_attention_heads")),
        tuple(patch),
    )
    cls_token = "embeddings.cls_token" in evidence
    registers = sum(
        evidence.shape(key)[-2]
        for key in (
            "embeddings.distillation_token",
            "embeddings.register_tokens",
        )
        if key in evidence
    )
    patch_encoder = {"cls_token": cls_token}
    if registers:
        patch_encoder["num_registers"] = registers
    rows = evidence.shape("embeddings.position_embeddings")[-2]
    prefixes = (int(cls_token), int(cls_token) + registers, 0)
    grid, _ = evidence.grid(
        rows, prefixes, patch, pair(config.get("image_size"))
    )
    activation = evidence.activation(
        config.get("hidden_act"), "gelu", ACTIVATIONS
    )
    attention = {}
    if not evidence.in_blocks(f"{query}bias", depth):
        attention["use_bias"] = False
    scaled = evidence.in_blocks(f"{LAYER}layer_scale1.lambda1", depth)
    head = next(
        (
            evidence.shapes[key]
            for key in ("classifier.weight", "cls_classifier.weight")
            if key in evidence
        ),
        None,
    )
    pooler = evidence.shapes.get("pooler.dense.weight")
    return Description(
        format="transformers",
        variant=variant,
        image_size=tuple(c * edge for c, edge in zip(grid, patch)),
        num_channels=channels,
        num_classes=head[0] if head else None,
        activation="swiglu" if gated else activation,
        epsilon=evidence.given.get("epsilon")
        or config.get("layer_norm_eps")
        or epsilon,
        pooling="token" if cls_token else "average",
        representation_dim=pooler[0] if pooler and not head else None,
        patch_encoder=patch_encoder,
        attention=attention,
        block={"layer_scale": 1.0} if scaled else {},
        preprocessing=preprocessing(evidence),
        resampling="torch_bicubic",
    )


def preprocessing(evidence):
    """Returns the statistics that `preprocessor_config.json` states."""
    stated = evidence.preprocessor
    mean, std = stated.get("image_mean"), stated.get("image_std")
    if stated.get("do_normalize") is False:
        mean, std = 0.0, 1.0
    size = stated.get("size") or {}
    edge = size.get("shortest_edge") if isinstance(size, dict) else size
    crop = stated.get("crop_size") or {}
    crop = crop.get("height") if isinstance(crop, dict) else crop
    fraction = None
    if stated.get("do_center_crop") and edge and crop:
        fraction = min(crop / edge, 1.0)
    return evidence.preprocessing(mean, std, fraction, stated.get("resample"))
