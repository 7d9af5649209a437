"""Networks with rotary positions opened by their file alone.

Small random networks as their library writes them, in one call, equal numbers,
on rectangles: a square hides which axis is which.
"""

import dataclasses
import inspect
import json
import pathlib
import re
import sys
import warnings

import numpy as np
import pytest
from opening import assert_agrees, opened
from oracles import import_oracle, randomize

import keras_vit
from keras_vit.checkpoints.arithmetic import ROTATION
from keras_vit.checkpoints.formats import timm_describe, timm_eva

sys.path.append(str(pathlib.Path(__file__).parents[2] / "benchmarks"))
import checkpoint_share as share  # noqa: E402

SIZE = (64, 48)


@pytest.fixture
def photographs(rng):
    return rng.integers(0, 256, (2, *SIZE, 3)).astype("uint8")


# By the architecture: what makes it small, or other than it is published.
TIMM = {
    "eva_giant_patch14_224": {},
    "eva_giant_patch14_clip_224": {},
    "eva02_small_patch14_224": {"ref_feat_shape": (5, 6)},
    "eva02_base_patch14_448": {},
    "eva02_base_patch16_clip_224": {"ref_feat_shape": 7},
    "eva02_enormous_patch14_clip_224": {},
    "vit_base_patch16_rope_reg1_gap_256": {},
    "vit_mediumd_patch16_rope_reg1_gap_256": {},
    "vit_pe_core_base_patch16_224": {"attn_pool_num_heads": 4},
    "vit_pe_spatial_base_patch16_512": {"num_classes": 0},
    "vit_pe_lang_large_patch14_448": {"num_classes": 0},
    "vit_pe_lang_gigantic_patch14_448": {"num_classes": 0},
    "vit_base_patch16_rope_224": {},
    "vit_base_patch16_rope_ape_224": {},
    "vit_base_patch16_rope_mixed_224": {},
    "vit_base_patch16_rope_mixed_ape_224": {},
    "vit_base_patch16_dinov3": {"num_classes": 0},
    "vit_base_patch16_dinov3_qkvb": {"num_classes": 0},
    "vit_huge_plus_patch16_dinov3": {"num_classes": 0},
    "vit_base_patch16_lingbot": {"num_classes": 0},
}


def small(name, rng, folder, **own):
    """A small network of timm, written as timm writes it."""
    timm = import_oracle("timm")
    from timm.models._hub import save_for_hf

    arguments = {
        "depth": 2, "embed_dim": 64, "num_heads": 4, "img_size": SIZE,
        "patch_size": 16, "num_classes": 7, **own,
    }  # fmt: skip
    module = timm.create_model(name, **arguments)
    randomize(module, rng)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        save_for_hf(
            module, folder, model_args=arguments, safe_serialization=True
        )
    return module


def statistics_of(module):
    stated = module.pretrained_cfg
    return keras_vit.Preprocessing(stated["mean"], stated["std"])


@pytest.mark.parametrize("name", TIMM)
def test_timm(name, rng, tmp_path, photographs):
    module = small(name, rng, tmp_path, **TIMM[name])
    model, notes = opened(tmp_path)
    assert not notes
    assert_agrees(model, module, photographs, statistics_of(module))


@pytest.mark.parametrize(
    "name",
    [
        "eva02_base_patch14_224",
        "vit_pe_spatial_base_patch16_512",
        "vit_base_patch16_rope_ape_224",
        "vit_base_patch16_rope_mixed_224",
        "vit_base_patch16_dinov3",
    ],
)
def test_timm_at_another_size(name, rng, tmp_path):
    module = small(name, rng, tmp_path, num_classes=0)
    model, _ = opened(tmp_path, image_size=(80, 96))
    module.set_input_size((80, 96))
    images = rng.integers(0, 256, (2, 80, 96, 3)).astype("uint8")
    assert_agrees(model, module, images, statistics_of(module))


