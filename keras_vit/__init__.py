"""Vision Transformers for Keras 3, on TensorFlow, JAX and PyTorch."""

from keras_vit import datasets, layers
from keras_vit.evaluation import Cost, cost, exaflops
from keras_vit.inference import check_labels, evaluate, predict
from keras_vit.models import (
    ResNet,
    ViT,
    feature_extractor,
    feature_map,
    feature_pyramid,
    segmentation_model,
)
from keras_vit.training import (
    ArrayDataset,
    augmentation,
    freeze,
    layer_wise_learning_rates,
    recipes,
)
from keras_vit.variants import Variant, parse_variant
from keras_vit.weights import (
    CheckpointError,
    Preset,
    change_patch_size,
    change_resolution,
    decode_predictions,
    export_checkpoint,
    load_checkpoint,
    presets,
)

__all__ = [
    "ArrayDataset",
    "CheckpointError",
    "Cost",
    "Preset",
    "ResNet",
    "Variant",
    "ViT",
    "augmentation",
    "change_patch_size",
    "change_resolution",
    "check_labels",
    "cost",
    "datasets",
    "decode_predictions",
    "evaluate",
    "exaflops",
    "export_checkpoint",
    "feature_extractor",
    "feature_map",
    "feature_pyramid",
    "freeze",
    "layer_wise_learning_rates",
    "layers",
    "load_checkpoint",
    "parse_variant",
    "predict",
    "presets",
    "recipes",
    "segmentation_model",
]

__version__ = "0.1.0"
