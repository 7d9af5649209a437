"""Optimizers, schedules, losses and metrics: what recipes are made of.

Training itself is `model.compile` and `model.fit`. `keras_vit.recipes` has the
papers' settings, `keras_vit.distribution` several devices.
"""

from keras_vit.training.losses import (
    DistillationLoss,
    SparseCategoricalCrossentropy,
)
from keras_vit.training.optimizers import SGD, AdamW
from keras_vit.training.real import RealAccuracy, real_labels
from keras_vit.training.schedules import WarmupDecay

__all__ = [
    "AdamW",
    "DistillationLoss",
    "RealAccuracy",
    "SGD",
    "SparseCategoricalCrossentropy",
    "WarmupDecay",
    "real_labels",
]
