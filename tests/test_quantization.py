"""Quantised and LoRA models compute, save and load (faults case 26)."""

import keras
import numpy as np
import pytest
from helpers import EAGER, to_numpy

import keras_vit

# Keras says of the layers without a kernel that they cannot be quantised: 3.15
# of each by itself, 3.16 of all together.
pytestmark = [
    pytest.mark.filterwarnings(f"ignore:{text}:UserWarning")
    for text in (
        "Layer .* does not have a `quantize` method",
        r".*layer\(s\) were skipped because they do not support quantization",
    )
]


@pytest.fixture
def model(tiny_vit):
    """All linear maps of the library at once, behind both kinds of block."""

    def block(index):
        if index == 0:
            return keras_vit.layers.TransformerBlock(4, 32)
        return keras_vit.layers.TransformerBlock(
            attention=keras_vit.layers.SelfAttention(2, qk_norm=True),
            mlp=keras_vit.layers.MLP(32, activation="swiglu"),
        )

    return tiny_vit(block=block, pooling="attention", representation_dim=8)


@pytest.fixture
def images(rng):
    return rng.uniform(0, 255, (4, 8, 12, 3)).astype("float32")


def outputs(model, images):
    """One call costs less than tracing `predict`; on JAX, compiling does."""
    if keras.backend.backend() == "jax":
        return model.predict(images, verbose=0)
    return to_numpy(model(images))


def reload(model, path):
    model.save(path)
    return keras.models.load_model(path)


# Relative errors of the logits: about three times those measured on a model
# of this size by hand (int8 0.02, int4 0.2, float8 0.09).
@pytest.mark.parametrize(
    "mode, tolerance", [("int8", 0.1), ("int4", 0.6), ("float8", 0.3)]
)
def test_a_quantised_model_reloads_exactly(
    mode, tolerance, model, images, tmp_path
):
    exact = outputs(model, images)
    model.quantize(mode)
    quantised = outputs(model, images)
    error = np.abs(quantised - exact).max() / np.abs(exact).max()
    assert 0 < error < tolerance
    loaded = reload(model, tmp_path / "model.keras")
    np.testing.assert_array_equal(outputs(loaded, images), quantised)
    if mode != "int8":
        return
    kernels = [w for w in model.weights if w.name == "kernel"]
    assert kernels and {w.dtype for w in kernels} == {"int8"}
    # What was loaded can be saved again, and blocks rebuilt by themselves.
    loaded.save(tmp_path / "again.keras")
    layer = loaded.get_layer("block_00")
    twin = type(layer).from_config(layer.get_config())
    assert twin.get_config()["dtype"] == layer.get_config()["dtype"]


def test_lora_trains_little_and_reloads(model, images, tmp_path):
    for layer in (model.get_layer("block_00"), model.get_layer("block_01")):
        for name in ("query", "value"):
            getattr(layer.attention, name).enable_lora(rank=2)
    trained = {w.path.rsplit("/", 1)[-1] for w in model.trainable_weights}
    assert {"lora_kernel_a", "lora_kernel_b"} <= trained
    # LoRA kernels learn; the kernels they stand beside do not.
    assert "block_00/attention/query/kernel" not in {
        w.path for w in model.trainable_weights
    }
    before = outputs(model, images)
    model.compile("sgd", "mse", **EAGER)
    model.train_on_batch(images, np.ones((4, 5)))
    expected = outputs(model, images)
    assert (expected != before).any()
    loaded = reload(model, tmp_path / "model.keras")
    np.testing.assert_allclose(outputs(loaded, images), expected, atol=1e-5)
