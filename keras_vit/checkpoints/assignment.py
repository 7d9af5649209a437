"""What of a file goes where in a model, and what does not fit.

Made from names and shapes alone, before any array is read: so a model is
loaded as a whole or stays as it was, and all complaints come together.
"""

import dataclasses
import math
import re

import numpy as np

from keras_vit.anatomy import (
    image_input,
    listed,
    only_layer,
    patch_size_of,
    weights_by_path,
)
from keras_vit.checkpoints import formats, tokens
from keras_vit.checkpoints.arithmetic import arithmetic_problems
from keras_vit.checkpoints.channels import Channels
from keras_vit.checkpoints.files import read_ahead
from keras_vit.checkpoints.guards import raise_all, shown
from keras_vit.checkpoints.rules import Layout, classes_of, without_ones
from keras_vit.layers import PatchEncoder

HEADS = ("head/", "distillation_head/")
# Where big_vision keeps all blocks in one array each, for `nn.scan`.
STACK = "Transformer/encoderblock/"


@dataclasses.dataclass(frozen=True)
class _Step:
    """One array of the file and where it goes.

    Args:
        key: key in the file.
        paths: weight paths, a tuple for each slice of the array.
        layout: how a slice holds the weights.
        stacked: whether the first axis counts blocks.
    """

    key: str
    paths: tuple
    layout: Layout
    stacked: bool = False


