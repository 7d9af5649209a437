"""The same weights for images, or patches, of another size.

`resolution` rebuilds a model from its configuration, `weights` carries its
weights over; the arithmetic is `ops.resize`. See `tests/resize`.
"""

from keras_vit.resize.resolution import change_patch_size, change_resolution

__all__ = ["change_patch_size", "change_resolution"]
