"""Accuracies on the VTAB tasks: their means, their table, their file.

The table is that of the paper (arXiv:2010.11929, table 9), with the groups side
by side instead of in a row, because 19 columns do not fit into a terminal.
"""

import dataclasses
import itertools
import json
import os
import pathlib
from collections.abc import Mapping
from typing import Any, Literal

import numpy as np

from keras_vit.arguments import check_choice
from keras_vit.checkpoints.writers import alone, write_text
from keras_vit.transfer_learning.vtab_tasks import GROUPS, TASKS


@dataclasses.dataclass(frozen=True)
class VTABScores:
    """Accuracies on tasks of VTAB-1k, and their means.

    It prints as the paper's table 9 with the groups side by side, in per cent.
    Means are over the tasks in `accuracies`.

    Args:
        accuracies: dict of tasks to accuracies in [0, 1].
        groups: dict of tasks to groups, needed only for tasks that are not
            among the 19.
        failed: dict of failed tasks to their errors.

    Raises:
        ValueError: if the group of a task is not known.

    Example:

    Table 9 for H/14:

    >>> from keras_vit.transfer_learning.vtab_tasks import TABLE_9, TASKS
    >>> row = [entry / 100 for entry in TABLE_9["H/14", "jft"]]
    >>> scores = keras_vit.transfer_learning.VTABScores(dict(zip(TASKS, row)))
    >>> print(scores)
    natural             specialized         structured
    caltech101    95.3  camelyon      83.3  clevr-count   91.7
    cifar100      85.5  eurosat       96.7  clevr-dist    63.8
    dtd           75.2  resisc45      91.4  dmlab         53.1
    flowers102    99.7  retinopathy   76.6  dspr-loc      79.4
    pets          97.2                      dspr-ori      63.3
    sun397        65.0                      kitti-dist    84.5
    svhn          88.9                      snorb-azim    33.2
                                            snorb-elev    51.2
    mean of 7     86.7  mean of 4     87.0  mean of 8     65.0
    <BLANKLINE>
    mean of 19    77.6
    """

    accuracies: dict[str, float]
    groups: dict[str, str] = dataclasses.field(default_factory=dict)
    failed: dict[str, str] = dataclasses.field(default_factory=dict)

    def __post_init__(self):
        known = {name: task.group for name, task in TASKS.items()}
        known |= self.groups
        unknown = [name for name in self.accuracies if name not in known]
        if unknown:
            raise ValueError(
                "`groups` must name the group of each task that is not one of "
                f"the 19. Received: accuracies for {', '.join(unknown)}"
            )
        groups = {name: known[name] for name in self.accuracies}
        object.__setattr__(self, "groups", groups)

    @property
    def mean(self) -> float:
        """Mean over all tasks, the paper's score; not over groups."""
        return _mean(self.accuracies.values())

    def group_mean(
        self, group: Literal["natural", "specialized", "structured"]
    ) -> float:
        """Returns the mean over the tasks of a group.

        Args:
            group: `"natural"`, `"specialized"` or `"structured"`.

        Returns:
            The mean accuracy, or NaN if no task is in the group.
        """
        check_choice("group", group, GROUPS)
        return _mean(
            accuracy
            for name, accuracy in self.accuracies.items()
            if self.groups[name] == group
        )

    def __str__(self):
        columns, totals = [], []
        for group in GROUPS:
            cells = [
                _cell(name, accuracy)
                for name, accuracy in self.accuracies.items()
                if self.groups[name] == group
            ]
            if cells:
                columns.append([group, *cells])
                mean = self.group_mean(group)
                totals.append(_cell(f"mean of {len(cells)}", mean))
        rows = [*itertools.zip_longest(*columns, fillvalue=""), totals]
        lines = ["  ".join(f"{cell:<18}" for cell in row) for row in rows]
        lines += ["", _cell(f"mean of {len(self.accuracies)}", self.mean)]
        lines += [f"failed: {name}: {why}" for name, why in self.failed.items()]
        return "\n".join(line.rstrip() for line in lines)


def _cell(name, accuracy):
    return f"{name:<12}{100 * accuracy:>6.1f}"


def _mean(values):
    values = list(values)
    return float(np.mean(values)) if values else float("nan")


def read_accuracies(
    path: str | os.PathLike | None, settings: Mapping[str, Any]
) -> dict[str, float]:
    """Returns the accuracies in a file, or raises if it is of another run.

    Args:
        path: path of the file, or `None` for none.
        settings: dict of the settings of the run.

    Returns:
        A dict of tasks to accuracies, empty without a file.

    Raises:
        ValueError: if `vtab` did not write the file, or with other settings.
    """
    if path is None or not pathlib.Path(path).exists():
        return {}
    try:
        noted = json.loads(pathlib.Path(path).read_text(encoding="utf-8"))
        accuracies = noted.pop("accuracies")
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        raise ValueError(
            "`results` must be a file that `vtab` wrote. "
            f"Received: results={str(path)!r}"
        ) from error
    if noted != settings:
        raise ValueError(
            "`results` must be of the same image size and splits. Received: "
            f"results={str(path)!r} of {noted}, for a run of {settings}"
        )
    return accuracies


def add_accuracies(
    path: str | os.PathLike | None,
    settings: Mapping[str, Any],
    accuracies: Mapping[str, float],
) -> dict[str, float]:
    """Adds to what `read_accuracies` reads, whole or not at all.

    Args:
        path: as in `read_accuracies`.
        settings: as in `read_accuracies`.
        accuracies: dict of tasks to accuracies.

    Returns:
        These accuracies and those that other processes have added.

    Raises:
        ValueError: as in `read_accuracies`.
    """
    if path is None:
        return dict(accuracies)
    with alone(path):
        accuracies = {**read_accuracies(path, settings), **accuracies}
        noted = {**settings, "accuracies": accuracies}
        write_text(path, json.dumps(noted, indent=2) + "\n")
    return accuracies
