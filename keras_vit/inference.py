"""`predict` and `evaluate` that check first and never leave a dead model.

On JAX, Keras moves a model's variables out of the model while `predict` and
`evaluate` run, and does not move them back if anything raises: a wrong shape,
a corrupt file or Ctrl-C, and the model answers nothing any more. Everything
of this library that runs a model over data goes through this module.
"""

import signal
import threading

import keras
import numpy as np

from keras_vit.layers import Patches


def predict(model, x, batch_size=32, verbose="auto", steps=None, **kwargs):
    """Runs `model.predict`, refusing bad input before Keras sees it.

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

    Example:

    >>> model = keras_vit.ViT("Ti/16", image_size=32, num_classes=10)
    >>> keras_vit.predict(model, np.zeros((3, 32, 32, 3)), verbose=0).shape
    (3, 10)
    """
    _check_images(model, x)
    return _keep_alive(
        model,
        model.predict,
        x,
        batch_size=_batch_size(x, batch_size),
        verbose=verbose,
        steps=steps,
        **kwargs,
    )


def evaluate(
    model, x, y=None, batch_size=32, verbose="auto", steps=None, **kwargs
):
    """Runs `model.evaluate`, refusing bad input before Keras sees it.

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
    _check_images(model, x)
    if y is not None and hasattr(x, "shape"):
        if len(x) != len(y):
            raise ValueError(
                "`x` and `y` must be equally long. "
                f"Received: {len(x)} images, {len(y)} labels"
            )
        check_labels(y, model.output_shape[-1])
    return _keep_alive(
        model,
        model.evaluate,
        x,
        y,
        batch_size=_batch_size(x, batch_size),
        verbose=verbose,
        steps=steps,
        **kwargs,
    )


def check_labels(labels, num_classes):
    """Raises unless labels are what a classifier of so many classes takes.

    Keras leaves this to the backend: TensorFlow and PyTorch stop at a label
    out of range, JAX trains on without a word. Call it once on your labels
    before `fit`; `evaluate` does so by itself.

    Args:
        labels: integers of shape `(num_images,)` or `(num_images, 1)`, each
            in `[0, num_classes)`; or floats of shape
            `(num_images, num_classes)`, each in [0, 1]: one-hot labels or
            mixtures of them.
        num_classes: number of classes.

    Returns:
        The labels as a NumPy array.

    Raises:
        ValueError: if shape, kind or range are others.

    Example:

    >>> keras_vit.check_labels([0, 2, 1], num_classes=3)
    array([0, 2, 1])
    """
    array = np.asarray(labels)
    per_class = array.ndim == 2 and array.shape[1] == num_classes
    if per_class and array.shape[1] > 1:
        bad = ~((array >= 0) & (array <= 1))
        if bad.any():
            row = int(np.argwhere(bad.any(axis=1))[0, 0])
            raise ValueError(
                "One-hot `labels` must be in [0, 1]. Received: "
                f"labels[{row}]={array[row]}"
            )
        return array
    if array.ndim == 0 or array.ndim > 2 or array.shape[1:] not in ((), (1,)):
        raise ValueError(
            "`labels` must be of shape (num_images,), or of shape "
            f"(num_images, {num_classes}) if they are one-hot. "
            f"Received: shape={array.shape}"
        )
    if not np.issubdtype(array.dtype, np.integer):
        raise ValueError(
            "`labels` of one number an image must be integers. "
            f"Received: dtype={array.dtype}"
        )
    bad = np.flatnonzero((array < 0) | (array >= num_classes))
    if len(bad):
        raise ValueError(
            f"`labels` must be in [0, {num_classes}). Received: "
            f"labels[{bad[0]}]={array.reshape(-1)[bad[0]]} "
            f"({len(bad)} of {len(array)} out of range)"
        )
    return array


def _check_images(model, x):
    if not hasattr(x, "shape") or not isinstance(model.input_shape, tuple):
        return
    expected, given = model.input_shape, tuple(x.shape)
    if len(given) != len(expected) or any(
        size is not None and size != actual
        for size, actual in zip(expected[1:], given[1:])
    ):
        raise ValueError(
            f"'{model.name}' takes images of shape {expected}, where None is "
            f"any size. Received: shape={given}"
        )
    if 0 in given:
        raise ValueError(
            f"`x` must hold at least one image. Received: shape={given}"
        )
    for layer in model.layers:
        # A model for any size fails only inside; say it before.
        if isinstance(layer, Patches) and None in expected[1:]:
            layer.compute_output_shape(given)


def _batch_size(x, batch_size):
    # Keras refuses a batch size beside a dataset, which has its own.
    return batch_size if hasattr(x, "shape") else None


def _keep_alive(model, method, *args, callbacks=None, **kwargs):
    """Calls a method of the model and, on JAX, repairs it if that raises."""
    if keras.backend.backend() != "jax":
        return method(*args, callbacks=callbacks, **kwargs)
    # References, not copies. A step that fails before it reaches the device
    # leaves them valid; one that got there hands its state to the model.
    variables = [*model.variables, *model.metrics_variables]
    before = [(variable, variable.value) for variable in variables]
    interrupt = _InterruptBetweenBatches()
    callbacks = [*_as_list(callbacks), interrupt]
    try:
        with interrupt:
            return method(*args, callbacks=callbacks, **kwargs)
    except BaseException:
        model.jax_state_sync()
        for variable, value in before:
            if variable._value is None:
                variable.assign(value)
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