class Plan:
    """What goes where, and what is wrong with that."""

    def __init__(self, model, arrays, checkpoint, adapt_channels=False):
        self.model, self.arrays, self.checkpoint = model, arrays, checkpoint
        self.format, self.prefix = formats.of_file(
            checkpoint.path, arrays.shapes
        )
        self.weights = weights_by_path(model)
        self.patch_size = patch_size_of(model)
        self.steps, self.roles, self.fitted = [], {}, {}
        self.taken, self.without_source = set(), set(self.weights)
        self.unexpected, self.mis_shaped, self.missing = [], [], []
        self.numerics, self.notes = [], []
        left_out = getattr(arrays, "left_out", [])
        if left_out:
            self.notes.append(
                f"'{checkpoint.path}' also holds "
                f"{shown(listed(left_out), 300)}: left out, this is the trunk "
                "alone."
            )
        self._zero = []
        self.channels = Channels(self.weights, self.patch_size)
        self._adapts = adapt_channels
        for key, shape in arrays.shapes.items():
            self._place(key, tuple(shape))

    def _place(self, key, shape):
        if not key.startswith(self.prefix):
            if self.prefix.endswith("/"):
                return  # another tower, or the state of an optimizer
            name = key
        else:
            name = key.removeprefix(self.prefix)
        if re.fullmatch(self.format.unused, name) or 0 in shape:
            return  # nothing that a model needs, or nothing at all
        stacked = name.startswith(STACK)
        pieces = self._slices(name, shape) if stacked else [name]
        rules = [self._rule_for(piece) for piece in pieces]
        if None in rules or not rules:
            self.unexpected.append(key)
            return
        paths = tuple(rule.match(piece) for rule, piece in zip(rules, pieces))
        flat = {path for group in paths for path in group}
        if flat & self.taken:  # under another name that means the same
            self.unexpected.append(key)
            return
        self.taken |= flat
        if paths[0][0] in formats.ROLES:
            self.roles[paths[0][0]] = key
            return
        step = _Step(key, paths, rules[0].layout, stacked)
        self._check_shapes(step, shape[1:] if stacked else shape)
        self.steps.append(step)

    def _slices(self, name, shape):
        """The names of the blocks in an array that holds all of them."""
        blocks = {path.split("/")[0] for path in self.weights}
        depth = sum(block.startswith("block_") for block in blocks)
        if shape[:1] != (depth,):
            return []
        return [
            name.replace(STACK, f"Transformer/encoderblock_{index}/")
            for index in range(depth)
        ]

    def _rule_for(self, name):
        """The first rule for a name whose weights the model has."""
        for rule in self.format.rules:
            paths = rule.match(name)
            if paths is None:
                continue
            if paths[0] in formats.ROLES or self._is_head(paths[0]):
                return rule
            if all(path in self.weights for path in paths):
                return rule
        return None

    def _is_head(self, path):
        return path.startswith(HEADS)

    def _check_shapes(self, step, shape):
        for paths in step.paths:
            self.without_source.difference_update(paths)
            if any(path not in self.weights for path in paths):
                continue  # a head, which is settled as a whole
            if self._adapts and paths == (self.channels.path,):
                note = self.channels.read_off(shape)
                if note is not None:
                    self.notes.append(f"'{self.checkpoint.path}' is {note}")
            shapes = [self._shape_of(path) for path in paths]
            expected = step.layout.shape(shapes, self.patch_size)
            if without_ones(expected) != without_ones(shape):
                if not self._is_head(paths[0]):
                    self.mis_shaped.append(
                        f"{shown(step.key)}: expected {tuple(expected)} for "
                        f"{', '.join(paths)}, the file has {shape}"
                    )

    def _shape_of(self, path):
        """The shape of a weight, if it were for the channels of the file."""
        if path == self.channels.path:
            return self.channels.of_file
        return tuple(self.weights[path].shape)

    def settle_head(self, reset_head):
        """Keeps the file's head if it fits, else makes the model's zero."""
        heads = [step for step in self.steps if self._is_head(step.paths[0][0])]
        in_file = {path for step in heads for path in step.paths[0]}
        in_model = {path for path in self.weights if self._is_head(path)}
        fits = in_file == in_model and all(
            without_ones(self.arrays.shapes[step.key])
            == without_ones(
                step.layout.shape(
                    [self.weights[path].shape for path in step.paths[0]],
                    self.patch_size,
                )
            )
            for step in heads
        )
        if fits and not reset_head:
            return
        of_file = classes_of([self.arrays.shapes[step.key] for step in heads])
        second = [x.key for x in heads if x.paths[0][0].startswith(HEADS[1])]
        if second:
            of_file += f" beside one on a distillation token ('{second[0]}')"
        of_model = classes_of([self.weights[path].shape for path in in_model])
        about = f"the file's head is {of_file}, the model's is {of_model}"
        if heads and self.format.about_head:
            about += f" ({self.format.about_head})"
        if reset_head is False:
            self.mis_shaped.append(about)
            return
        if reset_head is None:
            start = "starts from zero" if in_model else "has no head"
            self.notes.append(
                f"In '{self.checkpoint.path}' {about}: the model {start}. "
                "Pass `reset_head=True` if that is what you want."
            )
        self.steps = [step for step in self.steps if step not in heads]
        self.without_source -= in_model
        self._zero = sorted(in_model)

    def settle_pre_logits(self, drop):
        extra = [
            key
            for key in self.unexpected
            if self._is_pre_logits(key) and self.arrays.shapes[key]
        ]
        if extra and drop:
            self.unexpected = [
                key for key in self.unexpected if key not in extra
            ]
        elif extra:
            width = self.arrays.shapes[extra[0]][-1]
            self.notes.append(
                "`pre_logits` is a dense layer before the head. Keep it with "
                f"`representation_dim={width}`, or leave it out with "
                "`drop_pre_logits=True`, as for fine-tuning."
            )

    def _is_pre_logits(self, key):
        return key.removeprefix(self.prefix).startswith(
            ("pre_logits/", "pooler.dense.")
        )

    def fit_tokens(self, method):
        """Brings class token, registers and positions to the model's form."""
        shapes = {
            role: tuple(self.weights[role].shape)
            for role in formats.ROLES
            if role in self.weights
        }
        self.without_source -= set(formats.ROLES)
        in_file = self._roles_in_file()
        keys = {formats.POSITIONS: self.roles.get(formats.ROWS)} | self.roles
        left = [role for role in in_file if role not in shapes]
        self.unexpected += [keys[role] for role in left]
        lacking = [role for role in shapes if role not in in_file]
        self.missing += lacking
        if lacking or left:
            return
        for role in (formats.CLS_TOKEN, formats.REGISTERS):
            if role in shapes:
                expected = without_ones(shapes[role])
                if without_ones(in_file[role]) != expected:
                    self.mis_shaped.append(
                        f"{shown(keys[role])}: expected {shapes[role]} for "
                        f"{role}, the file has {tuple(in_file[role])}"
                    )
                    return
        grids, file_prefix, model_prefix = None, 0, 0
        if formats.POSITIONS in shapes:
            key = keys[formats.POSITIONS]
            fit = self._fit_positions(key, in_file, shapes, method)
            if fit is None:
                return
            file_prefix, model_prefix, grids = fit
        # Small, so read now: whatever is wrong is known before any write.
        arrays = {}
        for role, key in self.roles.items():
            self.arrays.check(key)
            arrays[role] = self.arrays.read(key)
        self.fitted = tokens.fit(
            tokens.with_whole_table(arrays),
            shapes,
            model_prefix,
            file_prefix,
            grids,
            method,
        )

    def _roles_in_file(self):
        """The shapes of class token, registers and positions in the file."""
        shapes = {
            role: tuple(self.arrays.shapes[key])
            for role, key in self.roles.items()
        }
        rows, columns = (
            shapes.get(role, ()) for role in (formats.ROWS, formats.COLUMNS)
        )
        if len(rows) == len(columns) == 3 and rows[-1] == columns[-1]:
            del shapes[formats.ROWS], shapes[formats.COLUMNS]
            shapes[formats.POSITIONS] = (1, rows[1], *columns[1:])
        return shapes

    def _fit_positions(self, key, in_file, shapes, method):
        encoder = only_layer(self.model, PatchEncoder, deep=True)
        positions = encoder.position_embedding
        table = tuple(in_file[formats.POSITIONS])
        expected = shapes[formats.POSITIONS]
        grid = self._known_grid(positions)
        if len(table) == 4:  # the only ones that say so themselves
            grid = table[1:3]
            table = (table[0], math.prod(grid), table[3])
        if len(table) == 3 and table[0] == 1:  # as Flax and PyTorch have it
            table = table[1:]
        if len(table) != 2 or table[1] != expected[1]:
            self.mis_shaped.append(
                f"{shown(key)}: expected vectors of {expected[1]} for "
                f"{formats.POSITIONS}, the file has {tuple(table)}"
            )
            return None
        rows, most = table[0], tokens.most_rows(expected[0])
        if rows > most:
            self.mis_shaped.append(
                f"{shown(key)}: {rows} positions, more than the {most} that "
                f"are resampled for a model of {expected[0]}"
            )
            return None
        has_cls = int(formats.CLS_TOKEN in in_file)
        registers = shapes.get(formats.REGISTERS, (0, 0))[-2]
        prefixes = (has_cls + registers, has_cls, 0)
        if (
            key == f"{self.prefix}pos_embedding"
            and self.format is formats.LINEN
        ):
            # big_vision adds positions before it puts the class token there.
            prefixes = (0, has_cls)
        prefixes = dict.fromkeys(prefixes)
        found = tokens.grids_of_file(rows, prefixes, positions.grid_size, grid)
        if len(found) != 1:
            guess = f", as {found}" if found else ""
            self.mis_shaped.append(
                f"{shown(key)}: {rows} positions can"
                f"{'not' if not found else ''} be read as a grid{guess}. Say "
                "which it is: "
                "`load_checkpoint(..., file_grid=(rows, columns))`."
            )
            return None
        ((file_prefix, file_grid),) = found
        if file_grid != positions.grid_size and method is None:
            self.mis_shaped.append(
                f"{shown(key)}: positions of a grid of {file_grid}, expected "
                f"{positions.grid_size} for {formats.POSITIONS}. Pass "
                "`resize_positions='corner_aligned'` to resample them."
            )
            return None
        grids = (file_grid, positions.grid_size)
        return file_prefix, positions.num_prefix_tokens, grids

    def _known_grid(self, positions):
        """The grid of the file, from the size of images it is for."""
        if self.checkpoint.grid is not None or not self.checkpoint.image_size:
            return self.checkpoint.grid
        size, _ = image_input(self.model)
        if None in size:
            return None
        # So many pixels of an image make a cell, whatever lies between.
        cell = (
            -(-edge // cells) for edge, cells in zip(size, positions.grid_size)
        )
        return tuple(
            -(-edge // pixels)
            for edge, pixels in zip(self.checkpoint.image_size, cell)
        )

    def find_missing(self):
        self.missing += sorted(self.without_source)

    def check_numerics(self, description):
        # What goes into a head of one's own is one's own choice.
        with_head = not self._zero and any(map(self._is_head, self.weights))
        if description is not None and self.channels.differ:
            # Of other channels, so that nobody stated any.
            stated = {**description.stated, "preprocessing": None}
            description = dataclasses.replace(description, stated=stated)
        self.numerics += arithmetic_problems(
            self.model,
            self.format,
            self.checkpoint,
            description,
            pooling=with_head,
        )

    def raise_problems(self):
        raise_all(
            f"'{self.checkpoint.path}' (format: {self.format.name}) does not "
            f"fit the model '{self.model.name}', which is left as it was.",
            {
                "missing in the file": self.missing,
                "without a place in the model": self.unexpected,
                "of another shape": self.mis_shaped,
                "other arithmetic": self.numerics,
            },
            self.notes,
        )

    def keys(self):
        return [step.key for step in self.steps]

    def carry_out(self):
        for path in self._zero:
            weight = self.weights[path]
            weight.assign(np.zeros(weight.shape, "float32"))
        for path, array in self.fitted.items():
            self.weights[path].assign(array)
        arrays = read_ahead(self.arrays, self.keys())
        for step, array in zip(self.steps, arrays):
            slices = array if step.stacked else [array]
            for paths, piece in zip(step.paths, slices):
                shapes = [self._shape_of(path) for path in paths]
                expected = step.layout.shape(shapes, self.patch_size)
                values = step.layout.read(piece.reshape(expected), shapes)
                for path, value in zip(paths, values):
                    value = value.astype("float32", copy=False)
                    if path == self.channels.path and self.channels.differ:
                        value = self.channels.adapt(value)
                    self.weights[path].assign(value)
