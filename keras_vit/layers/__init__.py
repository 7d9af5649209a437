"""The layers a Vision Transformer is made of, one idea a file.

Read them in the order of the paper's figure 1: `patches`, `patch_encoder` with
`position`, `transformer_block` with `attention`, `mlp` and `layer_norm`,
`pooling`. The other attentions change one step of `attention`. The arithmetic
of the layers is in `keras_vit.ops`. Every layer keeps the contract of
`tests/layers/test_contract.py`: add a row to `tests/layers/cases.py`.
"""

from keras_vit.layers.attention import SelfAttention
from keras_vit.layers.axial_block import AxialBlock
from keras_vit.layers.class_names import ClassNames
from keras_vit.layers.group_norm import GroupNorm
from keras_vit.layers.layer_norm import LayerNorm
from keras_vit.layers.logit_scale import LogitScale
from keras_vit.layers.mlp import MLP
from keras_vit.layers.patch_encoder import PatchEncoder
from keras_vit.layers.patches import Patches
from keras_vit.layers.pixel_normalization import PixelNormalization
from keras_vit.layers.pooling import (
    AttentionPooling,
    AveragePooling,
    TokenPooling,
)
from keras_vit.layers.position import PositionEmbedding
from keras_vit.layers.regularization import LayerScale, StochasticDepth
from keras_vit.layers.relative_attention import RelativeAttention
from keras_vit.layers.relative_bias_attention import RelativeBiasAttention
from keras_vit.layers.relative_mlp_attention import RelativeMLPAttention
from keras_vit.layers.residual_unit import ResidualUnit
from keras_vit.layers.rms_norm import RMSNorm
from keras_vit.layers.rotary_attention import RotaryAttention
from keras_vit.layers.sparse_attention import SparseAttention
from keras_vit.layers.standardized_conv import StandardizedConv2D
from keras_vit.layers.token_grid import CropToImage, TokenGrid
from keras_vit.layers.transformer_block import TransformerBlock
from keras_vit.layers.window_attention import WindowAttention

__all__ = [
    "AttentionPooling",
    "AveragePooling",
    "AxialBlock",
    "ClassNames",
    "CropToImage",
    "GroupNorm",
    "LayerNorm",
    "LayerScale",
    "LogitScale",
    "MLP",
    "PatchEncoder",
    "Patches",
    "PixelNormalization",
    "PositionEmbedding",
    "RMSNorm",
    "RelativeAttention",
    "RelativeBiasAttention",
    "RelativeMLPAttention",
    "ResidualUnit",
    "RotaryAttention",
    "SelfAttention",
    "SparseAttention",
    "StandardizedConv2D",
    "StochasticDepth",
    "TokenGrid",
    "TokenPooling",
    "TransformerBlock",
    "WindowAttention",
]
