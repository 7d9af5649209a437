"""Real images under one call: small sets by name, and folders of files."""

from keras_vit.datasets.image_folder import ImageFolder
from keras_vit.datasets.small_sets import class_names, load

__all__ = ["ImageFolder", "class_names", "load"]
