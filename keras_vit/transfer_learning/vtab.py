"""VTAB-1k: how well a model adapts to 19 tasks of 1,000 images each.

The protocol is that of Zhai et al. 2019, arXiv:1910.04867. The fine-tuning is
that of the Vision Transformer paper, arXiv:2010.11929, table 4 and section
B.1.1. The tasks are in `vtab_tasks.py`. Left out: downloads, and the search
for hyper-parameters, for which `splits` gives the 800 + 200 images.
"""

import functools
import os
from collections.abc import Callable, Sequence
from typing import Any, Literal

import keras
import numpy as np

from keras_vit import recipes
from keras_vit.arguments import check_choice, check_pair, check_positive
from keras_vit.data import ArrayDataset
from keras_vit.data.checks import check_labels
from keras_vit.serving.running import evaluate
from keras_vit.transfer_learning.vtab_data import (
    ResizedImages,
    import_tfds,
    load_tfds,
)
from keras_vit.transfer_learning.vtab_scores import (
    VTABScores,
    add_accuracies,
    read_accuracies,
)
from keras_vit.transfer_learning.vtab_tasks import (
    SPLITS,
    VTABTask,
    parse_tasks,
)

Method = Callable[[VTABTask, ArrayDataset, ArrayDataset], float]


def vtab(
    method: Method,
    image_size: int | tuple[int, int] = 384,
    *,
    tasks: str | VTABTask | Sequence[str | VTABTask] | None = None,
    load: Callable[[VTABTask, str], tuple[Any, Any]] | None = None,
    data_dir: str | os.PathLike | None = None,
    results: str | os.PathLike | None = None,
    splits: tuple[str, str] = ("train800val200", "test"),
    batch_size: int = 32,
    workers: int = 1,
    on_error: Literal["raise", "skip"] = "raise",
    verbose: int = 1,
) -> VTABScores:
    """Runs a method on the tasks of VTAB-1k and returns its accuracies.

    TensorFlow Datasets (TFDS) reads the data sets from the disk, or a function
    of your own. Images are resized to `image_size` by bilinear interpolation,
    without keeping the aspect ratio; the official code does nothing else to
    them.

    Args:
        method: function `(task, train, test) -> accuracy`. `task` is a
            `keras_vit.transfer_learning.VTABTask`; `train` and `test` are
            `keras_vit.ArrayDataset`s, not shuffled, of images as `uint8` in
            [0, 255] and labels in `[0, task.num_classes)`. All images of
            `train` are in memory, as `train.images`; those of `test` are
            decoded when their batch is needed. The accuracy is in [0, 1].
        image_size: height and width in pixels, an int or a pair.
        tasks: names of tasks or of groups, `"natural"`, `"specialized"`,
            `"structured"`, or `VTABTask`s. Defaults to all 19.
        load: function `(task, split) -> (images, labels)` that reads a split:
            a sequence of images of shape `(height, width, channels)`, of any
            sizes, as `uint8`; and an integer for each. Defaults to TFDS.
        data_dir: folder of TFDS. Defaults to that of TFDS itself.
        results: a JSON file for the accuracies, written after each task. Tasks
            in it are not run again, so an interrupted run goes on where it
            stopped, and processes may share it. Keep one file for each model
            and method.
        splits: the splits to train and to test on, see `VTABTask`. Use
            `("train800", "val200")` to choose hyper-parameters.
        batch_size: images in a batch of `train` and `test`.
        workers: threads that decode and resize images of `test`.
        on_error: what to do if a task fails: `"raise"`, or `"skip"`, which
            notes it in `failed` and goes on.
        verbose: 1 for a line for each task, 0 for silence.

    Returns:
        A `VTABScores`, which prints as a table.

    Raises:
        ValueError: if an argument breaks its rule, if labels are out of
            range, or if `results` has another image size or other splits.
        ImportError: if TFDS is needed and not installed.
        FileNotFoundError: if TFDS does not have a data set as ArrayRecord
            files; the message says how to make them.
        Exception: whatever else a task raises, with a note that names the
            task.

    Example:

    ```python
    def build(num_classes):
        return keras_vit.ViT(
            "B/16",
            image_size=384,
            num_classes=num_classes,
            weights="augreg_i21k",
        )

    method = keras_vit.transfer_learning.vtab_finetuning(build)
    scores = keras_vit.transfer_learning.vtab(method, 384, results="b16.json")
    print(scores)
    ```

    Reference:
        - [Zhai et al., 2019](https://arxiv.org/abs/1910.04867)
        - [Dosovitskiy et al., 2021](https://arxiv.org/abs/2010.11929),
          figure 2, table 9
    """
    tasks = parse_tasks(tasks)
    image_size = check_pair("image_size", image_size)
    train_split, test_split = (
        check_choice("splits", split, SPLITS) for split in splits
    )
    check_positive("batch_size", batch_size)
    check_choice("on_error", on_error, ("raise", "skip"))
    if load is None:
        import_tfds()
        load = functools.partial(load_tfds, data_dir=data_dir)
    elif data_dir is not None:
        raise ValueError(
            "`data_dir` is for TFDS and must be None if `load` is given. "
            f"Received: data_dir={str(data_dir)!r}"
        )
    settings = {
        "image_size": list(image_size),
        "splits": [train_split, test_split],
    }
    accuracies = read_accuracies(results, settings)
    failed = {}
    for number, task in enumerate(tasks, start=1):
        done = task.name in accuracies
        if not done:
            try:
                train = _data(load, task, train_split, image_size, batch_size)
                # Only a thousand images, but read hundreds of times.
                train.images = train.images[range(len(train.images))]
                test = _data(
                    load, task, test_split, image_size, batch_size, workers
                )
                accuracy = float(method(task, train, test))
                if not 0 <= accuracy <= 1:
                    raise ValueError(
                        "`method` must return an accuracy in [0, 1]. "
                        f"Received: {accuracy}"
                    )
            except Exception as error:
                if on_error == "raise":
                    error.add_note(f"VTAB task '{task.name}' failed.")
                    raise
                failed[task.name] = f"{type(error).__name__}: {error}"
            else:
                accuracies |= add_accuracies(
                    results, settings, {task.name: accuracy}
                )
        if verbose:
            outcome = (
                f"failed: {failed[task.name]}"
                if task.name in failed
                else f"{100 * accuracies[task.name]:5.1f} %"
            )
            place = f"[{number:>2}/{len(tasks)}]"
            more = "  as noted" if done else ""
            print(f"{place} {task.name:<12}{outcome}{more}", flush=True)
    groups = {
        task.name: task.group for task in tasks if task.name in accuracies
    }
    return VTABScores(
        {name: accuracies[name] for name in groups}, groups, failed
    )


