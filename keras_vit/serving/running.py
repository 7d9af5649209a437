"""`predict` and `evaluate` that check first and never leave a dead model.

On JAX, Keras moves a model's variables out of the model while `predict` and
`evaluate` run, and does not move them back if anything raises: a wrong shape,
a corrupt file or Ctrl-C, and the model answers nothing any more. Everything
of this library that runs a model over data goes through this module. So does
what several devices cannot share: images that are left over at the end.
"""

import contextlib
import signal
import threading
from typing import Any

import keras
import numpy as np

from keras_vit.data.checks import check_batch, check_labels
from keras_vit.keras_gaps import current_distribution
from keras_vit.keras_gaps_of_runs import jax_snapshot, sync_inside_of_run
from keras_vit.threads import exclusive


def predict(
    model: keras.Model,
    x: Any,
    batch_size: int | None = 32,
    verbose: int | str = "auto",
    steps: int | None = None,
    **kwargs: Any,
) -> np.ndarray:
    """Runs `model.predict`, refusing bad input before Keras sees it.

    Under a `keras.distribution` on JAX, arrays may hold any number of images.
    Threads may call it at once; on JAX, those of one model take turns.

    Args:
        model: a `keras.Model`.
        x: images, an array of shape `(num_images, height, width, channels)`,
            or any dataset that `model.predict` takes.
        batch_size: images a step, for arrays.
        verbose: as in Keras: `"auto"` or 1 for a progress bar, 0 for silence.
        steps: batches to take from an endless dataset.
        **kwargs: whatever else `model.predict` takes.

    Returns:
        What `model.predict` returns: an array, or a structure of arrays.

    Raises:
        ValueError: if an array is empty or has a shape that the model does
            not take. Whatever `model.predict` raises is raised; the model
            stays usable.
        RuntimeError: on JAX, if another thread trains the model.

    Example:

    >>> model = keras_vit.ViT("Ti/16", image_size=32, num_classes=10)
    >>> keras_vit.predict(model, np.zeros((3, 32, 32, 3)), verbose=0).shape
    (3, 10)
    """
    check_batch(model, x)
    _check_one_process("predict", "predictions would lie on other machines")
    kwargs |= {"verbose": verbose, "steps": steps}
    slices = _slices_of_a_batch(x, steps)
    if slices == 1:
        batch_size = _batch_size(x, batch_size)
        return _keep_alive(
            model, model.predict, x, batch_size=batch_size, **kwargs
        )
    outputs = []
    for rows, size, scope in _shares(len(x), batch_size, slices):
        with scope:
            outputs.append(
                _keep_alive(
                    model, model.predict, x[rows], batch_size=size, **kwargs
                )
            )
    return keras.tree.map_structure(
        lambda *parts: np.concatenate(parts), *outputs
    )


def evaluate(
    model: keras.Model,
    x: Any,
    y: Any = None,
    batch_size: int | None = 32,
    verbose: int | str = "auto",
    steps: int | None = None,
    **kwargs: Any,
) -> float | list[float] | dict[str, float]:
    """Runs `model.evaluate`, refusing bad input before Keras sees it.

    Under a `keras.distribution` on JAX, arrays may hold any number of images;
    the results are exactly those of all of them.

    Args:
        model: a compiled `keras.Model`.
        x: images or a dataset, see `predict`.
        y: labels of an array of images: integers in `[0, num_classes)`, or
            rows of class probabilities.
        batch_size: images a step, for arrays.
        verbose: as in Keras.
        steps: batches to take from an endless dataset.
        **kwargs: whatever else `model.evaluate` takes.

    Returns:
        What `model.evaluate` returns: the loss, or a list of it and the
        metrics; with `return_dict=True` a dict.

    Raises:
        ValueError: as in `predict`, and if labels are not of the right
            number, kind or range (see `check_labels`).

    Example:

    >>> model = keras_vit.ViT("Ti/16", image_size=32, num_classes=10)
    >>> model.compile(**keras_vit.recipes.adamw(total_steps=1))
    >>> images, labels = np.zeros((3, 32, 32, 3)), np.array([0, 1, 2])
    >>> results = keras_vit.evaluate(
    ...     model, images, labels, verbose=0, return_dict=True
    ... )
    >>> sorted(results)
    ['accuracy', 'loss']
    """
    check_batch(model, x)
    if y is not None and hasattr(x, "shape"):
        if len(x) != len(y):
            raise ValueError(
                "`x` and `y` must be equally long. "
                f"Received: {len(x)} images, {len(y)} labels"
            )
        check_labels(y, model.output_shape[-1])
    if hasattr(x, "shape"):
        _check_one_process(
            "evaluate",
            "each would add its arrays to those of the others. Or pass "
            "`ArrayDataset(..., shard=keras_vit.distribution.process_shard())`",
        )
    kwargs |= {"verbose": verbose, "steps": steps}
    slices = _slices_of_a_batch(x, steps)
    if slices == 1:
        batch_size = _batch_size(x, batch_size)
        return _keep_alive(
            model, model.evaluate, x, y, batch_size=batch_size, **kwargs
        )
    callbacks = _as_list(kwargs.pop("callbacks", None))
    weights = kwargs.pop("sample_weight", None)
    resume = []
    for rows, size, scope in _shares(len(x), batch_size, slices):
        with scope:
            results = _keep_alive(
                model,
                model.evaluate,
                x[rows],
                None if y is None else y[rows],
                sample_weight=None if weights is None else weights[rows],
                batch_size=size,
                callbacks=[*callbacks, *resume],
                **kwargs,
            )
        resume = [_Resume([v.value for v in model.metrics_variables])]
    return results


