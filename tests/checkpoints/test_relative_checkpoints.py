"""Networks with relative position biases opened by their file alone.

Small random networks as their library writes them, in one call, equal numbers,
on rectangles: a square hides which axis is which.
"""

import warnings

import keras
import numpy as np
import pytest
from helpers import EAGER, to_numpy
from opening import assert_agrees, opened
from oracles import import_oracle, randomize

import keras_vit
from keras_vit.ops.positions import by_places
from keras_vit.ops.resize import resize_offset_table


def test_rows_are_those_of_beit():
    import_oracle("timm")
    from timm.models.beit import gen_relative_position_index

    for rows, columns in ((1, 1), (2, 3), (4, 2)):
        table = np.arange((2 * rows - 1) * (2 * columns - 1) + 3)
        table = keras.ops.convert_to_tensor(table[:, None], "float32")
        given = to_numpy(by_places(table, (rows, columns), 1))[0]
        expected = gen_relative_position_index((rows, columns)).numpy()
        np.testing.assert_array_equal(given, expected)


@pytest.mark.parametrize("extra", [0, 3])
@pytest.mark.parametrize(
    "old, new",
    [((4, 4), (7, 7)), ((5, 3), (4, 9)), ((7, 7), (3, 3)), ((3, 5), (3, 8))],
)
def test_tables_are_resampled_as_in_timm(old, new, extra, rng):
    import_oracle("timm")
    import torch
    from timm.layers import resize_rel_pos_bias_table

    rows = [(2 * r - 1) * (2 * c - 1) + extra for r, c in (old, new)]
    table = rng.normal(size=(rows[0], 2)).astype("float32")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # PyTorch, about timm's indexing
        expected = resize_rel_pos_bias_table(
            torch.from_numpy(table), new, (rows[1], 2), old
        )
    given = resize_offset_table(table, old, new)
    assert given.dtype == table.dtype
    np.testing.assert_allclose(given, expected.numpy(), atol=1e-5)


SIZE = (64, 48)


@pytest.fixture
def photographs(rng):
    return rng.integers(0, 256, (2, *SIZE, 3)).astype("uint8")


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


SHARED = {"use_rel_pos_bias": False, "use_shared_rel_pos_bias": True}
# By kind: the architecture, and what makes it other than it is published.
TIMM = {
    "BEiT": ("beit_base_patch16_224", {}),
    "BEiT v2": ("beitv2_large_patch16_224", {}),
    "BEiT, one table": ("beit_base_patch16_224", SHARED),
    "BEiT, class token": (
        "beit_base_patch16_224",
        {"global_pool": "token", "use_abs_pos_emb": True, "qkv_bias": False},
    ),
    "MLP": ("vit_relpos_small_patch16_224", {}),
    "MLP, class token": ("vit_relpos_medium_patch16_cls_224", {}),
    "MLP, average": ("vit_relpos_base_patch16_clsgap_224", {}),
    "MLP, norms behind": ("vit_relpos_medium_patch16_rpn_224", {}),
    "one MLP": ("vit_srelpos_small_patch16_224", {"rel_pos_dim": 24}),
    "table": ("vit_relpos_small_patch16_224", {"rel_pos_type": "bias"}),
    "table, class token": (
        "vit_relpos_medium_patch16_cls_224",
        {"rel_pos_type": "bias", "qk_norm": True},
    ),
    "one table": (
        "vit_srelpos_small_patch16_224",
        {"rel_pos_type": "bias", "num_classes": 0},
    ),
}


