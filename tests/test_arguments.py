"""Bad arguments and shapes: refused by name, with the value."""

import os

import keras
import numpy as np
import pytest

import keras_vit
from keras_vit import layers
from keras_vit.transfer_learning import few_shot, nearest_neighbors

BAD_ARGUMENTS = [
    (layers.Patches, {"patch_size": 0}, "patch_size=0"),
    (layers.Patches, {"patch_size": (4, -1)}, "patch_size=-1"),
    (layers.Patches, {"patch_size": 2.5}, "patch_size=2.5"),
    (layers.Patches, {"patch_size": 2, "remainder": "drop"}, "'drop'"),
    (layers.Patches, {"patch_size": 2, "data_format": "nchw"}, "'nchw'"),
    (layers.PatchEncoder, {"hidden_dim": 0}, "hidden_dim=0"),
    (layers.PatchEncoder, {"hidden_dim": 8, "position": "1d"}, "'1d'"),
    (layers.PatchEncoder, {"hidden_dim": 8, "dropout": 1.0}, "dropout=1.0"),
    (layers.PatchEncoder, {"hidden_dim": 8, "num_registers": -1}, "-1"),
    (layers.PatchEncoder, {"hidden_dim": 8, "epsilon": 0}, "epsilon=0"),
    (layers.PositionEmbedding, {"kind": "x", "grid_size": 2}, "kind='x'"),
    (layers.SelfAttention, {"num_heads": -2}, "num_heads=-2"),
    (layers.SelfAttention, {"num_heads": 2, "head_dim": 0}, "head_dim=0"),
    (layers.SelfAttention, {"num_heads": 2, "dropout": -0.1}, "dropout=-0.1"),
    (
        layers.WindowAttention,
        {"num_heads": 2, "window_size": None, "grid_size": 4},
        "window_size=None",
    ),
    (
        layers.WindowAttention,
        {"num_heads": 2, "window_size": (2, 0), "grid_size": 4},
        "window_size=0",
    ),
    (
        layers.WindowAttention,
        {"num_heads": 2, "window_size": 3, "grid_size": 4},
        "window_size=3, grid_size=(4, 4)",
    ),
    (layers.SparseAttention, {"num_heads": 2, "k": 0}, "k=0"),
    (layers.RelativeAttention, {"num_heads": 0}, "num_heads=0"),
    (
        layers.RelativeBiasAttention,
        {"num_heads": 2, "grid_size": 2, "num_prefix_tokens": -1},
        "num_prefix_tokens=-1",
    ),
    (
        layers.RelativeMLPAttention,
        {"num_heads": 2, "grid_size": 2, "bias_dim": 0},
        "bias_dim=0",
    ),
    (
        layers.RotaryAttention,
        {"num_heads": 2, "grid_size": 2, "base": 0},
        "base=0",
    ),
    (
        layers.RotaryAttention,
        {"num_heads": 2, "grid_size": 2, "num_prefix_tokens": -1},
        "num_prefix_tokens=-1",
    ),
    (
        layers.AxialBlock,
        {"num_heads": 2, "mlp_dim": 0, "grid_size": 2},
        "mlp_dim=0",
    ),
    (
        layers.AxialBlock,
        {"num_heads": 2, "mlp_dim": 4, "grid_size": (2, 2, 2)},
        "grid_size=(2, 2, 2)",
    ),
    (layers.MLP, {"mlp_dim": True}, "mlp_dim=True"),
    (layers.MLP, {"mlp_dim": 4, "activation": "rely"}, "'rely'"),
    (layers.TransformerBlock, {"num_heads": 2}, "mlp_dim=None"),
    (layers.TransformerBlock, {"mlp_dim": 4}, "num_heads=None"),
    (
        layers.TransformerBlock,
        {"num_heads": 2, "mlp_dim": 4, "activation": "tanks"},
        "'tanks'",
    ),
    (
        layers.TransformerBlock,
        {"num_heads": 2, "mlp_dim": 4, "stochastic_depth": 1},
        "stochastic_depth=1",
    ),
    (layers.StochasticDepth, {"rate": float("nan")}, "rate=nan"),
    (layers.LayerScale, {"initial_value": "small"}, "'small'"),
    (layers.LayerNorm, {"epsilon": -1}, "epsilon=-1"),
    (layers.TokenPooling, {"index": -1}, "index=-1"),
    (layers.AveragePooling, {"num_prefix_tokens": 1.5}, "1.5"),
]


