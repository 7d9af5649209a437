"""The 19 tasks of VTAB-1k as data: the images, and the question about them.

Zhai et al. 2019, arXiv:1910.04867. Every row states what one file of the
official code does, `task_adaptation/data/*.py` of google-research, with the
arguments of its `scripts/run_all_tasks.sh`. The order of the rows and the
groups are those of table 9 of the Vision Transformer paper, arXiv:2010.11929.
"""

import dataclasses
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal

import numpy as np

from keras_vit.arguments import check_choice, check_positive

GROUPS = ("natural", "specialized", "structured")
# A whole split of TFDS, or the part of it after a percentage.
PART = re.compile(r"(\w+?)(?:\[(\d{1,2})%:\])?")
TRAIN_SIZE, VALIDATION_SIZE = 800, 200


@dataclasses.dataclass(frozen=True)
class VTABTask:
    """One task: a data set of TensorFlow Datasets (TFDS) and a question.

    The official splits are `"train800"`, the first 800 images of `train`;
    `"val200"`, the first 200 of `validation`; `"train800val200"`, both; and
    `"test"`, all of it. Nothing is drawn at random.

    Args:
        name: name of the task.
        group: `"natural"`, `"specialized"` or `"structured"`.
        builder: name of the data set in TFDS, with its version.
        num_classes: number of classes.
        validation: the part of the data set that `"val200"` is taken from: a
            split of TFDS, such as `"validation"`, or the part of it after a
            percentage, rounded down, such as `"train[90%:]"`.
        test: the part that is `"test"`, in the same form.
        feature: name of the feature that gives the label.
        label: function from the value of that feature to the label.
        intensity: factor that brings pixels to [0, 255].

    Raises:
        ValueError: if an argument breaks its rule.

    Example:

    >>> from keras_vit.transfer_learning.vtab_tasks import TASKS
    >>> task = TASKS["clevr-count"]
    >>> task.num_classes, task.label({"size": [0, 1, 1, 0, 1]})
    (8, 2)
    >>> task.instruction("train800val200", {"train": 70_000})
    'train[:800]+train[63000:63200]'
    """

    name: str
    group: Literal["natural", "specialized", "structured"]
    builder: str
    num_classes: int
    validation: str
    test: str
    feature: str = "label"
    label: Callable[[Any], int] = int
    intensity: int = 1

    def __post_init__(self):
        check_choice("group", self.group, GROUPS)
        check_positive("num_classes", self.num_classes)
        check_positive("intensity", self.intensity)
        for argument in ("validation", "test"):
            part = getattr(self, argument)
            if not PART.fullmatch(part):
                raise ValueError(
                    f"`{argument}` must be a split such as 'test' or the part "
                    "of it after a percentage, 'train[90%:]'. Received: "
                    f"{argument}={part!r}"
                )

    def instruction(self, split: str, counts: Mapping[str, int]) -> str:
        """Returns a split of the task in the notation of TFDS.

        Args:
            split: `"train800"`, `"val200"`, `"train800val200"` or `"test"`.
            counts: dict of the splits of the data set to their numbers of
                images.

        Returns:
            The instruction, such as `"train[:800]"`.

        Raises:
            ValueError: if there is no such split.
        """
        check_choice("split", split, SPLITS)
        source, start = self._part(self.validation, counts)
        train = f"train[:{TRAIN_SIZE}]"
        validation = f"{source}[{start or ''}:{start + VALIDATION_SIZE}]"
        if split == "test":
            source, start = self._part(self.test, counts)
            return f"{source}[{start}:]" if start else source
        return {
            "train800": train,
            "val200": validation,
            "train800val200": f"{train}+{validation}",
        }[split]

    def _part(self, part, counts):
        source, percent = PART.fullmatch(part).groups()
        # Rounded down by the official code. TFDS would round to the nearest.
        return source, int(percent or 0) * counts[source] // 100


SPLITS = ("train800", "val200", "train800val200", "test")


def bins(classes: int, num_bins: int) -> Callable[[int], int]:
    """Returns the rule that joins neighbouring classes into equal bins."""
    # dsprites.py divides by the quotient of both numbers and rounds down.
    return lambda label: int(label) * num_bins // classes


def num_objects(objects: Mapping[str, Any]) -> int:
    """clevr.py, `count_all`: 3 to 10 objects make 8 classes."""
    return len(objects["size"]) - 3


def closest_object(objects: Mapping[str, Any]) -> int:
    """clevr.py, `closest_object_distance`: depth of the nearest, in 6 bins."""
    depth = np.asarray(objects["pixel_coords"], "float32")[:, 2].min()
    # A depth that equals an edge is in the lower bin.
    return int(np.searchsorted((8.0, 8.5, 9.0, 9.5, 10.0), depth))


def closest_vehicle(objects: Mapping[str, Any]) -> int:
    """kitti.py, `closest_vehicle_distance`: metres in 3 bins; 3 for none."""
    place = np.asarray(objects["location"], "float32").reshape(-1, 3)
    # Types 0, 1 and 2 are cars, vans and trucks.
    depths = place[np.asarray(objects["type"], int) < 3, 2]
    if not len(depths):
        return 3
    return int(np.searchsorted((8.0, 20.0), depths.min()))


