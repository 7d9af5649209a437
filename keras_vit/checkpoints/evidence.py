"""What can be known of a file of weights before any array is read.

Names and shapes from the file; `config.json` and `preprocessor_config.json`
from beside it; and what the caller says. A format asks here, so that every
guess is made in one way, and named.
"""

import dataclasses
import math
import re

from keras_vit.checkpoints.guards import CheckpointError, shown
from keras_vit.preprocessing import INCEPTION, Preprocessing


class UndescribedError(CheckpointError):
    """Names and shapes do not say what network a file is of."""


@dataclasses.dataclass
class Evidence:
    """The facts about a file, for `describe` of a format.

    Args:
        path: path of the file, for messages.
        shapes: dict from key, without the format's prefix, to shape.
        config: what `config.json` holds, `{}` without one.
        preprocessor: what `preprocessor_config.json` holds, likewise.
        given: what the caller said, a dict with some of `num_heads`,
            `file_grid`, `activation`, `epsilon`, `preprocessing`, `embedding`,
            and with the `image_size` that it is opened for.
        image_size: height and width that a preset states, or `None`.
        notes: sentences about what was assumed; formats add to them.
        stated: what neither names nor shapes tell and somebody said: heads,
            pooling and pixel statistics.
    """

    path: str
    shapes: dict
    config: dict = dataclasses.field(default_factory=dict)
    preprocessor: dict = dataclasses.field(default_factory=dict)
    given: dict = dataclasses.field(default_factory=dict)
    image_size: tuple | None = None
    notes: list = dataclasses.field(default_factory=list)
    stated: dict = dataclasses.field(default_factory=dict)

    def __contains__(self, key):
        return key in self.shapes

    def shape(self, key):
        """Returns a shape, or raises if the file has no such array."""
        if key not in self.shapes:
            raise UndescribedError(
                f"'{self.path}' has no array '{key}', so nothing says what "
                "network it is of"
            )
        if 0 in self.shapes[key]:
            raise UndescribedError(
                f"'{self.path}' has nothing in '{key}', of shape "
                f"{shown(self.shapes[key])}"
            )
        return tuple(self.shapes[key])

    def tokens(self, key):
        """Returns how many tokens an array holds, which may be none."""
        return self.shapes.get(key, (0, 0))[-2]

    def depth(self, template):
        """Returns how many blocks there are, by a key with `{i}`."""
        pattern = re.escape(template).replace(r"\{i\}", r"(\d+)")
        found = {
            int(match[1])
            for match in map(re.compile(pattern).fullmatch, self.shapes)
            if match
        }
        if found != set(range(len(found))) or not found:
            raise UndescribedError(
                f"'{self.path}' must have arrays '{template}' for i = 0, 1, "
                f"and on. Received: {shown(sorted(found))}"
            )
        return len(found)

    def in_blocks(self, template, depth):
        """Returns whether all blocks have an array, or raises if only some."""
        count = sum(template.format(i=i) in self.shapes for i in range(depth))
        if count not in (0, depth):
            raise UndescribedError(
                f"'{self.path}' has '{template}' in {count} of {depth} blocks: "
                "no network of one kind of block"
            )
        return count == depth

    def heads(self, hidden_dim, named=None, head_dim=None):
        """Returns the number of heads, which names and shapes do not tell.

        Args:
            hidden_dim: width of the tokens.
            named: what `config.json` or the name of the network says.
            head_dim: width of a head, where an array tells it.
        """
        heads = self.given.get("num_heads") or named or None
        if named:
            self.stated["num_heads"] = named
        if heads is None and head_dim:
            heads = hidden_dim // head_dim
        if heads is None:
            if hidden_dim % 64:
                raise UndescribedError(
                    f"'{self.path}' does not say how many heads it has, and "
                    f"{hidden_dim} is no multiple of 64. Pass `num_heads`."
                )
            heads = hidden_dim // 64
            self.notes.append(
                f"Nothing says how many heads '{self.path}' has: {heads}, of "
                "width 64, are assumed. Pass `num_heads` if they are others."
            )
        return heads

    def grid(self, rows, prefixes, patch_size, image_size=None):
        """Returns the grid of a position table, and its rows in front of it.

        Args:
            rows: rows of the table.
            prefixes: numbers of rows that may stand in front, the usual one
                first.
            patch_size: height and width of a patch.
            image_size: height and width that somebody states, or `None`.

        Returns:
            Rows and columns, a pair, and the number of rows in front.
        """
        known = self.given.get("file_grid")
        if known is None and image_size is not None:
            known = tuple(-(-e // p) for e, p in zip(image_size, patch_size))
        for prefix in dict.fromkeys(prefixes):
            if known is not None and math.prod(known) == rows - prefix:
                return tuple(known), prefix
        found = [
            ((edge, edge), prefix)
            for prefix in dict.fromkeys(prefixes)
            for edge in [math.isqrt(max(rows - prefix, 0))]
            if edge and edge * edge == rows - prefix
        ]
        if len(found) != 1 or self.given.get("file_grid"):
            guess = f", as {found}" if found else ""
            raise UndescribedError(
                f"'{self.path}': {rows} positions can{'' if found else 'not'} "
                f"be read as a grid{guess}. Say which it is: "
                "`file_grid=(rows, columns)`."
            )
        return found[0]

    def grid_of_offsets(self, rows, patch_size, image_size=None):
        """Returns the grid of a table of the offsets between two cells.

        Args:
            rows: rows of the table, without those of other tokens.
            patch_size: height and width of a patch.
            image_size: height and width that somebody states, or `None`.
        """
        edge = (math.isqrt(max(rows, 0)) + 1) // 2
        given = self.given.get("file_grid")
        grids = [given] if given is not None else [(edge, edge)]
        if given is None and image_size is not None:
            known = (-(-e // p) for e, p in zip(image_size, patch_size))
            grids.insert(0, tuple(known))
        for grid in grids:
            if math.prod(2 * cells - 1 for cells in grid) == rows:
                return tuple(grid)
        raise UndescribedError(
            f"'{self.path}': {rows} offsets are not those of a grid of "
            f"{grids[0]}. Say which it is: `file_grid=(rows, columns)`."
        )

    def preprocessing(self, mean=None, std=None):
        """Returns the statistics of the images, by what is stated of them."""
        given = self.given.get("preprocessing")
        if given is not None:
            return given
        if mean is None or std is None:
            self.notes.append(
                f"Nothing says which mean and standard deviation the images of "
                f"'{self.path}' had: pixels are brought to [-1, 1]. Pass "
                "`preprocessing='imagenet'`, or another, if they were others."
            )
            return INCEPTION
        try:
            own = Preprocessing(_numbers(mean), _numbers(std))
            self.stated["preprocessing"] = own
            return own
        except (TypeError, ValueError) as error:
            raise CheckpointError(
                f"The configuration beside '{self.path}' cannot be right: "
                f"{error}"
            ) from error

    def activation(self, name, default, known):
        """Returns an activation by the name that the library gives it.

        Args:
            name: the name, or `None`.
            default: what the library takes without a name.
            known: dict from its names to ours.
        """
        given = self.given.get("activation")
        if given is not None or name is None:
            return given or default
        if name not in known:
            raise CheckpointError(
                f"The configuration beside '{self.path}' names an activation "
                f"that is not known here: '{shown(name)}'. Known: "
                f"{', '.join(map(repr, known))}. Pass `activation`."
            )
        return known[name]


def _numbers(value):
    values = value if isinstance(value, (list, tuple)) else [value]
    if len(set(values)) == 1:
        values = values[:1]
    return tuple(float(x) for x in values)
