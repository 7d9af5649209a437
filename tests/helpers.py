"""What tests share that is no fixture: numbers in and out, quick settings.

Imported before Keras, by `conftest.py`.
"""

import contextlib
import os
import pathlib
import sys

# Tiny graphs are compiled by the hundred: XLA shall not polish them, nor emit
# them by way of MLIR, which takes it twice as long. Kept from second processes,
# which start like a user's.
XLA_FLAGS = os.environ.get("XLA_FLAGS", "")
QUICK = (
    "--xla_backend_optimization_level=0 "
    "--xla_llvm_disable_expensive_passes=true "
    "--xla_cpu_parallel_codegen_split_count=1 "
    "--xla_cpu_use_fusion_emitters=false"
)
os.environ["XLA_FLAGS"] = f"{XLA_FLAGS} {QUICK}"
# Processes that test side by side share what JAX compiled.
CACHE = pathlib.Path(__file__).parents[1] / ".pytest_cache" / "jax"
os.environ.setdefault("JAX_COMPILATION_CACHE_DIR", str(CACHE))
os.environ.setdefault("JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS", "0")
os.environ.setdefault("JAX_PERSISTENT_CACHE_MIN_ENTRY_SIZE_BYTES", "-1")

import keras  # noqa: E402
import numpy as np  # noqa: E402
import pytest  # noqa: E402

# Real data and reference cases, beside the project where they are.
SHARED = pathlib.Path(__file__).parents[2] / "shared"
# For `compile`, where a test is not about graphs: TensorFlow takes seconds to
# trace what a tiny model computes in no time. `test_fit`, `test_contract` and
# others train compiled.
EAGER = {"run_eagerly": keras.backend.backend() == "tensorflow"}


def randomize(model, rng, scale=0.2):
    """Gives every weight of a model or layer a value that tells in outputs."""
    for weight in model.weights:
        if np.issubdtype(
            keras.backend.standardize_dtype(weight.dtype), np.floating
        ):
            weight.assign(
                rng.normal(0, scale, weight.shape) + (weight.name == "gamma")
            )


def to_numpy(x):
    return keras.ops.convert_to_numpy(x)


def outputs_of(model, images):
    """What a model returns for one batch, as arrays, in the quickest way.

    JAX compiles each operation of an eager call by itself; TensorFlow traces
    `predict` for longer than an eager call takes.
    """
    if keras.backend.backend() == "jax":
        return model.predict_on_batch(images)
    outputs = model(images, training=False)
    return keras.tree.map_structure(to_numpy, outputs)


def value_and_gradients(function, inputs, g):
    """Runs `function` and the backend's differentiation of it."""
    backend = keras.backend.backend()
    if backend == "jax":
        import jax

        output, pull = jax.vjp(function, *inputs)
        return output, *pull(g)
    if backend == "torch":
        inputs = [x.detach().requires_grad_() for x in inputs]
        output = function(*inputs)
        output.backward(g)
        return output.detach(), *(x.grad for x in inputs)
    import tensorflow as tf

    with tf.GradientTape() as tape:
        tape.watch(inputs)
        output = function(*inputs)
    return output, *tape.gradient(output, inputs, g)


def float64_on_jax():
    """JAX computes in float64 only where it is told that it may."""
    if keras.backend.backend() != "jax":
        return contextlib.nullcontext()
    import jax

    if hasattr(jax, "enable_x64"):
        return jax.enable_x64(True)
    # Before JAX 0.8.
    from jax.experimental import enable_x64

    return enable_x64(True)


def peak_memory():
    """Bytes that this process has had at most; 0 where nobody counts them."""
    try:
        import resource
    except ImportError:  # on Windows
        return 0
    unit = 1 if sys.platform == "darwin" else 2**10
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit


def jax_only(reason):
    return pytest.mark.skipif(
        keras.backend.backend() != "jax", reason=f"JAX only: {reason}"
    )


def environment(backend, **variables):
    """Environment of a second process that runs another backend."""
    return {
        **os.environ,
        "KERAS_BACKEND": backend,
        "TF_CPP_MIN_LOG_LEVEL": "3",
        "XLA_FLAGS": XLA_FLAGS,
        **variables,
    }
