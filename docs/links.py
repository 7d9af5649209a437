"""Names in text, such as `keras_vit.ViT`, lead to their pages."""

import functools

import docstrings
import names
from docutils import nodes
from sphinx.addnodes import desc_signature, pending_xref


@functools.cache
def pages():
    """The public names, and the arguments of each."""
    return {
        name: set(docstrings.arguments(thing))
        for name, thing in names.documented().items()
    }


def link_names(app, doctree):
    """Turns code that is a public name into a link to it."""
    page = app.env.current_document.docname.rpartition("api/")[2]
    for literal in list(doctree.findall(nodes.literal)):
        within = literal.parent
        if isinstance(within, (nodes.term, nodes.title, nodes.reference)):
            continue
        name = resolve(literal.astext(), page)
        if name and name != page:
            link = pending_xref(
                "",
                refdomain="py",
                reftype="obj",
                reftarget=f"keras_vit.{name}",
                refexplicit=True,
                refwarn=True,
            )
            literal.replace_self(link)
            link += literal


def resolve(text, page):
    """Returns the public name that a text stands for on a page, or None.

    On the page of `recipes.adamw`, `total_steps` is its argument, `finetune`
    is `recipes.finetune`, and `ViT` is `ViT`.
    """
    known = pages()
    if text in known.get(page, ()):
        return None
    text = text.removeprefix("keras_vit.").removesuffix("()")
    room = page.rpartition(".")[0]
    if f"{room}.{text}" in known:
        return f"{room}.{text}"
    if text in known:
        return text
    # Layers are called by their class in all texts.
    if f"layers.{text}" in known:
        return f"layers.{text}"
    return None


def name_for_source(app, doctree):
    """Gives a name the anchors that the page of its source file may use.

    Sphinx takes all names of a source file for names of one room, such as
    `keras_vit.Variant` and `keras_vit.variants.parse_variant`.
    """
    for signature in doctree.findall(desc_signature):
        name = signature["fullname"]
        source = defining_module(app, signature["module"], name)
        for room in rooms()[source]:
            if (anchor := f"{room}.{name}") not in signature["ids"]:
                signature["ids"].append(anchor)


@functools.cache
def rooms():
    """The rooms that the public names of a source file are in."""
    found = {}
    for name, thing in names.documented().items():
        room = f"keras_vit.{name}".rpartition(".")[0]
        found.setdefault(docstrings.defining_module(thing), set()).add(room)
    return {source: sorted(found[source]) for source in found}


def defining_module(app, module, attribute):
    """Tells where the source of a public name is, for its `[source]` link."""
    name = f"{module}.{attribute}".removeprefix("keras_vit.")
    known = names.documented()
    while name not in known:  # methods
        name = name.rpartition(".")[0]
    return docstrings.defining_module(known[name])
