"""Shared by all tests: seeds, backend quirks, reference data, tiny models."""

import contextlib
import os
import pathlib

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

import keras_vit  # noqa: E402

# For `compile`, where a test is not about graphs: TensorFlow takes seconds to
# trace what a tiny model computes in no time. `test_fit`, `test_contract` and
# others train compiled.
EAGER = {"run_eagerly": keras.backend.backend() == "tensorflow"}

SHARED = pathlib.Path(__file__).parents[2] / "shared"


def pytest_report_header():
    return f"keras {keras.version()} on {keras.backend.backend()}"


@pytest.fixture(autouse=True)
def _fresh_state():
    """Every test starts from one seed and float32, and leaves no names."""
    keras.utils.set_random_seed(0)
    policy = keras.config.dtype_policy()
    data_format = keras.config.image_data_format()
    yield
    keras.config.set_dtype_policy(policy)
    keras.config.set_image_data_format(data_format)
    keras.utils.clear_session(free_memory=False)


@pytest.fixture
def rng():
    return np.random.default_rng(0)


@pytest.fixture(scope="session")
def reference_cases():
    """The folder of reference cases, which lies beside the project."""
    folder = SHARED / "reference_cases"
    if not folder.is_dir():
        pytest.skip("no ../shared/reference_cases beside this clone")
    return folder


@pytest.fixture
def tiny_vit(rng):
    """Builds two-block models of 8x12 images whose head is not zero."""

    def build(**arguments):
        arguments = {
            "image_size": (8, 12),
            "num_classes": 5,
            **arguments,
        }
        variant = keras_vit.Variant(2, 16, 32, 4, patch_size=4)
        model = keras_vit.ViT(variant, **arguments)
        randomize(model, rng)
        return model

    return build


@pytest.fixture
def randomized(rng):
    """Randomizes a model and returns it."""

    def fill(model):
        randomize(model, rng)
        return model

    return fill


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


def float64_on_jax():
    """JAX computes in float64 only where it is told that it may."""
    if keras.backend.backend() != "jax":
        return contextlib.nullcontext()
    import jax

    return jax.enable_x64(True)


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
