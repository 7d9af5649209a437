"""Checks of arguments, shared by all functions and layers.

An error names the argument, the rule it breaks and the value received, in the
same words on every backend. It comes before any weight is made.
"""

import numbers
from collections.abc import Collection
from typing import Any, Literal, get_args

import keras

# Of a tensor; `None` for a size that is not known yet.
Shape = tuple[int | None, ...]
DataFormat = Literal["channels_last", "channels_first"]


def check_positive(name: str, value: Any) -> int:
    """Returns `value` as an int, or raises if it is no integer above zero."""
    if (
        isinstance(value, bool)
        or not isinstance(value, numbers.Integral)
        or value <= 0
    ):
        raise ValueError(
            f"`{name}` must be an integer greater than 0. "
            f"Received: {name}={value!r}"
        )
    return int(value)


def check_not_negative(name: str, value: Any) -> int:
    """Returns `value` as an int, or raises if it is not one of 0, 1, 2, ..."""
    if (
        isinstance(value, bool)
        or not isinstance(value, numbers.Integral)
        or value < 0
    ):
        raise ValueError(
            f"`{name}` must be an integer of 0 or more. "
            f"Received: {name}={value!r}"
        )
    return int(value)


def check_pair(name: str, value: Any) -> tuple[int, int]:
    """Returns `(rows, columns)` from an int or a pair of ints above zero."""
    pair = (value, value) if isinstance(value, numbers.Integral) else value
    if not isinstance(pair, (tuple, list)) or len(pair) != 2:
        raise ValueError(
            f"`{name}` must be an integer or a pair (height, width) of "
            f"integers. Received: {name}={value!r}"
        )
    return tuple(check_positive(name, size) for size in pair)


def check_grid(name: str, value: Any) -> tuple[int, int]:
    """Returns `(rows, columns)`, or raises if it is no such pair of ints."""
    if not isinstance(value, (tuple, list)) or len(value) != 2:
        raise ValueError(
            f"`{name}` must be a pair of integers (rows, columns). "
            f"Received: {name}={value!r}"
        )
    return tuple(check_positive(name, size) for size in value)


def check_rate(name: str, value: Any) -> float:
    """Returns `value` as a float, or raises if it is outside `[0, 1)`."""
    if (
        isinstance(value, bool)
        or not isinstance(value, numbers.Real)
        or not 0 <= value < 1
    ):
        raise ValueError(
            f"`{name}` must be a number in [0, 1). Received: {name}={value!r}"
        )
    return float(value)


def check_above_zero(name: str, value: Any) -> float:
    """Returns `value` as a float, or raises if it is not above zero."""
    if (
        isinstance(value, bool)
        or not isinstance(value, numbers.Real)
        or not value > 0
    ):
        raise ValueError(
            f"`{name}` must be a number greater than 0. "
            f"Received: {name}={value!r}"
        )
    return float(value)


def check_choice(name: str, value: Any, choices: Collection) -> Any:
    """Returns `value`, or raises if it is not one of `choices`."""
    if value not in choices:
        known = ", ".join(repr(choice) for choice in choices)
        raise ValueError(
            f"`{name}` must be one of {known}. Received: {name}={value!r}"
        )
    return value


def check_data_format(value: DataFormat | None) -> DataFormat:
    """Returns the format of images, by default that of `keras.config`."""
    return check_choice(
        "data_format",
        value or keras.config.image_data_format(),
        get_args(DataFormat),
    )


def spatial(data_format: DataFormat) -> slice:
    """Returns the slice of a shape that holds height and width."""
    return slice(1, 3) if data_format == "channels_last" else slice(2, 4)


def check_rank(
    layer: keras.layers.Layer, shape: Shape, rank: int, axes: str
) -> None:
    """Raises if `shape` does not have the rank that the layer takes."""
    if len(shape) != rank:
        raise ValueError(
            f"{type(layer).__name__} '{layer.name}' takes inputs of rank "
            f"{rank}, {axes}. Received: shape={tuple(shape)}"
        )


def check_num_tokens(
    layer: keras.layers.Layer, shape: Shape, num_tokens: int, rule: str
) -> None:
    """Raises if `shape` is known to have another number of tokens."""
    if shape[1] is not None and shape[1] != num_tokens:
        raise ValueError(
            f"{type(layer).__name__} '{layer.name}' takes {num_tokens} "
            f"tokens, {rule}. Received: shape={tuple(shape)}"
        )


def check_placed_tokens(layer: keras.layers.Layer, shape: Shape) -> None:
    """Raises unless tokens are those of a layer's grid and before it."""
    rows, columns = layer.grid_size
    prefix = layer.num_prefix_tokens
    rule = f"{prefix} in front of the grid of {rows} x {columns}"
    check_num_tokens(layer, shape, prefix + rows * columns, rule)
