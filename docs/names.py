"""The public names of the library, and the pages of the reference that list
them.

A page in `reference` lists names, without the leading `keras_vit.`, in blocks
that open with ```` ```{names} ````: grouping is text, next to the words that
introduce a group.
"""

import functools
import importlib
import inspect
import pathlib
import re

import keras_vit

REFERENCE = pathlib.Path(__file__).resolve().parent / "reference"
BLOCK = re.compile(r"^```\{names\}\n(.*?)^```$", re.MULTILINE | re.DOTALL)
# Modules that are imported by themselves, and the library each of them needs,
# which is not needed to read their docstrings.
BY_THEMSELVES = {"hub": "keras_hub"}


def public():
    """Returns the public names of `import keras_vit`, and what they stand for.

    What two modules share goes by its shorter name.
    """
    found, modules = {}, {}
    for name in keras_vit.__all__:
        thing = getattr(keras_vit, name)
        (modules if inspect.ismodule(thing) else found)[name] = thing
    for module, owner in modules.items():
        for name in owner.__all__:
            thing = getattr(owner, name)
            known = any(thing is other for other in found.values())
            if not known and not inspect.ismodule(thing):
                found[f"{module}.{name}"] = thing
    return found


@functools.cache
def documented():
    """Returns all names that have a page."""
    return public() | {
        f"{module}.{name}": thing
        for module, needed in BY_THEMSELVES.items()
        for name, thing in imported_without(needed, f"keras_vit.{module}")
    }


def imported_without(needed, module):
    """Returns what a module defines, a stand-in for the library it needs."""
    from sphinx.ext.autodoc.mock import mock

    with mock([needed]):
        owner = importlib.import_module(module)
    return [
        (name, thing)
        for name, thing in vars(owner).items()
        if getattr(thing, "__module__", None) == module and name[0] != "_"
    ]


def listed():
    """Returns the names that each page of the reference lists, in order."""
    return {
        page.stem: [
            name
            for block in BLOCK.findall(page.read_text("utf-8"))
            for name in block.split()
        ]
        for page in sorted(REFERENCE.glob("*.md"))
    }
