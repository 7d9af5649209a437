"""Kernels for CPUs that PyTorch has, but calls only where it compiles.

Operation by operation, PyTorch multiplies with MKL, which is a tenth slower
than oneDNN on some processors. GELU is a separate pass over memory, and the
tanh form takes three times as long as the exact one. The kernels of this file
are for float32 on a CPU; `suit` says whether they are right for some tensors.
"""

import functools
import math
from typing import Any, Literal

from keras_vit.ops import plain

# `a` and `b` of the tanh form of GELU, `x sigmoid(x (a + b x^2))`; see
# `keras_vit.ops.gelu`.
LINEAR = 2 * math.sqrt(2 / math.pi)
CUBIC = LINEAR * 0.044715


def suit(*tensors: Any) -> bool:
    """Returns whether these kernels may compute with these tensors now."""
    import torch

    return (
        not plain.PLAIN_OPS
        and all(x.dtype == torch.float32 for x in tensors)
        and all(x.device.type == "cpu" for x in tensors)
        # A recorded model must consist of operations that others know.
        and not torch.compiler.is_compiling()
        and not torch.jit.is_tracing()
        # The form of gradients that `torch.func` takes makes every call slow.
        and not _transforms_are_active()
        and torch.backends.mkldnn.enabled
        and _there()
    )


def _transforms_are_active():
    import torch

    # This function is not public. Without it, expect transforms everywhere.
    active = getattr(torch._C, "_are_functorch_transforms_active", None)
    return active is None or active()


def linear(
    x: Any,
    kernel: Any,
    bias: Any = None,
    gelu: Literal["tanh", "none"] | None = None,
) -> Any:
    """Computes `x kernel + bias`, and GELU of it if `gelu` is given.

    Args:
        x: tensor of shape `(..., inputs)`.
        kernel: tensor of shape `(inputs, outputs)`.
        bias: tensor of shape `(outputs,)` or `None`.
        gelu: `"tanh"`, `"none"` for the exact form, or `None` for no GELU.
            GELU has no gradient here: use it under `torch.no_grad` only.

    Returns:
        A tensor of shape `(..., outputs)`.
    """
    import torch

    if torch.is_grad_enabled():
        return _linear_with_gradient().apply(x, kernel, bias)
    return _multiply(x, kernel, bias, gelu)


def gelu_tanh(x: Any) -> Any:
    """Computes GELU in the tanh form, see `keras_vit.ops.gelu`.

    Forwards it uses the sigmoid, which is faster here than PyTorch's own
    kernel; backwards it uses that kernel.

    Args:
        x: tensor of any shape.

    Returns:
        A tensor of the shape of `x`.
    """
    import torch

    if torch.is_grad_enabled():
        return _gelu_with_gradient().apply(x)
    return _gelu(x)


def _multiply(x, kernel, bias, gelu=None):
    import torch

    attributes = ("none", [], "") if gelu is None else ("gelu", [], gelu)
    product = torch.ops.mkldnn._linear_pointwise
    return product(x, kernel.T, bias, *attributes)


def _gelu(x):
    import torch

    gate = torch.addcmul(x.new_tensor(LINEAR), x, x, value=CUBIC)
    return gate.mul_(x).sigmoid_().mul_(x)


@functools.cache
def _there():
    """Whether the operator, which is not public, exists and is right."""
    import torch

    numbers = torch.linspace(-1, 1, 12, dtype=torch.float32, device="cpu")
    x, kernel, bias = numbers[:6].view(2, 3), numbers.view(3, 4), numbers[:4]
    expected = torch.nn.functional.gelu(x @ kernel + bias, approximate="tanh")
    try:
        return torch.allclose(_multiply(x, kernel, bias, "tanh"), expected)
    except (AttributeError, RuntimeError):
        return False


@functools.cache
def _linear_with_gradient():
    import torch

    class Linear(torch.autograd.Function):
        @staticmethod
        def forward(ctx, x, kernel, bias):
            ctx.save_for_backward(x, kernel)
            return _multiply(x, kernel, bias)

        @staticmethod
        def backward(ctx, upstream):
            x, kernel = ctx.saved_tensors
            of_x, of_kernel, of_bias = ctx.needs_input_grad
            rows = upstream.flatten(0, -2)
            return (
                linear(upstream, kernel.T) if of_x else None,
                # MKL is faster in this one of the three products.
                x.flatten(0, -2).T @ rows if of_kernel else None,
                rows.sum(0) if of_bias else None,
            )

    return Linear


@functools.cache
def _gelu_with_gradient():
    import torch

    class GELU(torch.autograd.Function):
        @staticmethod
        def forward(ctx, x):
            ctx.save_for_backward(x)
            return _gelu(x)

        @staticmethod
        def backward(ctx, upstream):
            (x,) = ctx.saved_tensors
            return torch.ops.aten.gelu_backward(upstream, x, approximate="tanh")

    return GELU
