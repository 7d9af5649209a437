"""Functions that return functional Keras models."""

from keras_vit.models.features import feature_extractor
from keras_vit.models.pyramid import feature_pyramid
from keras_vit.models.resnet import ResNet
from keras_vit.models.segmentation import feature_map, segmentation_model
from keras_vit.models.vit import ViT

__all__ = [
    "ResNet",
    "ViT",
    "feature_extractor",
    "feature_map",
    "feature_pyramid",
    "segmentation_model",
]
