"""`load_checkpoint`: every dialect, the whole check, what is asked and said."""

import keras
import numpy as np
import pytest
from dialects import (
    assert_equal_weights,
    big_vision,
    linen,
    official,
    renamed,
    save,
)
from helpers import to_numpy

import keras_vit
from keras_vit.checkpoints import files
from keras_vit.layers import TransformerBlock


def stacked(arrays):
    """Blocks in one array with a leading axis, as `nn.scan` has them."""
    pattern = "Transformer/encoderblock_0/"
    scanned = {}
    for key, array in arrays.items():
        if key.startswith(pattern):
            depth = [
                arrays[key.replace(pattern, f"Transformer/encoderblock_{i}/")]
                for i in range(2)
            ]
            scanned[key.replace(pattern, "Transformer/encoderblock/")] = (
                np.stack(depth)
            )
        elif "encoderblock_" not in key:
            scanned[key] = array
    return scanned


def prefixed(prefix, **others):
    def add(arrays):
        arrays = {f"{prefix}{key}": x for key, x in arrays.items()}
        return {**arrays, **others}

    return add


TEXT_TOWER = {"params/txt/head/kernel": np.ones((3, 3)), "params/t": np.ones(1)}


OPTIMIZER = {"opt/state/step": np.ones(1), "extra/rngs": np.ones(2)}


DIALECTS = {
    "pre-Linen": lambda arrays: arrays,
    "Linen": linen,
    "big_vision": lambda arrays: prefixed("params/")(big_vision(arrays)),
    "big_vision, old positions": lambda arrays: renamed(
        linen(arrays), ("Transformer/posembed_input/", "Transformer/")
    ),
    "two towers": lambda arrays: prefixed("params/img/", **TEXT_TOWER)(
        big_vision(arrays)
    ),
    "training state": lambda arrays: prefixed("opt/target/", **OPTIMIZER)(
        arrays
    ),
    "scan": lambda arrays: stacked(linen(arrays)),
    "scan in two towers": lambda arrays: prefixed("params/img/", **TEXT_TOWER)(
        stacked(big_vision(arrays))
    ),
}


@pytest.mark.parametrize("dialect", DIALECTS)
def test_dialects_of_flax(dialect, tiny_vit, rng, tmp_path):
    source = tiny_vit(representation_dim=9)
    arrays = DIALECTS[dialect](official(source, tmp_path))
    model = tiny_vit(representation_dim=9)
    images = rng.uniform(0, 255, (2, 8, 12, 3))
    expected = source.predict(images, verbose=0)
    assert not np.allclose(model.predict(images, verbose=0), expected, 0.1)
    keras_vit.load_checkpoint(model, save(arrays, tmp_path))
    given = model.predict(images, verbose=0)
    np.testing.assert_allclose(given, expected, atol=1e-5)


@pytest.mark.parametrize("inlined", [False, True])
def test_attention_pooling_of_big_vision(inlined, tiny_vit, tmp_path):
    source, model = (tiny_vit(pooling="attention") for _ in range(2))
    path = keras_vit.export_checkpoint(
        source, tmp_path / "map.npz", format="big_vision"
    )
    arrays = dict(np.load(path))
    assert arrays["MAPHead_0/probe"].shape == (1, 1, 16)
    if inlined:  # as ViT-G had it while it was made
        arrays = renamed(arrays, ("MAPHead_0/", ""))
    keras_vit.load_checkpoint(model, save(arrays, tmp_path))
    assert_equal_weights(model, source)


@pytest.mark.parametrize("kind", ["float16", "bfloat16", "float64"])
@pytest.mark.parametrize("suffix", ["npz", "safetensors"])
def test_other_floats_are_converted(kind, suffix, tiny_vit, tmp_path):
    import ml_dtypes
    from safetensors.numpy import save_file

    source, model = tiny_vit(), tiny_vit()
    dtype = ml_dtypes.bfloat16 if kind == "bfloat16" else kind
    arrays = {
        key: array.astype(dtype)
        for key, array in official(source, tmp_path).items()
    }
    path = tmp_path / f"file.{suffix}"
    if suffix == "npz":
        np.savez(path, **arrays)  # bfloat16 becomes two opaque bytes
    else:
        save_file(arrays, path)
    keras_vit.load_checkpoint(model, path)
    for weight, expected in zip(model.weights, source.weights):
        rounded = to_numpy(expected).astype(dtype).astype("float32")
        np.testing.assert_array_equal(to_numpy(weight), rounded)


