"""The site: every public name is on it, and every link in it holds."""

import html.parser
import importlib.util
import inspect
import pathlib
import re
import subprocess
import sys
import urllib.parse

import pytest
from helpers import environment

ROOT = pathlib.Path(__file__).parents[1]
DOCS = ROOT / "docs"
sys.path.append(str(DOCS))

import docstrings  # noqa: E402
import names  # noqa: E402
import weights  # noqa: E402

import keras_vit  # noqa: E402

PUBLIC = names.public()
CODE = re.compile(r"^(```+).*?^\1$", re.MULTILINE | re.DOTALL)
LISTED = [name for page in names.listed().values() for name in page]

DOCSTRING = """Counts patches.

    rows * columns

Args:
    rows, columns: of the grid,
        above 0.
    **kwargs: see `ViT`; arXiv:2010.11929.

Call arguments of `update_state`:
    labels: ints.

Returns:
    An int.

Example:

>>> for row in range(2):
...     row
0
1

A block of code:

```python
Args:
```
"""
PAGE = """Counts patches.

    rows * columns

## Arguments

`rows`, `columns`
:   of the grid,
    above 0.

`**kwargs`
:   see `ViT`; [arXiv:2010.11929](https://arxiv.org/abs/2010.11929).

## Call arguments of `update_state`

`labels`
:   ints.

## Returns

An int.

## Example

```pycon
>>> for row in range(2):
...     row
0
1
```

A block of code:

```python
Args:
```"""


def test_docstring_becomes_markdown():
    assert docstrings.markdown(DOCSTRING, level=2) == PAGE


def test_signatures_read_as_written():
    def function(self, kind=int, size: int | None = None) -> str:
        return kind(size)

    written = "(kind=int, size: int | None = None) -> str"
    assert docstrings.signature(function, drop_first=True) == written


def test_every_public_name_is_in_one_group():
    assert len(LISTED) == len(set(LISTED))
    alone = [n for n in LISTED if n.split(".")[0] in names.BY_THEMSELVES]
    assert set(LISTED) - set(alone) == set(PUBLIC), (
        "list new names in a page of docs/reference"
    )
    assert {name.split(".")[0] for name in alone} == set(names.BY_THEMSELVES)


def test_every_preset_is_in_the_table():
    page = (DOCS / "reference/checkpoints.md").read_text(encoding="utf-8")
    assert len(weights.BLOCK.findall(page)) == 1
    head, rule, *rows = weights.table().splitlines()
    assert {row.count("|") for row in (head, rule, *rows)} == {8}
    found = [re.match(r"\| `(\S+)` \| (\d+) ", row).groups() for row in rows]
    assert found == [
        (preset.name, str(preset.image_size)) for preset in keras_vit.presets()
    ]
    (row,) = [row for row in rows if "`dinov2:L/14`" in row]
    assert "86.3 % (linear) | `from_checkpoint` | Apache-2.0 " in row


@pytest.mark.parametrize("name", PUBLIC)
def test_page_has_all_that_the_docstring_says(name):
    page, thing = docstrings.page(name, PUBLIC[name]), PUBLIC[name]
    text = CODE.sub("", page)
    assert not re.search(r"^[A-Z][a-z ]+:$\n +\S", text, re.MULTILINE), text
    terms = " ".join(re.findall(r"^(`.*`)\n:   ", text, re.MULTILINE))
    if isinstance(thing, dict):
        for key in thing:
            assert f"| `{key!r}` |" in text
        return
    documented = inspect.getdoc(thing)
    for argument in docstrings.arguments(thing):
        if f" {argument}:" in documented:
            assert re.search(rf"`\**{argument}`", terms), argument
    # Not a word is lost.
    words = re.findall(r"\w+", CODE.sub("", documented).replace("Args", ""))
    assert set(words) - set(re.findall(r"\w+", page)) == set()


class Page(html.parser.HTMLParser):
    """What a page of the built site links to, and what may be linked to."""

    def __init__(self, path):
        super().__init__()
        self.targets, self.anchors = [], {""}
        self.feed(path.read_text("utf-8"))

    def handle_starttag(self, tag, attributes):
        attributes = dict(attributes)
        if "id" in attributes:
            self.anchors.add(attributes["id"])
        for key in ("href", "src"):
            if attributes.get(key):
                self.targets.append(attributes[key])


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_site_builds_without_a_warning(tmp_path):
    for package in ("sphinx", "myst_nb", "furo"):
        if importlib.util.find_spec(package) is None:
            pytest.skip(f"{package} is not installed: make docs installs it")
    site = tmp_path / "html"
    result = subprocess.run(
        [sys.executable, "-m", "sphinx", "-q", "-W", "--keep-going"]
        + ["-b", "html", "-d", str(tmp_path / "doctrees"), DOCS, site],
        env=environment("jax"),
        capture_output=True,
        text=True,
    )
    assert result.returncode == 0, result.stdout + result.stderr
    pages = {path: Page(path) for path in site.rglob("*.html")}
    for name in LISTED:
        assert (
            f"keras_vit.{name}" in pages[site / "api" / f"{name}.html"].anchors
        )
    for path in (ROOT / "tutorials").glob("*.ipynb"):
        assert site / "tutorials" / f"{path.stem}.html" in pages
    for path, page in pages.items():
        for target in page.targets:
            address = urllib.parse.urlsplit(target)
            if address.scheme or address.netloc:
                continue
            file = path.parent / urllib.parse.unquote(address.path)
            file = (path if not address.path else file).resolve()
            assert file.exists(), f"{path}: {target}"
            if file in pages:
                anchor = urllib.parse.unquote(address.fragment)
                assert anchor in pages[file].anchors, f"{path}: {target}"
