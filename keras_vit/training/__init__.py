"""Training: schedules, optimizers, recipes, fine-tuning and augmentation.

Training itself is `model.compile` and `model.fit`; what stands here are the
arguments for them.
"""

from keras_vit.training import recipes
from keras_vit.training.array_dataset import ArrayDataset
from keras_vit.training.augmentation import augmentation
from keras_vit.training.finetuning import freeze, layer_wise_learning_rates
from keras_vit.training.optimizers import SGD, AdamW
from keras_vit.training.schedules import WarmupDecay

__all__ = [
    "SGD",
    "AdamW",
    "ArrayDataset",
    "WarmupDecay",
    "augmentation",
    "freeze",
    "layer_wise_learning_rates",
    "recipes",
]
