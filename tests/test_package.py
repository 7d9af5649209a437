"""The house as a whole: imports, arrows, names, docstrings."""

import ast
import doctest
import importlib
import inspect
import pathlib
import pkgutil
import re
import subprocess
import sys

import keras
import numpy as np
import pytest
from helpers import environment

import keras_vit

PACKAGE = pathlib.Path(keras_vit.__file__).parent
MODULES = sorted(
    module.name
    for module in pkgutil.walk_packages([str(PACKAGE)], prefix="keras_vit.")
)

# From the ground up: a room may use those before it. Names without a folder are
# single files.
FLOORS = (
    "arguments",
    "extras",
    "_deprecation",
    "keras_gaps",
    "keras_gaps_of_runs",
    "threads",
    "preprocessing",
    "ops",
    "layers",
    "variants",
    "anatomy",
    "checkpoints",
    "resize",
    "models",
    "data",
    "serving",
    "distribution",
    "training",
    "callbacks",
    "pretraining",
    "opening",
    "recipes",
    "costs",
    "transfer_learning",
    "introspection",
    "plot",
    "hub",
)
FORBIDDEN = {
    "tensorflow",
    "tensorflow_datasets",
    "jax",
    "torch",
    "matplotlib",
    "PIL",
    "sklearn",
    "ipywidgets",
}


def imported(file, top_level_only):
    """The import statements of a file."""
    tree = ast.parse(file.read_text("utf-8"))
    nodes = tree.body if top_level_only else ast.walk(tree)
    return [x for x in nodes if isinstance(x, (ast.Import, ast.ImportFrom))]


def imports(file, top_level_only):
    """The modules that a file imports."""
    for node in imported(file, top_level_only):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        else:
            yield node.module


FILES = {
    ".".join(
        file.relative_to(PACKAGE.parent).with_suffix("").parts
    ).removesuffix(".__init__"): file
    for file in sorted(PACKAGE.rglob("*.py"))
}


def arrows(name, top_level_only=False):
    """The files of the package that a file imports, by module name."""
    found = set()
    for node in imported(FILES[name], top_level_only):
        if isinstance(node, ast.Import):
            targets = [alias.name for alias in node.names]
        else:
            # `from room import file` reads the file, not the room.
            targets = [
                f"{node.module}.{alias.name}"
                if f"{node.module}.{alias.name}" in FILES
                else node.module
                for alias in node.names
            ]
        found |= {target for target in targets if target in FILES}
    return found


@pytest.mark.parametrize("name", FILES)
def test_arrows_point_down(name):
    """Imports inside of functions are arrows too."""
    for target in imports(FILES[name], top_level_only=True):
        assert target.split(".")[0] not in FORBIDDEN, target
    for target in imports(FILES[name], top_level_only=False):
        assert not target.startswith("keras.src"), target
    if name == "keras_vit":
        return
    own = name.split(".")[1]
    for target in arrows(name):
        assert target != "keras_vit", f"{name} imports the front page"
        room = target.split(".")[1]
        assert FLOORS.index(room) <= FLOORS.index(own), f"{name} -> {target}"


def test_no_circle_of_files():
    below = {name: arrows(name) - {name} for name in FILES}
    while below:
        # The first page of a room names all of its files.
        ready = {name for name, rest in below.items() if not rest & set(below)}
        assert ready, f"circles among {sorted(below)}"
        below = {
            name: rest for name, rest in below.items() if name not in ready
        }


@pytest.mark.parametrize("name", FILES)
def test_no_file_is_longer_than_a_sitting(name):
    assert len(FILES[name].read_text("utf-8").splitlines()) <= 400


def without_encoding(file):
    """Lines where text is read or written in whatever the system prefers."""
    for node in ast.walk(ast.parse(file.read_text("utf-8"))):
        if not isinstance(node, ast.Call):
            continue
        given = {keyword.arg: keyword.value for keyword in node.keywords}
        if isinstance(node.func, ast.Attribute):
            # Each with its place for the encoding.
            places = {"read_text": 0, "write_text": 1}
            place = places.get(node.func.attr, -1)
            mode = "".join(ast.unparse(x) for x in node.args)
            text = place == len(node.args) or (
                node.func.attr == "open"
                and re.fullmatch("'[rwax]t?[+]?'", mode)
            )
        else:
            mode = given.get("mode", (node.args[1:2] or [ast.Constant("r")])[0])
            text = getattr(node.func, "id", None) == "open" and (
                "b" not in getattr(mode, "value", "b")
            )
        if text and "encoding" not in given:
            yield node.lineno


def test_text_is_utf_8_on_every_system():
    """Windows would take the code page of its country."""
    root = PACKAGE.parent
    for folder in ("keras_vit", "tests", "benchmarks", "docs"):
        for file in sorted((root / folder).rglob("*.py")):
            assert not list(without_encoding(file)), file


