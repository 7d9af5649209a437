"""Prints the oldest versions that pyproject.toml allows, as pip takes them.

    pip install --editable . $(python .ci/lowest.py EXTRA ...)
"""

import pathlib
import re
import sys
import tomllib

PROJECT = pathlib.Path(__file__).parents[1] / "pyproject.toml"


def lowest(extras):
    """Returns what the project and some of its extras need, at the lowest."""
    project = tomllib.loads(PROJECT.read_text("utf-8"))["project"]
    needed = list(project["dependencies"])
    for extra in extras:
        needed += project["optional-dependencies"][extra]
    # A list of bounds: only what is like "name>=1.2" or "name>=1.2,<2".
    bounds = [re.match(r"([\w-]+)>=([\d.]+)", line) for line in needed]
    return sorted({f"{bound[1]}=={bound[2]}" for bound in bounds if bound})


if __name__ == "__main__":
    print(*lowest(sys.argv[1:]))
