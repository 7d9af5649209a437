"""Networks of open_clip, torchvision and Meta opened by their file alone.

Small random networks under the names of each release, equal numbers.
"""

import pathlib
import re
import sys

import pytest
from opening import assert_agrees, opened
from oracles import import_oracle, randomize

import keras_vit

sys.path.append(str(pathlib.Path(__file__).parents[2] / "benchmarks"))
import checkpoint_share_transformers as share  # noqa: E402
from checkpoint_share_transformers import (  # noqa: E402
    RATIO,
    TWO,
    of,
    pooled,
)


@pytest.fixture
def photographs(rng):
    return rng.integers(0, 256, (2, 64, 64, 3)).astype("uint8")


# From transformers' names of CLIP to open_clip's, which are OpenAI's.
TO_OPEN_CLIP = [
    (r"^vision_model\.", "visual."),
    (r"^text_model\.", ""),
    (r"embeddings\.class_embedding", "class_embedding"),
    (r"embeddings\.position_embedding\.weight", "positional_embedding"),
    (r"embeddings\.token_embedding", "token_embedding"),
    (r"embeddings\.patch_embedding", "conv1"),
    (r"pre_layrnorm", "ln_pre"),
    (r"post_layernorm", "ln_post"),
    (r"final_layer_norm", "ln_final"),
    (r"encoder\.layers", "transformer.resblocks"),
    (r"layer_norm(\d)", r"ln_\1"),
    (r"mlp\.fc1", "mlp.c_fc"),
    (r"mlp\.fc2", "mlp.c_proj"),
    (r"self_attn\.out_proj", "attn.out_proj"),
    (r"visual_projection\.weight", "visual.proj"),
    (r"text_projection\.weight", "text_projection"),
]


def renamed(state, table):
    """Arrays under other names, queries, keys and values in one."""
    import torch

    arrays = {}
    for key, value in state.items():
        for pattern, name in table:
            key = re.sub(pattern, name, key)
        arrays[key] = value.contiguous()
    for key in [key for key in arrays if "q_proj" in key or "query" in key]:
        names = ("q_proj", "k_proj", "v_proj")
        if "query" in key:
            names = ("query", "key", "value")
        packed = torch.cat(
            [arrays.pop(key.replace(names[0], name)) for name in names]
        )
        end = key.rpartition(".")[2]
        if "self_attn" in key:
            key = key.partition("self_attn")[0] + f"attn.in_proj_{end}"
        else:
            key = key.partition("attention")[0] + f"attn.qkv.{end}"
        arrays[key] = packed
    return arrays


def test_open_clip(rng, tmp_path, photographs):
    import_oracle("transformers")
    from safetensors.torch import save_file

    module = share.make("CLIPModel", TWO)
    randomize(module, rng)
    arrays = renamed(module.state_dict(), TO_OPEN_CLIP)
    arrays["visual.proj"] = arrays["visual.proj"].T.contiguous()
    file = tmp_path / "open_clip_model.safetensors"
    save_file(arrays, file)
    with pytest.raises(keras_vit.CheckpointError, match="quick_gelu"):
        opened(file, num_heads=4)
    model, notes = opened(file, num_heads=4, activation="quick_gelu")
    assert "times `visual.proj`" in notes
    tower = of("vision_model", pooled)
    assert_agrees(model, lambda x: tower(module, x), photographs, "clip")
    model, notes = opened(
        file, num_heads=4, activation="quick_gelu", embedding=True
    )
    assert "visual.proj" not in notes
    embedded = lambda x: module.visual_projection(tower(module, x))  # noqa: E731
    assert_agrees(model, embedded, photographs, "clip")
    scale = model.get_layer("logit_scale").scale
    assert scale == pytest.approx(module.logit_scale.exp().item())


def test_open_clip_with_a_tower_of_timm(rng, tmp_path, photographs):
    timm = import_oracle("timm")
    import torch
    from safetensors.torch import save_file

    module = timm.create_model(
        "vit_base_patch16_siglip_224", img_size=64, embed_dim=64, depth=2,
        num_heads=4,
    )  # fmt: skip
    randomize(module, rng)
    arrays = {f"visual.trunk.{k}": v for k, v in module.state_dict().items()}
    arrays["text.transformer.resblocks.0.ln_1.weight"] = torch.ones(3)
    arrays["logit_scale"] = torch.ones(1)
    save_file(arrays, tmp_path / "open_clip_model.safetensors")
    model, notes = opened(
        tmp_path / "open_clip_model.safetensors", num_heads=4,
        preprocessing="inception",
    )  # fmt: skip
    assert "'text'" in notes
    assert_agrees(model, module, photographs, "inception")


@pytest.mark.parametrize("old_names", [False, True])
def test_torchvision(old_names, rng, tmp_path, photographs):
    torchvision = import_oracle("torchvision")
    import torch

    module = torchvision.models.VisionTransformer(
        64, 16, 2, 4, 64, 128, num_classes=7, representation_size=24
    )
    randomize(module, rng)
    arrays = module.state_dict()
    if old_names:
        table = [(r"mlp\.0", "mlp.linear_1"), (r"mlp\.3", "mlp.linear_2")]
        arrays = renamed(arrays, table)
    torch.save(arrays, tmp_path / "vit.pth")
    model, notes = opened(tmp_path / "vit.pth", num_heads=4)
    assert "'imagenet'" in notes
    assert_agrees(model, module, photographs, "imagenet")


