"""Checks of images and labels, before a backend sees them.

JAX silently computes something from a wrong shape or a label out of range;
TensorFlow and PyTorch stop in the middle, each with its own message.
"""

import numbers
from typing import Any

import keras
import numpy as np

from keras_vit.layers import Patches

STRUCTURES = (list, tuple, dict)
NO_IMAGES = (type(None), str, bytes, numbers.Number)


def check_labels(labels: Any, num_classes: int) -> np.ndarray:
    """Raises unless a classifier of so many classes can take the labels.

    Keras leaves this to the backend: TensorFlow and PyTorch stop at a label
    out of range, JAX silently trains on. Call it once on your labels before
    `fit`; `keras_vit.evaluate` does so by itself.

    Args:
        labels: integers of shape `(num_images,)` or `(num_images, 1)`, each
            in `[0, num_classes)`; or floats of shape
            `(num_images, num_classes)`, each in [0, 1]: one-hot labels or
            mixtures of them.
        num_classes: number of classes.

    Returns:
        The labels as a NumPy array.

    Raises:
        ValueError: if shape, kind or range are wrong.

    Example:

    >>> keras_vit.data.check_labels([0, 2, 1], num_classes=3)
    array([0, 2, 1])
    """
    array = np.asarray(labels)
    per_class = array.ndim == 2 and array.shape[1] == num_classes
    if per_class and array.shape[1] > 1:
        bad = ~((array >= 0) & (array <= 1))
        if bad.any():
            row = int(np.argwhere(bad.any(axis=1))[0, 0])
            raise ValueError(
                "One-hot `labels` must be in [0, 1]. Received: "
                f"labels[{row}]={array[row]}"
            )
        return array
    if array.ndim == 0 or array.ndim > 2 or array.shape[1:] not in ((), (1,)):
        raise ValueError(
            "`labels` must be of shape (num_images,), or of shape "
            f"(num_images, {num_classes}) if they are one-hot. "
            f"Received: shape={array.shape}"
        )
    if not np.issubdtype(array.dtype, np.integer):
        raise ValueError(
            "`labels` of one number an image must be integers. "
            f"Received: dtype={array.dtype}"
        )
    bad = np.flatnonzero((array < 0) | (array >= num_classes))
    if len(bad):
        raise ValueError(
            f"`labels` must be in [0, {num_classes}). Received: "
            f"labels[{bad[0]}]={array.reshape(-1)[bad[0]]} "
            f"({len(bad)} of {len(array)} out of range)"
        )
    return array


def check_batch(model: keras.Model, x: Any) -> None:
    """Raises unless the model can take an array of images.

    Args:
        model: a `keras.Model`. A model that does not know its input shape
            takes everything.
        x: an array; a data set is not checked.

    Raises:
        ValueError: if there is nothing, or if the array has another shape.
    """
    # A model of several inputs takes several arrays.
    leaves = keras.tree.flatten(x) if isinstance(x, STRUCTURES) else [x]
    if not leaves or any(isinstance(leaf, NO_IMAGES) for leaf in leaves):
        raise ValueError(
            f"`x` must be an array of images or a data set. Received: x={x!r}"
        )
    # Only functional models have an `input_shape`.
    expected = getattr(model, "input_shape", None)
    if not hasattr(x, "shape") or not isinstance(expected, tuple):
        return
    given = tuple(x.shape)
    if len(given) != len(expected) or any(
        size is not None and size != actual
        for size, actual in zip(expected[1:], given[1:])
    ):
        raise ValueError(
            f"'{model.name}' takes images of shape {expected}, where None is "
            f"any size. Received: shape={given}"
        )
    if 0 in given:
        raise ValueError(
            f"`x` must hold at least one image. Received: shape={given}"
        )
    for layer in model.layers:
        # A model for any size would fail inside; raise before that.
        if isinstance(layer, Patches) and None in expected[1:]:
            layer.compute_output_shape(given)
