"""What network a folder of transformers is of: ViT and its kin, one tower.

ViT, DeiT, MAE, MSN, I-JEPA, DPT, DINOv2, BEiT, Data2Vec, InternVL, EoMT.
Sources: transformers 5, `configuration_*.py` and `modeling_*.py` of each, and
`image_processing_*`. `config.json` says nearly all; without one, a file is
described as far as its names and shapes go.
"""

import dataclasses

from keras_vit.checkpoints import configs
from keras_vit.checkpoints.description import Description
from keras_vit.checkpoints.evidence import Evidence
from keras_vit.checkpoints.formats.timm_describe import pair
from keras_vit.checkpoints.guards import CheckpointError
from keras_vit.preprocessing import NAMED, Preprocessing
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
# Of `model_type`: the statistics that its published checkpoints state.
STATISTICS = {
    "vit": "inception",
    "deit": "imagenet",
    "vit_mae": "imagenet",
    "vit_msn": "imagenet",
    "ijepa": "imagenet",
    "dpt": "inception",
    "dinov2": "imagenet",
    "dinov2_with_registers": "imagenet",
    "beit": "inception",
    "data2vec-vision": "inception",
    "internvl": "imagenet",
    "internvl_vision": "imagenet",
    "eomt": "imagenet",
    "clip": "clip",
    "metaclip_2": "clip",
    "chinese_clip": "clip",
    "altclip": "clip",
    "owlvit": "clip",
    "owlv2": "clip",
    "blip": "clip",
    "mlcd": "clip",
    "aimv2": "clip",
    "siglip": "inception",
    "siglip2": "inception",
}
LAYER = "encoder.layer.{i}."
PATCHES = "embeddings.patch_embeddings.projection"


def describe_vit(evidence: Evidence) -> Description:
    """Returns the `Description` of ViT, DeiT, MAE, MSN, I-JEPA and DPT."""
    if len(evidence.shape(f"{PATCHES}.weight")) != 4:
        raise CheckpointError(
            f"'{evidence.path}' is of a network for videos: its patches have "
            "a depth in time, which no model here has."
        )
    if "embeddings.detection_tokens" in evidence:
        raise CheckpointError(
            f"'{evidence.path}' has detection tokens behind the patches, with "
            "positions of their own (YOLOS): no `ViT` has them."
        )
    if f"{LAYER.format(i=0)}mlp.fc1.weight" in evidence:
        raise CheckpointError(
            f"'{evidence.path}' has one position more than patches, which is "
            "added to each of them (VitPose): no `ViT` does so."
        )
    description = _describe(evidence, out="output.dense", epsilon=1e-12)
    if "pooler.dense.weight" in evidence and not description.patch_encoder.get(
        "cls_token"
    ):
        raise CheckpointError(
            f"'{evidence.path}' has a pooler, which takes a class token, and "
            "no class token: `pooler.dense` was never trained. Save the model "
            "with `add_pooling_layer=False`."
        )
    left_aside(evidence, "decoder.", "neck.", "head.", "auxiliary_head.")
    if "cls_classifier.weight" in evidence:
        description = dataclasses.replace(
            description,
            num_classes=evidence.shape("cls_classifier.weight")[0],
            distilled=True,
        )
    if evidence.config.get("model_type") == "dpt":
        description = dataclasses.replace(description, resampling="bilinear")
    return description


def describe_dinov2(evidence: Evidence) -> Description:
    """Returns the `Description` of DINOv2, with registers or without."""
    out = _last_of_mlp(evidence, LAYER)
    description = _describe(
        evidence,
        out=out,
        epsilon=1e-6,
        gated=out != "mlp.fc2",
        statistics="imagenet",
    )
    left_aside(evidence, "neck.", "head.")
    if "embeddings.register_tokens" in evidence:
        return dataclasses.replace(description, resampling="bicubic")
    return description


def _last_of_mlp(evidence, layer):
    """The name of the last projection of DINOv2's MLPs, gated or not."""
    gated = ("mlp.weights_out", "mlp.down_proj")
    first = layer.format(i=0)
    found = [name for name in gated if f"{first}{name}.weight" in evidence]
    return found[0] if found else "mlp.fc2"


