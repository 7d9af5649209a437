"""Feature maps at several scales, as detectors and segmenters ask for them.

A plain Vision Transformer has one scale. Li et al. 2022 (ViTDet),
arXiv:2203.16527, section 3, make the others from its last map alone; here
each finer map is also handed on to the next coarser one, so that the whole is
one chain from images to the coarsest map, as Keras' task models expect of a
backbone.
"""

import keras

from keras_vit.anatomy import cell_size, image_input
from keras_vit.arguments import check_positive
from keras_vit.layers import LayerNorm
from keras_vit.models.segmentation import feature_map

LEVELS = (2, 3, 4, 5)


def feature_pyramid(
    backbone: keras.Model,
    *,
    hidden_dim: int = 256,
    tap: str = "encoder_norm",
    name: str | None = None,
) -> keras.Model:
    """Builds a backbone with maps at 1/4, 1/8, 1/16 and 1/32 of the image.

    The model returns the coarsest map. All maps are layers named `P2` to `P5`,
    for `feature_extractor`, and stand in two attributes: `pyramid_level_inputs`
    (names), by which the tasks of KerasCV find them, and `pyramid_outputs`
    (tensors), as the backbones of KerasHub have them. Attributes are not part
    of a `.keras` file: build the model anew and load its weights.

    Args:
        backbone: a functional `keras.Model` made by `ViT`, pure or hybrid,
            whose patches are of 4, 8, 16 or 32 pixels, for images whose size
            32 divides. Its layers and weights are shared.
        hidden_dim: channels of the maps.
        tap: name of the layer whose tokens are taken.
        name: name of the model. Defaults to one made of the backbone's.

    Returns:
        A `keras.Model` from images to a map of shape `(batch, height / 32,
        width / 32, hidden_dim)`.

    Raises:
        ValueError: if an argument breaks its rule, or if the backbone is none
            of that kind.

    Example:

    >>> backbone = keras_vit.ViT("Ti/16", image_size=(64, 96))
    >>> pyramid = keras_vit.models.feature_pyramid(backbone, hidden_dim=32)
    >>> {name: x.shape[1:3] for name, x in pyramid.pyramid_outputs.items()}
    {'P2': (16, 24), 'P3': (8, 12), 'P4': (4, 6), 'P5': (2, 3)}

    ```python
    detector = keras_cv.models.RetinaNet(
        num_classes=20, bounding_box_format="xywh", backbone=pyramid
    )
    ```
    """
    check_positive("hidden_dim", hidden_dim)
    maps = feature_map(backbone, tap)
    dtype = maps.get_layer("feature_map").dtype_policy
    cell = cell_size(backbone)
    strides = {2**level: level for level in LEVELS}
    if cell[0] != cell[1] or cell[0] not in strides:
        raise ValueError(
            "`backbone` must have patches of 4, 8, 16 or 32 pixels. Received: "
            f"{cell} in '{backbone.name}'"
        )
    height, width = image_input(backbone)[0]
    if any(edge is not None and edge % 32 for edge in (height, width)):
        raise ValueError(
            "`backbone` must take images whose size 32 divides. Received: "
            f"{(height, width)} in '{backbone.name}'"
        )
    own = strides[cell[0]]
    # From the finest to the coarsest.
    outputs, x = {}, None
    for level in LEVELS:
        lateral = maps.output
        for step in range(own - level):
            lateral = keras.layers.Conv2DTranspose(
                hidden_dim,
                2,
                strides=2,
                data_format="channels_last",
                name=f"P{level}_enlarge{step}",
                dtype=dtype,
            )(lateral)
        if level > own:
            lateral = keras.layers.MaxPooling2D(
                2 ** (level - own),
                data_format="channels_last",
                name=f"P{level}_reduce",
                dtype=dtype,
            )(lateral)
        lateral = _conv(hidden_dim, 1, f"P{level}_lateral", dtype)(lateral)
        if x is not None:
            down = _conv(hidden_dim, 3, f"P{level}_down", dtype, strides=2)(x)
            lateral = keras.layers.Add(name=f"P{level}_sum", dtype=dtype)(
                [lateral, down]
            )
        x = LayerNorm(name=f"P{level}_norm", dtype=dtype)(lateral)
        x = _conv(hidden_dim, 3, f"P{level}", dtype)(x)
        outputs[f"P{level}"] = x
    model = keras.Model(
        backbone.input, x, name=name or f"{backbone.name}_pyramid"
    )
    model.pyramid_outputs = outputs
    model.pyramid_level_inputs = {level: level for level in outputs}
    return model


def _conv(filters, size, name, dtype, strides=1):
    return keras.layers.Conv2D(
        filters,
        size,
        strides=strides,
        padding="same",
        data_format="channels_last",
        name=name,
        dtype=dtype,
    )
