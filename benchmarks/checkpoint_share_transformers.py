"""The small networks of `checkpoint_share.py` that are of transformers.

One of each class with a Vision Transformer in it: how it is made, which of its
values our model returns, and the statistics of its images.
"""

import functools

SIZES = {
    "hidden_size": 64,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "image_size": 64,
    "patch_size": 16,
}
ViT = SIZES | {"intermediate_size": 128}
RATIO = SIZES | {"mlp_ratio": 2}
LABELS = {"num_labels": 7}
PAIRS = {"image_size": [64, 64], "patch_size": [16, 16]}
TEXT = {
    "hidden_size": 64,
    "intermediate_size": 64,
    "num_hidden_layers": 1,
    "num_attention_heads": 2,
    "vocab_size": 50,
    "max_position_embeddings": 8,
}
TWO = {"vision_config": ViT, "text_config": TEXT}
TABLES = {"use_relative_position_bias": True}
ONE_TABLE = {"use_shared_relative_position_bias": True}
MAE = {
    "mask_ratio": 0.0,
    "decoder_hidden_size": 32,
    "decoder_num_hidden_layers": 1,
    "decoder_num_attention_heads": 2,
    "decoder_intermediate_size": 64,
}


def logits(module, x):
    return module(x).logits


def pooled(module, x):
    return module(x).pooler_output


def token(module, x):
    return module(x).last_hidden_state[:, 0]


def average(module, x):
    return module(x).last_hidden_state.mean(1)


def patches(module, x):
    return module(x).last_hidden_state[:, 1:].mean(1)


def of(part, value):
    """The value of the trunk that a larger module has under a name."""
    return lambda module, x: value(getattr(module, part), x)


def trunk_of_eomt(module, x):
    """EoMT without its queries."""
    x = module.embeddings(x)
    for layer in module.layers:
        x = layer(x)
    return module.layernorm(x)[:, 0]


def naflex(module, x, value="pooler_output"):
    """SigLIP2 takes patches: rows of the image, then columns, then colours."""
    import torch

    count, channels, height, width = x.shape
    x = x.reshape(count, channels, height // 16, 16, width // 16, 16)
    x = x.permute(0, 2, 4, 3, 5, 1).reshape(count, -1, 16 * 16 * channels)
    grids = torch.tensor([[height // 16, width // 16]] * count)
    seen = torch.ones(x.shape[:2], dtype=torch.long)
    return getattr(module(x, seen, grids), value)


def feature_map(module, x):
    return module(x).feature_maps[-1].mean(1)


SAM = {"mlp_dim": 128, "output_channels": 16, "window_size": 2}
HIERA = {"embed_dim": 16, "depths": [1] * 4, "num_heads": [1, 1, 2, 2]}
TIMM = {"depth": 2, "embed_dim": 64, "num_heads": 4, "img_size": 64}
WRAPPED = {"architecture": "vit_tiny_patch16_224", "model_args": TIMM}
QUERIES = {"num_queries": 4, "num_blocks": 1, "num_upscale_blocks": 1}
# Of a class: arguments of its configuration, the value to compare, `None` where
# there is none to be had; by the statistics that its checkpoints have. Brackets
# tell a row from another of the class.
CASES = {
    "inception": {
        "ViTForImageClassification": (ViT | LABELS, logits),
        "ViTModel": (ViT, pooled),
        "ViTModel (no pooler)": (ViT, token),
        "ViTForMaskedImageModeling": (ViT, of("vit", token)),
        "SiglipVisionModel": (ViT, pooled),
        "SiglipModel": (TWO, of("vision_model", pooled)),
        "SiglipForImageClassification": (TWO | LABELS, logits),
        "Siglip2VisionModel": (ViT | {"num_patches": 16}, naflex),
        "BeitModel": (ViT, pooled),
        "BeitModel (tables)": (ViT | TABLES, pooled),
        "BeitModel (one table)": (ViT | ONE_TABLE, pooled),
        "Data2VecVisionModel": (ViT, patches),
        "Data2VecVisionModel (tables)": (ViT | TABLES, patches),
        "DPTModel": (ViT | {"backbone_out_indices": [0, 1, 1, 1]}, pooled),
        "TimmWrapperForImageClassification": (WRAPPED | LABELS, logits),
        "VideoMAEModel": (ViT | {"num_frames": 2}, None),
    },
    "imagenet": {
        "DeiTForImageClassification": (ViT | LABELS, logits),
        "ViTMAEModel": (ViT | MAE, token),
        "ViTMAEForPreTraining": (ViT | MAE, of("vit", token)),
        "ViTMSNModel": (ViT, token),
        "ViTMSNForImageClassification": (ViT | LABELS, logits),
        "Dinov2Model": (RATIO, pooled),
        "Dinov2WithRegistersModel": (
            RATIO | {"num_register_tokens": 4},
            pooled,
        ),
        "Dinov2ForImageClassification": (RATIO | LABELS, of("dinov2", pooled)),
        "DINOv3ViTModel": (ViT | {"num_register_tokens": 4}, pooled),
        "IJepaModel": (ViT, average),
        "YolosModel": (
            ViT | {"image_size": [64, 64], "num_detection_tokens": 5},
            token,
        ),
        "VitPoseBackbone": (RATIO | PAIRS, feature_map),
        "EomtForUniversalSegmentation": (RATIO | QUERIES, trunk_of_eomt),
        "InternVLVisionModel": (ViT | PAIRS, patches),
        "VitDetModel": (RATIO | {"pretrain_image_size": 64}, None),
        "SamVisionModel": (SIZES | SAM | {"global_attn_indexes": [1]}, None),
        "HieraModel": (HIERA | {"image_size": [64, 64]}, None),
    },
    "clip": {
        "CLIPVisionModel": (ViT, pooled),
        "CLIPModel": (TWO, of("vision_model", pooled)),
        "ChineseCLIPVisionModel": (ViT, pooled),
        "AltCLIPVisionModel": (ViT, pooled),
        "OwlViTVisionModel": (ViT, pooled),
        "BlipVisionModel": (ViT, token),
        "Aimv2VisionModel": (ViT, average),
        "MLCDVisionModel": (ViT | {"num_key_value_groups": 1}, pooled),
    },
}


def make(name, arguments):
    """Returns a small random module of a case."""
    import transformers

    transformers.utils.logging.disable_progress_bar()
    cls = getattr(transformers, name.partition(" ")[0])
    own = {}
    if "no pooler" in name:
        own["add_pooling_layer"] = False
    return cls(cls.config_class(**arguments), **own)


def modules():
    """Yields name, maker, value to compare and statistics of each case."""
    for statistics, cases in CASES.items():
        for name, (arguments, value) in cases.items():
            yield (
                name,
                functools.partial(make, name, arguments),
                value,
                statistics,
            )
