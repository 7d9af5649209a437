"""ResNets with group norm: the paper's baseline, and the trunk of its hybrids.

Kolesnikov et al. 2020 (BiT), arXiv:1912.11370; Dosovitskiy et al. 2021,
section 4.1; `vit_jax/models_resnet.py` and big_vision's `models/bit_paper.py`.
"""

import os
from collections.abc import Sequence
from typing import Literal

import keras

from keras_vit.anatomy import ROOT_PADDINGS, TO_CHANNELS_LAST
from keras_vit.arguments import check_choice
from keras_vit.keras_gaps import without_inner_remat
from keras_vit.layers import ResidualUnit
from keras_vit.layers.residual_unit import trunk_conv, trunk_norm
from keras_vit.models.ends import (
    check_arguments,
    choose_preprocessing,
    head,
    identity,
    image_input,
)
from keras_vit.models.functional import functional
from keras_vit.preprocessing import INCEPTION, Preprocessing
from keras_vit.variants import check_stages, parse_resnet, root_width

PADDINGS = tuple(ROOT_PADDINGS.values())


def resnet_trunk(
    x,
    stages,
    width_factor=1.0,
    *,
    preactivation=False,
    root_padding="zeros",
    data_format,
    dtype,
    **arithmetic,
):
    """Applies stem and stages to images, as layers of a functional model.

    Args:
        x: the images, a `keras.KerasTensor`.
        stages: residual units in each stage, a tuple; `()` for the stem alone.
        width_factor: 1 for 64 channels in the stem.
        preactivation: whether norms stand in front of the convolutions.
        root_padding: of the pool then, see `ResNet`.
        data_format: of the images.
        dtype: dtype policy of all layers.
        **arithmetic: epsilons, as `ResidualUnit` takes them.

    Returns:
        The feature map of the last stage, channels last, a
        `keras.KerasTensor`.
    """
    width = root_width(width_factor)
    if data_format == "channels_first":
        # Once, at the door: not every backend convolves in this layout.
        x = keras.layers.Permute((2, 3, 1), name=TO_CHANNELS_LAST, dtype=dtype)(
            x
        )
    form = {"preactivation": preactivation, "dtype": dtype, **arithmetic}
    x = trunk_conv("root_conv", width, 7, strides=2, **form)(x)
    pool = {"pool_size": 3, "strides": 2, "padding": "same"}
    if not preactivation:
        x = trunk_norm("root_norm", **form)(x)
        x = keras.layers.Activation("relu", name="root_relu", dtype=dtype)(x)
    elif root_padding == "zeros":
        # They take part in the maximum.
        x = keras.layers.ZeroPadding2D(
            1, data_format="channels_last", name="root_pad", dtype=dtype
        )(x)
        pool["padding"] = "valid"
    else:
        # One step at a time "same" is a border on all sides, two at a time not.
        x = keras.layers.MaxPooling2D(
            3,
            strides=1,
            padding="same",
            data_format="channels_last",
            name="root_max",
            dtype=dtype,
        )(x)
        pool |= {"pool_size": 1, "padding": "valid"}
    x = keras.layers.MaxPooling2D(
        **pool, data_format="channels_last", name="root_pool", dtype=dtype
    )(x)
    for stage, units in enumerate(stages, 1):
        for unit in range(1, units + 1):
            x = ResidualUnit(
                width * 2 ** (stage - 1),
                strides=2 if stage > 1 and unit == 1 else 1,
                name=f"stage{stage}_unit{unit}",
                **form,
            )(x)
        x = identity(f"stage{stage}", dtype)(x)
    return x