def test_names_say_what_timm_gives_them():
    """The table of architectures against every entry point of `eva.py`."""
    import_oracle("timm")
    from timm.models import _registry
    from timm.models.eva import Eva

    defaults = {
        name: parameter.default
        for name, parameter in inspect.signature(Eva).parameters.items()
        if name in timm_eva.DEFAULTS
    }
    names = [
        name
        for name, module in _registry._model_to_module.items()
        if module == "eva"
    ]
    assert len(names) > 60
    for name in names:
        evidence = keras_vit.checkpoints.evidence.Evidence(
            name, {}, config={"architecture": name}
        )
        given = timm_eva.arguments_of(evidence)
        _, arguments = share.captured(name)
        expected = defaults | arguments
        rotary = expected["use_rot_pos_emb"]
        for key in timm_eva.DEFAULTS:
            if key.startswith(("rope", "ref")) and not rotary:
                continue
            right = expected[key]
            if key == "ref_feat_shape" and right is not None:
                right = timm_describe.pair(right)
                given[key] = timm_describe.pair(given[key])
            assert given[key] == right, (name, key)
        heads = timm_describe.first(timm_describe.HEADS, name)
        assert heads(arguments["embed_dim"]) == arguments["num_heads"], name
        norm = getattr(arguments.get("norm_layer"), "keywords", {})
        small = bool(re.search(timm_eva.EPSILONS, name))
        assert norm.get("eps", 1e-6) == (1e-5 if small else 1e-6), name


@pytest.mark.parametrize(
    "own", [{}, {"attn_pool_num_heads": 4, "attn_pool_mlp_ratio": 2.0}]
)
def test_a_pooling_of_other_sizes_than_the_blocks(
    own, rng, tmp_path, photographs
):
    """No shape would show the eight heads of the published networks."""
    module = small("vit_pe_core_base_patch16_224", rng, tmp_path, **own)
    model, _ = opened(tmp_path)
    assert_agrees(model, module, photographs, statistics_of(module))
    heads = own.get("attn_pool_num_heads", 8)
    assert model.get_layer("pooling").num_heads == heads


def test_without_a_name_nothing_is_guessed(rng, tmp_path):
    for name in (
        "eva_giant_patch14_224",
        "vit_base_patch16_dinov3",
        "vit_pe_core_base_patch16_224",
        "vit_pe_spatial_base_patch16_512",
    ):
        small(name, rng, tmp_path, num_classes=0)
        (tmp_path / "config.json").unlink()
        with pytest.raises(keras_vit.CheckpointError, match="'architecture'"):
            opened(tmp_path)


def test_what_no_layer_computes_is_refused(rng, tmp_path):
    small("vit_base_patch16_sapiens2", rng, tmp_path, num_kv_heads=(4, 2))
    with pytest.raises(keras_vit.CheckpointError, match="Sapiens2"):
        opened(tmp_path)
    small("vit_base_patch16_dinov3", rng, tmp_path, rope_type="mrope")
    with pytest.raises(keras_vit.CheckpointError, match="'mrope'"):
        opened(tmp_path)
    small("vit_base_patch16_dinov3", rng, tmp_path, global_pool="max")
    with pytest.raises(keras_vit.CheckpointError, match="pooled by 'max'"):
        opened(tmp_path)


DINOV3 = {
    "plain": {},
    "gated": {"use_gated_mlp": True, "hidden_act": "silu"},
    "all biases": {"key_bias": True},
    "no biases": {
        "query_bias": False,
        "value_bias": False,
        "proj_bias": False,
        "mlp_bias": False,
    },
    "another base": {"rope_theta": 30.0, "num_register_tokens": 1},
}


def small_dinov3(rng, folder, **own):
    transformers = import_oracle("transformers")
    arguments = {
        "hidden_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4,
        "intermediate_size": 96, "image_size": SIZE, "patch_size": 16,
        "num_register_tokens": 4, **own,
    }  # fmt: skip
    module = transformers.DINOv3ViTModel(
        transformers.DINOv3ViTConfig(**arguments)
    )
    randomize(module, rng)
    module.save_pretrained(folder)
    return lambda pixels: module(pixels).pooler_output


