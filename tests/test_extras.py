"""Optional packages: what an error says is true of `pyproject.toml`."""

import ast
import pathlib
import tomllib

import pytest

import keras_vit
from keras_vit import extras

PACKAGE = pathlib.Path(keras_vit.__file__).parent
PROJECT = PACKAGE.parent / "pyproject.toml"


def calls():
    """The extra and the place of each call of `require` and `absent`."""
    for file in sorted(PACKAGE.rglob("*.py")):
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
            if (
                isinstance(node, ast.Call)
                and getattr(node.func, "id", None) in ("require", "absent")
                and isinstance(node.args[1], ast.Constant)
            ):
                yield f"{file.name}:{node.lineno}", node.args[1].value


@pytest.mark.skipif(not PROJECT.exists(), reason="installed without its clone")
def test_names_are_those_of_the_project():
    project = tomllib.loads(PROJECT.read_text(encoding="utf-8"))["project"]
    assert extras.DISTRIBUTION == project["name"]
    named = dict(calls())
    assert len(named) >= 9
    for place, extra in named.items():
        assert extra in {None, *project["optional-dependencies"]}, place


def test_the_error_says_what_to_install():
    with pytest.raises(ImportError) as caught:
        extras.require("no_such_module.part", "data", "Maps need Atlas")
    assert str(caught.value) == (
        "Maps need Atlas, which is not installed: "
        f'pip install "{extras.DISTRIBUTION}[data]", '
        'or in a clone: pip install -e ".[data]"'
    )
    assert isinstance(caught.value.__cause__, ModuleNotFoundError)
    with pytest.raises(ImportError, match="pip install no_such_module$"):
        extras.require("no_such_module.part", None, "Maps need Atlas")


def test_a_submodule_is_returned_itself():
    assert extras.require("os.path", "data", "Paths need os").sep in "/\\"
