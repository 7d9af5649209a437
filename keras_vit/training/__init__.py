"""Training: schedules, optimizers, recipes, fine-tuning, data, devices.

Training itself is `model.compile` and `model.fit`; what stands here are the
arguments for them.
"""

from keras_vit.training import distribution, recipes
from keras_vit.training.array_dataset import ArrayDataset
from keras_vit.training.augmentation import augmentation
from keras_vit.training.crop_and_flip import CropAndFlip
from keras_vit.training.finetuning import freeze, layer_wise_learning_rates
from keras_vit.training.grid_search import GridSearch, grid_search
from keras_vit.training.lora import enable_lora
from keras_vit.training.optimizers import SGD, AdamW
from keras_vit.training.schedules import WarmupDecay
from keras_vit.training.transfer import transfer

__all__ = [
    "AdamW",
    "ArrayDataset",
    "CropAndFlip",
    "GridSearch",
    "SGD",
    "WarmupDecay",
    "augmentation",
    "distribution",
    "enable_lora",
    "freeze",
    "grid_search",
    "layer_wise_learning_rates",
    "recipes",
    "transfer",
]