@pytest.mark.parametrize("kind", DINOV3)
def test_transformers(kind, rng, tmp_path, photographs):
    value = small_dinov3(rng, tmp_path, **DINOV3[kind])
    model, notes = opened(tmp_path)
    assert "'imagenet'" in notes
    assert_agrees(model, value, photographs, "imagenet")
    model, _ = opened(tmp_path, image_size=(32, 80))
    images = rng.integers(0, 256, (2, 32, 80, 3)).astype("uint8")
    assert_agrees(model, value, images, "imagenet")


def test_mlcd(rng, tmp_path, photographs, capsys):
    """Its class token has angles that all blocks share."""
    transformers = import_oracle("transformers")
    arguments = {
        "hidden_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4,
        "intermediate_size": 96, "image_size": 64, "patch_size": 16,
        "rope_parameters": {"rope_type": "axial", "rope_theta": 30.0},
    }  # fmt: skip
    module = transformers.MLCDVisionModel(
        transformers.MLCDVisionConfig(**arguments)
    )
    randomize(module, rng)
    module.save_pretrained(tmp_path)

    def value(pixels):
        return module(pixels).pooler_output

    model, notes = opened(tmp_path, image_size=SIZE)
    assert "has a copy" in notes and "'clip'" in notes
    assert_agrees(model, value, photographs, "clip")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        keras_vit.from_checkpoint(tmp_path)
    names = {"keras_vit": keras_vit, "layers": keras_vit.layers}
    by_hand = eval(capsys.readouterr().out, names)
    keras_vit.load_checkpoint(by_hand, tmp_path)
    images = rng.integers(0, 256, (2, 64, 64, 3)).astype("uint8")
    assert_agrees(by_hand, value, images, "clip")
    (tmp_path / "config.json").unlink()
    known = {"activation": "gelu", "num_heads": 4}
    with pytest.raises(keras_vit.CheckpointError, match="file_grid="):
        opened(tmp_path, **known)
    by_hand, _ = opened(tmp_path, file_grid=(4, 3), **known)
    assert by_hand.input_shape[1:3] == SIZE


def test_transformers_without_configuration(rng, tmp_path):
    value = small_dinov3(rng, tmp_path, num_attention_heads=1)
    (tmp_path / "config.json").unlink()
    model, notes = opened(tmp_path, image_size=SIZE)
    assert "heads" in notes and "`image_size`" in notes
    images = rng.integers(0, 256, (2, *SIZE, 3)).astype("uint8")
    assert_agrees(model, value, images, "imagenet")


@pytest.mark.parametrize(
    "name", ["eva02_base_patch16_clip_224", "vit_pe_core_base_patch16_224"]
)
def test_weights_go_into_a_model_made_by_hand(name, rng, tmp_path):
    small(name, rng, tmp_path, **TIMM[name])
    model, _ = opened(tmp_path)
    again = keras_vit.change_resolution(model, SIZE)
    again.set_weights([0 * weight for weight in model.get_weights()])
    keras_vit.load_checkpoint(again, tmp_path)
    for given, right in zip(again.get_weights(), model.get_weights()):
        np.testing.assert_array_equal(given, right)


def test_rotary_weights_stay_out_of_a_plain_model(rng, tmp_path):
    small_dinov3(rng, tmp_path, key_bias=True)
    variant = keras_vit.Variant(2, 64, 96, 4, patch_size=16)
    plain = keras_vit.ViT(
        variant,
        image_size=SIZE,
        num_classes=None,
        epsilon=1e-5,
        preprocessing="imagenet",
        patch_encoder=keras_vit.layers.PatchEncoder(
            64, position=None, num_registers=4
        ),
        block=lambda index: keras_vit.layers.TransformerBlock(
            4, 96, activation="gelu", layer_scale=1.0, epsilon=1e-5
        ),
    )
    with pytest.raises(keras_vit.CheckpointError, match="RotaryAttention"):
        keras_vit.load_checkpoint(plain, tmp_path)


