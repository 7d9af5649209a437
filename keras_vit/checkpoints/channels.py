"""Kernels for images of other channels than the file's: timm's rule.

One channel sees the sum of the kernels, as a grey image does that is repeated
in all colours. More channels take the kernels in turn, scaled so that the sum
over channels stays what it was.
"""

import math

import numpy as np

# The weights that see the channels of images, the nearest to them first.
FIRST = ("root_conv/kernel", "patch_encoder/projection/kernel")


class Channels:
    """The kernel that images meet first, in a file and in a model.

    Args:
        weights: weights of the model by path.
        patch_size: height and width of a patch.
    """

    def __init__(self, weights, patch_size):
        self.path = next((path for path in FIRST if path in weights), None)
        self.pixels = math.prod(patch_size)
        self.own = self.of_file = None
        if self.path is not None:
            self.own = self.of_file = tuple(weights[self.path].shape)

    def _split(self, shape):
        """A shape with an axis of channels: `(..., channels, width)`."""
        if self.path == FIRST[0]:
            return shape
        return self.pixels, shape[0] // self.pixels, shape[1]

    def read_off(self, shape):
        """Takes the shape in the file; returns what that means, or `None`."""
        count = self._split(self.own)[-2]
        theirs, rest = divmod(count * math.prod(shape), math.prod(self.own))
        if rest or theirs in (0, count):
            return None
        at = len(self.own) - 2
        changed = list(self.own)
        changed[at] = changed[at] // count * theirs
        self.of_file = tuple(changed)
        how = "summed" if count == 1 else f"repeated, times {theirs}/{count}"
        return (
            f"for images of {theirs} channels, and the model for images of "
            f"{count}: the kernels of the channels are {how}, as timm does. "
            "Pixel statistics that come from the file are averaged or repeated "
            "likewise: pass `preprocessing=` with those of your images if you "
            "know them."
        )

    @property
    def differ(self):
        """Whether file and model are for other channels."""
        return self.of_file != self.own

    def adapt(self, kernel):
        """Returns the kernel of the file for the channels of the model."""
        kernel = kernel.reshape(self._split(self.of_file))
        theirs, count = kernel.shape[-2], self._split(self.own)[-2]
        if count == 1:
            kernel = kernel.sum(axis=-2)
        else:
            kernel = kernel[..., np.arange(count) % theirs, :]
            kernel = kernel * np.float32(theirs / count)
        return kernel.reshape(self.own)
