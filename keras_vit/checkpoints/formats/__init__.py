"""What each library calls the weights: one file of rules for each library.

A file of this folder holds one or more tables, a `Format` each; `rules` says
how a table is read. To add a library, write its file and put its formats into
`FORMATS`; `tests/checkpoints` has the tests that must see it.
"""

import re

from keras_vit.checkpoints.formats.bit import BIT, BIT_OF_BIG_VISION
from keras_vit.checkpoints.formats.keras_hub import (
    KERAS_HUB,
    KERAS_HUB_HIDDEN,
)
from keras_vit.checkpoints.formats.meta import META
from keras_vit.checkpoints.formats.official import LINEN, PRE_LINEN
from keras_vit.checkpoints.formats.open_clip import OPEN_CLIP, OPEN_CLIP_TIMM
from keras_vit.checkpoints.formats.roles import (
    CLS_TOKEN,
    COLUMNS,
    POSITIONS,
    REGISTERS,
    ROLES,
    ROWS,
)
from keras_vit.checkpoints.formats.timm import (
    TIMM,
    TIMM_EVA,
    TIMM_NAFLEX,
    TIMM_RELATIVE,
)
from keras_vit.checkpoints.formats.torchvision import TORCHVISION
from keras_vit.checkpoints.formats.transformers import (
    BEIT,
    DINOV2,
    DINOV2_CLASSIFIERS,
    DINOV2_WITH_REGISTERS,
    EOMT,
    HUGGING_FACE,
    INTERNVL,
    dinov2_to_write,
    in_memory_to_saved,
)
from keras_vit.checkpoints.formats.transformers_aimv2 import AIMV2
from keras_vit.checkpoints.formats.transformers_dinov3 import DINOV3
from keras_vit.checkpoints.formats.transformers_towers import (
    TOWERS_OF_TRANSFORMERS,
)
from keras_vit.checkpoints.formats.vit_pytorch import VIT_PYTORCH
from keras_vit.checkpoints.guards import CheckpointError

__all__ = [
    "BIT",
    "CLS_TOKEN",
    "COLUMNS",
    "FORMATS",
    "HUGGING_FACE",
    "LINEN",
    "POSITIONS",
    "PRE_LINEN",
    "REGISTERS",
    "ROLES",
    "ROWS",
    "TIMM",
    "VIT_PYTORCH",
    "dinov2_to_write",
    "of_file",
    "recognise",
    "saved_names",
]

# The first whose markers a file has: a special one before the general one.
FORMATS = (
    PRE_LINEN,
    LINEN,
    BIT,
    BIT_OF_BIG_VISION,
    *META,
    TIMM_RELATIVE,
    TIMM_EVA,
    TIMM,
    TIMM_NAFLEX,
    OPEN_CLIP,
    OPEN_CLIP_TIMM,
    TORCHVISION,
    *DINOV2_CLASSIFIERS,
    DINOV2_WITH_REGISTERS,
    DINOV2,
    DINOV3,
    INTERNVL,
    BEIT,
    EOMT,
    HUGGING_FACE,
    *TOWERS_OF_TRANSFORMERS,
    AIMV2,
    VIT_PYTORCH,
    KERAS_HUB_HIDDEN,
    KERAS_HUB,
)


def recognise(keys):
    """Returns the format and the prefix of a file, from its keys alone.

    Args:
        keys: the keys in the file, or a dict from them to shapes.

    Returns:
        A `Format` and a string, or `None` if the keys are of none.
    """
    for known in FORMATS:
        for prefix in known.prefixes:
            first, *others = _markers(known)
            begin = re.compile(re.escape(prefix) + first)
            if any(map(begin.fullmatch, keys)) and all(
                _has(keys, prefix, marker) for marker in others
            ):
                return known, prefix
    return None


def of_file(path, keys):
    """Returns what `recognise` does, or raises if the keys are of no format.

    Args:
        path: path of the file, for the message.
        keys: the keys in the file, or a dict from them to shapes.
    """
    found = recognise(keys)
    if found is None:
        known = ", ".join(known.name for known in FORMATS)
        raise CheckpointError(
            f"'{path}' has names of none of the known formats: {known}. It "
            f"begins with: {', '.join(list(keys)[:3]) or 'nothing'}"
        )
    return found


def _markers(known):
    """Patterns of keys that a file of the format has all of.

    The first stands behind the prefix. Another may stand without, and may be
    a pair: the pattern and the number of axes of the array.
    """
    marker = known.marker
    return (marker,) if isinstance(marker, str) else marker


def _has(keys, prefix, marker):
    pattern, axes = (marker, None) if isinstance(marker, str) else marker
    pattern = re.compile(f"({re.escape(prefix)})?{pattern}")
    return any(
        axes is None or len(keys[key]) == axes
        for key in filter(pattern.fullmatch, keys)
    )


def saved_names(keys):
    """Returns the names of a file as its library saves them.

    Training scripts save a network as it stands in memory: inside of others,
    or under names that `save_pretrained` would have changed.

    Args:
        keys: the keys in the file.

    Returns:
        A dict from name to key, without keys of the networks around.
    """
    names = in_memory_to_saved(keys)
    wrapper = _wrapper_of(names)
    return {
        name.removeprefix(wrapper): key
        for name, key in names.items()
        if name.startswith(wrapper)
    }


def _wrapper_of(keys):
    """Returns what training scripts put in front of all names, or `""`.

    `module.` of a model on several devices, `_orig_mod.` of a compiled one,
    `backbone.` or `encoder.` of a larger one. Of several candidates, as a
    teacher and a student have them, the shortest is taken.

    Args:
        keys: the keys in the file.
    """
    if recognise(keys) is not None:
        return ""
    found = set()
    for known in FORMATS:
        for prefix in known.prefixes:
            pattern = re.compile(
                rf"((?:\w+[./])+){re.escape(prefix)}{_markers(known)[0]}"
            )
            found |= {
                match[1] for match in map(pattern.fullmatch, keys) if match
            }
    return min(found, key=lambda x: (len(x), x), default="")
