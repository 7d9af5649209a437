"""A training that goes on after a kill as if nothing had been.

Keras' `BackupAndRestore` leaves out the random states of layers, the place in
an epoch and the history, and a kill while it writes leaves nothing to restore.
Left out here: trainings of several processes, for which Keras has
`OrbaxCheckpoint`.
"""

import os
import pathlib
import warnings

import keras
import numpy as np

from keras_vit.arguments import check_positive
from keras_vit.callbacks.identity import differences, identity
from keras_vit.callbacks.lock import acquire, release
from keras_vit.callbacks.states import States
from keras_vit.checkpoints.guards import CheckpointError
from keras_vit.data.array_dataset import ArrayDataset
from keras_vit.keras_gaps import current_distribution
from keras_vit.keras_gaps_of_runs import (
    arguments_of_fit,
    begin_fit_at,
    drop_stale_batches,
    global_random_state,
    set_global_random_state,
    skip_steps,
)


class Resume(keras.callbacks.Callback):
    """Lets `fit` go on after a kill as if it had never been killed.

    Killed at any moment and started again with the same script, a training
    ends with the same weights, optimizer state, random states, metrics and
    history, bit for bit on JAX and TensorFlow, to rounding on PyTorch. Nothing
    else in the script changes: `fit` starts at the epoch and the batch of the
    last checkpoint, and `model.history` has the epochs before.

    The state is saved at the first step, at the end of each epoch and every
    `save_freq` steps within one. Each checkpoint is written beside the last
    two and takes its place when it is whole, so a kill or a full disk leaves
    them intact. A damaged one is noticed by its SHA-256 and passed over with a
    warning.

    What of the data comes back is up to the data:

    - `ArrayDataset` and `ImageFolder` go on with the next batch, without
      making the ones before; `epoch_callback()` is not needed. So do arrays
      and a `grain.MapDataset`, of which `fit` draws the batches before once
      more and throws them away. `fit` needs `shuffle=False`, because Keras
      shuffles by a generator that nobody can set back.
    - A `keras.utils.PyDataset` of your own goes on at the beginning of an
      epoch, and is told its number if it has an attribute `epoch`. Make its
      order depend on that.
    - Everything else (`tf.data`, generators, other loaders) cannot say where
      it is. It goes on at the beginning of an epoch, with one warning: the
      result is the same only if every epoch has the same batches.

    Put it last in the list of callbacks: it saves what the others have done by
    then, such as new learning rates. Callbacks that remember on their own,
    such as `EarlyStopping`, start anew; a training that one of them has
    stopped stays stopped. Validation data must not shuffle, or be a set with
    an `epoch`.

    Args:
        directory: folder of the checkpoints, one for each training. When
            training is done its end stays there, and the same script returns
            at once.
        save_freq: steps within an epoch from one checkpoint to the next, 1 or
            more.

    Attributes:
        resumed_from: pair of the epoch and the batch at which `fit` went on,
            or `None` if it started anew.

    Raises:
        ValueError: if an argument breaks its rule. In `fit`: if the checkpoint
            is of another model, optimizer, loss or data set, with what
            differs; if `fit` shuffles; if several processes train.
        RuntimeError: in `fit`, if another run uses the directory.
        CheckpointError: in `fit`, if all checkpoints are damaged.
        OSError: in `fit`, if a checkpoint cannot be written.

    Example:

    ```python
    train = keras_vit.ArrayDataset(images, labels, batch_size=256)
    model.fit(
        train,
        epochs=10,
        shuffle=False,
        callbacks=[keras_vit.callbacks.Resume("runs/first")],
    )
    ```
    """

    def __init__(self, directory: str | os.PathLike, save_freq: int = 1000):
        super().__init__()
        self.directory = pathlib.Path(directory)
        self.save_freq = check_positive("save_freq", save_freq)
        self.resumed_from = None
        self._states = None

    def on_train_begin(self, logs=None):
        _check_one_process()
        self._arguments = arguments_of_fit(self.model)
        self._any_step = _check_data(self._arguments)
        self.directory.mkdir(parents=True, exist_ok=True)
        acquire(self.directory)
        try:
            self._begin()
        except BaseException:
            release(self.directory)
            raise

    def _begin(self):
        if not self.model.optimizer.built:
            self.model.optimizer.build(self.model.trainable_variables)
        self._identity = identity(
            self.model, self._arguments, self.params["steps"]
        )
        self._states = States(self.directory)
        self._history = {"epochs": [], "logs": {}}
        self._arrays = None
        self._begun = False
        self.resumed_from = None
        found = self._states.last()
        self._states.clean()
        if found is None:
            return
        notes, self._arrays = found
        different = differences(notes["identity"], self._identity)
        if different:
            raise ValueError(
                "`directory` must have checkpoints of this training; for "
                "another take another. Received: "
                f"directory={str(self.directory)!r}, which differs in\n"
                f"{different}"
            )
        self._history = notes["history"]
        self.resumed_from = notes["epoch"], notes["batch"]
        _assign(_variables(self.model), self._arrays)
        # A training that was stopped early finds no epoch left.
        stopped = self.params["epochs"] if notes["stopped"] else 0
        begin_fit_at(self.model, max(notes["epoch"], stopped))

    def on_epoch_begin(self, epoch, logs=None):
        self._epoch, self._saved_at = epoch, 0
        drop_stale_batches(self._arguments)
        for data in (self._arguments["x"], self._arguments["validation_data"]):
            if hasattr(data, "epoch"):
                data.epoch = epoch
        self._set_first_batch(0)
        if self._begun:
            # With what callbacks after this one have added to it.
            self._history = _history_of(self.model)
        elif self.resumed_from is None:
            self._save(epoch, 0)
        else:
            self._go_on()
        self._begun = True

    def _go_on(self):
        model = self.model
        begin_fit_at(model, None)
        _set_history(model, self._history)
        _, batch = self.resumed_from
        if batch:
            self._set_first_batch(batch)
            arrays = self._arrays
            skip_steps(
                model,
                batch,
                lambda: _assign(_metrics(model), arrays),
            )
        else:
            self._go_on_drawing()
        self._saved_at = batch

    def _go_on_drawing(self):
        # All batches before have been drawn, and others may look from now on.
        self._set_first_batch(0)
        prefix = "random/"
        set_global_random_state(
            {
                key.removeprefix(prefix): array
                for key, array in self._arrays.items()
                if key.startswith(prefix)
            }
        )
        self._arrays = None

    # Before a batch and not after one: so nobody waits for a loss.
    def on_train_batch_begin(self, batch, logs=None):
        if self._arrays is not None and batch == self._saved_at:
            self._go_on_drawing()
        if self._any_step and batch - self._saved_at >= self.save_freq:
            self._save(self._epoch, batch)
            self._saved_at = batch

    def on_epoch_end(self, epoch, logs=None):
        self._history["epochs"].append(epoch)
        for name, value in (logs or {}).items():
            self._history["logs"].setdefault(name, []).append(_number(value))
        self._save(epoch + 1, 0)

    def on_train_end(self, logs=None):
        begin_fit_at(self.model, None)
        if not self._begun:
            _set_history(self.model, self._history)
        self._arguments = self._arrays = None
        release(self.directory)

    def _set_first_batch(self, batch):
        if isinstance(self._arguments["x"], ArrayDataset):
            self._arguments["x"].first_batch = batch

    def restore(self) -> tuple[int, int]:
        """Gives the model of a running `fit` its last checkpoint back.

        Returns:
            The epoch and the batch that would come next.
        """
        if self._states is None:
            raise RuntimeError("This `Resume` must be a callback of the `fit`.")
        notes, arrays = self._states.last()
        _assign(_variables(self.model), arrays)
        return notes["epoch"], notes["batch"]

    def _save(self, epoch, batch):
        model = self.model
        variables = _variables(model)
        if batch:
            variables |= _metrics(model)
        self._states.write(
            {
                "epoch": epoch,
                "batch": batch,
                "stopped": bool(model.stop_training),
                "history": self._history,
                "identity": self._identity,
            },
            {
                key: keras.ops.convert_to_numpy(variable)
                for key, variable in variables.items()
            }
            | {f"random/{k}": x for k, x in global_random_state().items()},
        )


