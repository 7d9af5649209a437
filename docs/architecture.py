"""The picture and the tables of `architecture.md`, from the imports themselves.

A room is a folder or a file right under `keras_vit`. Its floor is the longest
way down from it. An arrow that follows from others (plot -> introspection ->
models makes plot -> models) is not drawn.
"""

import ast
import functools
import pathlib
import re
import statistics

HERE = pathlib.Path(__file__).resolve().parent
PACKAGE = HERE.parent / "keras_vit"
PICTURE = HERE / "_made" / "rooms.svg"
BLOCK = re.compile(r"^```\{rooms\}\n```$", re.MULTILINE)
# In inches.
WIDTH, HEIGHT, GAP, FLOOR = 1.4, 0.36, 0.22, 0.85
FOLDER, FILE, EDGE, LINE = "#cfe3f5", "#e9ecef", "#1f4e79", "#6b7c8d"


@functools.cache
def rooms():
    """Returns the first page of each room, by name of the room."""
    pages = [*PACKAGE.glob("*/__init__.py"), *PACKAGE.glob("*.py")]
    return {
        room_of(page): page
        for page in sorted(pages)
        if page != PACKAGE / "__init__.py"
    }


def room_of(file):
    return file.relative_to(PACKAGE).parts[0].removesuffix(".py")


def sentence(room):
    """Returns the first sentence of a room's docstring."""
    text = ast.get_docstring(ast.parse(rooms()[room].read_text("utf-8")))
    return " ".join(text.split("\n\n")[0].split())


@functools.cache
def arrows():
    """Returns the rooms that each room imports, in functions too."""
    found = {room: set() for room in rooms()}
    for file in PACKAGE.rglob("*.py"):
        if file != PACKAGE / "__init__.py":
            own = room_of(file)
            found[own] |= set(imported(file)) & set(found) - {own}
    return found


def imported(file):
    """Returns the names right under `keras_vit` that a file imports from."""
    names = set()
    for node in ast.walk(ast.parse(file.read_text("utf-8"))):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module == "keras_vit":
            names |= {f"keras_vit.{alias.name}" for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and not node.level:
            names.add(node.module)
    parts = [name.split(".") for name in names]
    return {part[1] for part in parts if part[0] == "keras_vit" and part[1:]}


@functools.cache
def below(room):
    """Returns all rooms that a room can reach."""
    return frozenset().union(
        arrows()[room], *(below(other) for other in arrows()[room])
    )


@functools.cache
def floor(room):
    return 1 + max((floor(other) for other in arrows()[room]), default=-1)


def drawn(room):
    """Returns the arrows of a room that do not follow from others."""
    targets = arrows()[room]
    implied = frozenset().union(*(below(other) for other in targets))
    return sorted(targets - implied)


def layout():
    """Returns places by node, and the chains of nodes that arrows go along.

    An arrow over several floors goes through a gap in each floor between; a
    gap is a node `(room, target, floor)`.
    """
    floors = [[] for _ in range(1 + max(map(floor, rooms())))]
    chains = []
    for room in rooms():
        floors[floor(room)].append(room)
    for room in rooms():
        for target in drawn(room):
            gaps = [
                (room, target, level)
                for level in range(floor(room) - 1, floor(target), -1)
            ]
            for gap in gaps:
                floors[gap[2]].append(gap)
            chains.append([room, *gaps, target])
    places = {}
    for nodes in floors:
        places |= spread(nodes)
    neighbors = {node: set() for node in places}
    for chain in chains:
        for upper, lower in zip(chain, chain[1:]):
            neighbors[upper].add(lower)
            neighbors[lower].add(upper)
    # Each node moves to the mean place of those that it is linked with.
    for step in range(24):
        for nodes in floors if step % 2 else reversed(floors):
            means = {
                node: statistics.mean(
                    [places[other] for other in neighbors[node]] or [0]
                )
                for node in nodes
            }
            nodes.sort(key=means.get)
            places |= spread(nodes)
    return places, floors, chains


def width(node):
    return WIDTH if isinstance(node, str) else 0.1


def spread(nodes):
    """Returns places of the nodes of a floor, side by side about 0."""
    total = sum(map(width, nodes)) + GAP * (len(nodes) - 1)
    places, left = {}, -total / 2
    for node in nodes:
        places[node] = left + width(node) / 2
        left += width(node) + GAP
    return places


def draw(app=None):
    """Writes the picture."""
    import matplotlib
    from matplotlib.figure import Figure
    from matplotlib.patches import FancyBboxPatch

    places, floors, chains = layout()
    heights = {
        node: level * FLOOR for level, row in enumerate(floors) for node in row
    }
    edge = max(abs(place) for place in places.values()) + WIDTH / 2 + 0.1
    top = (len(floors) - 1) * FLOOR + HEIGHT
    figure = Figure(figsize=(2 * edge, top + HEIGHT))
    axis = figure.add_axes((0, 0, 1, 1))
    axis.set(xlim=(-edge, edge), ylim=(-HEIGHT, top))
    axis.set_axis_off()
    for chain in chains:
        points = [(places[chain[0]], heights[chain[0]] - HEIGHT / 2)]
        points += [
            (places[gap], heights[gap] + side * HEIGHT / 2)
            for gap in chain[1:-1]
            for side in (1, -1)
        ]
        points += [(places[chain[-1]], heights[chain[-1]] + HEIGHT / 2)]
        axis.plot(*zip(*points[:-1]), color=LINE, linewidth=1)
        axis.annotate(
            "",
            points[-1],
            points[-2],
            arrowprops={
                "arrowstyle": "-|>",
                "color": LINE,
                "linewidth": 1,
                "shrinkA": 0,
                "shrinkB": 1,
            },
        )
    for room, page in rooms().items():
        x, y = places[room], heights[room]
        axis.add_patch(
            FancyBboxPatch(
                (x - WIDTH / 2, y - HEIGHT / 2),
                WIDTH,
                HEIGHT,
                boxstyle="round,pad=0,rounding_size=0.08",
                facecolor=FOLDER if page.name == "__init__.py" else FILE,
                edgecolor=EDGE,
                zorder=3,
            )
        )
        axis.text(x, y, room, ha="center", va="center", fontsize=9, zorder=4)
    PICTURE.parent.mkdir(exist_ok=True)
    # The same picture from the same imports, byte by byte.
    with matplotlib.rc_context({"svg.hashsalt": "keras_vit"}):
        figure.savefig(
            PICTURE, transparent=True, metadata={"Date": None, "Creator": None}
        )


def list_rooms(app, docname, source):
    """Puts the tables of rooms in the place of their block."""
    if docname == "architecture":
        source[0] = BLOCK.sub(lambda _: table(), source[0])


def table():
    lines = ["| Floor | Room | What it has | Stands on |", "|---|---|---|---|"]
    for room in sorted(rooms(), key=lambda room: (-floor(room), room)):
        targets = ", ".join(f"{target}" for target in drawn(room))
        lines.append(
            f"| {floor(room)} | **{room}** | {sentence(room)} | {targets} |"
        )
    return "\n".join(lines)
