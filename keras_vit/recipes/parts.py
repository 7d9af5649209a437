"""Training from scratch: the general recipe, and the parts all recipes share.

A recipe is the dict that `model.compile(**recipe)` takes. The one here suits
data of any size; `published` has those that follow a table of a paper. Left
out: the sigmoid loss of big_vision (Keras averages over classes, the official
loss sums), and what belongs to the model (dropout) or to the data
(augmentation, image size).
"""

import math
from typing import Any

import keras

from keras_vit.arguments import check_above_zero, check_positive, check_rate
from keras_vit.training.losses import SparseCategoricalCrossentropy
from keras_vit.training.optimizers import AdamW
from keras_vit.training.schedules import Decay, WarmupDecay

# Warm-up of Table 3.
PRETRAIN_WARMUP_STEPS = 10_000


def total_steps(num_images: int, batch_size: int, epochs: int) -> int:
    """Returns the number of updates in `epochs` passes over the images.

    It is `epochs * ceil(num_images / batch_size)`, because `fit` trains on the
    last, smaller batch too. `batch_size` is the number of images behind one
    update, so with gradient accumulation over `k` batches it is `k` times the
    loader's.

    Args:
        num_images: images in the training set.
        batch_size: images behind an update.
        epochs: passes over the training set.

    Returns:
        The number of updates.

    Raises:
        ValueError: if an argument is not an integer above 0.

    Example:

    >>> total_steps(50_000, batch_size=512, epochs=10)
    980
    """
    num_images = check_positive("num_images", num_images)
    batch_size = check_positive("batch_size", batch_size)
    epochs = check_positive("epochs", epochs)
    return epochs * math.ceil(num_images / batch_size)


