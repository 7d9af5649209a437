"""Makes the notebooks from their scripts in `src`, runs them, cleans them.

    python tutorials/build.py [name ...]

The script is the original, the notebook is made from it alone. What differs
from run to run without meaning anything (times, identifiers, steps of
progress bars) is left out, so that a change of a notebook is a change of its
content.
"""

import pathlib
import re
import sys

import jupytext
import nbformat
from nbclient import NotebookClient

HERE = pathlib.Path(__file__).resolve().parent
# What TensorFlow's C++ code says before it can be told to be quiet.
CHATTER = re.compile(r"(WARNING: All log messages before absl|I0000 ).*\n?")


def build(script):
    notebook = jupytext.read(script, fmt="py:percent")
    notebook.metadata = nbformat.from_dict(
        {
            "kernelspec": {
                "display_name": "Python 3",
                "language": "python",
                "name": "python3",
            },
            "language_info": {"name": "python"},
        }
    )
    NotebookClient(
        notebook,
        timeout=1800,
        record_timing=False,
        coalesce_streams=True,
        resources={"metadata": {"path": HERE}},
    ).execute()
    notebook.metadata.language_info = {"name": "python"}
    for number, cell in enumerate(notebook.cells):
        cell.id = str(number)  # as nbstripout has it
        cell.metadata = {}
        if cell.cell_type == "code":
            cell.outputs = [o for o in map(clean, cell.outputs) if o]
    nbformat.write(notebook, HERE / f"{script.stem}.ipynb")


def clean(output):
    if output.output_type != "stream":
        return output
    output.text = CHATTER.sub("", output.text)
    return output if output.text else None


if __name__ == "__main__":
    scripts = sorted((HERE / "src").glob("*.py"))
    names = sys.argv[1:] or [script.stem for script in scripts]
    for script in scripts:
        if script.stem in names:
            print(f"Running {script.name}")
            build(script)
