"""The layers a Vision Transformer is made of."""

from keras_vit.layers.attention import SelfAttention
from keras_vit.layers.layer_norm import LayerNorm
from keras_vit.layers.mlp import MLP
from keras_vit.layers.patch_encoder import PatchEncoder
from keras_vit.layers.patches import Patches
from keras_vit.layers.pooling import (
    AttentionPooling,
    AveragePooling,
    TokenPooling,
)
from keras_vit.layers.position import PositionEmbedding
from keras_vit.layers.regularization import LayerScale, StochasticDepth
from keras_vit.layers.transformer_block import TransformerBlock

__all__ = [
    "MLP",
    "AttentionPooling",
    "AveragePooling",
    "LayerNorm",
    "LayerScale",
    "PatchEncoder",
    "Patches",
    "PositionEmbedding",
    "SelfAttention",
    "StochasticDepth",
    "TokenPooling",
    "TransformerBlock",
]
