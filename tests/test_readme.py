"""Every code block of the README runs, and every command in it exists."""

import os
import pathlib
import re
import tomllib

import numpy as np
import pytest

ROOT = pathlib.Path(__file__).parents[1]
README = (ROOT / "README.md").read_text()
BLOCKS = re.findall(r"^```(\w*)\n(.*?)^```$", README, re.MULTILINE | re.DOTALL)
PYTHON = [code for language, code in BLOCKS if language == "python"]
SHELL = "".join(code for language, code in BLOCKS if language == "sh")


def heading_of(code):
    """The last heading before a block, as the name of its test."""
    before = README[: README.index(code)]
    return re.findall(r"^#+ (.+)$", before, re.MULTILINE)[-1]


def test_blocks_are_of_a_known_language():
    assert PYTHON and SHELL
    assert {language for language, _ in BLOCKS} == {"python", "sh"}


@pytest.mark.parametrize("code", PYTHON, ids=heading_of)
def test_python(code, tmp_path, monkeypatch):
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


def test_comments_tell_what_is_printed(capsys, tmp_path, monkeypatch):
    """`print(x)  # result` prints that result."""
    monkeypatch.chdir(tmp_path)
    promises = re.compile(r"^print\(.*\)  # (.+)$", re.MULTILINE)
    told = 0
    for code in PYTHON:
        expected = promises.findall(code)
        if not expected:
            continue
        told += len(expected)
        exec(compile(code, "README.md", "exec"), {"__name__": "readme"})
        printed = capsys.readouterr().out
        for line in expected:
            assert line.partition(": ")[0] in printed
    assert told >= 3


def test_make_targets_exist():
    makefile = (ROOT / "Makefile").read_text()
    targets = set(re.findall(r"^([a-z]+):", makefile, re.MULTILINE))
    named = set(re.findall(r"^make ([a-z]+)", SHELL, re.MULTILINE))
    named |= set(re.findall(r"`make ([a-z]+)`", README))
    assert named and named <= targets


def test_extras_exist():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
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
