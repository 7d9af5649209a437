"""Functions that return functional Keras models.

Start with `vit`, which reads as figure 1 of the paper from bottom to top.
`resnet` is the paper's baseline and the trunk of its hybrids; `features`,
`segmentation`, `pyramid` and `class_names` build on a model; `ends` is what all
models share.
`tests/models/test_equations.py` holds them to the equations.
"""

from keras_vit.models.class_names import name_classes
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
    "name_classes",
    "segmentation_model",
]
