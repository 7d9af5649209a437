"""The papers' training recipes: arguments of `model.compile(**recipe)`.

The settings of the Vision Transformer paper (arXiv 2010.11929, tables 3 and 4)
and of AugReg (arXiv 2106.10270). The numbers are in `tables`, row by row. Left
out: what belongs to the model (dropout) or to the data (augmentation, image
size).
"""

from typing import Any, Literal

import keras

from keras_vit.arguments import check_above_zero, check_choice, check_positive
from keras_vit.data.augmentation import AUGMENTATION_LEVELS, Level
from keras_vit.recipes.parts import (
    PRETRAIN_WARMUP_STEPS,
    adamw,
    check_accumulation,
    compile_arguments,
    schedule,
    updates,
)
from keras_vit.recipes.tables import (
    AUGREG,
    FINETUNE,
    PRETRAIN,
    Finetuning,
)
from keras_vit.training.optimizers import SGD

# The linear decay of the original code ends here (`linear_end` in
# vit_jax/utils.py); its cosine decay ends at 0.
LINEAR_END = 1e-5
# Batch size of Table 4, to which its rates belong.
FINETUNE_BATCH_SIZE = 512
# BiT calls sets of at least so many training images medium and large.
MEDIUM, LARGE = 20_000, 500_000


def pretrain(
    variant: str,
    dataset: Literal["jft", "imagenet-21k", "imagenet"],
    total_steps: int,
    warmup_steps: int = PRETRAIN_WARMUP_STEPS,
    **options,
) -> dict[str, Any]:
    """Pre-training as in Table 3 of the paper.

    Adam with the row's peak rate, decay and weight decay, 10,000 warm-up
    steps, batch 4096. Linear decay ends at 1e-5, as in the official code.
    Gradients are clipped (global norm 1) on ImageNet alone. The row's dropout
    is an argument of the model: `PRETRAIN["ViT", "imagenet"].dropout`. Keras
    gets the weight decay of the table unchanged.

    Args:
        variant: model of the table, such as `"B/16"`, `"R50+L/32"`, `"R50x1"`.
            On `"imagenet"` any pure ViT.
        dataset: `"jft"`, `"imagenet-21k"` or `"imagenet"`.
        total_steps: updates of the training. The paper's epochs are in the
            table; Table 3 gives them for batches of 4096.
        warmup_steps: updates of warm-up; must be below `total_steps`, so give
            a number for short runs.
        **options: further arguments of `adamw`, which win over the table.

    Returns:
        A dict for `model.compile`.

    Raises:
        ValueError: if the table has no such row, or as in `adamw`.

    Example:

    >>> recipe = pretrain("B/16", "imagenet", total_steps=93_900)
    >>> recipe["optimizer"].get_config()["weight_decay"]
    0.3

    Reference:
        - [Dosovitskiy et al., 2021](https://arxiv.org/abs/2010.11929), table 3;
          `vit_jax/utils.py`
    """
    row = PRETRAIN.get((variant, dataset))
    if row is None and not str(variant).startswith("R"):
        row = PRETRAIN.get(("ViT", dataset))
    if row is None:
        known = ", ".join(f"({name!r}, {data!r})" for name, data in PRETRAIN)
        raise ValueError(
            "`variant` and `dataset` must be a row of Table 3, where 'ViT' "
            f"stands for every pure ViT: {known}. Received: "
            f"variant={variant!r}, dataset={dataset!r}"
        )
    table = {
        "learning_rate": row.learning_rate,
        "weight_decay": row.weight_decay,
        "decay": row.decay,
        "end_learning_rate": LINEAR_END if row.decay == "linear" else 0.0,
        "clip_norm": row.clip_norm,
    }
    return adamw(total_steps, warmup_steps=warmup_steps, **(table | options))