def test_every_complaint_comes_at_once_and_nothing_is_written(
    tiny_vit, tmp_path
):
    """Faults cases 10 to 12."""
    model = tiny_vit()
    arrays = official(tiny_vit(), tmp_path)
    del arrays["Transformer/encoder_norm/scale"]
    arrays["surprise/kernel"] = np.ones(3, "float32")
    arrays["embedding/bias"] = np.ones(17, "float32")
    before = [to_numpy(weight).copy() for weight in model.weights]
    with pytest.raises(keras_vit.CheckpointError) as error:
        keras_vit.load_checkpoint(model, save(arrays, tmp_path))
    message = str(error.value)
    assert "missing in the file (1):\n  encoder_norm/gamma" in message
    assert "without a place in the model (1):\n  surprise/kernel" in message
    assert (
        "embedding/bias: expected (16,) for patch_encoder/projection/bias, "
        "the file has (17,)" in message
    )
    for weight, value in zip(model.weights, before):
        np.testing.assert_array_equal(to_numpy(weight), value)


def test_long_lists_are_counted(tiny_vit, tmp_path):
    arrays = official(tiny_vit(), tmp_path)
    for index in range(14):
        arrays[f"surprise_{index}"] = np.ones(1, "float32")
    with pytest.raises(ValueError, match=r"\(14\):") as error:
        keras_vit.load_checkpoint(tiny_vit(), save(arrays, tmp_path))
    assert "... and 4 more" in str(error.value)
    assert str(error.value).count("surprise_") == 10


def test_a_bad_value_found_late_leaves_the_model_as_it_was(tiny_vit, tmp_path):
    model = tiny_vit()
    arrays = official(tiny_vit(), tmp_path)
    arrays["head/kernel"][1, 2] = np.nan
    before = [to_numpy(weight).copy() for weight in model.weights]
    with pytest.raises(keras_vit.CheckpointError, match="NaN at 'head/kernel'"):
        keras_vit.load_checkpoint(model, save(arrays, tmp_path))
    for weight, value in zip(model.weights, before):
        np.testing.assert_array_equal(to_numpy(weight), value)


def test_a_deeper_or_shallower_model_is_refused(tiny_vit, tmp_path):
    source = tiny_vit()
    path = save(official(source, tmp_path), tmp_path)
    for depth, message in [(1, "without a place"), (3, "missing in the file")]:
        variant = keras_vit.Variant(depth, 16, 32, 4, patch_size=4)
        model = keras_vit.ViT(variant, image_size=(8, 12), num_classes=5)
        with pytest.raises(ValueError, match=message):
            keras_vit.load_checkpoint(model, path)


def test_a_head_for_other_classes_is_replaced_by_zeros(tiny_vit, tmp_path):
    """Faults case 13: never in silence, unless asked."""
    source = tiny_vit(num_classes=7)
    path = save(official(source, tmp_path), tmp_path)
    model = tiny_vit()
    with pytest.warns(UserWarning, match="one for 5 classes.*from zero"):
        keras_vit.load_checkpoint(model, path)
    for weight in model.get_layer("head").weights:
        assert not to_numpy(weight).any()
    block = source.get_layer("block_01").attention.key.kernel
    np.testing.assert_array_equal(
        to_numpy(model.get_layer("block_01").attention.key.kernel),
        to_numpy(block),
    )
    keras_vit.load_checkpoint(tiny_vit(), path, reset_head=True)
    with pytest.raises(ValueError, match="one for 5 classes"):
        keras_vit.load_checkpoint(tiny_vit(), path, reset_head=False)
    # A head that fits goes too, if that is what was asked for.
    same = tiny_vit(num_classes=7)
    keras_vit.load_checkpoint(same, path, reset_head=True)
    assert not to_numpy(same.get_layer("head").kernel).any()


