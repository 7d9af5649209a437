"""What each library calls the weights: one file of rules for each library.

A file of this folder holds one or more tables, a `Format` each; `rules` says
how a table is read. To add a library, write its file and put its formats into
`FORMATS`; `tests/checkpoints` has the tests that must see it.
"""

import re

from keras_vit.checkpoints.formats.bit import BIT
from keras_vit.checkpoints.formats.official import LINEN, PRE_LINEN
from keras_vit.checkpoints.formats.roles import (
    CLS_TOKEN,
    POSITIONS,
    REGISTERS,
    ROLES,
)
from keras_vit.checkpoints.formats.timm import TIMM
from keras_vit.checkpoints.formats.transformers import DINOV2, HUGGING_FACE
from keras_vit.checkpoints.formats.vit_pytorch import VIT_PYTORCH

__all__ = [
    "BIT",
    "CLS_TOKEN",
    "DINOV2",
    "FORMATS",
    "HUGGING_FACE",
    "LINEN",
    "POSITIONS",
    "PRE_LINEN",
    "REGISTERS",
    "ROLES",
    "TIMM",
    "VIT_PYTORCH",
    "recognise",
]

FORMATS = (PRE_LINEN, LINEN, BIT, TIMM, DINOV2, HUGGING_FACE, VIT_PYTORCH)


def recognise(keys):
    """Returns the format and the prefix of a file, from its keys alone.

    Args:
        keys: the keys in the file.

    Returns:
        A `Format` and a string, or `None` if the keys are of none.
    """
    for known in FORMATS:
        for prefix in known.prefixes:
            pattern = re.compile(re.escape(prefix) + known.marker)
            if any(pattern.fullmatch(key) for key in keys):
                return known, prefix
    return None
