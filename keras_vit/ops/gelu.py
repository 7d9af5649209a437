"""GELU in its two forms, with their derivatives in closed form.

Hendrycks and Gimpel 2016, arXiv:1606.08415. Flax, and therefore the official
code, uses the tanh form; timm and Hugging Face use the exact form.
"""

import math
from collections.abc import Callable
from typing import Any

import keras
from keras import ops

from keras_vit.ops.on_tensorflow import fused

# 2 sqrt(2 / pi), and that times the cubic coefficient. The factor 2 is that of
# tanh(u / 2) = 2 sigmoid(u) - 1.
LINEAR = 2 * math.sqrt(2 / math.pi)
CUBIC = LINEAR * 0.044715


def gelu_tanh(x: Any, training: bool = True) -> Any:
    """Computes `x / 2 (1 + tanh(sqrt(2 / pi) (x + 0.044715 x^3)))`.

    This equals `x s` with `s = sigmoid(u)` and `u = x (a + b x^2)`. Its
    derivative is

        s + x s (1 - s) (a + 3 b x^2)

    PyTorch has kernels for it. TensorFlow's graph fuses the usual formula with
    the matrix product in front of it where no gradient is needed. Elsewhere a
    few products replace a power and a dozen elementwise steps backwards.

    Args:
        x: tensor of any shape.
        training: whether a gradient will be needed. Without it a gradient is
            right too, but slower.

    Returns:
        A tensor of the shape and dtype of `x`.
    """
    backend = keras.backend.backend()
    if backend == "torch":
        from keras_vit.ops import on_torch

        if on_torch.suit(x):
            return on_torch.gelu_tanh(x)
    if backend == "torch" or (backend == "tensorflow" and not training):
        return ops.gelu(x, approximate=True)
    return _with_gradient(_tanh_form, _tanh_gradient)(x)


def gelu_exact(x: Any, training: bool = True) -> Any:
    """Computes `x P(x)`, with `P` the normal distribution function.

    With `p` the density, its derivative is

        P(x) + x p(x)

    JAX and PyTorch derive this form by themselves.

    Args:
        x: tensor of any shape.
        training: as in `gelu_tanh`.

    Returns:
        A tensor of the shape and dtype of `x`.
    """
    if keras.backend.backend() != "tensorflow" or not training:
        return ops.gelu(x, approximate=False)
    return _with_gradient(_exact_form, _exact_gradient)(x)


def _with_gradient(function: Callable, gradient_of: Callable) -> Callable:
    """Returns a function that keeps only its input for the backward pass."""

    @ops.custom_gradient
    def apply(x):
        def gradient(*args, upstream=None):
            return gradient_of(x, args[0] if upstream is None else upstream)

        return function(x), gradient

    return apply


@fused
def _tanh_form(x):
    return x * ops.sigmoid(x * (LINEAR + CUBIC * (x * x)))


@fused
def _tanh_gradient(x, upstream):
    square = x * x
    gate = ops.sigmoid(x * (LINEAR + CUBIC * square))
    slope = x * (LINEAR + 3 * CUBIC * square)
    return upstream * gate * (1 + (1 - gate) * slope)


@fused
def _exact_form(x):
    return x * _distribution(x)


@fused
def _exact_gradient(x, upstream):
    density = ops.exp(-x * x / 2) / math.sqrt(2 * math.pi)
    return upstream * (_distribution(x) + x * density)


def _distribution(x):
    return ops.erfc(-x * math.sqrt(0.5)) / 2