@pytest.mark.parametrize("layer, arguments, received", BAD_ARGUMENTS)
def test_bad_arguments_are_refused_by_name(layer, arguments, received):
    with pytest.raises(ValueError, match="Received: ") as error:
        layer(**arguments)
    assert received in str(error.value)


def test_shapes_that_do_not_fit_are_refused_when_built():
    tokens = np.zeros((1, 3, 10), "float32")
    with pytest.raises(ValueError, match="num_heads=4, hidden_dim=10"):
        layers.SelfAttention(4)(tokens)
    with pytest.raises(ValueError, match="multiple of 4 .*hidden_dim=10"):
        layers.PatchEncoder(10, position="sincos_2d")(
            np.zeros((1, 2, 2, 3), "float32")
        )
    with pytest.raises(ValueError, match="less than the number of tokens, 3"):
        layers.TokenPooling(3)(tokens)
    with pytest.raises(ValueError, match="`grid_size` must be given"):
        layers.PatchEncoder(8)(keras.KerasTensor((None, None, None, 3)))


@pytest.mark.parametrize("x", [None, [], (), {}, "images", 3, [None], ("a", 2)])
@pytest.mark.parametrize("run", [keras_vit.predict, keras_vit.evaluate])
def test_nothing_to_run_on(run, x, tiny_vit):
    with pytest.raises(ValueError, match="`x` must be an array of images"):
        run(tiny_vit(), x)


@pytest.mark.parametrize(
    "name", ["B/1\u0666", "B/", "B/-1", "B/1 ", "B/" + "1" * 5000, "B/16/"]
)
def test_edges_of_patches_are_ascii_digits(name):
    with pytest.raises(ValueError, match="`variant` must be"):
        keras_vit.variants.parse_variant(name)


@pytest.mark.parametrize("probe", [few_shot, nearest_neighbors])
@pytest.mark.parametrize(
    "num_classes, received",
    [
        (2**31, "none of class 2 .2147483646 of 2147483648 classes"),
        (0, "num_classes=0"),
        ("2", "num_classes='2'"),
    ],
)
def test_classes_without_images(probe, num_classes, received):
    """Whose count alone took 17 GB."""
    data = np.eye(4), np.arange(4) % 2
    with pytest.raises(ValueError, match=received):
        probe(None, data, data, num_classes=num_classes)


def test_a_label_that_no_classes_are_counted_for():
    data = np.eye(4), np.array([0, 1, 0, 2**40])
    with pytest.raises(ValueError, match="image of each class"):
        nearest_neighbors(None, data, data)


@pytest.mark.parametrize(
    "arguments",
    [
        {"file_grid": 5},
        {"file_grid": (2, 3, 4)},
        {"file_grid": ("a", "b")},
        {"file_grid": (0, 4)},
        {"num_heads": "2"},
        {"num_heads": 0},
        {"epsilon": -1.0},
        {"image_size": (8,)},
        {"num_classes": -1},
    ],
    ids=str,
)
def test_arguments_of_from_checkpoint(arguments, tiny_vit, tmp_path):
    model = tiny_vit()
    path = keras_vit.export_checkpoint(model, tmp_path / "a.npz")
    (name,) = arguments
    with pytest.raises(ValueError, match=f"`{name}` must .*Received: {name}="):
        keras_vit.from_checkpoint(path, **arguments)
    if name == "file_grid":
        with pytest.raises(ValueError, match="`file_grid` must be"):
            keras_vit.load_checkpoint(model, path, **arguments)


def test_sources_that_are_no_files(tmp_path):
    pipe, empty = tmp_path / "pipe", tmp_path / "empty"
    empty.mkdir()
    with pytest.raises(FileNotFoundError, match="folder holds none of.*empty"):
        keras_vit.from_checkpoint(empty)
    if not hasattr(os, "mkfifo"):
        return
    os.mkfifo(pipe)
    for source in (pipe, os.devnull):
        with pytest.raises(ValueError, match="no regular file. Received: sou"):
            keras_vit.from_checkpoint(source)
