"""A training that stops at the first loss that is no number."""

import contextlib

import keras
import numpy as np

from keras_vit.callbacks.resume import Resume
from keras_vit.data.array_dataset import ArrayDataset
from keras_vit.keras_gaps_of_runs import arguments_of_fit


class StopOnNonFinite(keras.callbacks.Callback):
    """Stops `fit` by an error at the first loss that is NaN or infinite.

    One image with a NaN makes all weights NaN in the step that sees it, and
    Keras' `TerminateOnNaN` says no more than that. This callback names the
    epoch, the batch and the step, and what is not finite: images and labels
    of the batch, the first layer whose output is not, or the weights. It looks
    at the batch again if `fit` trains on an `ArrayDataset` or `ImageFolder`.

    It cannot undo the step: the weights have changed by then. With `resume`
    the model gets the state of its last checkpoint back, and the layer is
    looked for with those weights; where only newer weights overflow, it is not
    found. Without, a layer is found only if the weights are still finite.

    It reads the loss of every step. On an accelerator `fit` then waits for
    each step, where Keras otherwise prepares the next one meanwhile.

    Args:
        resume: the `Resume` of the same `fit`, or `None`.

    Raises:
        FloatingPointError: in `fit`, at the first loss that is not finite.

    Example:

    ```python
    resume = keras_vit.callbacks.Resume("runs/first")
    model.fit(
        train,
        epochs=10,
        shuffle=False,
        callbacks=[keras_vit.callbacks.StopOnNonFinite(resume), resume],
    )
    ```
    """

    def __init__(self, resume: Resume | None = None):
        super().__init__()
        self.resume = resume

    def on_train_begin(self, logs=None):
        self._data = arguments_of_fit(self.model)["x"]

    def on_epoch_begin(self, epoch, logs=None):
        self._epoch = epoch

    def on_train_batch_end(self, batch, logs=None):
        loss = (logs or {}).get("loss", 0.0)
        if np.isfinite(loss):
            return
        model = self.model
        step = int(keras.ops.convert_to_numpy(model.optimizer.iterations))
        restored = "It cannot be undone."
        if self.resume is not None:
            epoch, first = self.resume.restore()
            restored = (
                f"The model is back at epoch {epoch}, batch {first}, where "
                "its last checkpoint is."
            )
        raise FloatingPointError(
            f"The loss is {loss} at batch {batch} of epoch {self._epoch}, step "
            f"{step} of the optimizer. {self._cause(batch)} {restored}"
        )

    def _cause(self, batch):
        images = None
        if isinstance(self._data, ArrayDataset):
            images, labels = self._data[batch]
            for name, part in (("images", images), ("labels", labels)):
                rows = _not_finite(part)
                if len(rows):
                    return (
                        f"Not finite are {name} {rows[:5].tolist()} of the "
                        f"batch ({len(rows)} of {len(part)})."
                    )
        bad = [
            weight.path
            for weight in self.model.weights
            if len(_not_finite(keras.ops.convert_to_numpy(weight)[None]))
        ]
        if bad:
            return (
                f"Not finite are {len(bad)} of {len(self.model.weights)} "
                f"weights, '{bad[0]}' first."
            )
        name = None if images is None else _first_layer(self.model, images)
        if name is None:
            return "Weights are finite, and so is all else that was looked at."
        return f"The first layer whose output is not finite is '{name}'."


def _first_layer(model, images):
    """The name of the first layer with an output that is not finite."""
    if not hasattr(model, "operations"):
        return None  # no functional model: its layers have no one output
    layers = []
    for layer in model.layers:
        # A layer that is called twice has no one output either.
        with contextlib.suppress(AttributeError, ValueError):
            layers.append((layer.name, layer.output))
    probe = keras.Model(model.inputs, [output for _, output in layers])
    outputs = probe(keras.ops.convert_to_tensor(images), training=False)
    for (name, _), output in zip(layers, outputs):
        if any(
            len(_not_finite(keras.ops.convert_to_numpy(part)))
            for part in keras.tree.flatten(output)
        ):
            return name
    return None


def _not_finite(array):
    """The rows of an array that hold NaN or infinity."""
    array = np.asarray(array, "float32")
    return np.flatnonzero(~np.isfinite(array.reshape(len(array), -1)).all(1))
