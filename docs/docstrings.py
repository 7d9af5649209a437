"""Docstrings in Keras' form as pages in Markdown.

A docstring is Markdown with sections (`Args:`, `Returns:`, ...). Sections
become headings, lists of arguments become definition lists, and sessions of
the interpreter become blocks of code. All else stays as it is written.
"""

import dataclasses
import inspect
import re
import textwrap

HEADINGS = {
    "Args": "Arguments",
    "Attributes": "Attributes",
    "Call arguments": "Call arguments",
    "Returns": "Returns",
    "Raises": "Raises",
    "Example": "Example",
    "Reference": "Reference",
}
LISTS = ("Args", "Attributes", "Call arguments", "Raises")
SECTION = re.compile(rf"^({'|'.join(HEADINGS)})( of `\w+`)?:$")
ITEM = re.compile(r"^([*\w]+(?:, [*\w]+)*):\s+(.*)$")
FENCE = re.compile(r"^\s*```")
# Where Keras keeps what it shows as `keras.callbacks.Callback`.
INTERNAL = re.compile(r"keras\.src\.(\w+)(?:\.[a-z_]\w*)*\.([A-Z]\w*)")
ARXIV = re.compile(r"(?<![\w/\[])arXiv[: \n]\s*(\d{4}\.\d{4,5})(?![\w\]])")


def page(name, thing):
    """Returns the page of a public name."""
    if isinstance(thing, dict):
        return table_page(name, thing)
    kind = "class" if inspect.isclass(thing) else "function"
    if inspect.isclass(thing) and issubclass(thing, Exception):
        kind = "exception"
    return "\n\n".join(
        [
            f"# {name}",
            described(kind, name, signature(thing)),
            markdown(inspect.getdoc(thing), level=2),
            *methods(name, thing),
        ]
    )


def described(kind, name, arguments, text="", owner=""):
    """Returns a signature that Sphinx knows, indexes and links to.

    Text is set in under it. It may not have headings; `owner` is the class of
    a method.
    """
    module, _, last = f"keras_vit.{name}".rpartition(".")
    return (
        f"````{{py:{kind}}} {owner}{last}{arguments}\n:module: {module}\n\n"
        f"{text}\n````"
    )


def signature(thing, drop_first=False):
    try:
        found = inspect.signature(thing)
    except ValueError:  # exceptions made in C have none
        return ""
    parameters = [
        parameter.replace(default=Readable(parameter.default))
        if parameter.default is not parameter.empty
        else parameter
        for parameter in found.parameters.values()
    ][drop_first:]
    returns = found.return_annotation
    if inspect.isclass(thing) or returns is None:
        returns = found.empty
    if isinstance(returns, str):
        returns = Written(returns)
    written = found.replace(parameters=parameters, return_annotation=returns)
    return INTERNAL.sub(r"keras.\1.\2", str(written))


def arguments(thing):
    """Returns the names of the arguments of a public name."""
    try:
        return tuple(inspect.signature(thing).parameters)
    except (TypeError, ValueError):  # tables, exceptions made in C
        return ()


class Readable:
    """A default value as one would write it."""

    def __init__(self, value):
        self.value = value

    def __repr__(self):
        if inspect.isclass(self.value) or inspect.isfunction(self.value):
            return self.value.__name__
        return repr(self.value)


class Written(str):
    """A type that is text, of an optional library, as one would write it."""

    def __repr__(self):
        return str(self)


def methods(name, thing):
    """Yields what a class says of its own methods and properties.

    Those that Keras asks for (`build`, `call`, `get_config`) have no
    docstrings: the one of the class says it all.
    """
    if not inspect.isclass(thing):
        return
    documented = {
        key: value
        for key, value in vars(thing).items()
        if not key.startswith("_")
        and not inspect.isclass(value)
        and isinstance(value, (property, classmethod, staticmethod))
        | inspect.isfunction(value)
        and value.__doc__
    }
    if documented:
        yield "## Methods and properties"
    room, dot, owner = name.rpartition(".")
    for key, value in documented.items():
        text = markdown(inspect.cleandoc(value.__doc__), level=None)
        if isinstance(value, property):
            kind, arguments = "property", ""
        else:
            bound = isinstance(value, (classmethod, staticmethod))
            arguments = signature(
                value.__func__ if bound else value,
                drop_first=not isinstance(value, staticmethod),
            )
            kind = "method"
        yield described(kind, room + dot + key, arguments, text, f"{owner}.")


