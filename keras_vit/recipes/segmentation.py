"""What a model that gives each pixel a class is trained on and judged by."""

import keras

from keras_vit.arguments import check_positive

IGNORED = 255  # the label that PASCAL VOC and Cityscapes give to no class


def segmentation(num_classes: int, ignore_label: int | None = IGNORED) -> dict:
    """Loss and mean IoU of a segmentation model, for `model.compile`.

    Cross-entropy of every pixel, and the mean over classes of intersection
    over union, both from logits and over the pixels whose label is not
    `ignore_label`.

    Args:
        num_classes: Number of classes.
        ignore_label: Label of the pixels that do not count, or `None`.

    Returns:
        A dict with `loss` and `metrics`, to be merged with the arguments that
        another recipe gives.

    Raises:
        ValueError: If `num_classes` is not above 0.

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
        "loss": keras.losses.SparseCategoricalCrossentropy(
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
