"""Training from scratch: the general recipe, and the parts all recipes share.

A recipe is the dict that `model.compile(**recipe)` takes. The one here suits
data of any size; those that follow a table of a paper are in `recipes.py`.
Left out: the sigmoid loss of big_vision (Keras' averages over classes, the
official one sums), and what belongs to the model (dropout) or to the data
(augmentation, image size).
"""

import math

import keras

from keras_vit.arguments import check_above_zero, check_positive, check_rate
from keras_vit.training.optimizers import AdamW
from keras_vit.training.schedules import WarmupDecay

# Warm-up of Table 3.
PRETRAIN_WARMUP_STEPS = 10_000


def total_steps(num_images: int, batch_size: int, epochs: int) -> int:
    """Number of updates in `epochs` passes over `num_images` images.

    `epochs * ceil(num_images / batch_size)`: `fit` trains on the last, smaller
    batch too. `batch_size` is the number of images behind one update, so with
    gradient accumulation over `k` batches it is `k` times the loader's.

    Args:
        num_images: Images in the training set.
        batch_size: Images an update.
        epochs: Passes over the training set.

    Returns:
        The number of updates.

    Raises:
        ValueError: If an argument is not an integer above 0.

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
    decay: str = "cosine",
    *,
    end_learning_rate: float = 0.0,
    clip_norm: float | None = 1.0,
    one_hot: bool = False,
    label_smoothing: float = 0.0,
    polyak: float | None = None,
    learning_rate_multipliers: dict[str, float] | None = None,
    gradient_accumulation_steps: int | None = None,
) -> dict:
    """Training from scratch: Adam, decay of kernels alone, warm-up and decay.

    One update is `w <- w - rate(t) (adam + weight_decay w)` for kernels and
    `w <- w - rate(t) adam` for the rest, with gradients clipped to a global
    norm. `weight_decay` is thus in units of the learning rate, which is how
    the papers print it: their 0.03, 0.1 and 0.3 go in unchanged. Only
    big_vision's `wd` differs, being the product of rate and decay: its
    `lr=1e-3, wd=1e-4` is `weight_decay=0.1` here.

    Args:
        total_steps: Length of the training in updates, see `total_steps()`.
        learning_rate: Peak rate.
        weight_decay: Decoupled decay of variables named `kernel`.
        warmup_steps: Updates of linear warm-up. `None` is a tenth of
            `total_steps`, at most 10,000: the proportion of the paper's
            ImageNet row.
        decay: `"cosine"`, `"linear"`, `"rsqrt"` or `"constant"`.
        end_learning_rate: Floor of cosine and linear decay.
        clip_norm: Global norm to clip gradients to, or `None`.
        one_hot: Whether labels are one-hot (or mixed) rows
            `(batch, num_classes)` and not integers `(batch,)`.
        label_smoothing: Mass in `[0, 1)` spread evenly over the classes. Keras
            offers it for one-hot labels alone.
        polyak: Momentum of an exponential moving average of the weights, for
            instance 0.9999, or `None`. It is Keras' own `use_ema`: at the end
            of `fit` the model holds the average; to validate with the average
            and save it in between, use `SwapEMAWeights` as below.
        learning_rate_multipliers: Dict of path prefix to multiplier, from
            `layer_wise_learning_rates` for example.
        gradient_accumulation_steps: Batches behind one update, 2 or more, or
            `None` for one. Steps stay updates: the schedule is stretched to
            Keras' count of batches, and the average's momentum is adjusted,
            since Keras averages after every batch.

    Returns:
        A dict with `optimizer`, `loss` (on logits) and `metrics`, for
        `model.compile`.

    Raises:
        ValueError: If an argument is outside its range, if the warm-up does
            not fit into `total_steps`, or if label smoothing is asked for with
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
        Dosovitskiy et al., arXiv 2010.11929, Appendix B.1; Steiner et al.,
        arXiv 2106.10270, Section 3; `big_vision/configs/vit_i1k.py`.
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


def check_accumulation(steps):
    if steps is None:
        return 1
    steps = check_positive("gradient_accumulation_steps", steps)
    if steps == 1:
        raise ValueError(
            "`gradient_accumulation_steps` must be 2 or more, or None. "
            "Received: gradient_accumulation_steps=1"
        )
    return steps


def schedule(total_steps, warmup_steps, accumulation, **arguments):
    """The schedule over batches, which Keras counts, from one over updates."""
    # Checked before stretching, so that an error shows the caller's numbers.
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


def updates(clip_norm, polyak, accumulation):
    """Optimizer arguments for clipping, averaging and accumulation."""
    if clip_norm is not None:
        clip_norm = check_above_zero("clip_norm", clip_norm)
    arguments = {"global_clipnorm": clip_norm}
    if polyak is not None:
        polyak = check_rate("polyak", polyak)
        # Keras averages after each batch, also between updates: k times an
        # update. The k-th root gives the momentum asked for.
        arguments["use_ema"] = True
        arguments["ema_momentum"] = polyak ** (1 / accumulation)
    if accumulation > 1:
        arguments["gradient_accumulation_steps"] = accumulation
    return arguments


def compile_arguments(optimizer, one_hot, label_smoothing):
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
        loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
        accuracy = keras.metrics.SparseCategoricalAccuracy(name="accuracy")
    return {"optimizer": optimizer, "loss": loss, "metrics": [accuracy]}
