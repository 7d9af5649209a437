"""`config.json`: what lies beside weights and lets a library build the model.

Read for the few facts that the names of the weights do not tell; written by
`export_checkpoint`, so that timm and transformers open what was trained here.
"""

import pathlib
import zipfile

from keras_vit.checkpoints import advice
from keras_vit.checkpoints.facts import check_facts
from keras_vit.checkpoints.guards import CheckpointError, read_json, reading

# The names of the non-linearity in transformers' and timm's configurations.
ACTIVATIONS = {
    "gelu": "gelu",
    "gelu_new": "gelu_tanh",
    "gelu_fast": "gelu_tanh",
    "gelu_pytorch_tanh": "gelu_tanh",
    "gelu_tanh": "gelu_tanh",
}

# The architecture of timm, and its first convolution, by the units in each
# stage of the ResNet. One of any size will do: every argument that differs is
# given.
TIMM_PLAIN = ("vit_base_patch16_224", "patch_embed.proj")
_STEM = "patch_embed.backbone.stem.conv"
TIMM_HYBRIDS = {
    (): ("vit_tiny_r_s16_p8_224", "patch_embed.backbone.conv"),
    (2, 2, 2, 2): ("vit_small_r26_s32_224", _STEM),
    (3, 4, 9): ("vit_base_r50_s16_224", _STEM),
    (3, 4, 6, 3): ("vit_large_r50_s32_224", _STEM),
}

# Where transformers keeps what is about images, beside what is about texts or
# about a decoder.
NESTED = ("vision_config", "backbone_config", "encoder")


def read(path):
    """Returns what lies beside a file of weights.

    Args:
        path: path of the file of weights.

    Returns:
        A dict with `config` and `preprocessor`, what the two files hold, and
        with some of `activation`, `epsilon` and `image_size`; empty if there
        are no such files, or if they cannot belong to the weights: the
        libraries that write them write `.safetensors`.

    Raises:
        CheckpointError: if one of them is not JSON, or states what no
            network is.
    """
    if _is_npz(path):
        return {}
    folder = pathlib.Path(path).parent
    # What KerasHub has of a task holds the configuration of its backbone.
    config = _read_json(folder / "task.json") or _read_json(
        folder / "config.json"
    )
    facts = {
        "config": config,
        "preprocessor": _read_json(folder / "preprocessor_config.json")
        or _read_json(folder / "image_converter.json"),
    }
    config = of_images(config)
    arguments = config.get("model_args") or {}
    activation = config.get("hidden_act", arguments.get("act_layer"))
    if activation in ACTIVATIONS:
        facts["activation"] = ACTIVATIONS[activation]
    if config.get("layer_norm_eps"):
        facts["epsilon"] = config["layer_norm_eps"]
    size = config.get("image_size", arguments.get("img_size"))
    if isinstance(size, int):
        size = [size, size]
    if size and len(size) == 2:
        facts["image_size"] = tuple(size)
    return facts


def of_images(config: dict) -> dict:
    """Returns the part of a `config.json` that is about images.

    Args:
        config: what the file holds.
    """
    for name in NESTED:
        if isinstance(config.get(name), dict):
            return config[name]
    return config


def _is_npz(path):
    if not zipfile.is_zipfile(path):
        return False
    with reading(path), zipfile.ZipFile(path) as file:
        return any(name.endswith(".npy") for name in file.namelist())


def _read_json(path):
    """Returns the dict that a JSON file holds, `{}` where there is none."""
    if not path.is_file():
        return {}
    try:
        content = read_json(path)
        content = content if isinstance(content, dict) else {}
        check_facts(path, content)
    except CheckpointError as error:
        raise CheckpointError(
            f"{error}. Pass `read_config=False` to `from_checkpoint` or "
            "`load_checkpoint` if it does not belong to the weights."
        ) from error
    return content


