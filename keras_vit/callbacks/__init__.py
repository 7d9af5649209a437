"""What runs beside `fit`: going on after a kill, stopping before a loss.

Read in this order: `resume` (when a training is saved and how it goes on),
`states` (the files, and which of them are whole), `identity` (what is trained,
and how two trainings differ), `lock` (one run a directory), `health` (numbers
that are none). Nothing of the first three may change without
`tests/callbacks/test_resume.py`, which kills trainings.
"""

from keras_vit.callbacks.health import StopOnNonFinite
from keras_vit.callbacks.resume import Resume

__all__ = ["Resume", "StopOnNonFinite"]
