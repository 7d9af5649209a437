"""Where Keras leaves a gap while a model runs; see `keras_gaps`.

- `check_variables`, `jax_snapshot`: on JAX a `predict` that raises leaves a
  model without its variables.
- `sync_inside_of_run`, `models_in_fit`, `state_in_model`: there, a callback or
  another thread finds no variables in a model in training.
- `arguments_of_fit`, `begin_fit_at`, `skip_steps`: a callback cannot see what
  `fit` was given, nor let it begin within an epoch.
- `drop_stale_batches`: with workers, an epoch gets batches made before it.
- `global_random_state`: on PyTorch, dropout without a seed draws from PyTorch.
"""

import contextlib
import sys
import threading

import keras

PRIVATE = (
    ("keras.Variable", "_value"),
    ("keras.Model", "jax_state_sync"),
    ("keras.Model", "_initial_epoch"),
    ("keras.Model", "_symbolic_build"),
)


def check_variables(model):
    """Raises if a model on JAX is without its variables."""
    if any(variable._value is None for variable in model.variables):
        raise RuntimeError(
            "`model` must have its variables. They were moved out of it by a "
            "`fit` in another thread, or by a run that failed; Keras does not "
            "move them back then."
        )


def jax_snapshot(model):
    """Returns a function that gives a model on JAX its variables back.

    Keras moves them out of the model while `fit`, `evaluate` and `predict`
    run, and does not move them back if anything raises.

    Args:
        model: a `keras.Model`.

    Returns:
        A function without arguments, to call after something raised.

    Raises:
        RuntimeError: if the model is without its variables already.
    """
    # References, not copies. A step that fails before it reaches the device
    # leaves them valid; one that got there hands its state to the model.
    variables = [*model.variables, *model.metrics_variables]
    check_variables(model)
    before = [(variable, variable.value) for variable in variables]

    def restore():
        model.jax_state_sync()
        for variable, value in before:
            if variable._value is None:
                variable.assign(value)

    return restore


def sync_inside_of_run(model):
    """Moves variables back into a model on JAX whose run calls.

    Another thread must not do that: a step may be taking them just then.
    """
    if _frame_of(model, ("fit", "evaluate", "predict")) is not None:
        model.jax_state_sync()


def models_in_fit():
    """Lists the models that other threads train."""
    frames = sys._current_frames()
    del frames[threading.get_ident()]
    found = [_frame_of(None, ("fit",), frame) for frame in frames.values()]
    return [frame.f_locals["self"] for frame in found if frame is not None]


@contextlib.contextmanager
def state_in_model(model, state):
    """Lets a model on JAX have what a step of `fit` returned, for a while."""
    variables = [
        *model.trainable_variables,
        *model.non_trainable_variables,
        *model.optimizer.variables,
        *model.metrics_variables,
    ]
    values = [value for part in state for value in part]
    for variable, value in zip(variables, values, strict=True):
        variable._value = value
    try:
        yield
    finally:
        for variable in variables:
            variable._value = None


def arguments_of_fit(model):
    """Returns the arguments of the `fit` that calls, by name.

    Args:
        model: the model that is trained.

    Returns:
        A dict of the local variables of `fit`.

    Raises:
        RuntimeError: if no `fit` of this model calls.
    """
    frame = _frame_of(model, ("fit",))
    if frame is None:
        raise RuntimeError("This callback works in `model.fit` alone.")
    return dict(frame.f_locals)


def begin_fit_at(model, epoch):
    """Sets the first epoch of a `fit` that begins; `None` for its argument.

    Keras keeps the number for every `fit` that follows.
    """
    model._initial_epoch = epoch


def drop_stale_batches(arguments):
    """Forgets batches that workers of a data set made before this epoch.

    Keras looks at a batch before it trains, and hands what else the workers
    had made by then to the first epoch: batches twice, and its last ones not.

    Args:
        arguments: what `arguments_of_fit` returns.
    """
    adapter = arguments["epoch_iterator"].data_adapter
    stale = getattr(getattr(adapter, "enqueuer", None), "ready_queue", None)
    while stale is not None and not stale.empty():
        stale.get_nowait()


def skip_steps(model, count, restore_metrics):
    """Lets the `fit` that runs draw batches without training on them.

    Call it when an epoch begins.

    Args:
        model: the model that is trained.
        count: number of batches, a multiple of `steps_per_execution`.
        restore_metrics: function without arguments, called when all metrics
            have their variables and none of these batches is over.
    """
    train = model.train_function
    backend = keras.backend.backend()
    left, logs = count, None

    def begin():
        nonlocal logs
        restore_metrics()
        logs = model.get_metrics_result()

    def skip(*arguments):
        nonlocal left
        try:
            if backend != "torch":  # where batches come drawn
                size = model.steps_per_execution
                batches = [next(arguments[-1]) for _ in range(size)]
            if logs is None:
                # Metrics are otherwise made by the first step, except under a
                # strategy, where they are there.
                model._symbolic_build(data_batch=batches[0])
                begin()
        except BaseException:
            model.train_function = train
            raise
        left -= model.steps_per_execution
        if left <= 0:
            model.train_function = train
        return (logs, arguments[0]) if backend == "jax" else logs

    if backend != "tensorflow":
        begin()
    model.train_function = skip


def global_random_state():
    """Returns the states of generators that are no variables, as arrays."""
    if keras.backend.backend() != "torch":
        return {}
    import torch

    states = [torch.get_rng_state(), *torch.cuda.get_rng_state_all()]
    return {f"{index}": state.numpy() for index, state in enumerate(states)}


def set_global_random_state(arrays):
    """Sets what `global_random_state` returned."""
    if keras.backend.backend() != "torch":
        return
    import torch

    states = [torch.from_numpy(arrays[key]) for key in sorted(arrays, key=int)]
    torch.set_rng_state(states[0])
    torch.cuda.set_rng_state_all(states[1:])


def _frame_of(model, names, frame=None):
    """Returns the innermost call of a method of a model on a stack.

    Args:
        model: the model, or `None` for any.
        names: names of methods.
        frame: where to begin, or `None` for this stack.
    """
    frame = frame or sys._getframe(1)
    while frame is not None:
        # Keras' own, not that of a subclass around it.
        if frame.f_code.co_name in names and "epoch_iterator" in (
            frame.f_code.co_varnames
        ):
            if model is None or frame.f_locals.get("self") is model:
                return frame
        frame = frame.f_back
    return None
