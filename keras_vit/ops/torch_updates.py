"""AdamW on PyTorch, all variables of a kind in one pass over memory.

One operation and one variable at a time, a step of a small model spends a tenth
of itself on the optimizer. PyTorch's own AdamW has a fused kernel, which is
called here by itself, because its correction of the early steps is not Keras'.
"""

import collections

from keras import ops

# Steps after which PyTorch's kernel has nothing left to correct. Its correction
# leaves `epsilon` as it is, where Keras' divides it by the square root of
# `1 - beta_2^step`: the correction is made here, in the learning rate.
SETTLED = 1e9


def clip_together(optimizer, gradients):
    """Scales gradients so that their common norm is at most the optimizer's.

    Those that the backward pass left with the variables are scaled in place, as
    by `torch.nn.utils.clip_grad_norm_`: new memory would take ten times as long
    as the product. Others are left as they are.

    Args:
        optimizer: an `AdamW` with `global_clipnorm`, built.
        gradients: list of tensors.

    Returns:
        A list of tensors.
    """
    import torch

    largest = optimizer.global_clipnorm
    norm = torch.nn.utils.get_total_norm(gradients)
    scale = largest / norm.clamp(min=largest)
    left = {id(v.value.grad) for v in optimizer.tracked_variables()}
    if all(id(gradient) in left for gradient in gradients):
        torch._foreach_mul_(gradients, scale)
        return gradients
    return torch._foreach_mul(gradients, scale)


def update_together(optimizer, gradients, variables, learning_rate):
    """Does what `AdamW.update_step` does, by PyTorch's fused kernel.

    The kernel takes its rate in float32, and walks through memory whatever the
    strides: what it is not for is left to `update_step`.

    Args:
        optimizer: an `AdamW`, built, without `amsgrad`.
        gradients: a tensor for each variable.
        variables: the `keras.Variable`s to update.
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
            weights = group[0]
            own_rate = rate * multiplier
            if decay:
                torch._foreach_mul_(weights, 1 - own_rate * decay)
            settled = torch.full((), SETTLED, device=weights[0].device)
            torch._fused_adamw_(
                *group,
                max_exp_avg_sqs=[],
                state_steps=[settled] * len(weights),
                lr=own_rate * corrected,
                beta1=optimizer.beta_1,
                beta2=optimizer.beta_2,
                weight_decay=0.0,
                eps=optimizer.epsilon,
                amsgrad=False,
                maximize=False,
            )
        for gradient, variable in others:
            optimizer.update_step(gradient, variable, learning_rate)


def _suit(tensors):
    import torch

    weights = tensors[0]
    return (
        weights.device.type in ("cpu", "cuda")
        and weights.dtype != torch.float64
        and all(tensor.is_contiguous() for tensor in tensors)
    )