def for_timm(anatomy):
    """Returns the `config.json` by which `timm.create_model` opens weights."""
    height, width = anatomy.image_size
    architecture, first = TIMM_HYBRIDS.get(anatomy.stages, TIMM_PLAIN)
    names = anatomy.class_names
    return {
        **({"label_names": list(names)} if names else {}),
        "architecture": architecture,
        "num_classes": anatomy.num_classes or 0,
        "num_features": anatomy.hidden_dim,
        "pretrained_cfg": {
            "input_size": [anatomy.num_channels, height, width],
            "fixed_input_size": True,
            "num_classes": anatomy.num_classes or 0,
            **advice.for_timm(anatomy.preprocessing),
            **_statistics(anatomy, "mean", "std"),
            "first_conv": first,
            "classifier": "head",
        },
        "model_args": {
            "img_size": [height, width],
            "patch_size": list(anatomy.patch_size),
            "in_chans": anatomy.num_channels,
            "embed_dim": anatomy.hidden_dim,
            "depth": anatomy.num_layers,
            "num_heads": anatomy.num_heads,
            # timm rounds the product down.
            "mlp_ratio": (anatomy.mlp_dim + 0.5) / anatomy.hidden_dim,
            "qkv_bias": anatomy.use_bias,
            "qk_norm": anatomy.qk_norm,
            "init_values": anatomy.layer_scale,
            "class_token": anatomy.encoder.cls_token,
            "reg_tokens": anatomy.encoder.num_registers,
            "no_embed_class": not anatomy.encoder.position_of_cls_token
            or not anatomy.encoder.cls_token,
            "global_pool": {
                "token": "token",
                "average": "avg",
                "attention": "map",
            }[anatomy.pooling],
            "fc_norm": anatomy.norm_after_pooling,
            "final_norm": True,
            "act_layer": anatomy.activation,
        },
    }


def for_transformers(anatomy):
    """Returns the `config.json` by which transformers opens a ViT."""
    with_head = anatomy.num_classes is not None
    config = {
        "architectures": [
            "ViTForImageClassification" if with_head else "ViTModel"
        ],
        "model_type": "vit",
        "intermediate_size": anatomy.mlp_dim,
        "pooler_act": "tanh",
        **_common(anatomy),
    }
    if anatomy.representation_dim is not None:
        config["pooler_output_size"] = anatomy.representation_dim
    if with_head:
        labels = anatomy.class_names or [
            f"LABEL_{index}" for index in range(anatomy.num_classes)
        ]
        config["id2label"] = {
            str(index): label for index, label in enumerate(labels)
        }
        config["label2id"] = {
            label: index for index, label in enumerate(labels)
        }
    return config


def for_dinov2(anatomy):
    """Returns the `config.json` by which transformers opens a DINOv2."""
    registers = anatomy.encoder.num_registers
    gated = anatomy.activation == "swiglu"
    config = {
        "architectures": ["Dinov2Model"],
        "model_type": "dinov2",
        "mlp_ratio": _mlp_ratio(anatomy, gated),
        "use_swiglu_ffn": gated,
        # For pre-training alone.
        "use_mask_token": False,
        **_common(anatomy),
    }
    if registers:
        config |= {
            "architectures": ["Dinov2WithRegistersModel"],
            "model_type": "dinov2_with_registers",
            "num_register_tokens": registers,
        }
    return config


def _mlp_ratio(anatomy, gated):
    """The whole number from which DINOv2 has the inner width of its MLPs.

    Gated it is two thirds of the width, rounded up to a multiple of eight.
    """

    def width(ratio):
        full = anatomy.hidden_dim * ratio
        return (full * 2 // 3 + 7) // 8 * 8 if gated else full

    for ratio in range(1, 65):
        if width(ratio) == anatomy.mlp_dim:
            return ratio
    raise ValueError(
        "DINOv2 of transformers has inner widths of whole multiples of the "
        f"width{', by 2/3 and rounded up to eights,' if gated else ''} alone. "
        f"Received: mlp_dim={anatomy.mlp_dim} for "
        f"hidden_dim={anatomy.hidden_dim}"
    )


def _common(anatomy):
    """What all vision transformers of transformers are configured by."""
    return {
        "hidden_size": anatomy.hidden_dim,
        "num_hidden_layers": anatomy.num_layers,
        "num_attention_heads": anatomy.num_heads,
        "hidden_act": {
            "gelu": "gelu",
            "gelu_tanh": "gelu_pytorch_tanh",
            "swiglu": "silu",
        }[anatomy.activation],
        "layer_norm_eps": max(anatomy.epsilons),
        "image_size": _one_if_equal(anatomy.image_size),
        "patch_size": _one_if_equal(anatomy.patch_size),
        "num_channels": anatomy.num_channels,
        "qkv_bias": anatomy.use_bias,
        "hidden_dropout_prob": 0.0,
        "attention_probs_dropout_prob": 0.0,
        "torch_dtype": "float32",
    }


def _one_if_equal(pair):
    """A plain number where the library expects one."""
    height, width = pair
    return height if height == width else [height, width]


def preprocessor_for_transformers(anatomy):
    """Returns `preprocessor_config.json`: resize, crop, the statistics."""
    return {
        **advice.for_transformers(anatomy.preprocessing, anatomy.image_size),
        "do_rescale": True,
        "rescale_factor": 1 / 255,
        "do_normalize": True,
        **_statistics(anatomy, "image_mean", "image_std"),
    }


def _statistics(anatomy, mean, std):
    own = anatomy.preprocessing.for_channels(anatomy.num_channels)
    return {mean: list(own.mean), std: list(own.std)}
