"""AdamW on PyTorch, all variables of a kind in one pass over memory.

With one operation for one variable at a time, the optimizer takes a tenth of
the step of a small model. PyTorch's own AdamW has a fused kernel. This file
calls that kernel alone, because Keras corrects the early steps differently.
"""

import collections
import functools
from collections.abc import Sequence
from typing import Any

import keras
from keras import ops

from keras_vit.ops import plain

# Steps after which PyTorch's kernel has nothing left to correct. Its correction
# leaves `epsilon` as it is, and Keras' divides it by the square root of
# `1 - beta_2^step`: the correction is made here, in the learning rate.
SETTLED = 1e9
# What is called here and not documented by PyTorch.
PRIVATE = ("_foreach_mul", "_foreach_mul_", "_fused_adamw_")


def clip_together(
    optimizer: keras.optimizers.Optimizer, gradients: Sequence[Any]
) -> Sequence[Any]:
    """Scales gradients so that their common norm is at most the optimizer's.

    Gradients that the backward pass stored with the variables are scaled in
    place, as in `torch.nn.utils.clip_grad_norm_`: new memory would take ten
    times as long as the product. Other gradients are not changed in place.

    Args:
        optimizer: an `AdamW` with `global_clipnorm`, built.
        gradients: tensors, one for each variable.

    Returns:
        The scaled tensors.
    """
    import torch

    largest = optimizer.global_clipnorm
    norm = torch.nn.utils.get_total_norm(gradients)
    scale = largest / norm.clamp(min=largest)
    if not (gradients and _usable(gradients[0].device.type)):
        return [gradient * scale for gradient in gradients]
    left = {id(v.value.grad) for v in optimizer.tracked_variables()}
    if all(id(gradient) in left for gradient in gradients):
        torch._foreach_mul_(gradients, scale)
        return gradients
    return torch._foreach_mul(gradients, scale)


def update_together(
    optimizer: keras.optimizers.Optimizer,
    gradients: Sequence[Any],
    variables: Sequence[keras.Variable],
    learning_rate: Any,
) -> None:
    """Does what `AdamW.update_step` does, with PyTorch's fused kernel.

    The kernel takes its rate in float32, and reads memory in order whatever the
    strides. `update_step` does the variables that it does not suit, and all of
    them where this PyTorch has no such kernel.

    Args:
        optimizer: an `AdamW`, built, without `amsgrad`.
        gradients: a tensor for each variable.
        variables: the variables to update.
        learning_rate: scalar tensor.
    """
    import torch

    step = ops.cast(optimizer.iterations + 1, "float32")
    corrected = ops.sqrt(1 - optimizer.beta_2**step)
    corrected = corrected / (1 - optimizer.beta_1**step)
    rate = ops.cast(learning_rate, "float32")

    # Tensors that share settings, by settings; four lists of them.
    groups = collections.defaultdict(lambda: ([], [], [], []))
    others = []
    for gradient, variable in zip(gradients, variables):
        index = optimizer.variable_index(variable)
        first, second = optimizer.moments_of(index)
        tensors = (
            variable.value,
            gradient.contiguous(),
            first.value,
            second.value,
        )
        if not _suit(tensors):
            others.append((gradient, variable))
            continue
        settings = (
            optimizer._multipliers[index],
            optimizer._decays[index],
            tensors[0].dtype,
        )
        for alike, tensor in zip(groups[settings], tensors):
            alike.append(tensor)

    with torch.no_grad():
        for (multiplier, decay, _), group in groups.items():
            own_rate = rate * multiplier
            if decay:
                torch._foreach_mul_(group[0], 1 - own_rate * decay)
            _step(
                group,
                own_rate * corrected,
                optimizer.beta_1,
                optimizer.beta_2,
                optimizer.epsilon,
            )
        for gradient, variable in others:
            optimizer.update_step(gradient, variable, learning_rate)


def _step(group, rate, beta_1, beta_2, epsilon):
    """One step without decay of weights, from gradients and two moments."""
    import torch

    weights = group[0]
    settled = torch.full((), SETTLED, device=weights[0].device)
    torch._fused_adamw_(
        *group,
        max_exp_avg_sqs=[],
        state_steps=[settled] * len(weights),
        lr=rate,
        beta1=beta_1,
        beta2=beta_2,
        weight_decay=0.0,
        eps=epsilon,
        amsgrad=False,
        maximize=False,
    )


def _suit(tensors):
    import torch

    weights = tensors[0]
    return (
        weights.device.type in ("cpu", "cuda")
        and weights.dtype != torch.float64
        and all(tensor.is_contiguous() for tensor in tensors)
        and _usable(weights.device.type)
    )


def _usable(device):
    import torch

    if plain.PLAIN_OPS:
        return False
    # A compiler records a comparison instead of making it.
    if torch.compiler.is_compiling():
        return all(hasattr(torch, name) for name in PRIVATE)
    return _there(device)


@functools.cache
def _there(device):
    """Whether the private functions exist on a device, and are right."""
    import torch

    def tensors():
        return [torch.linspace(x, 1, 4, device=device) for x in (-1, 0.1, 0, 0)]

    weights, gradient, first, second = tensors()
    first = first + 0.1 * (gradient - first)
    second = second + 0.2 * (gradient**2 - second)
    stepped = weights - 0.5 * first / (second.sqrt() + 0.3)
    expected = (stepped, gradient, first, second)

    factor = torch.tensor(0.25, device=device)
    rate = torch.tensor(0.5, device=device)
    scaled, updated = tensors(), tensors()
    try:
        with torch.no_grad():
            copies = torch._foreach_mul(tensors(), factor)
            torch._foreach_mul_(scaled, factor)
            _step([[x] for x in updated], rate, 0.9, 0.8, 0.3)
        return all(map(torch.allclose, updated, expected)) and all(
            torch.allclose(actual, x * factor)
            for results in (copies, scaled)
            for actual, x in zip(results, tensors())
        )
    except (AttributeError, RuntimeError, TypeError):
        return False
