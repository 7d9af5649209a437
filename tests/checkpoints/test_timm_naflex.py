"""NaFlex networks of timm for images of one size.

Their position tables have two axes and are resampled for every image.
"""

import pathlib
import sys
import warnings

import pytest
from helpers import outputs_of
from opening import assert_agrees, opened
from oracles import import_oracle, randomize

import keras_vit
from keras_vit.checkpoints.formats import timm_describe, timm_naflex

sys.path.append(str(pathlib.Path(__file__).parents[2] / "benchmarks"))
KINDS = {
    "registers, average": "naflexvit_base_patch16_gap",
    "rows and columns": "naflexvit_base_patch16_parfac_gap",
    "MAP": "naflexvit_base_patch16_siglip",
    "class token, corners aligned": "naflexvit_base_patch16_radio_v3",
    "class token": "naflexvit_huge_patch16_radio_v4",
}


@pytest.fixture
def naflex(rng, tmp_path):
    """Writes a small network as timm does, for 6 x 6 cells, its table 4 x 4."""
    timm = import_oracle("timm")
    from timm.models._hub import save_for_hf

    def make(name, **more):
        own = {
            "depth": 2, "embed_dim": 64, "num_heads": 4, "img_size": 96,
            "pos_embed_grid_size": (4, 4), **more,
        }  # fmt: skip
        module = timm.create_model(name, **own)
        module.reset_classifier(7 if module.num_classes else 0)
        randomize(module, rng)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            save_for_hf(
                module, tmp_path, model_args=own, safe_serialization=True
            )
        stated = module.pretrained_cfg
        return module, keras_vit.Preprocessing(stated["mean"], stated["std"])

    return make


@pytest.mark.parametrize("kind", KINDS)
def test_kinds(kind, naflex, rng, tmp_path, capsys):
    module, statistics = naflex(KINDS[kind])
    images = rng.integers(0, 256, (2, 96, 96, 3)).astype("uint8")
    model, notes = opened(tmp_path)
    assert not notes
    assert_agrees(model, module, images, statistics)
    # What it prints makes the same by hand.
    keras_vit.from_checkpoint(tmp_path)
    names = {"keras_vit": keras_vit, "layers": keras_vit.layers}
    by_hand = eval(capsys.readouterr().out, names)
    with pytest.raises(keras_vit.CheckpointError, match=r"a grid of \(4, 4\)"):
        keras_vit.load_checkpoint(by_hand, tmp_path)
    keras_vit.load_checkpoint(by_hand, tmp_path, resize_positions="as_trained")
    assert_agrees(by_hand, module, images, statistics)


@pytest.mark.parametrize("kind", ["registers, average", "MAP"])
@pytest.mark.parametrize("size", [(32, 48), (64, 64), (64, 112)], ids=str)
def test_other_sizes(size, kind, naflex, rng, tmp_path):
    """Resampled once, from the table of the file."""
    module, statistics = naflex(KINDS[kind])
    images = rng.integers(0, 256, (2, *size, 3)).astype("uint8")
    model, _ = opened(tmp_path, image_size=size)
    assert_agrees(model, module, images, statistics)


@pytest.mark.parametrize(
    "kind, own, size, message",
    [
        ("rows and columns", {}, (64, 96), "Open it for a square"),
        (
            "class token, corners aligned", {"pos_embed_antialias": True}, 48,
            "for a grid as large or larger",
        ),
        ("MAP", {"rope_type": "axial"}, 96, "'rope_type': 'axial'"),
        ("MAP", {"pool_include_prefix": True}, 96, "pool_include_prefix"),
    ],
)  # fmt: skip
def test_what_is_refused_says_why(kind, own, size, message, naflex, tmp_path):
    naflex(KINDS[kind], **own)
    with pytest.raises(keras_vit.CheckpointError, match=message):
        opened(tmp_path, image_size=size)


def test_what_only_names_tell_is_what_timm_has():
    timm = import_oracle("timm")
    from checkpoint_share import captured

    names = timm.list_pretrained("naflexvit*")
    assert len(names) == 11
    for name in names:
        cfg = captured(name.partition(".")[0])[1]["cfg"]
        first = timm_describe.first
        heads = first(timm_describe.HEADS, name)(cfg.embed_dim)
        assert heads == cfg.num_heads, name
        activation = first(timm_describe.NAMED_ACTIVATIONS, name)
        assert activation == cfg.act_layer, name
        own = timm_naflex.DEFAULTS | first(timm_naflex.ARCHITECTURES, name)
        for argument, value in own.items():
            assert getattr(cfg, argument) == value, (name, argument)


def test_a_bare_file_is_read_by_its_shapes(naflex, rng, tmp_path):
    """At the size of its table; heads and statistics are stated."""
    module, _ = naflex(KINDS["registers, average"], img_size=64)
    (tmp_path / "config.json").unlink()
    model, _ = opened(tmp_path, num_heads=4, preprocessing="inception")
    images = rng.integers(0, 256, (2, 64, 64, 3)).astype("uint8")
    assert model.input_shape == (None, 64, 64, 3)
    assert outputs_of(model, images).shape == (2, 7)
    assert_agrees(model, module, images, "inception")
