"""From an image to what it shows, in one call."""

import dataclasses
import os
from collections.abc import Iterator
from typing import Any

import keras
import numpy as np

from keras_vit.anatomy import (
    check_functional,
    class_names_of,
    last_activation,
)
from keras_vit.arguments import check_positive
from keras_vit.checkpoints.class_names import most_likely
from keras_vit.data.images import load_images
from keras_vit.serving.running import predict


@dataclasses.dataclass(frozen=True)
class Classification:
    """The likeliest classes of one image, which print as a table.

    To go through it is to go through pairs of name and probability.

    Args:
        names: what the classes are called, the likeliest first.
        probabilities: their probabilities, in [0, 1].
        classes: their numbers.

    Example:

    >>> result = keras_vit.serving.Classification(
    ...     ("zebra", "horse"), (0.931, 0.042), (340, 339)
    ... )
    >>> print(result)
     93.1 %  zebra
      4.2 %  horse
    >>> dict(result)["zebra"]
    0.931
    """

    names: tuple[str, ...]
    probabilities: tuple[float, ...]
    classes: tuple[int, ...]

    def __iter__(self) -> Iterator[tuple[str, float]]:
        return zip(self.names, self.probabilities)

    def __str__(self):
        return "\n".join(f"{100 * p:5.1f} %  {name}" for name, p in self)


def classify(
    model: keras.Model,
    images: Any,
    top: int = 5,
    *,
    multi_label: bool = False,
    batch_size: int = 32,
) -> Classification | list[Classification]:
    """Says what images show.

    Files, PIL images and arrays of any size are read as `load_image` reads
    them for the model. The names are those that the model keeps, see
    `name_classes`; without any, classes are called by their numbers. A model
    that was fine-tuned on images cut in another way than its `Preprocessing`
    advises is the more accurate if it gets such images here: those of
    `load_images(sources, image_size)` after an `ImageFolder` without one.

    Args:
        model: a `keras.Model` from images to logits or probabilities of shape
            `(batch, num_classes)`.
        images: a path, a PIL image or an array of shape `(height, width,
            channels)`; a list of them; or a batch of what `load_images`
            returns, which is taken as it is.
        top: number of classes for each image, or fewer where there are fewer.
        multi_label: whether each class is a question of its own, whose
            probability is the sigmoid of its logit. By default the classes
            exclude each other, and probabilities are the softmax of logits.
            Probabilities that the model itself returns stay as they are.
        batch_size: images a step.

    Returns:
        A `Classification` of one image, or a list of them.

    Raises:
        ValueError: if the model has no such output or returns numbers that
            are not finite, if `multi_label` contradicts its activation, or as
            `load_image`.
        ImportError: if Pillow is not installed and images must be read.

    Example:

    >>> model = keras_vit.ViT("Ti/16", image_size=32, num_classes=2)
    >>> model = keras_vit.name_classes(model, ["cat", "dog"])
    >>> print(keras_vit.classify(model, np.zeros((48, 64, 3))))
     50.0 %  cat
     50.0 %  dog

    ```python
    model = keras_vit.from_checkpoint("hf://google/vit-base-patch16-224")
    print(keras_vit.classify(model, "zebra.jpg"))
    ```
    """
    check_positive("top", top)
    check_functional(model)
    shape = tuple(model.output_shape) if len(model.outputs) == 1 else ()
    if len(shape) != 2:
        raise ValueError(
            "`model` must return one score for each class, of shape (batch, "
            f"num_classes). Received: '{model.name}' with outputs of shape "
            f"{model.output_shape}"
        )
    to_probabilities = _activation(model, multi_label)
    images, single = read_batch(model, images)
    scores = predict(model, images, batch_size=batch_size, verbose=0)
    if not np.isfinite(scores).all():
        raise ValueError(f"'{model.name}' returns numbers that are not finite.")
    probabilities = to_probabilities(scores.astype("float64"))
    names = class_names_of(model) or [str(x) for x in range(shape[1])]
    results = [
        Classification(
            tuple(names[index] for index in classes),
            tuple(float(row[index]) for index in classes),
            tuple(map(int, classes)),
        )
        for row, classes in zip(probabilities, most_likely(probabilities, top))
    ]
    return results[0] if single else results


def read_batch(model: keras.Model, images: Any) -> tuple[np.ndarray, bool]:
    """Returns images as a batch for a model, and whether it was one image.

    Args:
        model: a `keras.Model`.
        images: what `classify` takes.
    """
    single = isinstance(images, (str, os.PathLike)) or (
        # Arrays, tensors, and PIL images, which have a size alone.
        len(images.shape) < 4
        if hasattr(images, "shape")
        else hasattr(images, "size")
    )
    if single or not hasattr(images, "shape"):
        images = load_images([images] if single else images, model)
    return images, single


def _activation(model, multi_label):
    """The function from what a model returns to probabilities."""
    own = last_activation(model)
    if own not in ("linear", "softmax", "sigmoid"):
        raise ValueError(
            "`model` must return logits, or probabilities by softmax or "
            f"sigmoid. Received: '{model.name}' with activation {own!r}"
        )
    if own == "softmax" and multi_label:
        raise ValueError(
            f"'{model.name}' ends in a softmax, whose classes exclude each "
            "other. Received: multi_label=True"
        )
    if own != "linear":
        return lambda scores: scores
    if multi_label:
        return lambda scores: np.exp(-np.logaddexp(0, -scores))
    if model.output_shape[-1] == 1:
        raise ValueError(
            f"'{model.name}' returns one logit, whose softmax is always 1. "
            "Pass `multi_label=True` for its sigmoid."
        )
    return _softmax


def _softmax(scores):
    odds = np.exp(scores - scores.max(axis=1, keepdims=True))
    return odds / odds.sum(axis=1, keepdims=True)
