"""The paper's choice of a learning rate: try each, judge on a held-out part.

Dosovitskiy et al. 2021, table 4 and appendix B.1.1. It is a plain loop:
`keras_tuner` chooses what to try next, which a grid of four does not need, and
has neither the held-out part nor a table that people can read.
"""

import csv
import dataclasses
import gc
import io
import itertools
import math
import os
import pathlib
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal

import keras
import numpy as np

from keras_vit.arguments import check_choice, check_not_negative
from keras_vit.checkpoints.writers import alone, write_text
from keras_vit.data.checks import check_labels
from keras_vit.recipes.tables import GRID
from keras_vit.serving.running import evaluate

MODES = ("max", "min")
SCALARS = (str, int, float, bool, type(None))


@dataclasses.dataclass(frozen=True)
class GridSearch:
    """The result of a search.

    Args:
        rows: a dict for each run, in the order of the grid: its settings, and
            the results of `evaluate` on the held-out part.
        best: the settings of the best run, as `build` takes them.
        model: a model trained with these on all images, or `None` without
            `refit`.

    Example:

    ```python
    found = keras_vit.transfer_learning.grid_search(
        build, (images, labels), file="runs.csv"
    )
    for row in found.rows:
        print(row["learning_rate"], row["accuracy"])
    ```
    """

    rows: list[dict[str, Any]]
    best: dict[str, Any]
    model: keras.Model | None = None


