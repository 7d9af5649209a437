"""Checkpoints in and out, presets, and models at another resolution."""

from keras_vit.weights.checkpoints import load_checkpoint
from keras_vit.weights.class_names import decode_predictions
from keras_vit.weights.downloads import DownloadError
from keras_vit.weights.export import export_checkpoint
from keras_vit.weights.files import CheckpointError
from keras_vit.weights.presets import Preset, presets
from keras_vit.weights.resolution import change_patch_size, change_resolution

__all__ = [
    "CheckpointError",
    "DownloadError",
    "Preset",
    "change_patch_size",
    "change_resolution",
    "decode_predictions",
    "export_checkpoint",
    "load_checkpoint",
    "presets",
]
