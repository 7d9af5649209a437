"""Augmentation of AugReg (arXiv 2106.10270): flip, RandAugment, MixUp.

For the data pipeline, never for the inside of a model: Keras turns compilation
off, silently, for a whole model that holds `RandomTranslation`,
`RandomRotation`, `RandomZoom`, `RandomCrop`, `RandomShear` or
`RandomPerspective`, and `RandAugment` is made of such layers. Left out:
decoding, the random crop and pixel equality with the official code.
"""

import dataclasses

import keras
import numpy as np
from keras import ops

from keras_vit.arguments import check_choice, check_positive

# Strength of RandAugment that is 1.0 for Keras: the end of the scale searched
# in arXiv 1909.13719.
MAX_MAGNITUDE = 30


@dataclasses.dataclass(frozen=True)
class AugmentationLevel:
    """Strength of augmentation in AugReg.

    Args:
        mixup_alpha: Both parameters of the Beta distribution, 0 for no MixUp.
        num_ops: Operations of RandAugment one image goes through.
        magnitude: Strength of each operation, on the scale where 10 is the
            strongest of the original paper; it may exceed 10.
    """

    mixup_alpha: float
    num_ops: int
    magnitude: int


# fmt: off
# big_vision/configs/vit_i1k.py, MIXUP_DEF and RANDAUG_DEF. Magnitude 0 is
# weak, not nothing: equalisation and its like have no strength.
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


def augmentation(
    level: str,
    num_classes: int,
    value_range: tuple[float, float] = (0, 255),
    seed: int | None = None,
    cutmix: bool = False,
) -> "Augmentation":
    """Augmentation of one AugReg level, for batches in the data pipeline.

    Flip left to right, then `keras.layers.RandAugment`, then
    `keras.layers.MixUp`. The result is called as `(images, labels)` on

    - batches of a `tf.data.Dataset`, under any backend: `data.map(augment)`;
    - eager batches: NumPy arrays or tensors, as in `ArrayDataset`.

    Use it there and not in the model: random rotation and its like cannot be
    compiled, and Keras then leaves the whole model uncompiled without a word.

    The levels are those of the paper. AugReg's `randaug(layers, magnitude)`
    becomes `RandAugment(num_ops=layers, factor=magnitude / 30)`, so medium
    (15) is Keras' default strength 0.5. It is not pixel-equal: Keras' rotation
    goes up to 360 degrees times the factor (officially 3 degrees times the
    magnitude), its strengths are drawn between 0 and the factor (officially
    fixed), posterisation keeps *fewer* bits at small factors, and one set of
    operations is drawn a batch, not an image. It is the costly part: all
    eleven operations are computed and one is kept, and equalisation is
    unrolled over 256 grey values, so the first batch takes long and each batch
    a fixed time; use few large batches. MixUp draws a weight
    for each image from Beta(alpha, alpha) and a random partner; officially one
    weight a batch, at least 0.5, and the neighbour.

    Args:
        level: `"none"` (flip alone), `"light1"`, `"light2"`, `"medium1"`,
            `"medium2"`, `"strong1"` or `"strong2"`. Those from `"light2"` on
            mix labels.
        num_classes: Number of classes, for the one-hot labels.
        value_range: Smallest and largest pixel value.
        seed: Seed of all random draws, or `None`.
        cutmix: Whether to mix by CutMix (a rectangle of the partner, its area
            uniform) in place of MixUp, at any level.

    Returns:
        An `Augmentation`: a callable from images `(batch, H, W, 3)` and labels,
        integers `(batch,)` or `(batch, 1)` or one-hot `(batch, num_classes)`,
        to float32 images and one-hot labels `(batch, num_classes)`.

    Raises:
        ValueError: If the level is unknown or `num_classes` is no integer
            above 0.

    Example:

    ```python
    augment = augmentation("medium1", num_classes=10, seed=0)
    train = train.batch(256).map(augment)  # tf.data, integer labels
    model.compile(**recipes.adamw(steps, one_hot=True))
    ```

    The same with KerasCV on the TensorFlow backend. Its MixUp and CutMix fail
    on NumPy arrays, hence the conversion, and on integer labels:

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
        Steiner et al., arXiv 2106.10270, Section 3; Cubuk et al., arXiv
        1909.13719; `big_vision/configs/vit_i1k.py`.
    """
    return Augmentation(level, num_classes, value_range, seed, cutmix)


class Augmentation:
    """What `augmentation` returns: callable, and it can be seeded anew."""

    def __init__(self, level, num_classes, value_range, seed, cutmix):
        check_choice("level", level, AUGMENTATION_LEVELS)
        self.num_classes = check_positive("num_classes", num_classes)
        settings = AUGMENTATION_LEVELS[level]
        # Layers that get the same seed would draw the same numbers.
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

    def __call__(self, images, labels):
        labels = self._one_hot_labels(labels)
        for layer in self.image_layers:
            images = layer(images, training=True)
        if self.mix_layer is None:
            return images, labels
        mixed = self.mix_layer(
            {"images": images, "labels": labels}, training=True
        )
        return mixed["images"], mixed["labels"]

    def reseed(self, *entropy: int):
        """Starts all random draws of eager calls anew from these integers.

        Equal integers give equal draws whatever was drawn before, which
        `ArrayDataset` uses to make a batch depend on seed, epoch and position
        alone. It has no effect on a `tf.data` pipeline.

        Args:
            *entropy: Integers of 0 or more.
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
        # JAX would train on labels out of range without a word.
        integer = np.issubdtype(labels.dtype, np.integer)
        if not integer or not labels.size or labels.ndim == 2:
            return
        if labels.min() < 0 or labels.max() >= self.num_classes:
            raise ValueError(
                f"`labels` must be in [0, {self.num_classes}). Received: "
                f"labels from {labels.min()} to {labels.max()}"
            )


def to_numpy(batch):
    """Returns the tensors of a batch as NumPy arrays, on the host."""
    return tuple(ops.convert_to_numpy(part) for part in batch)