def describe_dinov2_classifier(evidence: Evidence) -> Description:
    """Returns the `Description` of DINOv2's trunk, under its linear head."""
    description = dataclasses.replace(
        describe_dinov2(evidence), num_classes=None
    )
    classes, width = evidence.shape("classifier.weight")
    evidence.notes.append(
        f"The head of '{evidence.path}' takes the class token and the mean of "
        f"the patches together, {width} numbers for {classes} classes, which "
        "no head here does: it is left out. The model returns the class token."
    )
    return description


def describe_beit(evidence: Evidence) -> Description:
    """Returns the `Description` of BEiT and Data2Vec without relative biases.

    With `use_mean_pooling` the last norm, if any, follows the average. The
    biases are added in `transformers_beit`.
    """
    description = _describe(evidence, out="output.dense", epsilon=1e-12)
    after = "pooler.layernorm.weight" in evidence
    before = "layernorm.weight" in evidence
    left_aside(evidence, "lm_head.")
    return dataclasses.replace(
        description,
        pooling="token" if before else "average",
        final_norm=before,
        norm_after_pooling=after,
    )


def describe_internvl(evidence: Evidence) -> Description:
    """Returns the `Description` of the tower of InternVL."""
    if f"{LAYER.format(i=0)}attention.q_norm.weight" in evidence:
        raise CheckpointError(
            f"'{evidence.path}' has norms over all heads of the queries and "
            "keys together (`use_qk_norm` of InternVL): no attention here "
            "has them."
        )
    rms = f"{LAYER.format(i=0)}layernorm_before.bias" not in evidence
    before = "layernorm.weight" in evidence
    if rms and before:
        raise CheckpointError(
            f"'{evidence.path}' has root-mean-square norms in its blocks and "
            "a layer norm behind them: no `ViT` has both."
        )
    description = _describe(
        evidence,
        query="attention.q_proj",
        projection="attention.projection_layer",
        out="mlp.fc2",
        epsilon=1e-6,
        statistics="imagenet",
    )
    left_aside(evidence, *LANGUAGE)
    return dataclasses.replace(
        description,
        pooling="token" if before else "average",
        final_norm=before,
        norm="rms" if rms else "layer",
    )


def describe_eomt(evidence: Evidence) -> Description:
    """Returns the `Description` of the DINOv2 trunk in EoMT."""
    out = _last_of_mlp(evidence, "layers.{i}.")
    description = _describe(
        evidence,
        layer="layers.{i}.",
        query="attention.q_proj",
        projection="attention.out_proj",
        out=out,
        positions="embeddings.position_embeddings.weight",
        epsilon=1e-6,
        gated=out != "mlp.fc2",
        statistics="imagenet",
    )
    evidence.notes.append(
        f"'{evidence.path}' is EoMT, whose patches attend to learned queries "
        f"in the last {evidence.config.get('num_blocks', 'few')} blocks. The "
        "queries and the masks are left out: this is its trunk alone."
    )
    return description


