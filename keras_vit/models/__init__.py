"""Functions that return functional Keras models."""

from keras_vit.models.distillation import distillation_model
from keras_vit.models.features import feature_extractor
from keras_vit.models.masked_autoencoder import masked_autoencoder
from keras_vit.models.masked_patches import masked_patch_model
from keras_vit.models.pyramid import feature_pyramid
from keras_vit.models.resnet import ResNet
from keras_vit.models.segmentation import feature_map, segmentation_model
from keras_vit.models.vit import ViT

__all__ = [
    "ResNet",
    "ViT",
    "distillation_model",
    "feature_extractor",
    "feature_map",
    "feature_pyramid",
    "masked_autoencoder",
    "masked_patch_model",
    "segmentation_model",
]
