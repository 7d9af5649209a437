"""How Sphinx makes the site: `make docs`.

The pages in this folder are the frame. A build copies the rest from the
repository when it starts: README, CHANGELOG, CONTRIBUTING, LICENSE, SECURITY,
the tutorials and benchmarks under their own paths, so that links between them
hold. It makes one page for every public name from its docstring
(`docstrings.py`), the picture of the rooms (`architecture.py`) and the table of
presets (`weights.py`).
"""

import pathlib
import sys

HERE = pathlib.Path(__file__).resolve().parent
# This folder for the modules beside, its parent for the library as it is here.
sys.path[:0] = [str(HERE), str(HERE.parent)]

import architecture  # noqa: E402
import links  # noqa: E402
import pages  # noqa: E402
import weights  # noqa: E402

import keras_vit  # noqa: E402

project = "keras_vit"
release = version = keras_vit.__version__

extensions = ["myst_nb", "sphinx.ext.viewcode"]
# Formulas and tables of results stand in indented blocks; code says what it is.
highlight_language = "none"
python_maximum_signature_line_length = 68
python_display_short_literal_types = True
toc_object_entries = False

# The notebooks are shown as they were run when they were committed.
nb_execution_mode = "off"
myst_enable_extensions = ["deflist", "dollarmath", "fieldlist"]
myst_heading_anchors = 3

html_theme = "furo"
html_title = f"keras_vit {version}"
html_static_path = ["static"]
html_css_files = ["style.css"]
html_copy_source = html_show_copyright = False
html_theme_options = {
    "navigation_with_keys": True,
    "light_css_variables": {
        "color-api-name": "#1f4e79",
        "color-api-pre-name": "#6b7c8d",
    },
    "dark_css_variables": {
        "color-api-name": "#8ec5f4",
        "color-api-pre-name": "#93a1af",
    },
}

linkcheck_anchors = False
linkcheck_timeout = 20


def setup(app):
    app.connect("builder-inited", pages.bring)
    app.connect("builder-inited", architecture.draw)
    app.connect("source-read", pages.list_names)
    app.connect("source-read", architecture.list_rooms)
    app.connect("source-read", weights.list_presets)
    app.connect("doctree-read", links.link_names)
    app.connect("doctree-read", links.name_for_source)
    app.connect("viewcode-follow-imported", links.defining_module)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