def grid_search(
    build: Callable[..., keras.Model],
    train: tuple[Any, Any],
    grid: Mapping[str, Sequence[Any]] | None = None,
    *,
    validation_fraction: float = 0.1,
    metric: str = "accuracy",
    mode: Literal["max", "min"] = "max",
    file: str | os.PathLike | None = None,
    seed: int = 0,
    dataset: Callable[[Any, Any], Any] | None = None,
    refit: bool = False,
    verbose: bool = True,
    **fit_options,
) -> GridSearch:
    """Trains a model for each setting and returns the best setting.

    An equal share of every class of the training images is held out; each
    model trains on the rest and is evaluated on the held-out part. The test
    set is not used. All runs start from one seed, which is set for Python,
    NumPy and the backend, so a run gives the same result whether or not others
    ran before it. The memory of a model is freed before the next is built.

    With `file` the table is written after each run, and an interrupted search
    goes on where it stopped. Processes that share a file keep each other's
    rows, and do not repeat what another has finished. A row records the
    settings, `seed`, `validation_fraction`, the number of images and the plain
    `fit_options`; a file with others is refused. Other effects of `build` and
    `dataset` are not in the file: when you change these functions, use a new
    file.

    Args:
        build: a function that takes one value for each name in `grid` as
            keyword arguments and returns a compiled `keras.Model`.
        train: a pair of arrays: images of shape `(num_images, height, width,
            channels)`, and labels in a form that `check_labels` takes.
        grid: a dict from name to the values to try: strings, numbers, bools
            or `None`. All combinations are tried. Defaults to the learning
            rates of table 4, `{"learning_rate": (0.001, 0.003, 0.01, 0.03)}`.
        validation_fraction: fraction held out, in (0, 1). The paper has 0.1
            for Pets and Flowers, 0.02 for CIFAR, 0.01 for ImageNet, see
            `keras_vit.recipes.finetuning_for`.
        metric: name of the deciding result of `evaluate`.
        mode: `"max"` if a larger metric is better, `"min"` if a smaller one
            is. A run that ended in NaN is never the best; of equally good runs
            the first is the best.
        file: path of a CSV file, or `None`.
        seed: int of 0 or more, for the split and for every run.
        dataset: a function from images and labels to the data that `fit`
            trains on, for instance an `ArrayDataset` with augmentation.
            Defaults to the arrays.
        refit: whether to train a last model, with the best setting, on all
            images.
        verbose: whether to print a line for each run.
        **fit_options: arguments of `fit`: `epochs`, `batch_size`, ...

    Returns:
        A `GridSearch` with `rows`, `best` and `model`.

    Raises:
        ValueError: if an argument breaks its rule; if labels do not fit the
            model (see `check_labels`); if `file` holds other runs or columns;
            if `evaluate` gives no `metric`, or NaN for every run.

    Example:

    >>> def build(learning_rate):
    ...     model = keras_vit.ViT("Ti/16", image_size=16, num_classes=2)
    ...     model.compile(**keras_vit.recipes.finetune(2, learning_rate))
    ...     return model
    >>> images, labels = np.zeros((8, 16, 16, 3)), np.arange(8) % 2
    >>> found = keras_vit.transfer_learning.grid_search(
    ...     build,
    ...     (images, labels),
    ...     {"learning_rate": [0.01]},
    ...     validation_fraction=0.25,
    ...     verbose=False,
    ... )
    >>> found.best
    {'learning_rate': 0.01}

    Reference:
        - [Dosovitskiy et al., 2021](https://arxiv.org/abs/2010.11929),
          table 4 and appendix B.1.1
    """
    images, labels = train
    labels = np.asarray(labels)
    if len(images) != len(labels):
        raise ValueError(
            "Images and labels of `train` must be equally many. Received: "
            f"{len(images)} images, {len(labels)} labels"
        )
    check_choice("mode", mode, MODES)
    check_not_negative("seed", seed)
    kept, held_out = split(labels, validation_fraction, seed)
    runs = _runs({"learning_rate": GRID} if grid is None else grid)
    conditions = {
        "seed": seed,
        "validation_fraction": validation_fraction,
        "num_images": len(labels),
        **_plain(fit_options),
    }
    clash = sorted(set(runs[0]) & {*conditions, metric})
    if clash:
        raise ValueError(
            "`grid` must have names of its own. Received: "
            f"{', '.join(clash)} twice"
        )
    table = _Table(file, runs, conditions)

    def trained(settings, rows):
        keras.utils.set_random_seed(seed)
        model = build(**settings)
        check_labels(labels, model.output_shape[-1])
        data = (images[rows], labels[rows])
        data = data if dataset is None else (dataset(*data),)
        model.fit(*data, **{"verbose": 0, **fit_options})
        return model

    for number, settings in enumerate(runs, 1):
        results = table.results(settings)
        known = results is not None
        if not known:
            model = trained(settings, kept)
            results = evaluate(
                model,
                images[held_out],
                labels[held_out],
                batch_size=fit_options.get("batch_size") or 32,
                verbose=0,
                return_dict=True,
            )
            # Free it before the next is built: two may not fit the device.
            del model
            gc.collect()
            results = {name: float(value) for name, value in results.items()}
        if metric not in results:
            raise ValueError(
                "`metric` must be one of the results of `evaluate`, "
                f"{', '.join(results)}. Received: metric={metric!r}"
            )
        if not known:
            table.add(settings, results)
        if verbose:
            print(
                f"{number}/{len(runs)} {_listed(settings)}: "
                f"{metric}={results[metric]:.4f}"
                f"{' (from the file)' if known else ''}",
                flush=True,
            )
    best = _best(runs, [table.results(run)[metric] for run in runs], mode)
    if best is None:
        raise ValueError(
            f"Every run ended with {metric}=nan, so none is the best; try "
            f"smaller rates. Received: grid={grid!r}"
        )
    if verbose:
        print(f"best: {_listed(best)}", flush=True)
    rows = [{**run, **table.results(run)} for run in runs]
    model = trained(best, np.arange(len(labels))) if refit else None
    return GridSearch(rows, best, model)


def split(
    labels: Any, fraction: float, seed: int = 0
) -> tuple[np.ndarray, np.ndarray]:
    """Divides a training set in two, equally in every class.

    Of a class of `n` images, `fraction * n` are held out, rounded up or down
    so that the total is `fraction` of all images, rounded.

    Args:
        labels: class numbers `(num_images,)` or `(num_images, 1)`, or rows of
            class probabilities `(num_images, num_classes)`.
        fraction: fraction to hold out, in (0, 1).
        seed: int of 0 or more.

    Returns:
        Two sorted arrays of indices, of the kept images and of the others.

    Raises:
        ValueError: if `fraction` is not in (0, 1), or leaves one of the two
            empty.

    Example:

    >>> kept, held_out = split([0, 0, 0, 0, 1, 1, 1, 1], fraction=0.25)
    >>> len(kept), len(held_out)
    (6, 2)
    """
    if isinstance(fraction, bool) or not 0 < fraction < 1:
        raise ValueError(
            "`validation_fraction` must be in (0, 1). Received: "
            f"validation_fraction={fraction!r}"
        )
    labels = np.asarray(labels)
    if labels.ndim == 2:
        one_hot = labels.shape[1] > 1
        labels = labels.argmax(axis=1) if one_hot else labels[:, 0]
    order = np.random.default_rng(seed).permutation(len(labels))
    order = order[np.argsort(labels[order], kind="stable")]
    # Every 1/fraction-th of the images, which are now in order of class.
    marks = np.floor(np.arange(len(order) + 1) * fraction + 0.5)
    chosen = np.diff(marks) > 0
    if chosen.all() or not chosen.any():
        raise ValueError(
            "`validation_fraction` must leave images on both sides. Received: "
            f"validation_fraction={fraction!r} of {len(labels)} images"
        )
    return np.sort(order[~chosen]), np.sort(order[chosen])