@pytest.mark.parametrize("kind", TIMM)
def test_timm(kind, rng, tmp_path, photographs, capsys):
    name, own = TIMM[kind]
    module = small(name, rng, tmp_path, **own)
    model, notes = opened(tmp_path)
    assert ("has a copy" in notes) == ("one" in kind)
    statistics = statistics_of(module)
    assert_agrees(model, module, photographs, statistics)
    # What it prints makes the same by hand, and so does a saved model.
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        keras_vit.from_checkpoint(tmp_path)
    names = {"keras_vit": keras_vit, "layers": keras_vit.layers}
    by_hand = eval(capsys.readouterr().out, names)
    keras_vit.load_checkpoint(by_hand, tmp_path)
    assert_agrees(by_hand, module, photographs, statistics)
    model.save(tmp_path / "model.keras")
    again = keras.saving.load_model(tmp_path / "model.keras")
    assert_agrees(again, module, photographs, statistics)


@pytest.mark.parametrize("size", [(80, 96), (48, 32)])
@pytest.mark.parametrize(
    "kind", ["BEiT", "BEiT, class token", "MLP, class token", "table"]
)
def test_timm_at_another_size(kind, size, rng, tmp_path):
    name, own = TIMM[kind]
    module = small(name, rng, tmp_path, **own)
    model, _ = opened(tmp_path, image_size=size)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # PyTorch, about timm's indexing
        if hasattr(module, "set_input_size"):
            module.set_input_size(size)
        else:
            module.patch_embed.set_input_size(size)
            for block in module.blocks:
                grid = module.patch_embed.grid_size
                block.attn.rel_pos.set_window_size(grid)
    images = rng.integers(0, 256, (2, *size, 3)).astype("uint8")
    assert_agrees(model, module, images, statistics_of(module))


@pytest.mark.parametrize("kind", ["BEiT", "one MLP"])
def test_one_step_moves_the_biases(kind, rng, tmp_path, photographs):
    name, own = TIMM[kind]
    small(name, rng, tmp_path, **own)
    model, _ = opened(tmp_path)
    model.compile(keras.optimizers.SGD(0.1), "mse", **EAGER)
    biases = [w for w in model.trainable_weights if "/bias_" in w.path]
    before = [to_numpy(w).copy() for w in biases]
    model.train_on_batch(photographs, np.ones((2, 7)))
    for weight, old in zip(biases, before):
        # Without a class token it moves all logits of a query alike.
        if not weight.path.endswith("bias_output/bias"):
            assert not np.array_equal(to_numpy(weight), old), weight.path


@pytest.mark.parametrize("kind", ["BEiT", "table"])
def test_a_table_says_what_a_configuration_would(kind, rng, tmp_path):
    """Heads by its columns, and a grid that is square."""
    name, own = TIMM[kind]
    size = {"img_size": 64, "embed_dim": 60, "num_heads": 3}
    module = small(name, rng, tmp_path, **own, **size)
    (tmp_path / "config.json").unlink()
    model, _ = opened(tmp_path, preprocessing=statistics_of(module))
    images = rng.integers(0, 256, (2, 64, 64, 3)).astype("uint8")
    assert_agrees(model, module, images, statistics_of(module))


def test_a_grid_that_nothing_says_is_asked_for(rng, tmp_path, photographs):
    known = {"preprocessing": "inception"}
    for name in ("beit_base_patch16_224", "vit_relpos_small_patch16_224"):
        module = small(name, rng, tmp_path)
        (tmp_path / "config.json").unlink()
        with pytest.raises(keras_vit.CheckpointError, match="file_grid="):
            opened(tmp_path, num_heads=4, **known)
        model, _ = opened(tmp_path, num_heads=4, file_grid=(4, 3), **known)
        assert_agrees(model, module, photographs, "inception")
        keras_vit.load_checkpoint(model, tmp_path, file_grid=(4, 3))
    small("vit_relpos_medium_patch16_rpn_224", rng, tmp_path)
    (tmp_path / "config.json").unlink()
    with pytest.raises(keras_vit.CheckpointError, match="'architecture'"):
        opened(tmp_path, file_grid=(4, 3))


