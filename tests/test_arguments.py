"""Bad arguments and shapes of layers: refused by name, with the value."""

import keras
import numpy as np
import pytest

from keras_vit import layers

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