def _describe(
    evidence,
    *,
    out,
    epsilon,
    layer=LAYER,
    query="attention.attention.query",
    projection="attention.output.dense",
    positions="embeddings.position_embeddings",
    gated=False,
    statistics=None,
):
    config = vision_config(evidence)
    hidden_dim, channels, *patch = evidence.shape(f"{PATCHES}.weight")
    depth = evidence.depth(f"{layer}{query}.weight")
    mlp_dim = evidence.shape(f"{layer.format(i=0)}{out}.weight")[1]
    heads = evidence.heads(hidden_dim, config.get("num_attention_heads"))
    cls_token = "embeddings.cls_token" in evidence
    registers = sum(
        evidence.tokens(f"embeddings.{kind}")
        for kind in ("distillation_token", "register_tokens")
    )
    patch_encoder = {"cls_token": cls_token}
    if registers:
        patch_encoder["num_registers"] = registers
    size = pair(config.get("image_size"))
    if positions in evidence:
        rows = evidence.shape(positions)[-2]
        prefixes = (int(cls_token), int(cls_token) + registers, 0)
        grid, prefix = evidence.grid(rows, prefixes, patch, size)
        size = tuple(cells * edge for cells, edge in zip(grid, patch))
        if cls_token and not prefix:
            patch_encoder["position_of_cls_token"] = False
    else:
        patch_encoder["position"] = None
    head = next(
        (
            evidence.shapes[key]
            for key in ("classifier.weight", "cls_classifier.weight")
            if key in evidence
        ),
        None,
    )
    pooler = evidence.shapes.get("pooler.dense.weight")
    scaled = any(
        evidence.in_blocks(f"{layer}{name}", depth)
        for name in ("layer_scale1.lambda1", "lambda_1")
    )
    return Description(
        format="transformers",
        variant=Variant(depth, hidden_dim, mlp_dim, heads, tuple(patch)),
        image_size=size or (224, 224),
        num_channels=channels,
        num_classes=head[0] if head else None,
        activation="swiglu"
        if gated
        else evidence.activation(config.get("hidden_act"), "gelu", ACTIVATIONS),
        epsilon=evidence.given.get("epsilon")
        or config.get("layer_norm_eps")
        or epsilon,
        pooling="token" if cls_token else "average",
        representation_dim=pooler[0] if pooler and not head else None,
        patch_encoder=patch_encoder,
        attention=attention_biases(
            evidence,
            depth,
            layer + query,
            layer + query.replace("query", "key").replace("q_proj", "k_proj"),
            layer + projection,
        ),
        block={"layer_scale": 1.0} if scaled else {},
        preprocessing=preprocessing(
            evidence, statistics or STATISTICS.get(config.get("model_type"))
        ),
        resampling="torch_bicubic",
    )


def attention_biases(
    evidence: Evidence, depth: int, query: str, key: str, output: str
) -> dict[str, bool]:
    """Returns which biases an attention has, as arguments of it.

    Args:
        evidence: the `Evidence`.
        depth: number of blocks.
        query: name of the projection to queries, with `{i}`.
        key: name of the projection to keys.
        output: name of the projection behind the heads.
    """
    found = {}
    if not evidence.in_blocks(f"{query}.bias", depth):
        found["use_bias"] = False
    elif not evidence.in_blocks(f"{key}.bias", depth):
        found["use_key_bias"] = False
    if not evidence.in_blocks(f"{output}.bias", depth):
        found["use_output_bias"] = False
    return found


# What stands beside a tower of images in a model of language.
LANGUAGE = (
    "language_model.",
    "model.language_model.",
    "multi_modal_projector.",
    "model.multi_modal_projector.",
    "lm_head.",
)
# What lies between a tower of images and its embedding.
PROJECTED = ("visual_projection.", "visual.head.")


def vision_config(evidence: Evidence) -> dict:
    """Returns the part of `config.json` that is about images."""
    return configs.of_images(evidence.config)


def left_aside(evidence: Evidence, *starts: str) -> None:
    """Notes which other parts a file holds, by how their names start."""
    # Behind the trunk, where its embedding is asked for.
    taken = PROJECTED if evidence.given.get("embedding") else ()
    found = [
        start.rstrip(".")
        for start in starts
        if start not in taken
        and any(key.startswith(start) for key in evidence.shapes)
    ]
    if found:
        evidence.notes.append(
            f"'{evidence.path}' also holds {', '.join(map(repr, found))}: left "
            f"out{'.' if taken else ', this is the trunk alone.'}"
        )


def preprocessing(
    evidence: Evidence, statistics: str | None = None
) -> Preprocessing:
    """Returns the statistics that `preprocessor_config.json` states.

    Args:
        evidence: the `Evidence`.
        statistics: name of those that the family was published with, taken
            with a note where nothing states any; or `None`.
    """
    stated = evidence.preprocessor
    mean, std = stated.get("image_mean"), stated.get("image_std")
    if stated.get("do_normalize") is False:
        mean, std = 0.0, 1.0
    unknown = mean is None or std is None
    if unknown and statistics and "preprocessing" not in evidence.given:
        evidence.notes.append(
            "No `preprocessor_config.json` says which mean and standard "
            f"deviation the images of '{evidence.path}' had: those that its "
            f"family was published with are taken, {statistics!r}. Pass "
            "`preprocessing=` if they were others."
        )
        return NAMED[statistics]
    return evidence.preprocessing(mean, std)