def _check_one_process():
    current = current_distribution()
    if current is not None and current.num_processes > 1:
        raise ValueError(
            "`Resume` works in one process. For several take "
            "`keras.callbacks.OrbaxCheckpoint`. Received: "
            f"{current.num_processes} processes"
        )


def _check_data(arguments):
    """Says whether `fit` can go on at any step, and refuses what cannot be.

    False stands for: at the beginning of an epoch.
    """
    x = arguments["x"]
    arrays = all(
        hasattr(part, "shape") and hasattr(part, "__getitem__")
        for part in keras.tree.flatten(x)
    )
    ours = isinstance(x, keras.utils.PyDataset)
    if (arrays or ours) and arguments["shuffle"]:
        raise ValueError(
            "`shuffle` must be False in `fit` with `Resume`: Keras shuffles by "
            "a generator that cannot be set back. `ArrayDataset` shuffles by "
            f"its own. Received: shuffle={arguments['shuffle']}"
        )
    if (arrays or ours) and arguments["steps_per_epoch"] is not None:
        raise ValueError(
            "`steps_per_epoch` must be None in `fit` with `Resume`: an epoch "
            "begins with the first batch. Received: "
            f"steps_per_epoch={arguments['steps_per_epoch']}"
        )
    if arrays or (_is_map_dataset(x) and arguments["steps_per_epoch"] is None):
        return True
    if not hasattr(x, "epoch"):
        warnings.warn(
            f"`fit` trains on {type(x).__name__}, which cannot say where it "
            "is. `Resume` goes on at the beginning of an epoch, and exactly "
            "only if every epoch has the same batches.",
            stacklevel=2,
        )
    augment = getattr(x, "augment", None)
    if augment is not None and not hasattr(augment, "reseed"):
        warnings.warn(
            "The `augment` of the data set has no method `reseed`. `Resume` "
            "takes it that it draws no random numbers.",
            stacklevel=2,
        )
    return isinstance(x, ArrayDataset)


