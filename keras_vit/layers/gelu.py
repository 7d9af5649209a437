"""GELU in the tanh form, with its derivative in closed form.

Hendrycks and Gimpel 2016, arXiv:1606.08415. The form is Flax' default, hence
that of the official code.
"""

import math

import keras
from keras import ops

# 2 sqrt(2 / pi), and with the cubic term: tanh(u / 2) = 2 sigmoid(u) - 1.
LINEAR = 2 * math.sqrt(2 / math.pi)
CUBIC = LINEAR * 0.044715


def gelu_tanh(x, training=True):
    """Computes `x / 2 (1 + tanh(sqrt(2 / pi) (x + 0.044715 x^3)))`.

    As `x s` with `s = sigmoid(u)` and `u = x (a + b x^2)`, which is the same;
    its derivative is

        s + x s (1 - s) (a + 3 b x^2)

    PyTorch has a kernel for it, and TensorFlow's graph fuses the usual formula
    with the matrix product in front of it where no gradient is asked for.
    Elsewhere, a power and a dozen elementwise steps back through it become a
    few products.

    Args:
        x: tensor of any shape.
        training: whether a gradient will be asked for. If not, there may be one
            all the same, made in a slower way.

    Returns:
        A tensor of the shape and dtype of `x`.
    """
    backend = keras.backend.backend()
    if backend == "torch" or (backend == "tensorflow" and not training):
        return ops.gelu(x, approximate=True)

    @ops.custom_gradient
    def gelu(x):
        square = x * x
        gate = ops.sigmoid(x * (LINEAR + CUBIC * square))

        def gradient(*args, upstream=None):
            g = args[0] if upstream is None else upstream
            slope = x * (LINEAR + 3 * CUBIC * square)
            return g * gate * (1 + (1 - gate) * slope)

        return x * gate, gradient

    return gelu(x)