def table_page(name, rows):
    """Returns the page of a table of settings: a dict of dataclasses."""
    row = row_of(rows)
    fields = [field.name for field in dataclasses.fields(row)]
    lines = [
        "| | " + " | ".join(fields).replace("_", " ") + " |",
        "|---" * (len(fields) + 1) + "|",
    ]
    for key, values in rows.items():
        cells = [plain(getattr(values, field)) for field in fields]
        lines.append(f"| `{key!r}` | " + " | ".join(cells) + " |")
    return "\n\n".join(
        [
            f"# {name}",
            described("data", name, ""),
            comment_above(name, rows),
            "\n".join(lines),
            "## A row",
            markdown(inspect.getdoc(row), level=3),
        ]
    )


def plain(value):
    """Returns a setting as a table has it."""
    if isinstance(value, tuple):
        return ", ".join(map(plain, value))
    if value is None or isinstance(value, str):
        return value or "none"
    return f"{value:,}"


def row_of(table):
    return type(next(iter(table.values())))


def defining_module(thing):
    return (row_of(thing) if isinstance(thing, dict) else thing).__module__


def comment_above(name, rows):
    """Returns the comment over a table, in the module of its rows."""
    source = inspect.getsource(inspect.getmodule(row_of(rows)))
    name = name.rpartition(".")[2]
    comment = re.search(
        rf"^((?:# (?!fmt).*\n)+){name} = ", source, re.MULTILINE
    )
    return re.sub("^# ", "", comment[1], flags=re.MULTILINE).strip()


def summary(thing):
    """Returns the first line of what is said about a public name.

    Of a table, it is what is said about its rows.
    """
    if isinstance(thing, dict):
        thing = row_of(thing)
    return inspect.getdoc(thing).split("\n")[0]


def markdown(docstring, level):
    """Returns a docstring as Markdown, sections under headings of a level.

    Level `None` is for methods, whose sections have labels instead.
    """
    blocks = []
    for section, of, lines in sections(docstring):
        text = textwrap.dedent("\n".join(lines)).strip("\n")
        if section:
            heading = f"{HEADINGS[section]}{of}"
            blocks.append(
                f"{'#' * level} {heading}" if level else f"**{heading}**"
            )
        if section in LISTS:
            text = definitions(text)
        blocks.append(ARXIV.sub(linked_paper, sessions(text)))
    return "\n\n".join(block for block in blocks if block)


def sections(docstring):
    """Yields name, addition to the name and lines of each section."""
    name, of, lines, in_code = None, "", [], False
    for line in docstring.splitlines():
        in_code ^= bool(FENCE.match(line))
        found = None if in_code else SECTION.match(line)
        if found:
            yield name, of, lines
            name, of, lines = found[1], found[2] or "", []
        else:
            lines.append(line)
    yield name, of, lines


def definitions(text):
    """Returns `name: text` items as a definition list."""
    blocks = []
    for line in text.splitlines():
        item = ITEM.match(line)
        if item:
            term = ", ".join(f"`{name}`" for name in item[1].split(", "))
            blocks.append(f"\n{term}\n:   {item[2]}")
        else:
            blocks.append(line)
    return "\n".join(blocks).strip()


def sessions(text):
    """Fences sessions of the interpreter, which end at an empty line."""
    lines, fenced, in_session = [], False, False
    for line in text.splitlines():
        fenced ^= bool(FENCE.match(line))
        if not fenced and not in_session and line.startswith(">>> "):
            in_session = True
            lines.append("```pycon")
        if in_session and not line.strip():
            in_session = False
            lines.append("```")
        lines.append(line)
    return "\n".join(lines + ["```"] * in_session)


def linked_paper(found):
    return f"[arXiv:{found[1]}](https://arxiv.org/abs/{found[1]})"
