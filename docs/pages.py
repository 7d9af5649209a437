"""What a build brings into this folder, and into its pages."""

import pathlib
import re
import shutil

import docstrings
import names

DOCS = pathlib.Path(__file__).resolve().parent
ROOT = DOCS.parent
# Made here at each build; git ignores them.
MADE = (
    "_made", "api", "tutorials", "benchmarks", "keras_vit", "CHANGELOG.md",
    "CONTRIBUTING.md", "LICENSE", "SECURITY.md",
)  # fmt: skip
CARD = pathlib.Path("keras_vit", "checkpoints", "cifar100")
LINK = re.compile(r"\[([^\]]+)\]\(([^)#:]+)\)")


def bring(app):
    """Fills the folder with what lies elsewhere, from nothing."""
    for made in MADE:
        shutil.rmtree(DOCS / made, ignore_errors=True)
        (DOCS / made).unlink(missing_ok=True)
    for name in ("CHANGELOG.md", "CONTRIBUTING.md", "LICENSE", "SECURITY.md"):
        shutil.copy(ROOT / name, DOCS / name)
    guide = DOCS / "CONTRIBUTING.md"
    guide.write_text(
        guide.read_text("utf-8").replace("](docs/", "]("), encoding="utf-8"
    )
    for folder in ("tutorials", "benchmarks"):
        bring_folder(folder)
    (DOCS / CARD).mkdir(parents=True)
    for name in ("README.md", "curves.svg", "log.csv"):
        shutil.copy(ROOT / CARD / name, DOCS / CARD)
    (DOCS / "api").mkdir()
    for name, thing in names.documented().items():
        page = docstrings.page(name, thing)
        (DOCS / "api" / f"{name}.md").write_text(page + "\n", encoding="utf-8")


def bring_folder(folder):
    """Copies notebooks, pages and figures; README.md lists the others."""
    (DOCS / folder).mkdir()
    patterns = ("*.md", "*.ipynb", "*.png", "*.svg")
    for pattern in patterns:
        for file in (ROOT / folder).glob(pattern):
            shutil.copy(file, DOCS / folder)
    for page in (DOCS / folder).glob("*.md"):
        page.write_text(without_dead_links(page), encoding="utf-8")
    entries = sorted(
        file.name
        for pattern in ("*.md", "*.ipynb")
        for file in (DOCS / folder).glob(pattern)
        if file.name != "README.md"
    )
    readme = DOCS / folder / "README.md"
    with readme.open("a", encoding="utf-8") as file:
        file.write(toctree(entries))


def without_dead_links(page):
    """Returns a page with words for links to scripts, which are not here."""

    def kept(link):
        return link[0] if (page.parent / link[2]).is_file() else link[1]

    return LINK.sub(kept, page.read_text("utf-8"))


def toctree(entries):
    """Returns what puts pages into the list at the left."""
    lines = ["", "```{toctree}", ":hidden:", "", *entries, "```", ""]
    return "\n".join(lines)


def list_names(app, docname, source):
    """Puts tables in the place of the lists of names of the reference."""
    if not docname.startswith("reference/"):
        return
    things = names.documented()

    def row(name):
        summary = docstrings.summary(things[name])
        return f"| [`{name}`](/api/{name}.md) | {summary} |"

    def table(block):
        listed = block[1].split()
        return "\n".join(
            [
                "| Name | What it is |",
                "|---|---|",
                *map(row, listed),
                toctree(f"/api/{name}" for name in listed),
            ]
        )

    source[0] = names.BLOCK.sub(table, source[0])