def test_a_table_does_not_turn_by_itself(rng, tmp_path):
    """Those of 4 x 3 and of 3 x 4 cells have one shape."""
    small("beit_base_patch16_224", rng, tmp_path)
    model, _ = opened(tmp_path)
    turned = keras_vit.change_resolution(model, SIZE[::-1])
    with pytest.raises(keras_vit.CheckpointError, match=r"_size=\(4, 3\)"):
        keras_vit.load_checkpoint(turned, tmp_path)
    keras_vit.load_checkpoint(model, tmp_path)


def test_indices_and_heads_of_pretraining_are_no_weights(
    rng, tmp_path, photographs
):
    """As Microsoft published BEiT, before timm."""
    import torch

    module = small("beit_base_patch16_224", rng, tmp_path, num_classes=0)
    (tmp_path / "config.json").unlink()
    (tmp_path / "model.safetensors").unlink()
    arrays = module.state_dict()
    for index in range(2):
        key = f"blocks.{index}.attn.relative_position_index"
        arrays[key] = torch.zeros(13, 13, dtype=torch.long)
    arrays["mask_token"] = torch.zeros(1, 1, 64)
    arrays["lm_head.weight"] = torch.zeros(50, 64)
    torch.save(arrays, tmp_path / "model.pth")
    model, notes = opened(
        tmp_path / "model.pth",
        num_heads=4,
        file_grid=(4, 3),
        preprocessing="inception",
    )
    assert "'lm_head'" in notes
    assert_agrees(model, module, photographs, "inception")


def test_what_no_layer_computes_is_refused(rng, tmp_path):
    small(
        "vit_relpos_small_patch16_224", rng, tmp_path, rel_pos_type="mlp-swin"
    )
    with pytest.raises(keras_vit.CheckpointError, match="sigmoid"):
        opened(tmp_path)
    both = {"use_rel_pos_bias": True, "use_shared_rel_pos_bias": True}
    small("beit_base_patch16_224", rng, tmp_path, **both)
    with pytest.raises(keras_vit.CheckpointError, match="adds up"):
        opened(tmp_path)


TRANSFORMERS = {
    "BEiT": ("BeitModel", {"use_relative_position_bias": True}),
    "BEiT, one table": (
        "BeitForImageClassification",
        {"use_shared_relative_position_bias": True, "num_labels": 7},
    ),
    "BEiT, class token": (
        "BeitModel",
        {
            "use_relative_position_bias": True,
            "use_absolute_position_embeddings": True,
            "use_mean_pooling": False,
        },
    ),
    "Data2Vec": ("Data2VecVisionModel", {"use_relative_position_bias": True}),
}


@pytest.mark.parametrize("kind", TRANSFORMERS)
def test_transformers(kind, rng, tmp_path):
    transformers = import_oracle("transformers")
    name, own = TRANSFORMERS[kind]
    cls = getattr(transformers, name)
    arguments = {
        "hidden_size": 60, "num_hidden_layers": 2, "num_attention_heads": 3,
        "intermediate_size": 96, "image_size": 64, "patch_size": 16, **own,
    }  # fmt: skip
    module = cls(cls.config_class(**arguments))
    randomize(module, rng)
    module.save_pretrained(tmp_path)

    def value(pixels, **options):
        found = module(pixels, **options)
        if "logits" in found:
            return found.logits
        if found.pooler_output is not None:
            return found.pooler_output
        return found.last_hidden_state[:, 1:].mean(1)

    model, notes = opened(tmp_path, preprocessing="inception")
    assert ("has a copy" in notes) == ("one" in kind)
    images = rng.integers(0, 256, (2, 64, 64, 3)).astype("uint8")
    assert_agrees(model, value, images, "inception")
    if "class token" in kind:
        return  # which transformers resamples in a way of its own
    model, _ = opened(tmp_path, preprocessing="inception", image_size=(96, 80))
    images = rng.integers(0, 256, (2, 96, 80, 3)).astype("uint8")
    assert_agrees(model, value, images, "inception")
