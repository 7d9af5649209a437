"""Checks what a type checker knows about `user_snippet.py`: `make lint`.

pyright reads the snippet as it reads a user's script: outside of the
repository, with this library as an installed package, whose `py.typed` makes
the annotations of the signatures count and nothing else.
"""

import json
import pathlib
import re
import shutil
import subprocess
import sys
import tempfile

SNIPPET = pathlib.Path(__file__).with_name("user_snippet.py")
MARK = re.compile(r"# (error|reveals): (\w+)$")
REVEALED = re.compile(r'^Type of ".+" is "(.+)"$', re.DOTALL)


def expected(snippet):
    """Returns what the marks of a script ask for, by number of the line."""
    marks = {
        number: MARK.search(line)
        for number, line in enumerate(
            snippet.read_text("utf-8").splitlines(), 1
        )
    }
    return {number: mark.groups() for number, mark in marks.items() if mark}


def diagnostics(snippet):
    """Returns what pyright says about a script, as a list of dicts."""
    with tempfile.TemporaryDirectory() as folder:
        shutil.copy(snippet, folder)
        result = subprocess.run(
            [sys.executable, "-m", "pyright", "--outputjson"]
            + ["--pythonpath", sys.executable, snippet.name],
            cwd=folder,
            capture_output=True,
            text=True,
        )
    try:
        return json.loads(result.stdout)["generalDiagnostics"]
    except (ValueError, KeyError):
        sys.exit(f"pyright did not run: {result.stdout}{result.stderr}")


def found(diagnostics):
    """Returns errors and revealed types by number of the line."""
    findings = {}
    for said in diagnostics:
        number = said["range"]["start"]["line"] + 1
        revealed = REVEALED.match(said["message"])
        if revealed:
            # Classes without their parameters: `ndarray[...]` is `ndarray`.
            name = re.sub(r"\[.*\]", "", revealed[1], flags=re.DOTALL)
            findings[number] = ("reveals", name)
        elif said["severity"] == "error":
            findings[number] = ("error", said.get("rule", said["message"]))
    return findings


def main():
    wanted, seen = expected(SNIPPET), found(diagnostics(SNIPPET))
    assert sum(kind == "error" for kind, _ in wanted.values()) == 3
    lines = SNIPPET.read_text("utf-8").splitlines()
    for number in sorted(set(wanted) | set(seen)):
        want, have = wanted.get(number), seen.get(number)
        if want != have:
            print(
                f"tests/typing/{SNIPPET.name}:{number}: expected "
                f"{want or 'nothing'}, pyright says {have or 'nothing'}: "
                f"{lines[number - 1]}"
            )
    return int(wanted != seen)


if __name__ == "__main__":
    sys.exit(main())
