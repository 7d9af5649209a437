"""Every code block of the README runs, and every command in it exists."""

import os
import pathlib
import re
import tomllib

import numpy as np
import pytest

import keras_vit

ROOT = pathlib.Path(__file__).parents[1]
README = (ROOT / "README.md").read_text("utf-8")
BLOCKS = re.findall(r"^```(\w*)\n(.*?)^```$", README, re.MULTILINE | re.DOTALL)
PYTHON = [code for language, code in BLOCKS if language == "python"]
SHELL = "".join(code for language, code in BLOCKS if language == "sh")


def heading_of(code):
    """The last heading before a block, as the name of its test."""
    before = README[: README.index(code)]
    return re.findall(r"^#+ (.+)$", before, re.MULTILINE)[-1]


def test_blocks_are_of_a_known_language():
    assert PYTHON and SHELL
    assert {language for language, _ in BLOCKS} == {"python", "py", "sh"}


# Keras transposes a scalar in RandAugment on PyTorch.
@pytest.mark.filterwarnings("ignore:.*Tensor.T is deprecated:UserWarning")
@pytest.mark.parametrize("code", PYTHON, ids=heading_of)
def test_python(code, tmp_path, monkeypatch, capsys):
    pytest.importorskip("sklearn")
    image = pytest.importorskip("PIL.Image")
    # A block may choose a backend; the choice shall not outlive it.
    monkeypatch.setattr(os, "environ", dict(os.environ))
    monkeypatch.chdir(tmp_path)
    pixels = np.random.default_rng(0).integers(0, 256, (8, 6, 6, 3), "uint8")
    for number, array in enumerate(pixels):
        split = ("train", "test")[number // 4]
        folder = tmp_path / "flowers" / split / ("roses", "tulips")[number % 2]
        folder.mkdir(parents=True, exist_ok=True)
        image.fromarray(array).save(folder / f"{number}.png")

    namespace = {"__name__": "readme"}
    exec(compile(code, "README.md", "exec"), namespace)

    # `print(x)  # result` prints that result.
    printed = capsys.readouterr().out
    for line in re.findall(r"^print\(.*\)  # (.+)$", code, re.MULTILINE):
        assert line.partition(": ")[0] in printed


def test_make_targets_exist():
    makefile = (ROOT / "Makefile").read_text("utf-8")
    targets = set(re.findall(r"^([a-z-]+):", makefile, re.MULTILINE))
    named = set(re.findall(r"^make ([a-z-]+)", SHELL, re.MULTILINE))
    named |= set(re.findall(r"`make ([a-z-]+)`", README))
    assert named and named <= targets


def test_extras_exist():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))[
        "project"
    ]
    known = project["optional-dependencies"]
    named = ",".join(re.findall(r'"\.\[([\w,]+)\]"', SHELL)).split(",")
    rows = re.findall(r"^\| (`.+?) \|", README, re.MULTILINE)
    named += re.findall(r"`(\w+)`", " ".join(rows))
    # Every extra is in the table or the commands, and nothing else is.
    assert set(named) == set(known)


def test_links_lead_somewhere():
    for target in re.findall(r"\]\(([^)#]+)\)", README):
        if not target.startswith("https://"):
            assert (ROOT / target).exists(), target


def test_table_of_variants():
    """Sizes of all rows, the cost of two; `variants_table.py` does all."""
    table = README.partition("<!-- variants -->")[2].partition("<!--")[0]
    rows = re.findall(r"^\| `(.+?)` \| (.+) \|$", table, re.MULTILINE)
    assert len(rows) == 12
    for name, cells in rows:
        cells = cells.replace(",", "").split(" | ")
        variant = keras_vit.variants.parse_variant(name)
        assert list(map(int, cells[:4])) == [
            variant.num_layers,
            variant.hidden_dim,
            variant.mlp_dim,
            variant.num_heads,
        ]
        if name in ("Ti/16", "S/32"):
            cost = keras_vit.cost(name)
            assert int(cells[4]) == cost.parameters
            assert float(cells[5]) == round(cost.macs / 1e9, 2)
