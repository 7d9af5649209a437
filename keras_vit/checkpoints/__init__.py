"""Weights in and out: other libraries' files, addresses, presets.

Read in this order: `files` (what is in a file, believing nothing), `rules` and
`formats` (what each library calls a weight), `assignment` (what goes where),
`load` and `export`. `fetch` finds a file by its address. A load is all or
nothing: do not touch `files`, `assignment` or `writers` without
`tests/checkpoints/test_files.py`, `test_checkpoints.py` and `test_writers.py`.
"""

from keras_vit.checkpoints.class_names import decode_predictions
from keras_vit.checkpoints.export import export_checkpoint
from keras_vit.checkpoints.guards import CheckpointError
from keras_vit.checkpoints.load import load_checkpoint
from keras_vit.checkpoints.presets import Preset, presets
from keras_vit.checkpoints.saving import save
from keras_vit.checkpoints.transport import DownloadError

__all__ = [
    "CheckpointError",
    "DownloadError",
    "Preset",
    "decode_predictions",
    "export_checkpoint",
    "load_checkpoint",
    "presets",
    "save",
]
