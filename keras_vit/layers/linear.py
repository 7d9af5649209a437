"""Dense layers as the one matrix product that they are.

Keras multiplies and adds a bias in two steps, and writes the projections of
attention, whose kernels have heads, as an einsum. XLA sees through both.
TensorFlow and PyTorch without a compiler do not: there the kernel is seen as a
matrix, and PyTorch adds the bias while it multiplies. TensorFlow's graph does
so too, and applies GELU besides, where these follow one another at once.
"""

import math

import keras
from keras import ops


def linear(layer, x, activation=None):
    """Calls a built `Dense` or `EinsumDense` layer, faster where it can be.

    Args:
        layer: a `keras.layers.Dense` without activation, or an `EinsumDense`
            whose equation sums over the last axes of its input and the first
            of its kernel, with a bias over all others or none.
        x: tensor of at least rank 2.
        activation: elementwise function of a tensor of any shape, or `None`.

    Returns:
        What `activation(layer(x))` returns.
    """
    backend = keras.backend.backend()
    if activation is None:
        activation = _identity
    if (
        backend == "jax"
        or layer.quantization_mode is not None
        or layer.lora_enabled
    ):
        return activation(layer(x))
    kernel, bias = ops.convert_to_tensor(layer.kernel), layer.bias
    inner = _axes_summed_over(layer)
    x = ops.cast(x, layer.compute_dtype)
    lead, outer = ops.shape(x)[: -inner or None], kernel.shape[inner:]
    columns = math.prod(outer)
    kernel = ops.reshape(kernel, (-1, columns))
    x = ops.reshape(x, (*lead, kernel.shape[0])) if inner > 1 else x
    bias = None if bias is None else ops.reshape(bias, (columns,))
    if backend == "torch":
        import torch

        x = activation(torch.nn.functional.linear(x, kernel.T, bias))
    else:
        # One matrix, not a batch of them that share a kernel.
        rows = ops.reshape(x, (-1, kernel.shape[0]))
        rows = ops.matmul(rows, kernel)
        rows = rows if bias is None else ops.add(rows, bias)
        return ops.reshape(activation(rows), (*lead, *outer))
    return ops.reshape(x, (*lead, *outer)) if len(outer) > 1 else x


def _identity(x):
    return x


def _axes_summed_over(layer):
    if isinstance(layer, keras.layers.EinsumDense):
        # As in "bthk,hkd->btd": the axes of the kernel that the output lacks.
        kernel, output = layer.equation.split(",")[1].split("->")
        return sum(axis not in output for axis in kernel)
    return 1