def vtab_finetuning(
    build: Callable[[int], keras.Model],
    *,
    steps: int = 2500,
    learning_rate: float = 0.01,
    batch_size: int = 512,
    gradient_accumulation_steps: int | None = None,
    augment: Callable[[VTABTask], Callable] | None = None,
    seed: int = 0,
    verbose: int | Literal["auto"] = "auto",
    **options,
) -> Method:
    """Returns the method of the Vision Transformer paper, for `vtab`.

    All weights are fine-tuned, with one setting for all tasks: SGD with
    momentum 0.9 at a rate of 0.01, 2,500 steps of 512 images, cosine decay,
    gradients clipped to norm 1. One pass over the images follows another, each
    in a new order, so that each batch is full.

    The paper takes its pre-processing from BiT (arXiv 1912.11370), which
    crops and flips at random if the label allows it. Here images are only
    resized, as in the official code of VTAB, unless `augment` is given.

    Args:
        build: function `num_classes -> keras.Model` that returns a new model
            in each call. The model returns logits; in the paper its head
            starts at zero.
        steps: number of updates.
        learning_rate: peak rate for batches of 512.
        batch_size: images behind an update, see
            `keras_vit.recipes.finetune`.
        gradient_accumulation_steps: batches behind an update, a divisor of
            `batch_size`, for devices with little memory; `None` for one.
        augment: function `task -> augment` that returns the `augment` of
            `keras_vit.ArrayDataset` for a task, or `None`.
        seed: integer of 0 or more, for the order of the images.
        verbose: as in Keras, for `fit` and `evaluate`.
        **options: further arguments of `keras_vit.recipes.finetune`.

    Returns:
        A function `(task, train, test) -> accuracy`.

    Raises:
        ValueError: if an argument breaks its rule; from the method, if the
            model has another number of classes than the task.

    Example:

    ```python
    method = keras_vit.transfer_learning.vtab_finetuning(
        build, gradient_accumulation_steps=8
    )
    ```

    Reference:
        - [Dosovitskiy et al., 2021](https://arxiv.org/abs/2010.11929),
          table 4 and section B.1.1
    """
    accumulation = check_positive(
        "gradient_accumulation_steps", gradient_accumulation_steps or 1
    )
    check_positive("batch_size", batch_size)
    if batch_size % accumulation:
        raise ValueError(
            "`batch_size` must be a multiple of `gradient_accumulation_steps`. "
            f"Received: batch_size={batch_size}, "
            f"gradient_accumulation_steps={accumulation}"
        )

    def recipe():
        return recipes.finetune(
            steps,
            learning_rate,
            batch_size=batch_size,
            gradient_accumulation_steps=gradient_accumulation_steps,
            **options,
        )

    recipe()  # to raise at a wrong argument before any data is read

    def method(task, train, test):
        model = build(task.num_classes)
        if model.output_shape[-1] != task.num_classes:
            raise ValueError(
                f"`build` must return a model of {task.num_classes} classes. "
                f"Received: outputs {model.output_shape}"
            )
        rows = _shuffled_passes(len(train.labels), steps * batch_size, seed)
        batches = ArrayDataset(
            _Rows(train.images, rows),
            train.labels[rows],
            batch_size // accumulation,
            augment=augment(task) if augment else None,
            shuffle=False,
            seed=seed,
        )
        model.compile(**recipe())
        model.fit(batches, shuffle=False, verbose=verbose)
        return evaluate(model, test, verbose=verbose, return_dict=True)[
            "accuracy"
        ]

    return method


def _data(load, task, split, image_size, batch_size, workers=1):
    images, labels = load(task, split)
    if not hasattr(images, "__getitem__"):
        images = list(images)
    return ArrayDataset(
        ResizedImages(images, image_size),
        check_labels(labels, task.num_classes).reshape(-1),
        batch_size,
        shuffle=False,
        workers=workers,
    )


def _shuffled_passes(num_images, length, seed):
    """Row numbers of one shuffled pass over the images after another."""
    passes = -(-length // num_images)
    order = [
        np.random.default_rng((seed, number)).permutation(num_images)
        for number in range(passes)
    ]
    return np.concatenate(order)[:length]


class _Rows:
    """Rows of an array that look like an array, without a copy."""

    def __init__(self, images, rows):
        self.images = images
        self.rows = rows

    def __len__(self):
        return len(self.rows)

    def __getitem__(self, index):
        return self.images[self.rows[index]]
