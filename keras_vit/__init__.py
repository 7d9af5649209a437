"""Vision Transformers for Keras 3, on TensorFlow, JAX and PyTorch."""

from keras_vit import layers
from keras_vit.inference import check_labels, evaluate, predict
from keras_vit.models import ViT, feature_extractor
from keras_vit.variants import Variant, parse_variant

__all__ = [
    "Variant",
    "ViT",
    "check_labels",
    "evaluate",
    "feature_extractor",
    "layers",
    "parse_variant",
    "predict",
]

__version__ = "0.1.0"