def augreg(
    variant: str,
    total_steps: int,
    dataset: Literal["imagenet-21k", "imagenet"] = "imagenet-21k",
    level: Level | None = None,
    warmup_steps: int = PRETRAIN_WARMUP_STEPS,
    **options,
) -> dict[str, Any]:
    """Pre-training as in "How to train your ViT?" (AugReg).

    Adam, peak rate 1e-3, cosine decay, 10,000 warm-up steps, batch 4096,
    gradients clipped to global norm 1. Weight decay is that of the recommended
    ImageNet-21k checkpoint (0.1, for the smallest models 0.03), and 0.1 on
    ImageNet. The augmentation itself happens in the data pipeline, see
    `keras_vit.data.augmentation`. Its labels are one-hot, so `one_hot` is
    `True` by default. Dropout and stochastic depth are arguments of the model;
    their values are in `AUGREG[variant]`.

    Args:
        variant: a key of `AUGREG`.
        total_steps: updates of the training; the paper trains 300 epochs.
        dataset: `"imagenet-21k"` or `"imagenet"`.
        level: augmentation level of the data. Defaults to the table's for
            variant and data set.
        warmup_steps: updates of warm-up, below `total_steps`.
        **options: further arguments of `adamw`, which win over the table.

    Returns:
        A dict for `model.compile`.

    Raises:
        ValueError: if variant, data set or level is unknown, if the level
            mixes labels and `one_hot=False`, or as in `adamw`.

    Example:

    >>> recipe = augreg("S/16", total_steps=300_000)
    >>> recipe["optimizer"].get_config()["weight_decay"]
    0.03

    Reference:
        - [Steiner et al., 2021](https://arxiv.org/abs/2106.10270), section 3
          and figure 4; `big_vision/configs/vit_i1k.py`, `vit_i21k.py`
    """
    row = AUGREG[check_choice("variant", variant, AUGREG)]
    check_choice("dataset", dataset, ("imagenet-21k", "imagenet"))
    if level is None:
        level = row.imagenet if dataset == "imagenet" else row.imagenet_21k
    if level is None:
        raise ValueError(
            "`level` must be given where the papers name none. Received: "
            f"level=None, variant={variant!r}, dataset={dataset!r}"
        )
    check_choice("level", level, AUGMENTATION_LEVELS)
    table = {
        "learning_rate": 1e-3,
        "weight_decay": 0.1 if dataset == "imagenet" else row.weight_decay,
        "one_hot": True,
    }
    options = table | options
    if AUGMENTATION_LEVELS[level].mixup_alpha and not options["one_hot"]:
        raise ValueError(
            "`one_hot` must be True where MixUp mixes labels. Received: "
            f"one_hot={options['one_hot']}, level={level!r}"
        )
    return adamw(total_steps, warmup_steps=warmup_steps, **options)


def masked_patches(total_steps: int, **options) -> dict[str, Any]:
    """Pre-training on images alone, as in appendix B.1.2 of the paper.

    Adam, peak rate 2e-4, cosine decay. The paper has batches of 4096 and a
    million steps with 10,000 of warm-up; a shorter run warms up for a tenth of
    its steps. The paper names neither weight decay nor clipping, so there is
    none. Use it for `masked_patch_model` and `masked_autoencoder`, which have
    losses of their own. Masked autoencoders are trained with
    `learning_rate=1.5e-4` for each 256 images of a batch and
    `weight_decay=0.05` (arXiv 2111.06377, table 8).

    Args:
        total_steps: updates of the training.
        **options: arguments of `adamw` that concern the optimizer, which win
            over the paper's.

    Returns:
        A dict with `optimizer` for `model.compile`.

    Raises:
        ValueError: as in `adamw`.

    Example:

    >>> sorted(masked_patches(total_steps=1_000_000))
    ['optimizer']

    Reference:
        - [Dosovitskiy et al., 2021](https://arxiv.org/abs/2010.11929),
          appendix B.1.2
    """
    paper = {"learning_rate": 2e-4, "weight_decay": 0.0, "clip_norm": None}
    recipe = adamw(total_steps, **(paper | options))
    return {"optimizer": recipe["optimizer"]}


