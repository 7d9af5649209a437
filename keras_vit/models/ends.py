"""What all models have in common: arguments, the way in, the way out.

The last layers are Keras' own under fixed names, `pre_logits` and `head`;
`transfer` puts new ones in their place.
"""

import dataclasses
import warnings

import keras

from keras_vit._deprecation import renamed_argument
from keras_vit.arguments import (
    check_data_format,
    check_pair,
    check_positive,
)
from keras_vit.layers import PixelNormalization
from keras_vit.ops.precision import is_half
from keras_vit.preprocessing import NAMED, get


def check_arguments(image_size, num_classes, data_format, dtype):
    """Returns arguments that every model takes, or raises.

    Args:
        image_size: height and width, an int or a pair, or `None` for any.
        num_classes: number of classes, or `None`.
        data_format: of the images, or `None` for the one of `keras.config`.
        dtype: dtype policy, by name or as an object, or `None` likewise.

    Returns:
        `image_size` as a pair or `None`, `data_format` as a name, and `dtype`
        as an object.
    """
    if image_size is not None:
        image_size = check_pair("image_size", image_size)
    if num_classes is not None:
        check_positive("num_classes", num_classes)
    data_format = check_data_format(data_format)
    dtype = keras.dtype_policies.get(dtype)
    _warn_if_it_will_not_learn(dtype)
    return image_size, data_format, dtype


def image_input(image_size, num_channels, preprocessing, data_format, dtype):
    """Returns the input of a model and what its layers get to see.

    Args:
        image_size: height and width, a pair, or `None` for any.
        num_channels: channels of the images.
        preprocessing: a `Preprocessing`, or `None` for images that are
            prepared already.
        data_format: of the images.
        dtype: dtype policy.

    Returns:
        Two `keras.KerasTensor`.
    """
    size = tuple(image_size or (None, None))
    channels = (check_positive("num_channels", num_channels),)
    last = data_format == "channels_last"
    images = keras.Input(
        size + channels if last else channels + size, name="images"
    )
    x = images
    if preprocessing is not None:
        own = preprocessing.for_channels(num_channels)
        x = PixelNormalization(
            **dataclasses.asdict(own),
            data_format=data_format,
            name="rescaling",
            dtype=dtype,
        )(x)
    return images, x


def identity(name, dtype):
    """Returns a tap that does nothing."""
    # `keras.layers.Identity` has no `get_config`, so it cannot be saved with
    # a dtype policy.
    return keras.layers.Activation("linear", name=name, dtype=dtype)


def representation(dim, dtype):
    """Returns the layer before the head: dense with tanh, or one of no effect.

    Args:
        dim: width of the dense layer, or `None`.
        dtype: dtype policy.

    Returns:
        A layer named `pre_logits`.
    """
    if dim is None:
        return identity("pre_logits", dtype)
    return keras.layers.Dense(
        check_positive("representation_dim", dim),
        activation="tanh",
        kernel_initializer="lecun_normal",
        name="pre_logits",
        dtype=dtype,
    )


def head(num_classes, activation, bias, dtype, name="head"):
    """Returns the last layer: zero kernel, logits in at least float32."""
    return keras.layers.Dense(
        check_positive("num_classes", num_classes),
        activation=activation,
        kernel_initializer="zeros",
        bias_initializer=keras.initializers.Constant(bias),
        name=name,
        dtype="float32" if is_half(dtype.compute_dtype) else dtype,
    )


def choose_preprocessing(preprocessing, include_rescaling):
    """Returns the `Preprocessing` of a new model.

    Args:
        preprocessing: what the builder was given.
        include_rescaling: the argument that this one replaced, or `None`.

    Returns:
        A `Preprocessing`, `None`, or `"auto"` as it was given.
    """
    if include_rescaling is not None:
        if not isinstance(include_rescaling, bool):
            raise ValueError(
                "`include_rescaling` is replaced by `preprocessing`, which "
                f"takes {', '.join(map(repr, NAMED))}, a "
                "`keras_vit.Preprocessing` or None. Received: "
                f"include_rescaling={include_rescaling!r}"
            )
        new = "preprocessing=" + (
            "'inception'" if include_rescaling else "None"
        )
        preprocessing = renamed_argument(
            "ViT",
            f"include_rescaling={include_rescaling}",
            new,
            "inception" if include_rescaling else None,
        )
    return preprocessing if preprocessing == "auto" else get(preprocessing)


def _warn_if_it_will_not_learn(policy):
    """Warns about weights in 16 bits."""
    if is_half(policy.variable_dtype):
        warnings.warn(
            f"Weights in {policy.variable_dtype} are too coarse to learn: "
            "most steps of an optimizer round to nothing. Use "
            f"dtype='mixed_{policy.variable_dtype}' to train; the pure policy "
            f"is good for inference. Received: dtype={policy.name!r}",
            stacklevel=4,
        )
