"""The layers a Vision Transformer is made of."""

from keras_vit.layers.attention import SelfAttention
from keras_vit.layers.axial_block import AxialBlock
from keras_vit.layers.distillation import DistilledLogits
from keras_vit.layers.group_norm import GroupNorm
from keras_vit.layers.layer_norm import LayerNorm
from keras_vit.layers.mlp import MLP
from keras_vit.layers.patch_corruption import (
    MaskToken,
    PatchCorruption,
    PatchMasking,
    SelectTokens,
)
from keras_vit.layers.patch_encoder import PatchEncoder
from keras_vit.layers.patch_targets import PatchTargets
from keras_vit.layers.patches import Patches
from keras_vit.layers.pooling import (
    AttentionPooling,
    AveragePooling,
    TokenPooling,
)
from keras_vit.layers.position import PositionEmbedding
from keras_vit.layers.regularization import LayerScale, StochasticDepth
from keras_vit.layers.relative_attention import RelativeAttention
from keras_vit.layers.residual_unit import ResidualUnit
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
    "CropToImage",
    "DistilledLogits",
    "GroupNorm",
    "LayerNorm",
    "LayerScale",
    "MLP",
    "MaskToken",
    "PatchCorruption",
    "PatchEncoder",
    "PatchMasking",
    "PatchTargets",
    "Patches",
    "PositionEmbedding",
    "RelativeAttention",
    "ResidualUnit",
    "RotaryAttention",
    "SelectTokens",
    "SelfAttention",
    "SparseAttention",
    "StandardizedConv2D",
    "StochasticDepth",
    "TokenGrid",
    "TokenPooling",
    "TransformerBlock",
    "WindowAttention",
]