def finetune(
    steps: int,
    learning_rate: float = 0.03,
    *,
    batch_size: int = FINETUNE_BATCH_SIZE,
    warmup_steps: int | None = None,
    clip_norm: float | None = 1.0,
    one_hot: bool = False,
    label_smoothing: float = 0.0,
    polyak: float | None = None,
    learning_rate_multipliers: dict[str, float] | None = None,
    gradient_accumulation_steps: int | None = None,
) -> dict[str, Any]:
    """Fine-tuning as in Table 4 of the paper.

    SGD with momentum 0.9, cosine decay to 0, no weight decay, gradients
    clipped to global norm 1. The paper chooses the best of the table's rates
    on a held-out part of the training set, see `FINETUNE["pets"]` and
    `keras_vit.transfer_learning.grid_search`.

    Args:
        steps: length of the training in updates.
        learning_rate: peak rate for batches of 512 images.
        batch_size: images behind one update. The rate is multiplied by
            `batch_size / 512`, because the official README advises to lower it
            with the batch.
        warmup_steps: updates of linear warm-up. `None` is a fifth of `steps`,
            at most 500, as in big_vision on every set of Table 4: 100 of 500,
            and 500 of 10,000 and 20,000.
        clip_norm: as in `adamw`.
        one_hot: as in `adamw`.
        label_smoothing: as in `adamw`.
        polyak: as in `adamw`. The paper's ImageNet results are those of
            averaged weights, momentum 0.9999 (section 4.2).
        learning_rate_multipliers: as in `adamw`.
        gradient_accumulation_steps: as in `adamw`. The official code
            accumulates 8 batches of 64.

    Returns:
        A dict for `model.compile`.

    Raises:
        ValueError: as in `adamw`.

    Example:

    >>> recipe = finetune(500, learning_rate=0.01, batch_size=256)
    >>> recipe["optimizer"].get_config()["momentum"]
    0.9

    Reference:
        - [Dosovitskiy et al., 2021](https://arxiv.org/abs/2010.11929), table 4;
          `vit_jax/configs/common.py`, `big_vision/configs/transfer.py`
    """
    steps = check_positive("steps", steps)
    learning_rate = check_above_zero("learning_rate", learning_rate)
    batch_size = check_positive("batch_size", batch_size)
    if warmup_steps is None:
        warmup_steps = min(500, steps // 5)
    accumulation = check_accumulation(gradient_accumulation_steps)
    arguments = {
        "learning_rate": schedule(
            total_steps=steps,
            learning_rate=learning_rate * batch_size / FINETUNE_BATCH_SIZE,
            warmup_steps=warmup_steps,
            decay="cosine",
            end_learning_rate=0.0,
            accumulation=accumulation,
        ),
        "momentum": 0.9,
        **updates(clip_norm, polyak, accumulation),
    }
    # Keras' own class has a fused update on PyTorch, so use it if possible. A
    # model averaged by it cannot be trained on or saved on JAX.
    if learning_rate_multipliers or polyak is not None:
        optimizer = SGD(
            learning_rate_multipliers=learning_rate_multipliers, **arguments
        )
    else:
        optimizer = keras.optimizers.SGD(**arguments)
    return compile_arguments(optimizer, one_hot, label_smoothing)


def finetuning_for(num_images: int) -> Finetuning:
    """Returns the row of Table 4 for a training set of so many images.

    Below 20,000 images it is the row of Pets and Flowers (500 steps, a tenth
    held out to choose the rate), below 500,000 that of CIFAR (10,000 steps,
    2 %), from there on that of ImageNet (20,000 steps, 1 %). The bounds are
    those of BiT, whose lengths Table 4 follows: Flowers has 2,040 and Pets
    3,680 training images, CIFAR 50,000, ImageNet 1,281,167. The row of VTAB
    (1,000 images, 2,500 steps at 0.01) is one setting for nineteen tasks,
    without a held-out part.

    Args:
        num_images: images in the training set.

    Returns:
        A row with `steps`, `learning_rates` to choose from, `development`,
        the fraction to hold out for the choice, and `image_sizes`.

    Raises:
        ValueError: if `num_images` is not an integer above 0.

    Example:

    >>> row = finetuning_for(3_000)
    >>> row.steps, row.development
    ((500,), 0.1)
    >>> row.learning_rates
    (0.001, 0.003, 0.01, 0.03)

    Reference:
        - [Dosovitskiy et al., 2021](https://arxiv.org/abs/2010.11929), table 4
        - [Kolesnikov et al., 2019](https://arxiv.org/abs/1912.11370),
          section 3.3 (BiT-HyperRule)
    """
    num_images = check_positive("num_images", num_images)
    if num_images < MEDIUM:
        return FINETUNE["pets"]
    return FINETUNE["cifar10" if num_images < LARGE else "imagenet"]