def test_models_and_files_without_a_head(tiny_vit, tmp_path):
    with_head = save(official(tiny_vit(), tmp_path), tmp_path, "with.npz")
    backbone = tiny_vit(num_classes=None)
    without = save(official(backbone, tmp_path), tmp_path, "without.npz")
    with pytest.warns(UserWarning, match="has no head"):
        keras_vit.load_checkpoint(backbone, with_head)
    with pytest.warns(UserWarning, match="the file's head is none"):
        keras_vit.load_checkpoint(tiny_vit(), without)
    keras_vit.load_checkpoint(tiny_vit(num_classes=None), without)
    # Who builds a model without a head has asked.
    variant = keras_vit.Variant(2, 16, 32, 4, patch_size=4)
    keras_vit.ViT(
        variant, image_size=(8, 12), num_classes=None, weights=with_head
    )


def test_pre_logits_are_dropped_only_when_asked(tiny_vit, tmp_path):
    path = save(official(tiny_vit(representation_dim=16), tmp_path), tmp_path)
    with pytest.raises(ValueError, match="drop_pre_logits=True") as error:
        keras_vit.load_checkpoint(tiny_vit(), path)
    assert "representation_dim=16" in str(error.value)
    keras_vit.load_checkpoint(tiny_vit(), path, drop_pre_logits=True)
    bare = save(official(tiny_vit(), tmp_path), tmp_path, "bare.npz")
    with pytest.raises(ValueError, match="missing .*\n  pre_logits/bias"):
        keras_vit.load_checkpoint(tiny_vit(representation_dim=16), bare)


def test_other_arithmetic_is_refused_with_the_argument_to_pass(
    tiny_vit, tmp_path
):
    path = save(official(tiny_vit(), tmp_path), tmp_path)
    model = tiny_vit(activation="gelu", epsilon=1e-12)
    with pytest.raises(ValueError) as error:
        keras_vit.load_checkpoint(model, path)
    assert "`activation='gelu_tanh'`" in str(error.value)
    assert "`epsilon=1e-06`" in str(error.value)
    keras_vit.load_checkpoint(model, path, check_numerics=False)


def test_the_builder_takes_the_arithmetic_of_the_weights(tiny_vit, tmp_path):
    source = tiny_vit(activation="gelu", epsilon=1e-12)
    keras_vit.export_checkpoint(source, tmp_path / "hf", format="huggingface")
    variant = keras_vit.Variant(2, 16, 32, 4, patch_size=4)
    arguments = {"image_size": (8, 12), "num_classes": 5}
    file = tmp_path / "hf" / "model.safetensors"
    model = keras_vit.ViT(variant, weights=file, **arguments)
    block = model.get_layer("block_00")
    assert (block.mlp.activation, block.epsilon) == ("gelu", 1e-12)
    assert_equal_weights(model, source)
    with pytest.raises(ValueError, match="activation='gelu'"):
        keras_vit.ViT(
            variant, weights=file, activation="gelu_tanh", **arguments
        )


def test_a_config_beside_an_npz_is_not_its_own(tiny_vit, tmp_path):
    """Official files come alone: the folder may hold another library's."""
    source = tiny_vit()
    keras_vit.export_checkpoint(
        tiny_vit(activation="gelu", epsilon=1e-12),
        tmp_path,
        format="huggingface",
    )
    path = save(official(source, tmp_path), tmp_path)
    model = tiny_vit()
    keras_vit.load_checkpoint(model, path)
    assert_equal_weights(model, source)


def test_a_model_around_the_same_layers_loads_too(tiny_vit, tmp_path, rng):
    """Weight paths do not know whether the backbone is nested."""
    source = tiny_vit(num_classes=None)
    path = save(official(source, tmp_path), tmp_path)
    backbone = tiny_vit(num_classes=None)
    images = keras.Input((8, 12, 3))
    outputs = keras.layers.Dense(3, name="head")(backbone(images))
    model = keras.Model(images, outputs)
    keras_vit.load_checkpoint(model, path, reset_head=True)
    assert_equal_weights(backbone, source)


