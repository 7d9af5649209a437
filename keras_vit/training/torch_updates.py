"""AdamW on PyTorch, all variables of a kind at once.

One variable at a time, a step of a small model spends a tenth of itself on
starting thousands of tiny operations. Keras has such updates for its own
optimizers; a subclass does not get them.
"""

import itertools

import keras
from keras import ops


def update_together(optimizer, gradients, variables, learning_rate):
    """Does what `AdamW.update_step` does, by PyTorch's multi-tensor kernels.

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

    def settings(pair):
        _, variable = pair
        index = optimizer._get_variable_index(variable)
        return (
            optimizer._multipliers[index],
            optimizer._decays[index],
            keras.backend.standardize_dtype(variable.dtype),
        )

    pairs = sorted(zip(gradients, variables), key=settings)
    with torch.no_grad():
        for key, alike in itertools.groupby(pairs, settings):
            multiplier, decay, dtype = key
            gradients, variables = zip(*alike)
            indices = [optimizer._get_variable_index(v) for v in variables]
            weights = [v.value for v in variables]
            first = [optimizer._momentums[i].value for i in indices]
            second = [optimizer._velocities[i].value for i in indices]
            rate = ops.cast(learning_rate, dtype) * multiplier

            if decay:
                torch._foreach_mul_(weights, 1 - rate * decay)
            torch._foreach_lerp_(first, gradients, 1 - optimizer.beta_1)
            torch._foreach_mul_(second, optimizer.beta_2)
            torch._foreach_addcmul_(
                second, gradients, gradients, value=1 - optimizer.beta_2
            )
            change = torch._foreach_sqrt(second)
            torch._foreach_add_(change, optimizer.epsilon)
            change = torch._foreach_div(first, change)
            torch._foreach_mul_(change, rate * ops.cast(corrected, dtype))
            torch._foreach_sub_(weights, change)
