"""Images and labels on their way to a model, and their checks.

`small_sets` loads small real sets by name, `images` reads an image as a model
takes it, `image_folder` reads files,
`array_dataset` makes batches whose order depends on seed and epoch alone,
`augmentation` and `crop_and_flip` change batches, `checks` refuses wrong ones,
`image_check` looks at all before a long run.
Nothing here needs TensorFlow.
"""

from keras_vit.data.array_dataset import ArrayDataset
from keras_vit.data.augmentation import (
    AUGMENTATION_LEVELS,
    augmentation,
)
from keras_vit.data.checks import check_labels
from keras_vit.data.crop_and_flip import CropAndFlip
from keras_vit.data.image_check import ImageCheck, ImageProblem, check_images
from keras_vit.data.image_folder import ImageFolder
from keras_vit.data.images import load_image, load_images
from keras_vit.data.small_sets import class_names, load

__all__ = [
    "AUGMENTATION_LEVELS",
    "ArrayDataset",
    "CropAndFlip",
    "ImageCheck",
    "ImageFolder",
    "ImageProblem",
    "augmentation",
    "check_images",
    "check_labels",
    "class_names",
    "load",
    "load_image",
    "load_images",
]
