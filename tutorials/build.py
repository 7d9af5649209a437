"""Makes the notebooks from their scripts in `src`, runs them, cleans them.

    python tutorials/build.py [name ...]
    python tutorials/build.py --text [name ...]

The script is the original, the notebook is made from it alone. What differs
from run to run without meaning anything (times, identifiers, steps of
progress bars) is left out, so that a change of a notebook is a change of its
content. With `--text` only words are brought over, such as the paragraphs that
read what a run has shown; code and outputs stay.
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


def bring_text(script):
    path = HERE / f"{script.stem}.ipynb"
    notebook = nbformat.read(path, as_version=4)
    source = jupytext.read(script, fmt="py:percent")

    def code(notebook):
        cells = notebook.cells
        return [c.source for c in cells if c.cell_type == "code"]

    if code(notebook) != code(source):
        sys.exit(f"{script.name}: its code has changed, run it")
    if len(notebook.cells) != len(source.cells):
        sys.exit(f"{script.name}: it has another number of cells, run it")
    for cell, new in zip(notebook.cells, source.cells):
        cell.source = new.source
    nbformat.write(notebook, path)


def clean(output):
    if output.output_type != "stream":
        return output
    output.text = CHATTER.sub("", output.text)
    return output if output.text else None


if __name__ == "__main__":
    scripts = sorted((HERE / "src").glob("*.py"))
    names = [name for name in sys.argv[1:] if name != "--text"]
    for script in scripts:
        if names and script.stem not in names:
            continue
        if "--text" in sys.argv:
            bring_text(script)
        else:
            print(f"Running {script.name}")
            build(script)
