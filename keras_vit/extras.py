"""Optional packages: imported where they are used, and named when absent.

The package needs Keras, NumPy, pooch and safetensors. What a single room needs
besides (Pillow, scikit-learn, Matplotlib, ...) comes with an extra of
`pyproject.toml`, and an error says which. A Keras that is too old is named
here as well, before a room of the package needs what it lacks.
"""

import importlib
import re
import types

import keras

# The name that pip knows this package by.
DISTRIBUTION = "keras3-vit"
# The oldest Keras, as `pyproject.toml` has it.
OLDEST_KERAS = (3, 15)


def check_keras(version: str) -> None:
    """Raises if a version of Keras is too old.

    Args:
        version: the version, such as `"3.15.1"` or `"3.16.0.dev2026112801"`.

    Raises:
        ImportError: if it is older than `OLDEST_KERAS`.
    """
    found = tuple(int(x) for x in re.findall(r"\d+", version)[:2])
    if found < OLDEST_KERAS:
        oldest = ".".join(str(x) for x in OLDEST_KERAS)
        raise ImportError(
            f"keras_vit needs Keras {oldest} or newer, and {version} is "
            f'installed: pip install --upgrade "keras>={oldest}"'
        )


# Older ones lack `keras.version`.
check_keras(keras.__version__)


def require(module: str, extra: str | None, reason: str) -> types.ModuleType:
    """Returns an optional module, or raises an error that says what to install.

    Args:
        module: name of the module, with its package: `"PIL.Image"`.
        extra: the extra of `pyproject.toml` that brings the package; `None`
            for a package that no extra brings, which is installed by its own
            name.
        reason: what needs which package: the start of the message.

    Returns:
        The module.

    Raises:
        ImportError: if the module cannot be imported.

    Example:

    >>> require("json", "data", "Records need json").dumps([1])
    '[1]'
    """
    try:
        return importlib.import_module(module)
    except ImportError as error:
        raise absent(module, extra, reason) from error


def absent(module: str, extra: str | None, reason: str) -> ImportError:
    """Returns the error of `require`, for callers that look without importing.

    Args:
        module: as in `require`.
        extra: as in `require`.
        reason: as in `require`.

    Returns:
        The error, not raised.

    Example:

    >>> print(absent("pandas", None, "Data frames need pandas"))
    Data frames need pandas, which is not installed: pip install pandas
    """
    if extra is None:
        command = f"pip install {module.partition('.')[0]}"
    else:
        command = (
            f'pip install "{DISTRIBUTION}[{extra}]", '
            f'or in a clone: pip install -e ".[{extra}]"'
        )
    return ImportError(f"{reason}, which is not installed: {command}")
