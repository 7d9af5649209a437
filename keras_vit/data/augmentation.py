"""Augmentation of AugReg (arXiv 2106.10270): flip, RandAugment, MixUp.

It belongs in the data pipeline, never in a model: Keras silently turns off
compilation for a whole model that holds `RandomTranslation`, `RandomRotation`,
`RandomZoom`, `RandomCrop`, `RandomShear` or `RandomPerspective`, and
`RandAugment` consists of such layers. Left out: decoding, the random crop and
pixel equality with the official code.
"""

import dataclasses
from typing import Any, Literal

import keras
import numpy as np
from keras import ops

from keras_vit.arguments import check_choice, check_positive

# The strength of RandAugment that Keras calls 1.0: the end of the scale that
# arXiv 1909.13719 searches.
MAX_MAGNITUDE = 30


@dataclasses.dataclass(frozen=True)
class AugmentationLevel:
    """Strength of augmentation in AugReg.

    Args:
        mixup_alpha: both parameters of the Beta distribution, 0 for no MixUp.
        num_ops: operations of RandAugment that each image goes through.
        magnitude: strength of each operation, on the scale where 10 is the
            strongest of the original paper; it may exceed 10.
    """

    mixup_alpha: float
    num_ops: int
    magnitude: int


# fmt: off
# big_vision/configs/vit_i1k.py, MIXUP_DEF and RANDAUG_DEF. Magnitude 0 is
# weak, not nothing: some operations, such as equalisation, have no strength.
AUGMENTATION_LEVELS = {
    "none":    AugmentationLevel(0.0, 0, 0),
    "light1":  AugmentationLevel(0.0, 2, 0),
    "light2":  AugmentationLevel(0.2, 2, 10),
    "medium1": AugmentationLevel(0.2, 2, 15),
    "medium2": AugmentationLevel(0.5, 2, 15),
    "strong1": AugmentationLevel(0.5, 2, 20),
    "strong2": AugmentationLevel(0.8, 2, 20),
}
# fmt: on

Level = Literal[
    "none", "light1", "light2", "medium1", "medium2", "strong1", "strong2"
]


def augmentation(
    level: Level,
    num_classes: int,
    value_range: tuple[float, float] = (0, 255),
    seed: int | None = None,
    cutmix: bool = False,
) -> "Augmentation":
    """Returns the augmentation of one AugReg level, for batches of data.

    Images are flipped left to right, then go through
    `keras.layers.RandAugment` and `keras.layers.MixUp`. Call the result with
    `(images, labels)`:

    - batches of a `tf.data.Dataset`, under any backend: `data.map(augment)`;
    - eager batches: NumPy arrays or tensors, as in `ArrayDataset`.

    Use it there and not in the model: random rotations and the like cannot be
    compiled, and Keras then silently leaves the whole model uncompiled.

    The levels are those of the paper. AugReg's `randaug(layers, magnitude)`
    becomes `RandAugment(num_ops=layers, factor=magnitude / 30)`, so medium
    (15) is Keras' default strength 0.5. The pixels differ from the official
    ones: Keras rotates by up to 360 degrees times the factor (officially 3
    degrees times the magnitude), draws strengths between 0 and the factor
    (officially fixed), keeps *fewer* bits in posterisation at small factors,
    and draws one set of operations for each batch, not for each image.

    RandAugment is the costly part: it computes all eleven operations and keeps
    one, and equalisation is unrolled over 256 grey values, so the first batch
    takes long and each batch a fixed time. Use few large batches. MixUp draws
    for each image a weight from Beta(alpha, alpha) and a random partner;
    officially one weight for each batch, at least 0.5, and the neighbour.

    Args:
        level: `"none"` (flip alone), `"light1"`, `"light2"`, `"medium1"`,
            `"medium2"`, `"strong1"` or `"strong2"`. Levels from `"light2"` on
            mix labels.
        num_classes: number of classes, for the one-hot labels.
        value_range: smallest and largest pixel value.
        seed: seed of all random draws, or `None`.
        cutmix: whether to mix by CutMix (a rectangle of the partner, its area
            uniform) instead of MixUp, at any level.

    Returns:
        An `Augmentation`: a callable from images of shape
        `(batch, height, width, 3)` and labels, integers of shape `(batch,)` or
        `(batch, 1)` or one-hot of shape `(batch, num_classes)`, to float32
        images and one-hot labels of shape `(batch, num_classes)`.

    Raises:
        ValueError: if the level is unknown, or `num_classes` is not an integer
            above 0.

    Example:

    ```python
    augment = augmentation("medium1", num_classes=10, seed=0)
    train = train.batch(256).map(augment)  # tf.data, integer labels
    model.compile(**recipes.adamw(steps, one_hot=True))
    ```

    The same with KerasCV on the TensorFlow backend. Its MixUp and CutMix fail
    on NumPy arrays and on integer labels, so both are converted:

    ```python
    rand_augment = keras_cv.layers.RandAugment(
        value_range=(0, 255), augmentations_per_image=2, magnitude=0.5
    )
    mix_up = keras_cv.layers.MixUp(alpha=0.2)  # or keras_cv.layers.CutMix()

    def augment(images, labels):
        images = rand_augment(ops.convert_to_tensor(images, "float32"))
        labels = ops.one_hot(ops.convert_to_tensor(labels), 10)
        mixed = mix_up({"images": images, "labels": labels})
        return mixed["images"], mixed["labels"]
    ```

    Reference:
        - [Steiner et al., 2021](https://arxiv.org/abs/2106.10270), section 3;
          `big_vision/configs/vit_i1k.py`
        - [Cubuk et al., 2019](https://arxiv.org/abs/1909.13719)
    """
    return Augmentation(level, num_classes, value_range, seed, cutmix)