class _Table:
    """The rows of a search, and the file of them if there is one."""

    def __init__(self, path, runs, conditions):
        self.path = None if path is None else pathlib.Path(path)
        self.columns = [*runs[0], *conditions]
        self.conditions = {k: _text(v) for k, v in conditions.items()}
        self.found = {}
        self._read({self._key(run) for run in runs})

    def _key(self, settings):
        texts = {name: _text(value) for name, value in settings.items()}
        return tuple((texts | self.conditions).values())

    def _read(self, expected=None):
        """Takes the rows of the file; all must be among the expected."""
        if self.path is None or not self.path.exists():
            return
        with open(self.path, newline="", encoding="utf-8") as file:
            header, *lines = list(csv.reader(file)) or [[]]
        width = len(self.columns)
        if header[:width] != self.columns or len(header) == width:
            raise ValueError(
                f"`file` must have the columns {', '.join(self.columns)} and "
                f"results. Received: '{self.path}' with {', '.join(header)}"
            )
        for line in lines:
            key = tuple(line[:width])
            if len(line) != len(header) or (
                expected is not None and key not in expected
            ):
                pairs = dict(zip(header, line))
                raise ValueError(
                    "`file` must hold runs of this search alone; use another "
                    f"file for another search. Received: '{self.path}' with "
                    f"{_listed(pairs)}"
                )
            self.found[key] = {
                name: float(text)
                for name, text in zip(header[width:], line[width:])
            }

    def results(self, settings):
        return self.found.get(self._key(settings))

    def add(self, settings, results):
        if self.path is None:
            self._add(settings, results)
            return
        with alone(self.path):
            # Another process may have added rows, of any grid.
            self._read()
            self._add(settings, results)
            self._write()

    def _add(self, settings, results):
        names = list(next(iter(self.found.values()), results))
        if set(names) != set(results):
            raise ValueError(
                "All models must have the same metrics. Received: "
                f"{', '.join(names)} and {', '.join(results)}"
            )
        self.found[self._key(settings)] = {k: results[k] for k in names}

    def _write(self):
        names = next(iter(self.found.values()))
        text = io.StringIO()
        writer = csv.writer(text, lineterminator="\n")
        writer.writerow([*self.columns, *names])
        for key, values in self.found.items():
            writer.writerow([*key, *(repr(x) for x in values.values())])
        write_text(self.path, text.getvalue())


def _runs(grid):
    """All combinations of the values of a grid, as a list of dicts."""
    values = {name: list(choices) for name, choices in grid.items()}
    for name, choices in values.items():
        # NumPy's numbers print with their type, not as their value alone.
        choices = [x.item() if hasattr(x, "item") else x for x in choices]
        texts = {_text(x) for x in choices}
        bad = [x for x in choices if not isinstance(x, SCALARS)]
        if bad or not choices or len(texts) < len(choices):
            raise ValueError(
                "`grid` must have different strings, numbers, bools or None "
                f"under each name. Received: {name}={grid[name]!r}"
            )
        values[name] = choices
    if not values:
        raise ValueError(f"`grid` must name a setting. Received: grid={grid!r}")
    return [
        dict(zip(values, choice))
        for choice in itertools.product(*values.values())
    ]


def _plain(options):
    """The options of `fit` that make a difference and can be written."""
    return {
        name: value
        for name, value in options.items()
        if isinstance(value, SCALARS) and name != "verbose"
    }


def _text(value):
    return value if isinstance(value, str) else repr(value)


def _listed(settings):
    return ", ".join(f"{name}={value}" for name, value in settings.items())


def _best(runs, values, mode):
    sign = 1 if mode == "max" else -1
    best, most = None, -math.inf
    for run, value in zip(runs, values):
        if not math.isnan(value) and (best is None or sign * value > most):
            best, most = run, sign * value
    return best
