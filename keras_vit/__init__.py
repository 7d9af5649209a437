"""Vision Transformers for Keras 3, on TensorFlow, JAX and PyTorch.

This page has what a first week needs. Everything else is one step down, in the
room of what you are doing: `layers`, `models`, `checkpoints`, `resize`, `data`,
`training`, `recipes`, `callbacks`, `distribution`, `pretraining`,
`transfer_learning`, `costs`, `introspection`, `plot`, `serving`, and `hub` for
KerasHub.

Rooms are read when they are first used. Those of the first import hold all that
Keras must know by name before it opens a `.keras` file.
"""

import importlib
import typing

# Before all else: it refuses a Keras that is too old for the rest.
from keras_vit import extras  # isort: skip  # noqa: F401

from keras_vit import (
    layers,
    models,
    preprocessing,
    pretraining,
    training,
    variants,
)
from keras_vit._deprecation import moved
from keras_vit.models import (
    ResNet,
    ViT,
    feature_extractor,
    name_classes,
    segmentation_model,
)
from keras_vit.preprocessing import Preprocessing
from keras_vit.variants import Variant

if typing.TYPE_CHECKING:
    from keras_vit import (
        callbacks,
        checkpoints,
        costs,
        data,
        distribution,
        introspection,
        plot,
        recipes,
        resize,
        serving,
        transfer_learning,
    )
    from keras_vit.checkpoints import (
        CheckpointError,
        decode_predictions,
        export_checkpoint,
        load_checkpoint,
        presets,
        save,
    )
    from keras_vit.costs import cost
    from keras_vit.data import (
        ArrayDataset,
        ImageFolder,
        augmentation,
        check_images,
        load_image,
        load_images,
    )
    from keras_vit.opening import from_checkpoint
    from keras_vit.plot import explore
    from keras_vit.resize import change_resolution
    from keras_vit.serving import (
        classify,
        evaluate,
        export,
        predict,
        zero_shot,
    )
    from keras_vit.transfer_learning import few_shot, freeze, transfer

__all__ = [
    "ArrayDataset",
    "CheckpointError",
    "ImageFolder",
    "Preprocessing",
    "ResNet",
    "Variant",
    "ViT",
    "augmentation",
    "callbacks",
    "change_resolution",
    "check_images",
    "checkpoints",
    "classify",
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
    "load_image",
    "load_images",
    "models",
    "name_classes",
    "plot",
    "predict",
    "preprocessing",
    "presets",
    "pretraining",
    "recipes",
    "resize",
    "save",
    "segmentation_model",
    "serving",
    "training",
    "transfer",
    "transfer_learning",
    "variants",
    "zero_shot",
]

__version__ = "0.1.0"

# Names of this page, by the room that has them.
_ROOMS = {
    "callbacks": (),
    "checkpoints": (
        "CheckpointError",
        "decode_predictions",
        "export_checkpoint",
        "load_checkpoint",
        "presets",
        "save",
    ),
    "costs": ("cost",),
    "data": (
        "ArrayDataset",
        "ImageFolder",
        "augmentation",
        "check_images",
        "load_image",
        "load_images",
    ),
    "distribution": (),
    "introspection": (),
    "opening": ("from_checkpoint",),
    "plot": ("explore",),
    "recipes": (),
    "resize": ("change_resolution",),
    "serving": ("classify", "evaluate", "export", "predict", "zero_shot"),
    "transfer_learning": ("few_shot", "freeze", "transfer"),
}
_ROOM_OF = {name: room for room, names in _ROOMS.items() for name in names}
# Names that stood on this page once.
_MOVED = {
    "Cost": "keras_vit.costs.Cost",
    "CropAndFlip": "keras_vit.data.CropAndFlip",
    "DownloadError": "keras_vit.checkpoints.DownloadError",
    "FewShotEvaluation": "keras_vit.transfer_learning.FewShotEvaluation",
    "FewShotResult": "keras_vit.transfer_learning.FewShotResult",
    "GridSearch": "keras_vit.transfer_learning.GridSearch",
    "Preset": "keras_vit.checkpoints.Preset",
    "RealAccuracy": "keras_vit.training.RealAccuracy",
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
    "real_labels": "keras_vit.training.real_labels",
    "vtab": "keras_vit.transfer_learning.vtab",
    "vtab_finetuning": "keras_vit.transfer_learning.vtab_finetuning",
}
_find_moved = moved(__name__, _MOVED)


def __getattr__(name: str):
    if name in _ROOMS:
        return importlib.import_module(f"keras_vit.{name}")
    if name in _ROOM_OF:
        room = importlib.import_module(f"keras_vit.{_ROOM_OF[name]}")
        globals()[name] = getattr(room, name)
        return globals()[name]
    return _find_moved(name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