@pytest.mark.parametrize("edge", [96, 48])
def test_torchvision_at_another_size(edge, rng, tmp_path):
    torchvision = import_oracle("torchvision")
    import torch

    sizes = (16, 2, 4, 64, 128)
    module = torchvision.models.VisionTransformer(64, *sizes, num_classes=7)
    randomize(module, rng)
    torch.save(module.state_dict(), tmp_path / "vit.pth")
    model, _ = opened(tmp_path / "vit.pth", num_heads=4, image_size=edge)
    resampled = torchvision.models.vision_transformer.interpolate_embeddings(
        edge, 16, module.state_dict()
    )
    module = torchvision.models.VisionTransformer(edge, *sizes, num_classes=7)
    module.load_state_dict(resampled)
    images = rng.integers(0, 256, (2, edge, edge, 3)).astype("uint8")
    assert_agrees(model, module.eval(), images, "imagenet")


# From transformers' names of DINOv2 to Meta's own.
TO_META = [
    (r"embeddings\.patch_embeddings\.projection", "patch_embed.proj"),
    (r"embeddings\.position_embeddings", "pos_embed"),
    (r"embeddings\.", ""),
    (r"encoder\.layer", "blocks"),
    (r"attention\.output\.dense", "attn.proj"),
    (r"layer_scale(\d)\.lambda1", r"ls\1.gamma"),
    (r"weights_in", "w12"),
    (r"weights_out", "w3"),
    (r"layernorm", "norm"),
]


@pytest.mark.parametrize("swiglu", [False, True])
def test_dinov2_of_meta(swiglu, rng, tmp_path, photographs):
    import_oracle("transformers")
    import torch
    from safetensors.torch import load_file

    arguments = RATIO | {"num_register_tokens": 4, "use_swiglu_ffn": swiglu}
    module = share.make("Dinov2WithRegistersModel", arguments)
    randomize(module, rng)
    module.save_pretrained(tmp_path)
    state = load_file(tmp_path / "model.safetensors")
    arrays = renamed(state, TO_META)
    assert "blocks.0.attn.qkv.weight" in arrays and "register_tokens" in arrays
    file = tmp_path / "meta" / "dinov2_pretrain.pth"
    file.parent.mkdir()
    torch.save(arrays, file)
    model, notes = opened(file, num_heads=4)
    assert "'imagenet'" in notes
    assert_agrees(model, lambda x: pooled(module, x), photographs, "imagenet")


@pytest.mark.parametrize("release", ["trunk", "mae", "dino"])
def test_mae_and_dino_of_meta(release, rng, tmp_path, photographs):
    """timm's names: alone, with MAE's decoder, in DINO's full checkpoint."""
    timm = import_oracle("timm")
    import torch

    module = timm.create_model(
        "vit_tiny_patch16_224", img_size=64, embed_dim=64, depth=2,
        num_heads=4, num_classes=0,
    )  # fmt: skip
    randomize(module, rng)
    arrays = module.state_dict()
    one = torch.ones(3)
    content = {"model": arrays}
    if release == "mae":
        content = {"model": arrays | {
            "mask_token": one, "decoder_embed.weight": one,
            "decoder_blocks.0.attn.qkv.weight": one, "decoder_pos_embed": one,
        }}  # fmt: skip
    if release == "dino":
        arrays = {f"module.backbone.{k}": v for k, v in arrays.items()}
        head = {"module.head.mlp.0.weight": one}
        head["module.head.last_layer.weight_g"] = one
        content = {"student": arrays, "teacher": arrays | head, "epoch": 3}
    torch.save(content, tmp_path / "release.pth")
    model, notes = opened(
        tmp_path / "release.pth", num_heads=4, preprocessing="imagenet"
    )
    assert release == "trunk" or "left out" in notes
    assert_agrees(model, module, photographs, "imagenet")


IN_MEMORY = {
    "ViT": ("ViTForImageClassification", share.ViT | share.LABELS),
    "DINOv2": ("Dinov2Model", RATIO),
    "DINOv2, SwiGLU": ("Dinov2Model", RATIO | {"use_swiglu_ffn": True}),
    "BEiT": ("BeitModel", share.ViT | {"use_mean_pooling": False}),
    "DINOv3": ("DINOv3ViTModel", share.ViT | {"num_register_tokens": 2}),
}


@pytest.mark.parametrize("kind", IN_MEMORY)
def test_a_state_dict_of_transformers(kind, rng, tmp_path, photographs):
    """`state_dict()` has other names than what `save_pretrained` writes."""
    import_oracle("transformers")
    from safetensors.torch import save_file

    module = share.make(*IN_MEMORY[kind])
    randomize(module, rng)
    module.config.save_pretrained(tmp_path)
    save_file(module.state_dict(), tmp_path / "model.safetensors")
    model, _ = opened(tmp_path, preprocessing="imagenet")

    def value(x):
        y = module(x)
        return y.logits if "logits" in y else y.pooler_output

    assert_agrees(model, value, photographs, "imagenet")
