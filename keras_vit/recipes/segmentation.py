"""The loss and the metric of models that give each pixel a class."""

from typing import Any

import keras

from keras_vit.arguments import check_positive
from keras_vit.training.losses import SparseCategoricalCrossentropy

IGNORED = 255  # the label of PASCAL VOC and Cityscapes for no class


def segmentation(
    num_classes: int, ignore_label: int | None = IGNORED
) -> dict[str, Any]:
    """Loss and mean IoU of a segmentation model, for `model.compile`.

    The loss is the cross-entropy of every pixel, the metric the mean over
    classes of intersection over union. Both take logits, and skip the pixels
    with the label `ignore_label`.

    Args:
        num_classes: number of classes.
        ignore_label: label of the pixels that do not count, or `None`.

    Returns:
        A dict with `loss` and `metrics`, to merge with the arguments of
        another recipe.

    Raises:
        ValueError: if `num_classes` is not above 0.

    Example:

    >>> sorted(keras_vit.recipes.segmentation(num_classes=3))
    ['loss', 'metrics']

    ```python
    model.compile(
        **keras_vit.recipes.adamw(steps)
        | keras_vit.recipes.segmentation(num_classes=3)
    )
    ```
    """
    check_positive("num_classes", num_classes)
    return {
        "loss": SparseCategoricalCrossentropy(
            from_logits=True, ignore_class=ignore_label
        ),
        "metrics": [
            keras.metrics.MeanIoU(
                num_classes,
                name="mean_iou",
                ignore_class=ignore_label,
                sparse_y_pred=False,
            )
        ],
    }
