"""What a rule says: a key of a file, the weights it holds, how they lie there.

A rule is one row: a key in the file, the weight paths it belongs to, and how
the array is laid out. `{i}` stands for an index, here and there; `{I}` for the
same one counted from 1, where the other side counts from 0. Rules read both
ways: a checkpoint is loaded and exported with the same. `names` has the
tables, one for each library; left out here is what any library calls a weight.
"""

import dataclasses
import functools
import math
import re
from collections.abc import Callable

import numpy as np


@dataclasses.dataclass(frozen=True)
class Layout:
    """How an array in a file holds one or several weights of a model.

    Args:
        shape: function `(shapes of the weights, patch_size) -> shape` of the
            array in the file.
        read: function `(array, shapes of the weights) -> weights`.
        write: function `(weights, patch_size) -> array`.
    """

    shape: object
    read: object
    write: object


def _split(size_of, join):
    """Several weights one after the other on the first axis of the array."""

    def read(array, shapes):
        ends = np.cumsum([size_of(shape) for shape in shapes])
        pieces = np.split(array, ends[:-1])
        return [join(piece, shape) for piece, shape in zip(pieces, shapes)]

    return read


def _kernel_rows(shape):
    return int(np.prod(shape[1:]))


# As it is.
SAME = Layout(
    shape=lambda shapes, patch: shapes[0],
    read=lambda array, shapes: [array.reshape(shapes[0])],
    write=lambda weights, patch: weights[0],
)
# Biases in a row.
FLAT = Layout(
    shape=lambda shapes, patch: (sum(map(_size, shapes)),),
    read=_split(lambda shape: _size(shape), lambda x, shape: x.reshape(shape)),
    write=lambda weights, patch: np.concatenate([w.ravel() for w in weights]),
)
# PyTorch's linear layers `(out, in)`, several on top of one another, from
# kernels `(in, out)` or `(in, heads, head_dim)`.
LINEAR = Layout(
    shape=lambda shapes, patch: (
        sum(map(_kernel_rows, shapes)),
        shapes[0][0],
    ),
    read=_split(_kernel_rows, lambda x, shape: x.T.reshape(shape)),
    write=lambda weights, patch: np.concatenate(
        [w.reshape(w.shape[0], -1).T for w in weights]
    ),
)
# The same for the one kernel with several input axes: `(heads, head_dim, out)`.
LINEAR_OUT = Layout(
    shape=lambda shapes, patch: (shapes[0][-1], _size(shapes[0][:-1])),
    read=lambda array, shapes: [array.T.reshape(shapes[0])],
    write=lambda weights, patch: weights[0].reshape(-1, weights[0].shape[-1]).T,
)
# Convolutions over patches: `(P, P, C, D)` in Flax, `(D, C, P, P)` in PyTorch,
# `(P P C, D)` here.
PATCHES_HWIO = Layout(
    shape=lambda shapes, patch: _hwio(shapes[0], patch),
    read=lambda array, shapes: [array.reshape(shapes[0])],
    write=lambda weights, patch: weights[0].reshape(
        _hwio(weights[0].shape, patch)
    ),
)
PATCHES_OIHW = Layout(
    shape=lambda shapes, patch: tuple(
        _hwio(shapes[0], patch)[axis] for axis in (3, 2, 0, 1)
    ),
    read=lambda array, shapes: [array.transpose(2, 3, 1, 0).reshape(shapes[0])],
    write=lambda weights, patch: (
        weights[0].reshape(_hwio(weights[0].shape, patch)).transpose(3, 2, 0, 1)
    ),
)


# Convolutions over feature maps: `(height, width, in, out)` here,
# `(out, in, height, width)` in PyTorch.
OIHW = Layout(
    shape=lambda shapes, patch: tuple(shapes[0][axis] for axis in (3, 2, 0, 1)),
    read=lambda array, shapes: [array.transpose(2, 3, 1, 0)],
    write=lambda weights, patch: weights[0].transpose(3, 2, 0, 1),
)


def _size(shape):
    return int(np.prod(shape))


