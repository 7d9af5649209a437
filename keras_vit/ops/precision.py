"""Which dtypes are too coarse for what."""


def at_least_float32(dtype):
    """Returns the dtype for what float16 and bfloat16 are too coarse for.

    Not `keras.backend.result_type(dtype, "float32")`, which turns float64
    into float32.

    Args:
        dtype: name of a float dtype.

    Returns:
        `"float64"` for `"float64"`, else `"float32"`.
    """
    return "float64" if dtype == "float64" else "float32"


def is_half(dtype):
    """Returns whether a dtype has 16 bits."""
    return dtype in ("float16", "bfloat16")
