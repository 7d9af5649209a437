"""Picks tokens of a sequence by their index."""

from typing import Any

from keras import ops


def select_tokens(tokens: Any, indices: Any, mask_token: Any = None) -> Any:
    """Returns the tokens at the given places of each sequence.

    Args:
        tokens: tensor of shape `(batch, num_tokens, hidden_dim)`.
        indices: ints of shape `(batch, ...)`, in `[0, num_tokens)`, or
            `num_tokens` for the mask token.
        mask_token: tensor of shape `(batch, 1, hidden_dim)`, or `None`.

    Returns:
        A tensor of shape `(batch, num_indices, hidden_dim)`.
    """
    if mask_token is not None:
        mask_token = ops.cast(mask_token, tokens.dtype)
        tokens = ops.concatenate([tokens, mask_token], axis=1)
    indices = ops.reshape(indices, (ops.shape(indices)[0], -1, 1))
    return ops.take_along_axis(tokens, indices, axis=1)