def _batch_size(x, batch_size):
    # Keras refuses a batch size beside a dataset, which has its own.
    return batch_size if hasattr(x, "shape") else None


def _slices_of_a_batch(x, steps):
    """Returns over how many devices `keras.distribution` splits a batch.

    1 where that is Keras' business: datasets, which make their own batches.
    """
    current = current_distribution()
    if current is None or steps is not None or not hasattr(x, "shape"):
        return 1
    return current.num_model_replicas


def _check_one_process(name, reason):
    current = current_distribution()
    if current is not None and current.num_processes > 1:
        raise ValueError(
            f"`keras_vit.{name}` works in one process: of several, {reason}. "
            "Save the model and load it in a process of its own. Received: "
            f"{current.num_processes} processes"
        )


def _shares(num_images, batch_size, slices):
    """Lists rows, batch size and scope: what divides by `slices`, the rest.

    The rest is fewer images than devices, and every device gets all of it.
    """
    even = num_images - num_images % slices
    shares = []
    if even:
        size = -(-batch_size // slices) * slices
        shares.append((slice(0, even), size, contextlib.nullcontext()))
    if even < num_images:
        layouts = keras.distribution.LayoutMap(
            current_distribution().device_mesh
        )
        scope = _Undivided(layout_map=layouts).scope()
        shares.append((slice(even, None), num_images - even, scope))
    return shares


class _Undivided(keras.distribution.ModelParallel):
    """Gives every device the whole batch."""

    def get_data_layout(self, data_shape):
        axes = (None,) * len(data_shape)
        return keras.distribution.TensorLayout(axes, self.device_mesh)


class _Resume(keras.callbacks.Callback):
    """Goes on with the metrics of an evaluation that is over."""

    def __init__(self, values):
        super().__init__()
        self.values = values

    def on_test_batch_begin(self, batch, logs=None):
        if batch == 0:
            for variable, value in zip(
                self.model.metrics_variables, self.values
            ):
                variable.assign(value)


def _keep_alive(model, method, *args, callbacks=None, **kwargs):
    """Calls a method of the model and, on JAX, repairs it if that raises."""
    if keras.backend.backend() != "jax":
        with exclusive(model, metrics=method == model.evaluate):
            return method(*args, callbacks=callbacks, **kwargs)
    interrupt = _InterruptBetweenBatches()
    callbacks = [*_as_list(callbacks), interrupt]
    with exclusive(model):
        sync_inside_of_run(model)
        restore = jax_snapshot(model)
        try:
            with interrupt:
                return method(*args, callbacks=callbacks, **kwargs)
        except BaseException:
            restore()
            raise


def _as_list(callbacks):
    if callbacks is None:
        return []
    return callbacks if isinstance(callbacks, list) else [callbacks]


class _InterruptBetweenBatches(keras.callbacks.Callback):
    """Holds Ctrl-C back until the running batch is done.

    A step on JAX consumes the variables it is given. Interrupted between
    that and its return, it would leave nothing to restore them from. A second
    Ctrl-C is not held back.
    """

    def __enter__(self):
        self.interrupted = False
        # Only the main thread receives Ctrl-C and may handle it. Where a
        # program ignores it or has plans of its own, so be it.
        handler = signal.getsignal(signal.SIGINT)
        self.handles = (
            threading.current_thread() is threading.main_thread()
            and handler is signal.default_int_handler
        )
        if self.handles:
            signal.signal(signal.SIGINT, self._note)
        return self

    def __exit__(self, *exception):
        if self.handles:
            signal.signal(signal.SIGINT, signal.default_int_handler)

    def _note(self, number, frame):
        if self.interrupted:
            raise KeyboardInterrupt
        self.interrupted = True

    def _raise_if_interrupted(self):
        if self.interrupted:
            raise KeyboardInterrupt

    def on_predict_batch_end(self, batch, logs=None):
        self._raise_if_interrupted()

    def on_test_batch_end(self, batch, logs=None):
        self._raise_if_interrupted()