class Augmentation:
    """What `augmentation` returns: a callable that can be seeded anew."""

    def __init__(
        self,
        level: Level,
        num_classes: int,
        value_range: tuple[float, float],
        seed: int | None,
        cutmix: bool,
    ):
        check_choice("level", level, AUGMENTATION_LEVELS)
        self.num_classes = check_positive("num_classes", num_classes)
        settings = AUGMENTATION_LEVELS[level]
        # Layers with the same seed would draw the same numbers.
        seeds = [None] * 3 if seed is None else [seed, seed + 1, seed + 2]
        self.image_layers = [
            keras.layers.RandomFlip("horizontal", seed=seeds[0])
        ]
        if settings.num_ops:
            self.image_layers.append(
                keras.layers.RandAugment(
                    value_range=value_range,
                    num_ops=settings.num_ops,
                    factor=settings.magnitude / MAX_MAGNITUDE,
                    seed=seeds[1],
                )
            )
        self.mix_layer = None
        if cutmix:
            self.mix_layer = keras.layers.CutMix(seed=seeds[2])
        elif settings.mixup_alpha:
            self.mix_layer = keras.layers.MixUp(
                alpha=settings.mixup_alpha, seed=seeds[2]
            )
        # Not `ops.one_hot`: this layer also works in a tf.data pipeline under
        # the JAX and PyTorch backends.
        self.one_hot = keras.layers.CategoryEncoding(
            num_tokens=num_classes, output_mode="one_hot"
        )

    def __call__(self, images: Any, labels: Any) -> tuple[Any, Any]:
        labels = self._one_hot_labels(labels)
        for layer in self.image_layers:
            images = layer(images, training=True)
        if self.mix_layer is None:
            return images, labels
        mixed = self.mix_layer(
            {"images": images, "labels": labels}, training=True
        )
        return mixed["images"], mixed["labels"]

    def reseed(self, *entropy: int) -> None:
        """Starts all random draws of eager calls anew from these integers.

        Equal integers give equal draws, whatever was drawn before. With this
        `ArrayDataset` makes a batch depend on seed, epoch and position alone.
        It has no effect on a `tf.data` pipeline.

        Args:
            *entropy: integers of 0 or more.
        """
        layers = [*self.image_layers, self.mix_layer]
        states = [
            variable
            for layer in layers
            if layer is not None
            for variable in layer.variables
        ]
        sequence = np.random.SeedSequence(entropy)
        # Below 2**31: PyTorch has no unsigned states.
        values = sequence.generate_state(len(states)) >> 1
        for state, value in zip(states, values, strict=True):
            state.assign(np.array([value, 0], "uint32"))

    def _one_hot_labels(self, labels):
        if isinstance(labels, np.ndarray | list | tuple):
            labels = np.asarray(labels)
            self._check_labels(labels)
        if len(labels.shape) == 2 and labels.shape[-1] == self.num_classes:
            if self.num_classes > 1:
                return labels
        return self.one_hot(labels)

    def _check_labels(self, labels):
        # JAX would silently train on labels out of range.
        integer = np.issubdtype(labels.dtype, np.integer)
        if not integer or not labels.size or labels.ndim == 2:
            return
        if labels.min() < 0 or labels.max() >= self.num_classes:
            raise ValueError(
                f"`labels` must be in [0, {self.num_classes}). Received: "
                f"labels from {labels.min()} to {labels.max()}"
            )


def to_numpy(batch: tuple[Any, ...]) -> tuple[np.ndarray, ...]:
    """Returns the tensors of a batch as NumPy arrays, on the host."""
    return tuple(ops.convert_to_numpy(part) for part in batch)
