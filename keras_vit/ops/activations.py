"""The non-linearities of Vision Transformers by name.

`gelu` has the two forms of GELU; quick GELU, `x sigmoid(1.702 x)`, is OpenAI's
CLIP (Radford et al. 2021, arXiv:2103.00020). Everything else is Keras'.
"""

from collections.abc import Callable
from typing import Any

import keras
from keras import ops

from keras_vit.ops.gelu import gelu_exact, gelu_tanh


def quick_gelu(x: Any, training: bool = True) -> Any:
    """Computes `x sigmoid(1.702 x)`.

    Args:
        x: tensor of any shape.
        training: ignored; the other forms of GELU take it.

    Returns:
        A tensor of the shape and dtype of `x`.
    """
    return x * ops.sigmoid(1.702 * x)


NAMED = {
    "gelu_tanh": gelu_tanh,
    "gelu": gelu_exact,
    "quick_gelu": quick_gelu,
}


def activation_function(name: Any) -> Callable[[Any, bool | None], Any]:
    """Returns the function of an activation, called as `(x, training)`.

    Args:
        name: `"gelu_tanh"`, `"gelu"`, `"quick_gelu"`, or what
            `keras.activations.get` takes.

    Raises:
        ValueError: if there is no such activation.
    """
    if isinstance(name, str) and name in NAMED:
        return NAMED[name]
    try:
        function = keras.activations.get(name)
    except (ValueError, TypeError) as error:
        known = ", ".join(map(repr, (*NAMED, "swiglu")))
        raise ValueError(
            f"`activation` must be one of {known}, or what "
            f"`keras.activations.get` takes. Received: activation={name!r}"
        ) from error
    return lambda x, training: function(x)
