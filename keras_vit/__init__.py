"""Vision Transformers for Keras 3, on TensorFlow, JAX and PyTorch.

This page has what a first week needs. Everything else is one step down, in the
room of what you are doing: `layers`, `models`, `checkpoints`, `resize`, `data`,
`training`, `recipes`, `distribution`, `pretraining`, `transfer_learning`,
`costs`, `introspection`, `plot`, `serving`, and `hub` for KerasHub.
"""

from keras_vit import (
    checkpoints,
    costs,
    data,
    distribution,
    introspection,
    layers,
    models,
    plot,
    preprocessing,
    pretraining,
    recipes,
    resize,
    serving,
    training,
    transfer_learning,
    variants,
)
from keras_vit._deprecation import moved
from keras_vit.checkpoints import (
    CheckpointError,
    decode_predictions,
    export_checkpoint,
    load_checkpoint,
    presets,
)
from keras_vit.costs import cost
from keras_vit.data import ArrayDataset, ImageFolder, augmentation
from keras_vit.models import (
    ResNet,
    ViT,
    feature_extractor,
    from_checkpoint,
    segmentation_model,
)
from keras_vit.plot import explore
from keras_vit.preprocessing import Preprocessing
from keras_vit.resize import change_resolution
from keras_vit.serving import evaluate, export, predict
from keras_vit.transfer_learning import few_shot, freeze, transfer
from keras_vit.variants import Variant

__all__ = [
    "ArrayDataset",
    "CheckpointError",
    "ImageFolder",
    "Preprocessing",
    "ResNet",
    "Variant",
    "ViT",
    "augmentation",
    "change_resolution",
    "checkpoints",
    "cost",
    "costs",
    "data",
    "decode_predictions",
    "distribution",
    "evaluate",
    "explore",
    "export",
    "export_checkpoint",
    "feature_extractor",
    "few_shot",
    "freeze",
    "from_checkpoint",
    "introspection",
    "layers",
    "load_checkpoint",
    "models",
    "plot",
    "predict",
    "preprocessing",
    "presets",
    "pretraining",
    "recipes",
    "resize",
    "segmentation_model",
    "serving",
    "training",
    "transfer",
    "transfer_learning",
    "variants",
]

__version__ = "0.1.0"

# Names that stood on this page once.
__getattr__ = moved(
    __name__,
    {
        "Cost": "keras_vit.costs.Cost",
        "CropAndFlip": "keras_vit.data.CropAndFlip",
        "DownloadError": "keras_vit.checkpoints.DownloadError",
        "FewShotEvaluation": "keras_vit.transfer_learning.FewShotEvaluation",
        "FewShotResult": "keras_vit.transfer_learning.FewShotResult",
        "GridSearch": "keras_vit.transfer_learning.GridSearch",
        "Preset": "keras_vit.checkpoints.Preset",
        "RealAccuracy": "keras_vit.transfer_learning.RealAccuracy",
        "VTABScores": "keras_vit.transfer_learning.VTABScores",
        "VTABTask": "keras_vit.transfer_learning.VTABTask",
        "change_patch_size": "keras_vit.resize.change_patch_size",
        "check_labels": "keras_vit.data.check_labels",
        "datasets": "keras_vit.data",
        "distillation_model": "keras_vit.pretraining.distillation_model",
        "enable_lora": "keras_vit.transfer_learning.enable_lora",
        "exaflops": "keras_vit.costs.exaflops",
        "feature_map": "keras_vit.models.feature_map",
        "feature_pyramid": "keras_vit.models.feature_pyramid",
        "grid_search": "keras_vit.transfer_learning.grid_search",
        "layer_wise_learning_rates": (
            "keras_vit.transfer_learning.layer_wise_learning_rates"
        ),
        "linear_probe": "keras_vit.transfer_learning.linear_probe",
        "masked_autoencoder": "keras_vit.pretraining.masked_autoencoder",
        "masked_patch_model": "keras_vit.pretraining.masked_patch_model",
        "nearest_neighbors": "keras_vit.transfer_learning.nearest_neighbors",
        "parse_variant": "keras_vit.variants.parse_variant",
        "real_labels": "keras_vit.transfer_learning.real_labels",
        "vtab": "keras_vit.transfer_learning.vtab",
        "vtab_finetuning": "keras_vit.transfer_learning.vtab_finetuning",
    },
)