def ResNet(
    variant: str | tuple[Sequence[int], float] = "50x1",
    *,
    image_size: int | tuple[int, int] | None = 224,
    num_channels: int = 3,
    num_classes: int | None = 1000,
    preactivation: bool = False,
    root_padding: Literal["auto", "zeros", "ignored"] = "auto",
    head_bias: float = 0.0,
    classifier_activation: str | None = None,
    preprocessing: Preprocessing | str | None = "auto",
    weights: str | os.PathLike | None = None,
    data_format: str | None = None,
    dtype: str | keras.DTypePolicy | None = None,
    name: str | None = None,
    include_rescaling: bool | None = None,
) -> keras.Model:
    """Builds a ResNet of the kind that the paper compares ViT with.

    Group norm in place of batch norm, standardised convolutions. Its taps are
    layers named `images`, `rescaling`, `root_conv`, `root_pool`, `stage1` to
    `stage4` (the feature maps, at 1/4, 1/8, 1/16 and 1/32 of the image),
    `pooling`, `pre_logits` and `head`; see `feature_extractor`.

    Args:
        variant: depth and width as the paper writes them, `"50x1"`, `"50x2"`,
            `"101x1"`, `"152x1"`, `"152x2"`, `"200x3"`; or a pair of the
            residual units in each stage and the width factor.
        image_size: height and width in pixels, an int or a pair, or `None`
            for images of any size.
        num_channels: channels of the images.
        num_classes: number of classes, or `None` to leave the head out.
        preactivation: `False` for the paper's baseline, whose units are those
            of the hybrids; `True` for ResNet-V2 as in the public files of BiT.
        root_padding: with `preactivation`, what the pool at the root takes for
            the border of its maps: `"zeros"`, as BiT's own code, or
            `"ignored"`, as big_vision. `"auto"` is what `weights` were
            trained with, else `"zeros"`.
        head_bias: start value of the biases of the head, whose kernel starts
            at zero.
        classifier_activation: activation of the head, as a Keras name.
            Defaults to none: the model returns logits.
        preprocessing: what the model itself does to pixels in [0, 255]: the
            statistics that its weights were trained with, as `"inception"`
            ([-1, 1]), `"imagenet"`, `"clip"`, `"unit"` ([0, 1]) or a
            `keras_vit.Preprocessing`; `None` for images that come prepared.
            `"auto"` is what `weights` say, else `"inception"`.
        include_rescaling: replaced by `preprocessing`.
        weights: checkpoint to start from, as `load_checkpoint` takes them:
            `"gs://bit_models/BiT-M-R50x1.npz"` with `preactivation=True`.
        data_format: of the images, `"channels_last"` or `"channels_first"`.
            Defaults to `keras.config.image_data_format()`.
        dtype: dtype policy of all layers, by name or as an object. Logits are
            float32 under every half-precision policy.
        name: name of the model. Defaults to one made of the variant.

    Returns:
        A `keras.Model` from images of shape `(batch, height, width,
        num_channels)`, pixels in [0, 255], to logits of shape `(batch,
        num_classes)`.

    Raises:
        ValueError: if an argument breaks its rule.

    Example:

    >>> model = keras_vit.ResNet("50x1", image_size=64, num_classes=10)
    >>> maps = keras_vit.feature_extractor(model, ["stage2", "stage4"])
    >>> maps.output_shape
    [(None, 8, 8, 512), (None, 2, 2, 2048)]

    Reference:
        - [Kolesnikov et al., 2020](https://arxiv.org/abs/1912.11370)
        - [Dosovitskiy et al., 2021](https://arxiv.org/abs/2010.11929),
          section 4.1
    """
    label = variant if isinstance(variant, str) else "custom"
    stages, width_factor = parse_resnet(variant)
    stages = check_stages(stages)
    image_size, data_format, dtype = check_arguments(
        image_size, num_classes, data_format, dtype
    )

    check_choice("root_padding", root_padding, ("auto", *PADDINGS))
    if root_padding != "auto" and not preactivation:
        raise ValueError(
            "`root_padding` must not be given where nothing reads it: "
            "`preactivation` is False. Received: "
            f"root_padding={root_padding!r}"
        )
    checkpoint = None
    if weights is not None:
        # Most models have no weights to read.
        from keras_vit.checkpoints.load import Checkpoint

        checkpoint = Checkpoint.locate(weights)
        if root_padding == "auto":
            root_padding = checkpoint.format().root_padding or "zeros"
    preprocessing = choose_preprocessing(preprocessing, include_rescaling)
    if preprocessing == "auto":
        preprocessing = INCEPTION
    images, x = image_input(
        image_size, num_channels, preprocessing, data_format, dtype
    )
    x = resnet_trunk(
        x,
        stages,
        width_factor,
        preactivation=preactivation,
        root_padding="zeros" if root_padding == "auto" else root_padding,
        data_format=data_format,
        dtype=dtype,
    )
    if preactivation:
        x = trunk_norm("final_norm", preactivation=True, dtype=dtype)(x)
        x = keras.layers.Activation("relu", name="final_relu", dtype=dtype)(x)
    x = keras.layers.GlobalAveragePooling2D(
        data_format="channels_last", name="pooling", dtype=dtype
    )(x)
    name = name or f"resnet_{label.lower()}"
    with without_inner_remat():
        x = identity("pre_logits", dtype)(x)
        if num_classes is not None:
            x = head(num_classes, classifier_activation, head_bias, dtype)(x)
        model = functional(images, x, name=name, dtype=dtype)
    if checkpoint is not None:
        from keras_vit.checkpoints.load import load_into_new

        load_into_new(model, checkpoint)
    return model
