"""Old names that still work, with a warning that says what to write.

To move a public name, add a row to the table of the module that it leaves; to
rename an argument, see `renamed_argument`. A row stays for two minor versions
and is named in the CHANGELOG.
"""

import importlib
import warnings


def moved(module, names):
    """Returns a module's `__getattr__` that finds names at their new place.

    Args:
        module: name of the module that had them.
        names: dict from an old name to the full new one,
            `{"vtab": "keras_vit.transfer_learning.vtab"}`.

    Returns:
        A function to be bound to the name `__getattr__` of the module.

    Example:

    ```python
    __getattr__ = moved(__name__, {"old": "keras_vit.room.new"})
    ```
    """

    def find(name):
        if name not in names:
            raise AttributeError(f"module {module!r} has no attribute {name!r}")
        new = names[name]
        warnings.warn(
            f"`{module}.{name}` is now `{new}`; the old name will go.",
            DeprecationWarning,
            stacklevel=2,
        )
        owner, _, last = new.rpartition(".")
        return getattr(importlib.import_module(owner), last)

    return find


def renamed_argument(function, old, new, value):
    """Warns that an argument has a new name, and returns its value.

    Args:
        function: name of the function, as a user writes it.
        old: the argument that was given.
        new: what to write now.
        value: the value that it means.

    Returns:
        `value`.
    """
    warnings.warn(
        f"`{old}` of `{function}` is now `{new}`; the old name will go.",
        DeprecationWarning,
        stacklevel=3,
    )
    return value
