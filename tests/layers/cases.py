"""Every public layer once, with every argument off its default.

So that an argument that `get_config` forgets, or a derived value that it
stores, shows. `test_contract` holds each case to the contract.
"""

import dataclasses

import pytest

from keras_vit import layers, pretraining

GRID = (3, 2, 5)  # rows, columns, patch_dim: a rectangle
TOKENS = (7, 8)  # tokens, hidden_dim


@dataclasses.dataclass(frozen=True)
class Case:
    layer: type
    arguments: dict
    inputs: tuple  # without the batch
    outputs: tuple
    weights: int  # numbers, worked out by hand in the comment beside it
    # Weights that a gradient cannot move, by the end of their path.
    fixed: tuple = ()

    def make(self, **more):
        # Sub-layers are given afresh: a layer instance belongs to one parent.
        arguments = {
            name: value(more.get("dtype")) if callable(value) else value
            for name, value in self.arguments.items()
        }
        return self.layer(**arguments, **more)

    def __str__(self):
        return self.layer.__name__


# What is added to every key alike adds the same to all scores of a row, and
# softmax drops it: its gradient is zero by mathematics.
KEY_BIAS = ("attention/key/bias", "key_norm/beta")

ATTENTION_OPTIONS = {
    "num_heads": 2,
    "head_dim": 3,
    "use_bias": False,
    "use_key_bias": False,
    "use_output_bias": False,
    "qk_norm": True,
    "output_norm": True,
    "num_kv_heads": 1,
    "norm": "rms",
    "dropout": 0.1,
    "epsilon": 1e-5,
    "seed": 1,
}

# Queries and output, one head of keys and values, norms of queries, keys and
# joined heads: widths 8 and 2 x 3.
ATTENTION_WEIGHTS = 2 * 8 * 6 + 2 * 8 * 3 + 2 * 3 + 6

