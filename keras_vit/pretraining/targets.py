"""What a model predicts of a masked patch, computed from its pixels.

Dosovitskiy et al. 2021, appendix B.1.2, has three targets: the mean colour in
3 bits a channel, a small copy of the patch in such colours, and the pixels
themselves. He et al. 2021, arXiv:2111.06377, section 4.1, normalise the pixels
of each patch.
"""

import math
from typing import Literal

import keras
from keras import ops

from keras_vit.arguments import check_choice, check_pair, check_rank
from keras_vit.ops.precision import at_least_float32

TARGETS = ("mean_color", "thumbnail", "pixels", "normalized_pixels")
Kind = Literal["mean_color", "thumbnail", "pixels", "normalized_pixels"]
LEVELS = 8  # 3 bits
MAX_CHANNELS = 4  # 4096 classes
THUMBNAIL = 4
VARIANCE_EPSILON = 1e-6
# The mean of equal pixels may round to just below them. A mean that is this
# close below a level counts as on it.
TOLERANCE = 1 / 512


@keras.saving.register_keras_serializable(package="keras_vit")
class PatchTargets(keras.layers.Layer):
    """Turns patches of pixels into what a model should predict of them.

    A colour of 3 bits a channel is a class. With pixels in [0, 255], the level
    of a channel is `floor(mean / 32)`, 0 to 7, and the class of a colour is
    `64 * red + 8 * green + blue`, 0 to 511. In general there are
    `8 ** channels` classes, with the first channel in the highest place.

    Args:
        kind: `"mean_color"`, the class of the mean colour of a patch;
            `"thumbnail"`, the classes of the 4 x 4 parts of a patch, in row
            order; `"pixels"`, all pixels scaled to [-1, 1]; or
            `"normalized_pixels"`, the pixels of each patch scaled to mean 0
            and standard deviation 1.
        patch_size: height and width of a patch in pixels, an int or a pair;
            multiples of 4 for a thumbnail.
        value_range: the values of black and white, a pair.

    Call arguments:
        patches: tensor of shape `(batch, rows, columns, patch_height *
            patch_width * channels)`, from `Patches`.

    Returns:
        For colours a tensor of ints of shape `(batch, rows, columns)`, or
        `(batch, rows, columns, 16)` for thumbnails; for pixels a tensor with
        the shape of `patches`, in at least float32.

    Raises:
        ValueError: if an argument breaks its rule, if patches have another
            size, or if colours have more than 4 channels.

    Example:

    >>> images = 255 * keras.ops.ones((1, 32, 32, 3))  # white
    >>> patches = keras_vit.layers.Patches(16)(images)
    >>> targets = keras_vit.pretraining.PatchTargets("mean_color", 16)(patches)
    >>> keras.ops.convert_to_numpy(targets)
    array([[[511, 511],
            [511, 511]]], dtype=int32)

    Reference:
        - [Dosovitskiy et al., 2021](https://arxiv.org/abs/2010.11929),
          appendix B.1.2
        - [He et al., 2021](https://arxiv.org/abs/2111.06377), section 4.1;
          `models_mae.py`, `forward_loss`
    """

    def __init__(
        self,
        kind: Kind,
        patch_size: int | tuple[int, int],
        value_range: tuple[float, float] = (0, 255),
        **kwargs,
    ):
        # Half precision has too few bits for 255 greys.
        super().__init__(autocast=False, **kwargs)
        self.kind = check_choice("kind", kind, TARGETS)
        self.patch_size = check_pair("patch_size", patch_size)
        self.value_range = tuple(value_range)
        if len(self.value_range) != 2 or not value_range[0] < value_range[1]:
            raise ValueError(
                "`value_range` must be a pair (black, white) with black below "
                f"white. Received: value_range={value_range!r}"
            )
        if kind == "thumbnail" and any(n % THUMBNAIL for n in self.patch_size):
            raise ValueError(
                "`patch_size` must be of multiples of 4 for thumbnails. "
                f"Received: patch_size={self.patch_size}"
            )

    @property
    def _cells(self):
        return THUMBNAIL if self.kind == "thumbnail" else 1

    @property
    def of_colors(self) -> bool:
        """Whether targets are classes, and not pixels."""
        return self.kind in TARGETS[:2]

    def prediction_shape(self, patch_dim: int) -> tuple[int, ...]:
        """Returns the shape of a prediction for one patch.

        Args:
            patch_dim: number of values in a patch.

        Returns:
            A tuple whose last entry is the number of classes or of pixels.
        """
        if not self.of_colors:
            return (patch_dim,)
        classes = LEVELS ** self._channels((patch_dim,))
        cells = self._cells**2
        return (classes,) if cells == 1 else (cells, classes)

    def _channels(self, shape):
        channels, rest = divmod(shape[-1], math.prod(self.patch_size))
        if rest or not channels:
            raise ValueError(
                f"PatchTargets '{self.name}' takes patches of "
                f"{self.patch_size} pixels. Received: shape={tuple(shape)}"
            )
        if self.of_colors and channels > MAX_CHANNELS:
            raise ValueError(
                f"`kind` must be 'pixels' or 'normalized_pixels' for more than "
                f"{MAX_CHANNELS} channels. Received: kind={self.kind!r}, "
                f"{channels} channels"
            )
        return channels

    def build(self, input_shape):
        check_rank(self, input_shape, 4, "(batch, rows, columns, patch_dim)")
        self._channels(input_shape)

    def call(self, patches):
        check_rank(self, patches.shape, 4, "(batch, rows, columns, patch_dim)")
        x = ops.cast(patches, self._float_dtype)
        black, white = self.value_range
        if self.of_colors:
            return self._colors((x - black) * (255 / (white - black)))
        x = (x - black) * (2 / (white - black)) - 1
        if self.kind == "pixels":
            return x
        x = x - ops.mean(x, axis=-1, keepdims=True)
        # The sample variance, as `torch.var` in the official code.
        degrees = max(patches.shape[-1] - 1, 1)
        variance = ops.sum(ops.square(x), axis=-1, keepdims=True) / degrees
        return x * ops.rsqrt(variance + VARIANCE_EPSILON)

    @property
    def _float_dtype(self):
        return at_least_float32(self.compute_dtype)

    def _colors(self, x):
        batch, rows, columns, _ = ops.shape(x)
        (height, width), cells = self.patch_size, self._cells
        channels = self._channels(x.shape)
        # b h w (i p j q c) -> (b h w) i j c
        x = ops.reshape(
            x, (-1, cells, height // cells, cells, width // cells, channels)
        )
        means = ops.mean(x, axis=(2, 4))
        levels = ops.cast(ops.floor((means + TOLERANCE) * (1 / 32)), "int32")
        levels = ops.clip(levels, 0, LEVELS - 1)
        # Levels are the digits of a number in base 8.
        labels = levels[..., 0]
        for channel in range(1, channels):
            labels = LEVELS * labels + levels[..., channel]
        grid = (batch, rows, columns)
        return ops.reshape(labels, grid if cells == 1 else (*grid, cells**2))

    def compute_output_spec(self, patches):
        check_rank(self, patches.shape, 4, "(batch, rows, columns, patch_dim)")
        shape = tuple(patches.shape)
        self._channels(shape)
        if not self.of_colors:
            return keras.KerasTensor(shape, self._float_dtype)
        cells = self._cells**2
        grid = shape[:3] if cells == 1 else (*shape[:3], cells)
        return keras.KerasTensor(grid, "int32")

    def get_config(self):
        return {
            **super().get_config(),
            "kind": self.kind,
            "patch_size": self.patch_size,
            "value_range": self.value_range,
        }
