"""Few-shot evaluation: how good frozen features are, without training.

Regularised least squares fit a linear classifier to the features of a few
images of each class, in closed form. Its accuracy on the test images is the
result, as in the paper's section 4.1 and big_vision's
`evaluators/fewshot_lsr.py`. The arithmetic is in `ridge.py`, the pass over
the images in `features.py`. Left out: resizing and cropping, which belong to
the data.
"""

import numbers
from collections.abc import Callable, Sequence

import keras
import numpy as np

from keras_vit.arguments import (
    check_above_zero,
    check_not_negative,
    check_positive,
)
from keras_vit.transfer_learning.features import Data, Verbose, both_splits
from keras_vit.transfer_learning.few_shot_result import FewShotResult
from keras_vit.transfer_learning.ridge import accuracy, ridge_classifiers

# `configs/common_fewshot.py` of big_vision.
SHOTS = (1, 5, 10, 25)
SEEDS = (0, 1, 2)
L2 = 1024


def few_shot(
    model: keras.Model | None,
    train: Data,
    test: Data,
    shots: int | Sequence[int] = SHOTS,
    seeds: int | Sequence[int] = SEEDS,
    l2: float | Sequence[float] = L2,
    *,
    num_classes: int | None = None,
    batch_size: int = 32,
    verbose: Verbose = "auto",
) -> FewShotResult:
    """Classifies images by linear regression from a few examples a class.

    The features of all images are computed once. For each seed the training
    images of each class are put in random order, and for each number of shots
    `k` the first `k` are taken, so the smaller sets are parts of the larger
    ones. With `f` a feature, its mean and its population standard deviation
    over such a set, and `X` the features of the set after

        (f - mean) / (std + 1e-5)

    and with a constant feature of 100 appended, the classifier is

        W = (X'X + l2 I)^-1 X'Y,    Y = 2 * onehot - 1

    and an image belongs to the class with the highest score. All of this is
    float64 on the host, so the backends differ by their features alone.

    Args:
        model: a `keras.Model` that returns one vector for each image, of shape
            `(batch, dim)`. If it has a layer named `pre_logits`, as every
            `ViT` and `ResNet`, the output of that layer is taken, so you can
            pass a classifier. Of other models pass the part that returns
            features, see `feature_extractor`. `None` if `train` and `test`
            hold features instead of images.
        train: a pair `(images, labels)` of arrays; or a data set that yields
            such pairs batch by batch and ends: a `keras.utils.PyDataset`
            (`ArrayDataset`, `ImageFolder`), a `tf.data.Dataset`, a PyTorch
            `DataLoader`, or a data set of grain. It is read once, so it may
            shuffle. Labels are integers in `[0, num_classes)`, or one-hot.
        test: the images to classify, in the same form.
        shots: training images of each class: an integer above 0 or a sequence
            of them. A class with fewer images gives all it has.
        seeds: an integer of 0 or more, or a sequence of them.
        l2: regularisation strength above 0, or a sequence, which costs one
            eigendecomposition for all.
        num_classes: number of classes. Defaults to the largest label of
            `train` and one more.
        batch_size: images in a step, for arrays.
        verbose: progress bar over the batches, as in Keras: `"auto"`, 0, 1
            or 2.

    Returns:
        A `FewShotResult` with `accuracies` of shape `(len(shots),
        len(seeds))`, each in [0, 1]; for a sequence of `l2` of shape
        `(len(l2), len(shots), len(seeds))`.

    Raises:
        ValueError: if an argument breaks its rule; if there are no images, if
            a class has none in `train`, or if labels are out of range; or if a
            feature is not finite: the message lists the rows. The model stays
            usable, after Ctrl-C too.

    Example:

    >>> train, test = keras_vit.data.load("digits")
    >>> variant = keras_vit.Variant(1, 16, 32, 2, patch_size=2)
    >>> model = keras_vit.ViT(variant, image_size=8, num_channels=1)
    >>> result = keras_vit.few_shot(model, train, test, shots=5, verbose=0)
    >>> result.accuracies.shape
    (1, 3)

    Reference:
        - [Dosovitskiy et al., 2021](https://arxiv.org/abs/2010.11929),
          section 4.1, "Metrics"
        - big_vision, `evaluators/fewshot_lsr.py`
    """
    shots = check_sequence("shots", shots, check_positive)
    seeds = check_sequence("seeds", seeds, check_not_negative)
    strengths = check_sequence("l2", l2, check_above_zero)
    train, test, num_classes = both_splits(
        model, train, test, num_classes, batch_size, verbose
    )

    def accuracies(rows):
        classifiers = ridge_classifiers(
            train.features[rows], train.labels[rows], num_classes, strengths
        )
        return [accuracy(*test, *classifier) for classifier in classifiers]

    table = [
        [accuracies(rows) for rows in nested_subsets(train.labels, shots, seed)]
        for seed in seeds
    ]
    table = np.transpose(table, (2, 1, 0))  # seed, shots, l2
    one = isinstance(l2, numbers.Real)
    return FewShotResult(
        accuracies=table[0] if one else table,
        shots=shots,
        seeds=seeds,
        num_classes=num_classes,
        num_test=len(test.labels),
        l2=strengths[0] if one else strengths,
    )


def nested_subsets(
    labels: np.ndarray, shots: Sequence[int], seed: int
) -> list[np.ndarray]:
    """Draws some images of each class, the smaller sets from the larger.

    One generator permutes the images of class 0, then those of class 1, and so
    on, as `fewshot_lsr.py` does, so the sets are those of big_vision.

    Args:
        labels: integers of shape `(num_images,)`.
        shots: numbers of images of each class.
        seed: integer of 0 or more.

    Returns:
        For each number of shots an array of indices into `labels`, sorted by
        class.
    """
    rng = np.random.default_rng(seed)
    by_class = np.argsort(labels, kind="stable")
    ends = np.cumsum(np.bincount(labels))
    orders = [rng.permutation(rows) for rows in np.split(by_class, ends[:-1])]
    return [
        np.concatenate([rows[:number] for rows in orders]) for number in shots
    ]


def check_sequence(
    name: str, values: float | Sequence[float], check: Callable
) -> tuple:
    """Returns a tuple of one value or several, each checked by `check`."""
    if isinstance(values, numbers.Real):
        values = (values,)
    values = tuple(check(name, value) for value in values)
    if not values:
        raise ValueError(
            f"`{name}` must have at least one value. Received: {name}={values}"
        )
    return values
