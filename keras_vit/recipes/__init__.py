"""Training recipes: `model.compile(**keras_vit.recipes.adamw(steps))`.

`parts` trains from scratch. `published` has the settings of the papers, whose
numbers are in `tables` row by row. `segmentation` and `distillation` are for
those models.
"""

from keras_vit.recipes.distillation import distillation
from keras_vit.recipes.parts import adamw, total_steps
from keras_vit.recipes.published import (
    augreg,
    finetune,
    finetuning_for,
    masked_patches,
    pretrain,
)
from keras_vit.recipes.segmentation import segmentation
from keras_vit.recipes.tables import AUGREG, AUGREG_FINETUNE, FINETUNE, PRETRAIN

__all__ = [
    "AUGREG",
    "AUGREG_FINETUNE",
    "FINETUNE",
    "PRETRAIN",
    "adamw",
    "augreg",
    "distillation",
    "finetune",
    "finetuning_for",
    "masked_patches",
    "pretrain",
    "segmentation",
    "total_steps",
]