def _hwio(shape, patch_size):
    height, width = patch_size
    return (height, width, shape[0] // (height * width), shape[1])


@dataclasses.dataclass(frozen=True)
class Rule:
    """One array of a file and the weights it holds.

    Args:
        key: key in the file, with `{name}` for numbers.
        paths: weight paths, with `{name}` or `{name:02d}` for the same.
        layout: how the array holds the weights.
    """

    key: str
    paths: tuple
    layout: Layout = SAME

    def match(self, key):
        """Returns the weight paths for a key, or `None`."""
        match = _pattern(self.key).fullmatch(key)
        if match is None:
            return None
        numbers = _numbers(match)
        return tuple(path.format(**numbers) for path in self.paths)

    def key_for(self, path):
        """Returns the key for the first of the weight paths, or `None`."""
        match = _pattern(self.paths[0]).fullmatch(path)
        if match is None:
            return None
        return self.key.format(**_numbers(match))


@functools.cache  # that of `re` is smaller than the tables of some formats
def _pattern(template):
    pieces = re.split(r"{(\w+)(?::02d)?}", template)
    pieces[::2] = map(re.escape, pieces[::2])
    pieces[1::2] = [rf"(?P<{name}>[0-9]+)" for name in pieces[1::2]]
    return re.compile("".join(pieces))


def _numbers(match):
    """The indices in a name, `i` from 0 and `I` from 1."""
    numbers = {}
    for name, text in match.groupdict().items():
        numbers[name] = int(text)
        numbers[name.swapcase()] = int(text) + (1 if name.islower() else -1)
    return numbers


@dataclasses.dataclass(frozen=True)
class Format:
    """The names of one library.

    Args:
        name: name for messages.
        marker: pattern of a key that this format alone has; or a tuple, all
            of which must be there: patterns, or pairs of a pattern and the
            number of axes.
        rules: its rules; of several for one key, the first counts whose
            weights the model has.
        prefixes: what may stand before all keys, the longest first.
        activation: of the MLPs that the library runs these weights with.
        epsilon: of its layer norms.
        unused: pattern of keys that hold nothing a model needs after it was
            trained.
        about_head: what the head takes, where it is not what a head here
            does, for messages.
        describe: function from an `Evidence` to the `Description` of the
            network that a file is of, or `None`.
        resampling: how the library resamples position tables for images of
            another size, see `resize_matrix`.
        root_padding: of a ResNet with `preactivation`, see `ResNet`, or `None`.
    """

    name: str
    marker: str | tuple
    rules: tuple
    prefixes: tuple = ("",)
    activation: str = "gelu_tanh"
    epsilon: float = 1e-6
    unused: str = r"(?!)"
    about_head: str = ""
    describe: Callable | None = None
    resampling: str = "corner_aligned"
    root_padding: str | None = None


DEEPEST = 64  # blocks of a network, of all that are published


def dense(key, path, kernel=SAME, bias=SAME, names=("kernel", "bias")):
    """The rules of a dense layer, or of one that holds several of ours."""
    paths = (path,) if isinstance(path, str) else path
    return (
        Rule(f"{key}{names[0]}", tuple(f"{p}/kernel" for p in paths), kernel),
        Rule(f"{key}{names[1]}", tuple(f"{p}/bias" for p in paths), bias),
    )


def convolution(key):
    """The rules of PyTorch's convolution that projects the patches."""
    return dense(
        f"{key}.",
        "patch_encoder/projection",
        PATCHES_OIHW,
        SAME,
        ("weight", "bias"),
    )


def linear(key, *paths):
    """The rules of PyTorch's linear layer, which may hold several of ours."""
    return dense(f"{key}.", paths, LINEAR, FLAT, ("weight", "bias"))


def linear_out(key, path):
    """The rules of the one that takes the heads of an attention."""
    return dense(f"{key}.", path, LINEAR_OUT, SAME, ("weight", "bias"))


def norm(key, path, names=("weight", "bias"), separator="."):
    """The rules of a norm's scale and shift."""
    return (
        Rule(f"{key}{separator}{names[0]}", (f"{path}/gamma",)),
        Rule(f"{key}{separator}{names[1]}", (f"{path}/beta",)),
    )


def for_all_blocks(rule):
    """Returns the rules by which all blocks take a copy of one array.

    Args:
        rule: the rule of one weight, with `{i:02d}` in its path for a block.
    """
    (path,), one = rule.paths, rule.layout
    copies = Layout(
        shape=lambda shapes, patch: one.shape(shapes[:1], patch),
        read=lambda array, shapes: one.read(array, shapes[:1]) * len(shapes),
        write=lambda weights, patch: one.write(weights[:1], patch),
    )
    return tuple(
        Rule(rule.key, tuple(path.format(i=i) for i in range(depth)), copies)
        # As many as the model has: the first rule counts that fits it.
        for depth in range(DEEPEST, 0, -1)
    )


def without_ones(shape):
    """Class tokens and group norms are stored with axes of 1 in front."""
    shape = tuple(shape)
    while shape[:1] == (1,):
        shape = shape[1:]
    return shape


def classes_of(shapes):
    """What a head is, from the shapes of its arrays."""
    if not shapes:
        return "none"
    # The bias first, if it is there.
    widths = [shape[-1] for shape in sorted(shapes, key=len) if shape]
    if not widths:
        return "a single number"
    width = max(map(math.prod, shapes)) // max(widths[0], 1)
    return f"one for {widths[0]} classes from {width} numbers"