def test_unknown_names_are_refused(tiny_vit, tmp_path):
    path = save({"conv1/kernel": np.ones((3, 3), "float32")}, tmp_path)
    with pytest.raises(ValueError, match="conv1/kernel") as error:
        keras_vit.load_checkpoint(tiny_vit(), path)
    assert "official, big_vision" in str(error.value)


def test_the_format_is_told_by_the_names_of_arrays_not_of_files(
    tiny_vit, tmp_path
):
    source, model = tiny_vit(), tiny_vit()
    path = save(official(source, tmp_path), tmp_path)
    odd = path.rename(tmp_path / "weights.safetensors")
    keras_vit.load_checkpoint(model, odd)
    assert_equal_weights(model, source)


def test_weights_in_half_precision_models(tmp_path, tiny_vit):
    source = tiny_vit()
    path = save(official(source, tmp_path), tmp_path)
    model = tiny_vit(dtype="mixed_bfloat16")
    keras_vit.load_checkpoint(model, path)
    assert_equal_weights(model, source)


def test_a_preset_names_file_size_and_arithmetic(
    tiny_vit, tmp_path, monkeypatch
):
    """With a stand-in for the download: Ti/16 at 384 pixels."""
    source = keras_vit.ViT("Ti/16", image_size=384)
    path = keras_vit.export_checkpoint(source, tmp_path / "ti.npz")
    asked = []

    def fetch(source, sha256=None):
        asked.append(source)
        return path

    monkeypatch.setattr("keras_vit.checkpoints.load.fetch", fetch)
    keras_vit.ViT("Ti/16", image_size=384, weights="augreg_i1k")
    model = keras_vit.ViT("Ti/16", image_size=384)
    keras_vit.load_checkpoint(model, "augreg_i1k:Ti/16")
    assert len(set(asked)) == 1 and "Ti_16-i21k" in asked[0]
    assert_equal_weights(model, source)
    # Going down costs accuracy, which the paper never does in silence.
    with pytest.warns(UserWarning, match="image_size=.384, 384."):
        keras_vit.ViT("Ti/16", image_size=224, weights="augreg_i1k")
    with pytest.raises(ValueError, match="augreg_i1k:Ti/16"):
        keras_vit.ViT("H/14", weights="augreg_i1k")


def test_reading_needs_no_more_than_one_array_at_a_time(tiny_vit, tmp_path):
    """The arrays are read in the second pass, after all have been checked."""
    path = save(official(tiny_vit(), tmp_path), tmp_path)
    order = []

    class Watched(files.NpzFile):
        def check(self, key):
            order.append("check")
            super().check(key)

        def read(self, key):
            order.append("read")
            return super().read(key)

    plain = files.NpzFile
    files.NpzFile = Watched
    try:
        keras_vit.load_checkpoint(tiny_vit(), path)
    finally:
        files.NpzFile = plain
    tokens = 4  # class token and positions, which are small
    rest = order[tokens:]
    assert rest == ["check"] * (len(rest) // 2) + ["read"] * (len(rest) // 2)


@pytest.mark.parametrize(
    "key, shape",
    [
        # Another name for a block that is there, and a stack of too many.
        ("Transformer/encoderblock_00/LayerNorm_0/bias", (16,)),
        ("Transformer/encoderblock/LayerNorm_0/bias", (2, 16)),
        ("Transformer/encoderblock/LayerNorm_0/bias", ()),
    ],
)
def test_nothing_is_loaded_twice(key, shape, tiny_vit, tmp_path):
    arrays = official(tiny_vit(), tmp_path)
    arrays[key] = np.zeros(shape, "float32")
    path = save(arrays, tmp_path)
    with pytest.raises(ValueError, match=f"without a place.*\n  {key}"):
        keras_vit.load_checkpoint(tiny_vit(), path)


def test_layer_scale_has_no_place_in_a_model_without(tiny_vit, tmp_path):
    def block(index):
        return TransformerBlock(4, 32, activation="gelu", layer_scale=1.0)

    source = tiny_vit(block=block)
    keras_vit.export_checkpoint(source, tmp_path / "timm", format="timm")
    with pytest.raises(ValueError, match="blocks.0.ls1.gamma"):
        keras_vit.load_checkpoint(
            tiny_vit(activation="gelu"),
            tmp_path / "timm" / "model.safetensors",
        )
