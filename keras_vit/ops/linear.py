"""Dense layers as one matrix product.

Keras multiplies and adds a bias in two steps, and writes the projections of
attention, whose kernels have heads, as an einsum. XLA simplifies both.
TensorFlow and PyTorch without a compiler do not. For them this file reshapes
the kernel to a matrix. PyTorch then adds the bias while it multiplies, and with
the kernels of `on_torch` applies GELU as well. TensorFlow's graph does both
where product, bias and GELU follow one another directly.
"""

import math
from collections.abc import Callable
from typing import Any

import keras
from keras import ops

from keras_vit.ops import plain
from keras_vit.ops.gelu import gelu_exact, gelu_tanh

# The names that PyTorch's kernels have for them.
GELUS = {gelu_tanh: "tanh", gelu_exact: "none"}


def linear(
    layer: keras.layers.Layer,
    x: Any,
    activation: Callable | None = None,
    training: bool | None = None,
) -> Any:
    """Calls a built `Dense` or `EinsumDense` layer, faster where possible.

    Args:
        layer: a `keras.layers.Dense` without activation, or an `EinsumDense`
            whose equation sums over the last axes of its input and the first
            axes of its kernel. Its bias, if any, is over all other axes.
        x: tensor of at least rank 2.
        activation: elementwise function of a tensor of any shape and
            `training`, or `None`.
        training: second argument of `activation`: whether a gradient will be
            needed.

    Returns:
        What `activation(layer(x), training)` returns.
    """
    backend = keras.backend.backend()
    activation = activation or _identity
    if (
        backend == "jax"
        or plain.PLAIN_OPS
        or layer.quantization_mode is not None
        or layer.lora_enabled
    ):
        return activation(layer(x), training)
    if backend == "torch":
        return _linear_on_torch(layer, x, activation, training)
    kernel, bias = ops.convert_to_tensor(layer.kernel), layer.bias
    inner = _axes_summed_over(layer)
    x = ops.cast(x, layer.compute_dtype)
    lead, outer = ops.shape(x)[: -inner or None], kernel.shape[inner:]
    kernel = ops.reshape(kernel, (-1, math.prod(outer)))
    # One matrix, not a batch of matrices that share a kernel.
    rows = ops.matmul(ops.reshape(x, (-1, kernel.shape[0])), kernel)
    if bias is not None:
        rows = ops.add(rows, ops.reshape(bias, (-1,)))
    return ops.reshape(activation(rows, training), (*lead, *outer))


def _linear_on_torch(layer, x, activation, training):
    """Computes `linear` by PyTorch's functions.

    A call of Keras' functions, which first look for symbols in their arguments,
    takes longer than a small product.
    """
    import torch

    from keras_vit.ops import on_torch

    kernel, inner = layer.kernel.value, _axes_summed_over(layer)
    outer = kernel.shape[inner:]
    kernel = kernel.flatten(0, inner - 1).flatten(1)
    bias = None if layer.bias is None else layer.bias.value.flatten()
    x = x.to(kernel.dtype).flatten(-inner)
    if on_torch.suit(x, kernel):
        gelu = None if torch.is_grad_enabled() else GELUS.get(activation)
        x = on_torch.linear(x, kernel, bias, gelu)
        activation = _identity if gelu else activation
    else:
        x = torch.nn.functional.linear(x, kernel.T, bias)
    return activation(x, training).unflatten(-1, outer)


def _identity(x, training):
    return x


def _axes_summed_over(layer):
    if isinstance(layer, keras.layers.EinsumDense):
        # The axes of the kernel that the output lacks, as in "bthk,hkd->btd".
        kernel, output = layer.equation.split(",")[1].split("->")
        return sum(axis not in output for axis in kernel)
    return 1
