"""VTAB-1k: how well a model adapts to 19 tasks of 1,000 images each.

The protocol is that of Zhai et al. 2019, arXiv:1910.04867; the fine-tuning
that of the Vision Transformer paper, arXiv:2010.11929, Table 4 and section
B.1.1; the tasks are in `vtab_tasks.py`. Left out: downloads, and the search
for hyper-parameters, for which `splits` gives the 800 + 200 images.
"""

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
    read_accuracies,
    write_accuracies,
)
from keras_vit.transfer_learning.vtab_tasks import SPLITS, parse_tasks


def vtab(
    method,
    image_size=384,
    *,
    tasks=None,
    load=None,
    data_dir=None,
    results=None,
    splits=("train800val200", "test"),
    batch_size=32,
    workers=1,
    on_error="raise",
    verbose=1,
):
    """Runs a method on the tasks of VTAB-1k and tells its accuracies.

    The data sets are read from the disk by TensorFlow Datasets (TFDS), or by a
    function of your own. Images are resized to `image_size`, without
    keeping the aspect ratio, by bilinear interpolation; that is all that the
    official code does to them.

    Args:
        method: function `(task, train, test) -> accuracy`. `task` is a
            `keras_vit.transfer_learning.VTABTask`, `train` and `test` are
            `keras_vit.ArrayDataset`s, in order, of images as `uint8` in
            [0, 255] and labels in `[0, task.num_classes)`. All images of
            `train` are in memory, as `train.images`; those of `test` are made
            when their batch is due. The accuracy is in [0, 1].
        image_size: height and width in pixels, an int or a pair.
        tasks: names of tasks or of groups, `"natural"`, `"specialized"`,
            `"structured"`, or `VTABTask`s. Defaults to all 19.
        load: function `(task, split) -> (images, labels)` that reads a split:
            a sequence of images of shape `(height, width, channels)`, of any
            sizes, as `uint8`; and an integer for each. Defaults to TFDS.
        data_dir: folder of TFDS. Defaults to that of TFDS itself.
        results: a JSON file that holds the accuracies. It is written after
            each task; tasks that are in it are not run again, so a run that
            was cut short goes on where it stopped. Keep one file for each
            model and method.
        splits: what to train on and what to test on, see
            `VTABTask`. `("train800", "val200")` to choose
            hyper-parameters.
        batch_size: images a batch of `train` and `test`.
        workers: threads that decode and resize images of `test`.
        on_error: what to do if a task fails: `"raise"`, or `"skip"`, go on
            and note it in `failed`.
        verbose: 1 for a line a task, 0 for silence.

    Returns:
        A `VTABScores`, which prints as a table.

    Raises:
        ValueError: if an argument breaks its rule, if labels are out of
            range, or if `results` is of another image size or other splits.
        ImportError: if TFDS is needed and not installed.
        FileNotFoundError: if TFDS does not have a data set as ArrayRecord
            files; the message says how to make them.
        Exception: whatever else a task raises is raised, with a note that
            names the task.

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

        def load(task, split):
            return load_tfds(task, split, data_dir)

    elif data_dir is not None:
        raise ValueError(
            "`data_dir` is for TFDS and must be None where `load` is given. "
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
                # A thousand images, but read hundreds of times.
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
                accuracies[task.name] = accuracy
                write_accuracies(results, settings, accuracies)
        if verbose:
            told = (
                f"failed: {failed[task.name]}"
                if task.name in failed
                else f"{100 * accuracies[task.name]:5.1f} %"
            )
            place = f"[{number:>2}/{len(tasks)}]"
            more = "  as noted" if done else ""
            print(f"{place} {task.name:<12}{told}{more}", flush=True)
    groups = {
        task.name: task.group for task in tasks if task.name in accuracies
    }
    return VTABScores(
        {name: accuracies[name] for name in groups}, groups, failed
    )


def vtab_finetuning(
    build,
    *,
    steps=2500,
    learning_rate=0.01,
    batch_size=512,
    gradient_accumulation_steps=None,
    augment=None,
    seed=0,
    verbose="auto",
    **options,
):
    """Returns the method of the Vision Transformer paper, for `vtab`.

    All weights are fine-tuned, with one setting for all tasks: SGD with
    momentum 0.9 at a rate of 0.01, 2,500 steps of 512 images, cosine decay,
    gradients clipped to norm 1. The images are gone through again and again
    in a new order each time, so that each batch is full.

    The paper takes its pre-processing from BiT (arXiv 1912.11370), which
    crops and flips at random where the label allows it. Here images are only
    resized, as in the official code of VTAB, unless `augment` is given.

    Args:
        build: function `num_classes -> keras.Model`. The model is a new one
            in each call and gives logits; its head starts at zero in the
            paper.
        steps: updates.
        learning_rate: peak rate for batches of 512.
        batch_size: images behind an update, see
            `keras_vit.recipes.finetune`.
        gradient_accumulation_steps: batches behind an update, which
            `batch_size` is divided by, where memory is short.
        augment: function `task -> augment`, for what `keras_vit.ArrayDataset`
            takes under that name, or `None`.
        seed: integer of 0 or more, for the order of the images.
        verbose: as in Keras, for `fit` and `evaluate`.
        **options: further arguments of `keras_vit.recipes.finetune`.

    Returns:
        A function `(task, train, test) -> accuracy`.

    Raises:
        ValueError: if an argument breaks its rule; when called, if the model
            has another number of classes than the task.

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

    recipe()  # an argument that is wrong shall show before any data is read

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
    """Rows of an array as an array of their own, without a copy."""

    def __init__(self, images, rows):
        self.images = images
        self.rows = rows

    def __len__(self):
        return len(self.rows)

    def __getitem__(self, index):
        return self.images[self.rows[index]]