def _is_map_dataset(x):
    module = type(x).__module__.partition(".")[0]
    return module == "grain" and hasattr(x, "__getitem__")


def _variables(model):
    return _numbered(
        trainable=model.trainable_variables,
        non_trainable=model.non_trainable_variables,
        optimizer=model.optimizer.variables,
    )


def _metrics(model):
    return _numbered(metrics=model.metrics_variables)


def _numbered(**groups):
    return {
        f"{group}/{index:05d}": variable
        for group, variables in groups.items()
        for index, variable in enumerate(variables)
    }


def _assign(variables, arrays):
    """Gives variables their values back, or raises before it changes any."""
    values = {}
    for key, variable in variables.items():
        before = keras.ops.convert_to_numpy(variable)
        value = arrays.get(key)
        if value is None or value.shape != before.shape:
            shape = None if value is None else value.shape
            raise CheckpointError(
                f"The checkpoint does not fit '{variable.path}': it has shape "
                f"{shape}, the model {before.shape}."
            )
        # Types that files do not know are there as integers of their size.
        values[key] = value.view(before.dtype)
    for key, variable in variables.items():
        variable.assign(values[key])


def _number(value):
    value = np.asarray(value).tolist()
    return float(value) if isinstance(value, int) else value


def _history_of(model):
    history = model.history
    return {
        "epochs": list(history.epoch),
        "logs": {
            name: [_number(value) for value in values]
            for name, values in history.history.items()
        },
    }


def _set_history(model, record):
    model.history.epoch = list(record["epochs"])
    model.history.history = {
        name: list(values) for name, values in record["logs"].items()
    }
