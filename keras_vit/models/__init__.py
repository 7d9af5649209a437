"""Functions that return functional Keras models."""

from keras_vit.models.features import feature_extractor
from keras_vit.models.vit import ViT

__all__ = ["ViT", "feature_extractor"]
