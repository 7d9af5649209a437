"""What stands between a file of a stranger and the rest of the package.

Libraries that read files raise of many kinds where bytes are not what they
expect: `reading` makes one error of them, with the path and the reason. What
a file calls its arrays goes into messages through `shown`.
"""

import contextlib
import json
import pathlib

LONGEST_SHOWN = 100
# No library names an array in a third of this; Python reads no number of as
# many digits as it may have.
LONGEST_NAME = 500
# The largest language models with an image tower have 2,000 arrays, an
# optimizer beside them three times as many.
MOST_ARRAYS = 10_000
# Trained weights hardly pack at all; those of which 99 in 100 are zero do so
# well. Below the last number of bytes it does not matter.
MOST_PACKED = 100
ALWAYS_UNPACKED = 2**26
# Beyond this no JSON beside weights is of use: 21,843 classes take 1 MB.
LARGEST_JSON = 2**24
MOST_NAMES = 10  # in one message; the rest is counted


class CheckpointError(ValueError):
    """A file of weights is damaged, lies about itself, or does not fit."""


def shown(text, longest=LONGEST_SHOWN):
    """Returns what a file says, fit for a message.

    Args:
        text: a name or a sentence, of any length and of any characters.
        longest: most characters that are returned.

    Returns:
        A string without control characters, which a terminal might obey.
    """
    # Any character may become an escape of ten.
    text = str(text)[: longest + 1]
    plain = "".join(c if c.isprintable() else repr(c)[1:-1] for c in text)
    return plain if len(plain) <= longest else f"{plain[: longest - 3]}..."


@contextlib.contextmanager
def reading(path, key=None):
    """Makes a `CheckpointError` of whatever a parser raises.

    Args:
        path: path of the file.
        key: the array in it that is read, or `None`.
    """
    try:
        yield
    except CheckpointError:
        raise
    except Exception as error:  # parsers raise of many kinds
        where = "" if key is None else f" at '{shown(key)}'"
        reason = f"{type(error).__name__}: {error}"
        raise CheckpointError(
            f"'{path}' is truncated or corrupt{where}: {shown(reason, 300)}"
        ) from error


def check_contents(path, keys, size=0):
    """Raises if a file holds more than the weights of a network.

    Args:
        path: path of the file.
        keys: the names of its arrays.
        size: bytes that the arrays declare to have in memory.
    """
    if len(keys) > MOST_ARRAYS:
        raise CheckpointError(
            f"'{path}' holds {len(keys):,} arrays, where no network has more "
            f"than {MOST_ARRAYS:,}."
        )
    for key in keys:
        if len(key) > LONGEST_NAME:
            raise CheckpointError(
                f"'{path}' holds a name of {len(key):,} characters, where "
                f"none has more than {LONGEST_NAME}: '{shown(key)}'"
            )
    held = pathlib.Path(path).stat().st_size
    if size > max(MOST_PACKED * held, ALWAYS_UNPACKED):
        raise CheckpointError(
            f"'{path}' of {held:,} bytes unpacks to {size:,}, more than "
            f"{MOST_PACKED} times as many: no trained weights do."
        )


def read_json(path):
    """Returns what a JSON file holds.

    Args:
        path: a `pathlib.Path`.

    Raises:
        CheckpointError: if it is not JSON, or too large for what is beside
            weights.
    """
    if path.stat().st_size > LARGEST_JSON:
        raise CheckpointError(
            f"'{path}' has {path.stat().st_size:,} bytes, too many for a "
            f"configuration or an index: at most {LARGEST_JSON:,}."
        )
    with reading(path):
        return json.loads(path.read_text(encoding="utf-8"))


def raise_all(first, problems, notes):
    """Raises what was found, all of it together, if anything was.

    Args:
        first: the sentence that opens the message.
        problems: dict from what is wrong to a list of places.
        notes: further sentences.
    """
    if not any(problems.values()):
        return
    lines = [first]
    for label, found in problems.items():
        if found:
            lines.append(f"{label} ({len(found)}):")
            lines += [f"  {shown(name, 300)}" for name in found[:MOST_NAMES]]
            if len(found) > MOST_NAMES:
                lines.append(f"  ... and {len(found) - MOST_NAMES} more")
    raise CheckpointError("\n".join(lines + notes))