def _table(*rows):
    return {row[0]: VTABTask(*row) for row in rows}


N, S, X = GROUPS
_RETINA = "diabetic_retinopathy_detection/btgraham-300:3.*.*"
_AZIMUTH, _ELEVATION = "label_azimuth", "label_elevation"
_X, _ORIENTATION = "label_x_position", "label_orientation"

# Versions are those of the official code, except Pets: TFDS no longer has its
# 3.*.*, and 4.0.0 has the same images, twelve of them encoded anew.
# fmt: off
TASKS = _table(
    # name           group  builder       classes  validation     test
    ("caltech101",   N, "caltech101:3.*.*",        102, "train[90%:]", "test"),
    ("cifar100",     N, "cifar100:3.*.*",          100, "train[90%:]", "test"),
    ("dtd",          N, "dtd:3.*.*",                47, "validation",  "test"),
    ("flowers102",   N, "oxford_flowers102:2.*.*", 102, "validation",  "test"),
    ("pets",         N, "oxford_iiit_pet:4.*.*",    37, "train[80%:]", "test"),
    ("sun397",       N, "sun397/tfds:4.*.*",       397, "validation",  "test"),
    ("svhn",         N, "svhn_cropped:3.*.*",       10, "train[90%:]", "test"),
    ("camelyon",     S, "patch_camelyon:2.*.*",      2, "validation",  "test"),
    ("eurosat",      S, "eurosat/rgb:2.*.*",        10,
     "train[60%:]", "train[80%:]"),
    ("resisc45",     S, "resisc45:3.*.*",           45,
     "train[60%:]", "train[80%:]"),
    ("retinopathy",  S, _RETINA,                     5, "validation",  "test"),
    ("clevr-count",  X, "clevr:3.*.*",               8,
     "train[90%:]", "validation",  "objects",    num_objects),
    ("clevr-dist",   X, "clevr:3.*.*",               6,
     "train[90%:]", "validation",  "objects",    closest_object),
    ("dmlab",        X, "dmlab:2.0.1",               6, "validation",  "test"),
    ("dspr-loc",     X, "dsprites:2.*.*",           16,
     "train[80%:]", "train[90%:]", _X,           bins(32, 16), 255),
    ("dspr-ori",     X, "dsprites:2.*.*",           16,
     "train[80%:]", "train[90%:]", _ORIENTATION, bins(40, 16), 255),
    ("kitti-dist",   X, "kitti:3.1.0",               4,
     "validation",  "test",        "objects",    closest_vehicle),
    ("snorb-azim",   X, "smallnorb:2.*.*",          18,
     "test",        "test[50%:]",  _AZIMUTH),
    ("snorb-elev",   X, "smallnorb:2.*.*",           9,
     "test",        "test[50%:]",  _ELEVATION),
)

# Table 9 of the Vision Transformer paper, in per cent, in the order of TASKS.
TABLE_9 = {
    ("H/14", "jft"):          (95.3, 85.5, 75.2, 99.7, 97.2, 65.0, 88.9,
                               83.3, 96.7, 91.4, 76.6,
                               91.7, 63.8, 53.1, 79.4, 63.3, 84.5, 33.2, 51.2),
    ("L/16", "jft"):          (95.4, 81.9, 74.3, 99.7, 96.7, 63.5, 87.4,
                               83.6, 96.5, 89.7, 77.1,
                               86.4, 63.1, 49.7, 74.5, 60.5, 82.2, 36.2, 51.1),
    ("L/16", "imagenet-21k"): (90.8, 84.1, 74.1, 99.3, 92.7, 61.0, 80.9,
                               82.5, 95.6, 85.2, 75.3,
                               70.3, 56.1, 41.9, 74.7, 64.9, 79.9, 30.5, 41.7),
}
# fmt: on


def parse_tasks(
    tasks: str | VTABTask | Sequence[str | VTABTask] | None,
) -> list[VTABTask]:
    """Returns a list of tasks from names of tasks or groups, or tasks.

    Args:
        tasks: a name of a task or a group, a `VTABTask`, or several of them;
            `None` for all 19.

    Returns:
        The tasks.

    Raises:
        ValueError: if a name is unknown, or if a task occurs twice.
    """
    if tasks is None:
        return list(TASKS.values())
    if isinstance(tasks, (str, VTABTask)):
        tasks = [tasks]
    result = []
    for task in tasks:
        if isinstance(task, VTABTask):
            result.append(task)
        elif task in GROUPS:
            result += [row for row in TASKS.values() if row.group == task]
        else:
            result.append(TASKS[check_choice("tasks", task, (*TASKS, *GROUPS))])
    names = [task.name for task in result]
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice or not names:
        raise ValueError(
            "`tasks` must be one task or more, each once. "
            f"Received: tasks={names}"
        )
    return result
