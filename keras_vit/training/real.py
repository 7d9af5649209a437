"""Accuracy on ImageNet by its reassessed labels ("ReaL").

Beyer et al. 2020, arXiv:2006.07159. People looked at the validation images
again and noted every class they saw: several for some images, none for
others. Table 2 of the Vision Transformer paper (arXiv 2010.11929) has this
accuracy.
"""

import json
import os
import pathlib

import keras
import numpy as np
from keras import ops

from keras_vit.arguments import check_positive


@keras.saving.register_keras_serializable(package="keras_vit")
class RealAccuracy(keras.metrics.Mean):
    """Fraction of images whose best class is one of the correct ones.

    Images without a correct class do not count. The accuracy is in [0, 1],
    and 0 before the first image that counts.

    Args:
        name: name of the metric.
        dtype: dtype of the mean.

    Call arguments of `update_state`:
        y_true: numbers of shape `(batch, num_classes)`, above 0 for each
            correct class; see `real_labels`.
        y_pred: scores of shape `(batch, num_classes)`, logits or
            probabilities.
        sample_weight: weights of shape `(batch,)`, or `None`.

    Example:

    >>> metric = keras_vit.training.RealAccuracy()
    >>> right = np.array([[1, 1, 0], [0, 0, 1], [0, 0, 0]])
    >>> scores = np.array([[0.1, 0.9, 0.0], [0.8, 0.1, 0.1], [0.2, 0.5, 0.3]])
    >>> metric.update_state(right, scores)
    >>> float(metric.result())
    0.5

    ```python
    # Keras does not evaluate without a loss.
    metric = keras_vit.training.RealAccuracy()
    model.compile(loss="mse", metrics=[metric])
    labels = keras_vit.training.real_labels("real.json")
    keras_vit.evaluate(model, images, labels, return_dict=True)
    ```

    Reference:
        - [Beyer et al., 2020](https://arxiv.org/abs/2006.07159), section 3;
          google-research/reassessed-imagenet
    """

    def __init__(
        self,
        name: str = "real_accuracy",
        dtype: str | keras.DTypePolicy | None = None,
    ):
        super().__init__(name=name, dtype=dtype)

    def update_state(self, y_true, y_pred, sample_weight=None):
        right = ops.cast(y_true, self.dtype) > 0  # TensorFlow compares no bools
        best = ops.argmax(y_pred, axis=-1)
        hit = ops.take_along_axis(right, best[:, None], axis=-1)[:, 0]
        counts = ops.cast(ops.any(right, axis=-1), self.dtype)
        if sample_weight is not None:
            weight = ops.cast(sample_weight, self.dtype)
            counts = counts * ops.reshape(weight, ops.shape(counts))
        super().update_state(ops.cast(hit, self.dtype), sample_weight=counts)


def real_labels(path: str | os.PathLike, num_classes: int = 1000) -> np.ndarray:
    """Reads the reassessed labels of ImageNet's validation images.

    The official file, `real.json`, is a JSON list with a list of class numbers
    for each of the 50,000 images, in the order of their file names,
    `ILSVRC2012_val_00000001.JPEG` and so on; some lists are empty. Classes
    have the usual order, that of WordNet's ids.

    Args:
        path: path of the file.
        num_classes: number of classes, one column for each.

    Returns:
        A `uint8` array of 0 and 1 of shape `(num_images, num_classes)`.

    Raises:
        ValueError: if the file is not such a list, or a class is not an
            integer in `[0, num_classes)`.
        OSError: if the file cannot be read.

    Example:

    ```python
    labels = keras_vit.training.real_labels("real.json")
    labels.shape  # (50000, 1000)
    ```

    Reference:
        - [google-research/reassessed-imagenet](
          https://github.com/google-research/reassessed-imagenet)
    """
    check_positive("num_classes", num_classes)
    try:
        lists = json.loads(pathlib.Path(path).read_text(encoding="utf-8"))
    except ValueError as error:
        raise ValueError(f"'{path}' is not a JSON file: {error}") from error
    if not isinstance(lists, list) or not lists:
        raise ValueError(
            f"'{path}' must hold a list of lists of class numbers. "
            f"Received: {type(lists).__name__}, {str(lists)[:40]}"
        )
    labels = np.zeros((len(lists), num_classes), "uint8")
    for row, classes in enumerate(lists):
        # Not `isinstance`: to Python, True is an integer.
        if not isinstance(classes, list) or any(
            type(index) is not int or not 0 <= index < num_classes
            for index in classes
        ):
            raise ValueError(
                f"'{path}' must hold lists of integers in [0, {num_classes}). "
                f"Received: {classes!r} for image {row}"
            )
        labels[row, classes] = 1
    return labels
