"""Which dtypes are precise enough."""


def at_least_float32(dtype: str) -> str:
    """Returns the dtype for sums that float16 and bfloat16 are too coarse for.

    `keras.backend.result_type(dtype, "float32")` would turn float64 into
    float32.

    Args:
        dtype: name of a float dtype.

    Returns:
        `"float64"` for `"float64"`, else `"float32"`.
    """
    return "float64" if dtype == "float64" else "float32"


def is_half(dtype: str) -> bool:
    """Returns whether a dtype has 16 bits."""
    return dtype in ("float16", "bfloat16")
