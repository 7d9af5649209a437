"""One model in several threads, on JAX.

There, Keras moves the variables out of a model while `fit`, `evaluate` and
`predict` run, so that a second thread finds none. Of two that run a model here,
one waits for the other; what only reads is called between two steps of a `fit`.
Other backends keep variables where they are: there only `evaluate` waits, whose
metrics are one set a model.
"""

import concurrent.futures
import contextlib
import queue
import threading
import weakref

import keras

from keras_vit.keras_gaps import flatten_layers
from keras_vit.keras_gaps_of_runs import (
    check_variables,
    models_in_fit,
    state_in_model,
    sync_inside_of_run,
)

_LOCKS = weakref.WeakKeyDictionary()
_LOCKS_LOCK = threading.Lock()


@contextlib.contextmanager
def exclusive(model, metrics=False):
    """Holds a model, and all that share layers with it, for one thread.

    Args:
        model: a `keras.Model`.
        metrics: whether its metrics are counted: of them it has one set, which
            two threads would mix, on every backend.
    """
    if keras.backend.backend() != "jax" and not metrics:
        yield
        return
    parts = {id(part): part for part in [model, *flatten_layers(model)]}
    with _LOCKS_LOCK:
        # In one order in all threads, so that no two wait for each other.
        locks = [
            _LOCKS.setdefault(parts[key], threading.RLock())
            for key in sorted(parts)
        ]
    with contextlib.ExitStack() as stack:
        for lock in locks:
            stack.enter_context(lock)
        yield


def beside_training(model, read):
    """Calls a function that reads a model, whoever trains it meanwhile.

    If another thread does so, the function is called there, between two steps,
    and training waits for it.

    Args:
        model: a `keras.Model`.
        read: function without arguments that changes nothing.

    Returns:
        What the function returns.

    Raises:
        RuntimeError: if the model has lost its variables.
    """
    if keras.backend.backend() != "jax":
        return read()
    sync_inside_of_run(model)
    while True:
        # Without the lock: a callback of that training may ask for it.
        for other in _trained_with(model):
            request = _Request(read)
            if _answered(request, other):
                return request.result()
        with exclusive(model):
            try:
                check_variables(model)
                return read()
            except Exception:
                # A training may have begun in the meantime.
                if not _trained_with(model):
                    raise


def _trained_with(model):
    """Lists models in training in other threads that share layers with one."""
    parts = set(map(id, [model, *flatten_layers(model)]))
    return [
        other
        for other in models_in_fit()
        if parts.intersection(map(id, [other, *flatten_layers(other)]))
    ]


def _answered(request, model):
    """Waits for a step of `fit` to answer; false if none will."""
    watched = None
    while True:
        step = model.train_function
        if step is not watched and step is not None:
            watched = step if isinstance(step, _Watched) else _Watched(step)
            watched.model, model.train_function = model, watched
            watched.requests.put(request)
        try:
            request.exception(timeout=0.02)
            return True
        except concurrent.futures.TimeoutError:
            over = all(other is not model for other in models_in_fit())
            if over and request.cancel():
                return False


class _Request(concurrent.futures.Future):
    """A function that another thread calls once."""

    def __init__(self, function):
        super().__init__()
        self.function = function

    def answer(self):
        if not self.set_running_or_notify_cancel():
            return
        try:
            self.set_result(self.function())
        except BaseException as error:
            self.set_exception(error)


class _Watched:
    """A step of `fit` on JAX, after which those who ask may read the model."""

    def __init__(self, step):
        self.step = step
        self.requests = queue.SimpleQueue()

    def __call__(self, state, iterator):
        logs, state = self.step(state, iterator)
        while not self.requests.empty():
            # Now, because the next step takes the memory of this state.
            with state_in_model(self.model, state):
                self.requests.get().answer()
        return logs, state
