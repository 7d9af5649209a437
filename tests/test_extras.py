"""Optional packages: what an error says is true of `pyproject.toml`."""

import ast
import pathlib
import subprocess
import sys
import tomllib

import keras
import pytest
from helpers import environment

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


@pytest.mark.parametrize(
    "version", ["3.15.0", "3.16.0.dev2026112801", "3.100", "4.0.0rc1"]
)
def test_a_keras_that_is_new_enough(version):
    extras.check_keras(version)


@pytest.mark.parametrize("version", ["3.14.1", "3.9.2", "2.15.0"])
def test_a_keras_that_is_too_old_is_named(version):
    words = f"needs Keras 3.15 or newer, and {version} is installed"
    with pytest.raises(ImportError, match=words):
        extras.check_keras(version)


def test_an_old_keras_is_named_before_anything_fails():
    """The oldest is the one of `pyproject.toml`."""
    code = """
import keras
keras.__version__ = "3.14.2"
del keras.layers
try:
    import keras_vit
except ImportError as error:
    print(error)
"""
    output = subprocess.run(
        [sys.executable, "-c", code],
        env=environment(keras.backend.backend()),
        capture_output=True,
        text=True,
        check=True,
        timeout=120,
    ).stdout
    oldest = ".".join(str(x) for x in extras.OLDEST_KERAS)
    assert output.splitlines()[-1] == (
        f"keras_vit needs Keras {oldest} or newer, and 3.14.2 is installed: "
        f'pip install --upgrade "keras>={oldest}"'
    )
    if PROJECT.exists():
        project = tomllib.loads(PROJECT.read_text(encoding="utf-8"))["project"]
        assert f"keras>={oldest},<4" in project["dependencies"]
