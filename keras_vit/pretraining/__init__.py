"""Learning from images alone, or from a teacher.

`corruption` and `targets` are the layers; `masked_patches` is section 4.6 of
the paper, `masked_autoencoder` hides three quarters of the patches,
`distillation` adds DeiT's token. Their settings are in `keras_vit.recipes`.
"""

from keras_vit.pretraining.corruption import (
    MaskToken,
    PatchCorruption,
    PatchMasking,
    SelectTokens,
)
from keras_vit.pretraining.distillation import (
    DistilledLogits,
    distillation_model,
)
from keras_vit.pretraining.masked_autoencoder import masked_autoencoder
from keras_vit.pretraining.masked_patches import masked_patch_model
from keras_vit.pretraining.targets import PatchTargets

__all__ = [
    "DistilledLogits",
    "MaskToken",
    "PatchCorruption",
    "PatchMasking",
    "PatchTargets",
    "SelectTokens",
    "distillation_model",
    "masked_autoencoder",
    "masked_patch_model",
]
