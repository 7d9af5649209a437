"""The last layers of every model, which are Keras' own under fixed names.

Models are made with them, and `transfer` puts new ones in their place.
"""

import keras

from keras_vit.layers.arguments import check_positive


def identity(name, dtype):
    """Returns a tap that does nothing."""
    # `keras.layers.Identity` has no `get_config`, so it cannot be saved with
    # a dtype policy.
    return keras.layers.Activation("linear", name=name, dtype=dtype)


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


def is_half(dtype):
    """Whether a dtype has 16 bits."""
    return dtype in ("float16", "bfloat16")