def adamw(
    total_steps: int,
    learning_rate: float = 1e-3,
    weight_decay: float = 0.1,
    warmup_steps: int | None = None,
    decay: Decay = "cosine",
    *,
    end_learning_rate: float = 0.0,
    clip_norm: float | None = 1.0,
    one_hot: bool = False,
    label_smoothing: float = 0.0,
    polyak: float | None = None,
    learning_rate_multipliers: dict[str, float] | None = None,
    gradient_accumulation_steps: int | None = None,
) -> dict[str, Any]:
    """Training from scratch: Adam, decay of kernels alone, warm-up and decay.

    One update, with gradients clipped to a global norm, is

        w <- w - rate(t) (adam(gradient) + weight_decay w)    for kernels
        w <- w - rate(t)  adam(gradient)                      for the rest

    `weight_decay` is in units of the learning rate, as the papers print it:
    their 0.03, 0.1 and 0.3 go in unchanged. big_vision's `wd` is the product
    of rate and decay: its `lr=1e-3, wd=1e-4` is `weight_decay=0.1` here.

    Args:
        total_steps: length of the training in updates, see `total_steps()`.
        learning_rate: peak rate.
        weight_decay: decoupled decay of variables named `kernel`.
        warmup_steps: updates of linear warm-up. `None` is a tenth of
            `total_steps`, at most 10,000: the proportion of the paper's
            ImageNet row.
        decay: `"cosine"`, `"linear"`, `"rsqrt"` or `"constant"`.
        end_learning_rate: floor of cosine and linear decay.
        clip_norm: global norm to clip gradients to, or `None`.
        one_hot: whether labels are one-hot (or mixed) rows of shape
            `(batch, num_classes)` and not integers of shape `(batch,)`.
        label_smoothing: mass in `[0, 1)` spread evenly over the classes. Keras
            has it for one-hot labels alone.
        polyak: momentum of an exponential moving average of the weights, for
            instance 0.9999, or `None`. It is Keras' own `use_ema`: at the end
            of `fit` the model holds the average. To validate with the average
            and save it in between, use `SwapEMAWeights` as below.
        learning_rate_multipliers: dict of path prefix to multiplier, from
            `layer_wise_learning_rates` for example.
        gradient_accumulation_steps: batches behind one update, 2 or more, or
            `None` for one. Steps remain updates: the schedule is stretched to
            Keras' count of batches, and the average's momentum is adjusted,
            because Keras averages after every batch.

    Returns:
        A dict with `optimizer`, `loss` (on logits) and `metrics`, for
        `model.compile`.

    Raises:
        ValueError: if an argument is outside its range, if the warm-up does
            not fit into `total_steps`, or if label smoothing is above 0 with
            integer labels.

    Example:

    ```python
    steps = recipes.total_steps(len(images), batch_size=256, epochs=100)
    model.compile(**recipes.adamw(steps, weight_decay=0.1, polyak=0.999))
    model.fit(
        images,
        labels,
        batch_size=256,
        epochs=100,
        validation_data=test,
        callbacks=[keras.callbacks.SwapEMAWeights(swap_on_epoch=True)],
    )
    ```

    Reference:
        - [Dosovitskiy et al., 2021](https://arxiv.org/abs/2010.11929),
          appendix B.1
        - [Steiner et al., 2021](https://arxiv.org/abs/2106.10270), section 3;
          `big_vision/configs/vit_i1k.py`
    """
    total_steps = check_positive("total_steps", total_steps)
    if warmup_steps is None:
        warmup_steps = min(PRETRAIN_WARMUP_STEPS, total_steps // 10)
    accumulation = check_accumulation(gradient_accumulation_steps)
    optimizer = AdamW(
        schedule(
            total_steps=total_steps,
            learning_rate=learning_rate,
            warmup_steps=warmup_steps,
            decay=decay,
            end_learning_rate=end_learning_rate,
            accumulation=accumulation,
        ),
        weight_decay=weight_decay,
        learning_rate_multipliers=learning_rate_multipliers,
        **updates(clip_norm, polyak, accumulation),
    )
    return compile_arguments(optimizer, one_hot, label_smoothing)


def check_accumulation(steps: int | None) -> int:
    """Returns the number of batches behind an update, or raises."""
    if steps is None:
        return 1
    steps = check_positive("gradient_accumulation_steps", steps)
    if steps == 1:
        raise ValueError(
            "`gradient_accumulation_steps` must be 2 or more, or None. "
            "Received: gradient_accumulation_steps=1"
        )
    return steps


def schedule(
    total_steps: int, warmup_steps: int, accumulation: int, **arguments
) -> WarmupDecay:
    """Returns the schedule over batches, which Keras counts, not updates."""
    # Made before stretching too, so that an error shows the caller's numbers.
    stretched = WarmupDecay(
        total_steps=total_steps, warmup_steps=warmup_steps, **arguments
    )
    if accumulation == 1:
        return stretched
    return WarmupDecay(
        total_steps=total_steps * accumulation,
        warmup_steps=warmup_steps * accumulation,
        **arguments,
    )


def updates(
    clip_norm: float | None, polyak: float | None, accumulation: int
) -> dict[str, Any]:
    """Returns arguments of optimizers: clipping, averaging, accumulation."""
    if clip_norm is not None:
        clip_norm = check_above_zero("clip_norm", clip_norm)
    arguments = {"global_clipnorm": clip_norm}
    if polyak is not None:
        polyak = check_rate("polyak", polyak)
        # Keras averages after each batch, so k times for each update. The k-th
        # root gives the momentum that was asked for.
        arguments["use_ema"] = True
        arguments["ema_momentum"] = polyak ** (1 / accumulation)
    if accumulation > 1:
        arguments["gradient_accumulation_steps"] = accumulation
    return arguments


def compile_arguments(
    optimizer: keras.optimizers.Optimizer,
    one_hot: bool,
    label_smoothing: float,
) -> dict[str, Any]:
    """Returns arguments of `compile`: optimizer, cross-entropy, accuracy."""
    label_smoothing = check_rate("label_smoothing", label_smoothing)
    if label_smoothing and not one_hot:
        raise ValueError(
            "`label_smoothing` must be 0 for integer labels: Keras smooths "
            "one-hot labels alone; pass `one_hot=True` and one-hot labels. "
            f"Received: label_smoothing={label_smoothing}, one_hot={one_hot}"
        )
    if one_hot:
        loss = keras.losses.CategoricalCrossentropy(
            from_logits=True, label_smoothing=label_smoothing
        )
        accuracy = keras.metrics.CategoricalAccuracy(name="accuracy")
    else:
        loss = SparseCategoricalCrossentropy(from_logits=True)
        accuracy = keras.metrics.SparseCategoricalAccuracy(name="accuracy")
    return {"optimizer": optimizer, "loss": loss, "metrics": [accuracy]}
