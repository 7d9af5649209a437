"""Files of a training's state: two of them, each whole or not there.

A checkpoint is a pair `state-0000000012.safetensors` and `.json`. The arrays
are written first, the notes last, and only notes make a checkpoint: they hold a
digest of the arrays and one of themselves. What a kill leaves has no notes;
what a disk damages does not fit its digest.
"""

import hashlib
import json
import pathlib
import re
import warnings

import numpy as np

from keras_vit.checkpoints.guards import CheckpointError
from keras_vit.checkpoints.writers import write_safetensors, write_text

KEPT = 2
_NAME = re.compile(r"state-(\d{10})\.json")
_FORMAT = 1


class States:
    """The checkpoints of one directory.

    Args:
        directory: path of a folder that exists.
    """

    def __init__(self, directory):
        self.directory = pathlib.Path(directory)
        self.good = []
        # Beyond all that are there, so that a damaged one is never the last.
        self.next = max(self._numbers(), default=-1) + 1

    def last(self):
        """Returns notes and arrays of the last whole checkpoint.

        Returns:
            `(notes, arrays)`, or `None` if nothing was ever saved.

        Raises:
            CheckpointError: if there are checkpoints and all are damaged.
        """
        damaged = []
        numbers = sorted(self._numbers())
        while numbers:
            number = numbers.pop()
            try:
                found = self._read(number)
            except MemoryError:
                raise
            except Exception as error:  # damage has any form
                damaged.append(f"{self._path(number, 'json').name}: {error}")
                continue
            if damaged:
                warnings.warn(
                    "Damaged checkpoints are passed over, and the one before "
                    f"is used: {'; '.join(damaged)}",
                    stacklevel=2,
                )
            # The one before has not been read, but may be needed one day.
            self.good = [*numbers[1 - KEPT :], number]
            return found
        if damaged:
            raise CheckpointError(
                f"'{self.directory}' has no checkpoint that is whole. To start "
                f"anew, take another directory. {'; '.join(damaged)}"
            )
        return None

    def write(self, notes, arrays):
        """Writes a checkpoint, then drops all but the last two.

        Args:
            notes: what JSON can hold.
            arrays: dict from key to array.

        Raises:
            OSError: if it cannot be written. What was there is still there.
        """
        arrays = {key: _plain(array) for key, array in arrays.items()}
        notes = {
            "format": _FORMAT,
            "arrays_sha256": _digest_of_arrays(arrays),
            **notes,
        }
        text = json.dumps({"sha256": _digest_of_notes(notes), "notes": notes})
        number = self.next
        write_safetensors(self._path(number, "safetensors"), arrays)
        write_text(self._path(number, "json"), text)
        self.next += 1
        self.good = [*self.good, number][-KEPT:]
        self.clean()

    def clean(self):
        """Drops old checkpoints and what a kill left behind."""
        kept = {
            self._path(number, suffix).name
            for number in self.good
            for suffix in ("json", "safetensors")
        }
        # Notes go before their arrays, as they come after them. Names with a
        # dot in front are those of writes that were killed.
        for pattern in (
            "state-*.json",
            "state-*.safetensors",
            ".state-*",
        ):
            for file in self.directory.glob(pattern):
                if file.name not in kept:
                    file.unlink(missing_ok=True)

    def _numbers(self):
        names = (_NAME.fullmatch(x.name) for x in self.directory.iterdir())
        return [int(name[1]) for name in names if name]

    def _path(self, number, suffix):
        return self.directory / f"state-{number:010d}.{suffix}"

    def _read(self, number):
        from safetensors.numpy import load_file

        whole = json.loads(self._path(number, "json").read_text("utf-8"))
        notes = whole["notes"]
        if whole["sha256"] != _digest_of_notes(notes):
            raise CheckpointError("the notes do not fit their SHA-256")
        if notes["format"] != _FORMAT:
            raise CheckpointError(f"unknown format {notes['format']!r}")
        arrays = load_file(self._path(number, "safetensors"))
        if notes["arrays_sha256"] != _digest_of_arrays(arrays):
            raise CheckpointError("the arrays do not fit their SHA-256")
        return notes, arrays


def _plain(array):
    """An array of a type that every file format knows, bit for bit."""
    array = np.asarray(array, order="C")
    if array.dtype.kind in "biuf":
        return array
    return array.view(f"uint{8 * array.itemsize}")


def _digest_of_notes(notes):
    text = json.dumps(notes, sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()


def _digest_of_arrays(arrays):
    digest = hashlib.sha256()
    for key in sorted(arrays):
        array = arrays[key]
        digest.update(f"{key} {array.dtype} {array.shape}\n".encode())
        digest.update(array.reshape(-1).view("uint8"))
    return digest.hexdigest()