# By the architecture whose file it is of: what no weight tells.
CONVENTIONS = {
    "eva02_base_patch16_clip_224": {
        "pairing": "interleaved",
        "base": 10_000.0,
        "reference_grid": (16, 16),
    },
    "vit_base_patch16_rope_224": {
        "pairing": "interleaved",
        "base": 100.0,
        "indexing": "xy",
    },
    "vit_pe_spatial_base_patch16_512": {
        "pairing": "interleaved",
        "base": 10_000.0,
        "indexing": "xy",
        "grid_offset": 1.0,
        "reference_grid": (32, 32),
    },
    "vit_base_patch16_dinov3": {
        "pairing": "half",
        "base": 100.0,
        "coordinates": "normalized",
    },
}


def rebuilt(description, **convention):
    """The network of a file, turned by another convention."""
    own = {
        name: value
        for name, value in description.attention.items()
        if name not in ROTATION
    }
    return keras_vit.opening.build(
        dataclasses.replace(description, attention={**own, **convention})
    )


@pytest.mark.parametrize("name", CONVENTIONS)
def test_a_convention_does_not_pass_for_another(name, rng, tmp_path):
    """Each file into a model of each convention, all with the same weights."""
    module = small(name, rng, tmp_path, num_classes=0)
    checkpoint = keras_vit.checkpoints.load.Checkpoint.locate(tmp_path)
    description, _ = checkpoint.describe()
    for other, convention in CONVENTIONS.items():
        model = rebuilt(description, **convention)
        if other == name:
            keras_vit.load_checkpoint(model, tmp_path)
            images = rng.integers(0, 256, (2, *SIZE, 3)).astype("uint8")
            assert_agrees(model, module, images, statistics_of(module))
            continue
        before = model.get_weights()
        differs = {
            key: CONVENTIONS[name].get(key)
            for key in convention.keys() | CONVENTIONS[name].keys()
            if convention.get(key) != CONVENTIONS[name].get(key)
        }
        with pytest.raises(keras_vit.CheckpointError) as raised:
            keras_vit.load_checkpoint(model, tmp_path)
        # A reference grid says nothing where places are normalized.
        normalized = "coordinates" in differs
        for key in differs:
            assert f"{key}=" in str(raised.value) or (
                normalized and key == "reference_grid"
            )
        for old, new in zip(before, model.get_weights()):
            np.testing.assert_array_equal(old, new)
        keras_vit.load_checkpoint(model, tmp_path, check_numerics=False)


def test_a_reference_that_is_the_grid_is_none(rng, tmp_path):
    own = {"num_classes": 0, "ref_feat_shape": (4, 3)}
    small("eva02_base_patch16_clip_224", rng, tmp_path, **own)
    checkpoint = keras_vit.checkpoints.load.Checkpoint.locate(tmp_path)
    convention = dict(CONVENTIONS["eva02_base_patch16_clip_224"])
    del convention["reference_grid"]
    model = rebuilt(checkpoint.describe()[0], **convention)
    keras_vit.load_checkpoint(model, tmp_path)
    # At another size they differ, and what fits any size goes on doing so.
    larger = keras_vit.change_resolution(model, (80, 96))
    with pytest.raises(keras_vit.CheckpointError, match=r"ence_grid=\(4, 3\)"):
        keras_vit.load_checkpoint(larger, tmp_path)
    model, _ = opened(tmp_path, image_size=(80, 96))
    keras_vit.load_checkpoint(model, tmp_path, resize_positions="bicubic")


def test_description_builds_the_same(rng, tmp_path, photographs, capsys):
    """What is printed names the arguments that make the layer."""
    small_dinov3(rng, tmp_path)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        model = keras_vit.from_checkpoint(tmp_path)
    text = capsys.readouterr().out
    layer = model.get_layer("block_00").attention
    assert layer.coordinates == "normalized" and layer.pairing == "half"
    for part in ("layers.RotaryAttention(4", "grid_size=(4, 3)", "'half'"):
        assert part in text
    config = json.loads(json.dumps(model.get_config()["layers"]))
    assert "RotaryAttention" in json.dumps(config)