CASES = [
    Case(
        layers.Patches,
        {
            "patch_size": (2, 3),
            "remainder": "pad",
            "data_format": "channels_first",
        },
        (3, 5, 9),
        (3, 3, 18),
        0,
    ),
    Case(
        layers.PositionEmbedding,
        {"kind": "learned_2d", "grid_size": (3, 2), "num_prefix_tokens": 1},
        (7, 8),
        (7, 8),
        3 * 4 + 2 * 4 + 8,  # rows, columns, prefix
    ),
    Case(
        layers.PatchEncoder,
        {
            "hidden_dim": 8,
            "position": "learned_2d",
            "cls_token": True,
            "position_of_cls_token": False,
            "num_registers": 2,
            "norm_before": True,
            "norm_after": True,
            "norm_tokens": True,
            "norm": "rms",
            "use_bias": False,
            "dropout": 0.1,
            "epsilon": 1e-5,
            "grid_size": (2, 2),
            "seed": 1,
        },
        GRID,
        (2 + 1 + 6, 8),
        # norms, projection, class token, registers, row and column tables
        5 + 8 + 8 + 5 * 8 + 8 + 2 * 8 + (2 * 4 + 2 * 4),
    ),
    Case(
        pretraining.MaskToken,
        {"hidden_dim": 8},
        TOKENS,
        (1, 8),
        8,
    ),
    Case(
        layers.GroupNorm,
        {"groups": 2, "epsilon": 1e-3, "gamma_initializer": "zeros"},
        (3, 2, 8),
        (3, 2, 8),
        2 * 8,
    ),
    Case(
        layers.LayerNorm,
        {"epsilon": 1e-3},
        TOKENS,
        TOKENS,
        2 * 8,
    ),
    Case(
        layers.RMSNorm,
        {"epsilon": 1e-3},
        TOKENS,
        TOKENS,
        8,
    ),
    Case(
        layers.SelfAttention,
        ATTENTION_OPTIONS,
        TOKENS,
        TOKENS,
        ATTENTION_WEIGHTS,
        fixed=KEY_BIAS,
    ),
    Case(
        layers.WindowAttention,
        {**ATTENTION_OPTIONS, "window_size": (None, 2), "grid_size": (3, 4)},
        (12, 8),
        (12, 8),
        ATTENTION_WEIGHTS,
        fixed=KEY_BIAS,
    ),
    Case(
        layers.SparseAttention,
        {**ATTENTION_OPTIONS, "k": 3},
        TOKENS,
        TOKENS,
        ATTENTION_WEIGHTS,
        fixed=KEY_BIAS,
    ),
    Case(
        layers.RelativeAttention,
        ATTENTION_OPTIONS,
        TOKENS,
        TOKENS,
        ATTENTION_WEIGHTS + 13 * 3,  # 13 offsets between 7 tokens
        fixed=KEY_BIAS,
    ),
    Case(
        layers.RelativeBiasAttention,
        {**ATTENTION_OPTIONS, "grid_size": (2, 3), "num_prefix_tokens": 1},
        TOKENS,
        TOKENS,
        # 3 offsets of rows, 5 of columns, 3 of the class token; 2 heads
        ATTENTION_WEIGHTS + (3 * 5 + 3) * 2,
        fixed=KEY_BIAS,
    ),
    Case(
        layers.RelativeMLPAttention,
        {
            **ATTENTION_OPTIONS,
            "grid_size": (2, 3),
            "num_prefix_tokens": 1,
            "bias_dim": 4,
        },
        TOKENS,
        TOKENS,
        # an MLP of 4 units, each of which is on at some offset
        ATTENTION_WEIGHTS + (2 * 4 + 4) + (4 * 2 + 2),
        fixed=KEY_BIAS,
    ),
    Case(
        layers.RotaryAttention,
        {
            **ATTENTION_OPTIONS,
            "head_dim": 4,
            "grid_size": (2, 3),
            "num_prefix_tokens": 1,
            "base": 50.0,
            "pairing": "half",
            "coordinates": "normalized",
            "indexing": "xy",
            "grid_offset": 0.25,
        },
        TOKENS,
        TOKENS,
        # No key bias is fixed here: turned, it differs from key to key.
        2 * 8 * 8 + 2 * 8 * 4 + 2 * 4 + 8,
    ),
    Case(
        layers.RotaryAttention,
        {
            "num_heads": 2,
            "grid_size": (2, 3),
            "num_prefix_tokens": 1,
            "pairing": "interleaved",
            "reference_grid": (4, 4),
            "mixed": True,
            "prefix_angles": True,
            "seed": 1,
        },
        TOKENS,
        TOKENS,
        # frequencies of 2 pairs in 2 heads, angles of 2 pairs
        4 * (8 * 8 + 8) + 2 * 2 * 2 + 2,
    ),
    Case(
        layers.MLP,
        {
            "mlp_dim": 6,
            "activation": "quick_gelu",
            "gated": True,
            "use_bias": False,
            "norm": "layer",
            "dropout": 0.1,
            "epsilon": 1e-5,
            "seed": 1,
        },
        TOKENS,
        TOKENS,
        2 * 8 * 6 + 2 * 6 + 6 * 8,
    ),
    Case(
        layers.StochasticDepth,
        {"rate": 0.1, "seed": 1},
        TOKENS,
        TOKENS,
        0,
    ),
    Case(
        layers.LayerScale,
        {"initial_value": 0.5},
        TOKENS,
        TOKENS,
        8,
    ),
    Case(
        layers.TransformerBlock,
        {
            "num_heads": 2,
            "mlp_dim": 6,
            "activation": "gelu",
            "dropout": 0.1,
            "stochastic_depth": 0.1,
            "layer_scale": 0.5,
            "norm": "rms",
            "norm_after": True,
            "epsilon": 1e-5,
            "seed": 1,
        },
        TOKENS,
        TOKENS,
        # norms, attention, MLP, layer scales
        2 * 8 + 4 * (8 * 8 + 8) + (8 * 6 + 6) + (6 * 8 + 8) + 2 * 8,
        fixed=KEY_BIAS,
    ),
    Case(
        layers.TransformerBlock,
        {
            "attention": lambda dtype: layers.SelfAttention(
                2, qk_norm=True, dtype=dtype
            ),
            "mlp": lambda dtype: layers.MLP(
                6, activation="swiglu", dtype=dtype
            ),
        },
        TOKENS,
        TOKENS,
        4 * 8 + 4 * (8 * 8 + 8) + 4 * 4 + 2 * (8 * 6 + 6) + (6 * 8 + 8),
        fixed=KEY_BIAS,
    ),
    Case(
        layers.AxialBlock,
        {
            "num_heads": 2,
            "mlp_dim": 6,
            "grid_size": (2, 3),
            "activation": "gelu",
            "dropout": 0.1,
            "stochastic_depth": 0.1,
            "layer_scale": 0.5,
            "epsilon": 1e-5,
            "seed": 1,
        },
        (6, 8),
        (6, 8),
        # two transformer blocks
        2 * (4 * 8 + 4 * (8 * 8 + 8) + (8 * 6 + 6) + (6 * 8 + 8) + 2 * 8),
        fixed=KEY_BIAS,
    ),
    Case(
        layers.TokenPooling,
        {"index": 2},
        TOKENS,
        (8,),
        0,
    ),
    Case(
        layers.AveragePooling,
        {"num_prefix_tokens": 2},
        TOKENS,
        (8,),
        0,
    ),
    Case(
        layers.AttentionPooling,
        {"num_heads": 2, "mlp_dim": 6, "activation": "gelu", "epsilon": 1e-5},
        TOKENS,
        (8,),
        8 + 4 * (8 * 8 + 8) + 2 * 8 + (8 * 6 + 6) + (6 * 8 + 8),
        fixed=KEY_BIAS,
    ),
    Case(
        layers.StandardizedConv2D,
        {
            "filters": 4,
            "kernel_size": (3, 5),
            "strides": (2, 1),
            "padding": "symmetric",
            "epsilon": 1e-4,
            "epsilon_in": "variance",
        },
        (5, 6, 3),
        (3, 6, 4),
        3 * 5 * 3 * 4,
    ),
    Case(
        layers.PixelNormalization,
        {
            "mean": (0.5, 0.4, 0.3),
            "std": (0.2, 0.3, 0.4),
            "crop_fraction": 0.9,
            "interpolation": "bicubic",
            "resize": "squash",
            "crop_rounding": "down",
            "image_size": (6, 8),
            "data_format": "channels_first",
        },
        (3, 4, 5),
        (3, 4, 5),
        0,
    ),
    Case(
        layers.ClassNames,
        {"class_names": tuple("abcdefgh")},
        TOKENS,
        TOKENS,
        0,
    ),
    Case(layers.LogitScale, {"scale": 100.0, "bias": -10.0}, TOKENS, TOKENS, 0),
    Case(
        layers.ResidualUnit,
        {
            "filters": 32,
            "strides": (2, 1),
            "preactivation": True,
            "epsilon": 1e-4,
            "kernel_epsilon": 1e-6,
            "kernel_epsilon_in": "deviation",
        },
        (3, 4, 32),
        (2, 4, 128),
        # convolutions, the one around them, norms
        32 * 32 + 9 * 32 * 32 + 32 * 128 + 32 * 128 + 3 * 2 * 32,
    ),
    Case(
        layers.ResidualUnit,
        {"filters": 32, "strides": 2},
        (4, 4, 64),
        (2, 2, 128),
        64 * 32 + 9 * 32 * 32 + 32 * 128 + 64 * 128 + 2 * (2 * 32 + 2 * 128),
    ),
]
all_layers = pytest.mark.parametrize("case", CASES, ids=str)
