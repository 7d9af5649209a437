"""Names of the classes of ImageNet-1k and ImageNet-21k.

The lists hold WordNet's identifier and first lemma, in the order of the heads
of the official checkpoints: 1,000 classes, and the 21,843 of the files that
were trained on ImageNet-21k.
"""

import functools
import importlib.resources
from typing import Any

import numpy as np

LISTS = {1000: "imagenet1k.txt", 21843: "imagenet21k.txt"}


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
    best = np.argsort(-predictions, axis=1, kind="stable")[:, :top]
    return [
        [(*classes[index], float(scores[index])) for index in indices]
        for indices, scores in zip(best, predictions)
    ]


@functools.cache
def _classes(count):
    file = importlib.resources.files("keras_vit.checkpoints") / "imagenet"
    lines = (file / LISTS[count]).read_text(encoding="utf-8").splitlines()
    return [tuple(line.split(" ", 1)) for line in lines]
