"""Several devices through `keras.distribution` (JAX): the same numbers."""

import subprocess
import sys

import pytest
from conftest import environment, jax_only

TRAIN = """
import sys
import keras, keras_vit
import numpy as np

kind = sys.argv[1]
devices = keras.distribution.list_devices()
assert len(devices) == 4, devices
if kind == "data":
    keras.distribution.set_distribution(
        keras.distribution.DataParallel(devices=devices)
    )
elif kind == "model":
    mesh = keras.distribution.DeviceMesh((2, 2), ("batch", "model"), devices)
    layout = keras.distribution.LayoutMap(mesh)
    # Heads over the devices of the second axis, and so the MLP.
    layout["block_.*/attention/(query|key|value)/kernel"] = (
        None, "model", None)
    layout["block_.*/mlp/hidden/kernel"] = (None, "model")
    layout["block_.*/mlp/output/kernel"] = ("model", None)
    keras.distribution.set_distribution(keras.distribution.ModelParallel(
        layout_map=layout, batch_dim_name="batch"))

keras.utils.set_random_seed(0)
model = keras_vit.ViT(
    keras_vit.Variant(2, 16, 32, 4, 4), image_size=8, num_classes=3
)
if kind == "model":
    kernel = model.get_layer("block_00").attention.query.kernel
    shards = kernel.value.addressable_shards
    assert {shard.data.shape for shard in shards} == {(16, 2, 4)}
model.compile(**keras_vit.recipes.adamw(8, warmup_steps=1))
rng = np.random.default_rng(0)
images = rng.uniform(0, 255, (16, 8, 8, 3)).astype("float32")
history = model.fit(
    images, np.arange(16) % 3, batch_size=8, epochs=4, shuffle=False, verbose=0
)
print(*history.history["loss"])
"""


def losses(kind):
    output = subprocess.run(
        [sys.executable, "-c", TRAIN, kind],
        env=environment(
            "jax", XLA_FLAGS="--xla_force_host_platform_device_count=4"
        ),
        check=True,
        capture_output=True,
        text=True,
        timeout=240,
    ).stdout
    return [float(loss) for loss in output.split()]


@jax_only("Keras shards models over devices there alone")
def test_data_and_model_parallel_equal_one_device():
    single = losses("single")
    assert single[-1] < single[0]
    for kind in ("data", "model"):
        assert losses(kind) == pytest.approx(single, abs=1e-5)
