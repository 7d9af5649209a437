"""Vision Transformers for Keras 3, on TensorFlow, JAX and PyTorch."""

from keras_vit import datasets, layers
from keras_vit.evaluation import Cost, cost
from keras_vit.inference import check_labels, evaluate, predict
from keras_vit.models import ViT, feature_extractor
from keras_vit.training import (
    ArrayDataset,
    augmentation,
    freeze,
    layer_wise_learning_rates,
    recipes,
)
from keras_vit.variants import Variant, parse_variant

__all__ = [
    "ArrayDataset",
    "Cost",
    "Variant",
    "ViT",
    "augmentation",
    "check_labels",
    "cost",
    "datasets",
    "evaluate",
    "feature_extractor",
    "freeze",
    "layer_wise_learning_rates",
    "layers",
    "parse_variant",
    "predict",
    "recipes",
]

__version__ = "0.1.0"