@pytest.mark.parametrize("backend", ["tensorflow", "jax", "torch"])
def test_import_brings_in_no_other_backend_and_no_plots(backend):
    """Faults case 42; the backend itself is Keras' business."""
    pytest.importorskip(backend)
    heavy = {"tensorflow", "jax", "torch"} - {backend}
    heavy |= {"matplotlib", "ipywidgets", "PIL", "sklearn", "scipy", "pooch"}
    code = f"""
import sys, keras
before = set(sys.modules)
import keras_vit
new = set(sys.modules) - before
heavy = {heavy}
assert not heavy & new, heavy & new
"""
    subprocess.run(
        [sys.executable, "-c", code],
        env=environment(backend),
        check=True,
        timeout=120,
    )


def test_works_where_no_other_backend_is_installed():
    """A model is built, trained and saved with the others out of reach."""
    backend = keras.backend.backend()
    absent = sorted({"tensorflow", "jax", "torch"} - {backend})
    code = f"""
from importlib.machinery import PathFinder
find_spec = PathFinder.find_spec
def find_the_rest(name, *rest):
    absent = name.split(".")[0] in {absent}
    return None if absent else find_spec(name, *rest)
PathFinder.find_spec = find_the_rest
import numpy as np, keras, keras_vit
model = keras_vit.ViT(keras_vit.Variant(1, 8, 16, 2, 4), image_size=8)
model.compile(**keras_vit.recipes.adamw(4))
model.fit(np.zeros((2, 8, 8, 3)), np.zeros(2, "int32"), verbose=0)
"""
    subprocess.run(
        [sys.executable, "-c", code],
        env=environment(backend),
        check=True,
        timeout=240,
    )


def public_objects():
    owners = [keras_vit, *vars(keras_vit).values()]
    for owner in owners:
        if inspect.ismodule(owner) and owner.__name__.startswith("keras_vit"):
            for name in getattr(owner, "__all__", ()):
                yield f"{owner.__name__}.{name}", getattr(owner, name)


@pytest.mark.parametrize(
    "name, thing",
    [
        (name, thing)
        for name, thing in public_objects()
        if inspect.isclass(thing) or inspect.isfunction(thing)
    ],
)
def test_public_names_are_documented(name, thing):
    text = inspect.getdoc(thing)
    assert text and text == inspect.cleandoc(thing.__doc__)
    if inspect.isclass(thing) and issubclass(thing, Exception):
        return
    parameters = [
        parameter
        for parameter in inspect.signature(thing).parameters.values()
        if parameter.name != "self"
    ]
    if parameters:
        assert "Args:" in text, name
    for parameter in parameters:
        label = parameter.name
        if parameter.kind is parameter.VAR_KEYWORD:
            if inspect.isclass(thing):
                continue  # those of `keras.layers.Layer`
            label = f"**{label}"
        assert f" {label}:" in text, f"{name}: {label}"
    assert "Example:" in text or "```python" in text, name


class AnyShape(doctest.OutputChecker):
    """Shapes are tuples in the docstrings, and print so on JAX alone."""

    def check_output(self, want, got, optionflags):
        got = re.sub(r"(?:torch\.Size|TensorShape)\(\[(.*?)\]\)", r"(\1)", got)
        return super().check_output(want, got, optionflags)


@pytest.mark.parametrize("module", MODULES)
def test_examples_in_docstrings_run(module):
    if module == "keras_vit.hub":
        pytest.importorskip("keras_hub")
    module = importlib.import_module(module)
    names = {"keras": keras, "np": np, "keras_vit": keras_vit}
    flags = doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE
    finder = doctest.DocTestFinder(exclude_empty=True)
    runner = doctest.DocTestRunner(checker=AnyShape(), optionflags=flags)
    for test in finder.find(module, extraglobs=names):
        runner.run(test)
    assert runner.failures == 0


# A family for a builder or a list, a whole name where a file is opened.
WEIGHTS = re.compile(
    r"(?:weights=|presets\()[\"']([\w+-]+(?::[\w+/-]+)?)[\"']"
    r"|(?:from|load)_checkpoint\((?:\w+,\s)?[\"']([\w+-]+:\w[\w+/-]*)[\"']"
)


def test_presets_in_examples_exist():
    """In docstrings, documents and the tutorials."""
    root = PACKAGE.parent
    files = [*PACKAGE.rglob("*.py"), *root.glob("*.md")]
    files += root.glob("tutorials/src/*.py")
    files += [*root.glob("docs/**/*.md"), *root.glob("benchmarks/*.md")]
    presets = keras_vit.presets()
    known = {p.family for p in presets} | {p.name for p in presets}
    found = [
        (file.name, name)
        for file in files
        for names in WEIGHTS.findall(file.read_text(encoding="utf-8"))
        for name in filter(None, names)
    ]
    assert len(found) > 10
    assert not [pair for pair in found if pair[1] not in known]


def test_version_is_that_of_the_changelog():
    changelog = PACKAGE.parent / "CHANGELOG.md"
    if not changelog.exists():
        pytest.skip("installed without the repository around it")
    assert keras_vit.__version__ in changelog.read_text("utf-8")
