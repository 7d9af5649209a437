"""Names of classes: of a file, and of ImageNet-1k and ImageNet-21k.

The lists of ImageNet hold WordNet's identifier and first lemma, in the order of
the heads of the official checkpoints: 1,000 classes, and the 21,843 of the
files that were trained on ImageNet-21k.
"""

import functools
import importlib.resources
import re
from typing import Any

import numpy as np

LISTS = {1000: "imagenet1k.txt", 21843: "imagenet21k.txt"}
# The end of timm's tags of weights that were last trained on ImageNet.
TAGS = {1000: re.compile(r"(.*_)?in1k(_\d+)?"), 21843: re.compile(r".*in21k")}
# What transformers calls classes that nobody named.
UNNAMED = re.compile(r"LABEL_\d+")


def decode_predictions(
    predictions: Any, top: int = 5
) -> list[list[tuple[str, str, float]]]:
    """Names the most likely classes of each image.

    Args:
        predictions: array or tensor of shape `(batch, 1000)` or `(batch,
            21843)`: logits or probabilities of a model with a head for
            ImageNet-1k or ImageNet-21k.
        top: number of classes for each image.

    Returns:
        For each image a list of `top` tuples `(identifier, name, score)`, the
        likeliest first, as the functions of this name in
        `keras.applications`. Scores are those in `predictions`.

    Raises:
        ValueError: if there is no list of as many classes, or not as many
            classes as `top`.

    Example:

    >>> predictions = np.zeros((1, 1000))
    >>> predictions[0, 340] = 1.0
    >>> keras_vit.decode_predictions(predictions, top=1)
    [[('n02391049', 'zebra', 1.0)]]
    """
    if not isinstance(predictions, np.ndarray):
        import keras

        predictions = keras.ops.convert_to_numpy(predictions)
    if predictions.ndim != 2 or predictions.shape[1] not in LISTS:
        raise ValueError(
            "`predictions` must be of shape (batch, 1000) or (batch, 21843). "
            f"Received: shape={predictions.shape}"
        )
    classes = _classes(predictions.shape[1])
    if not 1 <= top <= len(classes):
        raise ValueError(
            f"`top` must be between 1 and {len(classes)}. Received: top={top}"
        )
    best = most_likely(predictions, top)
    return [
        [(*classes[index], float(scores[index])) for index in indices]
        for indices, scores in zip(best, predictions)
    ]


def most_likely(scores: np.ndarray, top: int) -> np.ndarray:
    """Returns the classes of the largest scores of each image.

    Args:
        scores: array of shape `(batch, num_classes)`.
        top: number of classes for each image.

    Returns:
        Array of ints of shape `(batch, top)`, the likeliest first.
    """
    return np.argsort(-scores, axis=1, kind="stable")[:, :top]


def imagenet(num_classes: int | None) -> tuple[str, ...] | None:
    """Returns the names of ImageNet's classes, if there are so many."""
    if num_classes not in LISTS:
        return None
    return tuple(name for _, name in _classes(num_classes))


def of_config(config: dict, num_classes: int | None) -> tuple | None:
    """Returns what `config.json` calls the classes of a head.

    Args:
        config: what it holds: `id2label` of transformers, `label_names` of
            timm, or a tag by which timm says that the weights were trained on
            ImageNet.
        num_classes: classes of the head, or `None` for no head.

    Returns:
        A tuple of strings, or `None` if it names none, or not so many.
    """
    stated = config.get("pretrained_cfg") or {}
    names = (
        config.get("id2label")
        or config.get("label_names")
        or stated.get("label_names")
    )
    if names:
        known = config.get("label_descriptions") or {}
        if isinstance(names, dict):
            numbers = {int(number): name for number, name in names.items()}
            names = [numbers.get(index) for index in range(len(numbers))]
        named = len(names) == num_classes and not all(
            UNNAMED.fullmatch(str(name)) for name in names
        )
        return tuple(str(known.get(x, x)) for x in names) if named else None
    tag = TAGS.get(num_classes)
    if tag and tag.fullmatch(str(stated.get("tag", ""))):
        return imagenet(num_classes)
    return None


@functools.cache
def _classes(count):
    file = importlib.resources.files("keras_vit.checkpoints") / "imagenet"
    lines = (file / LISTS[count]).read_text(encoding="utf-8").splitlines()
    return [tuple(line.split(" ", 1)) for line in lines]
