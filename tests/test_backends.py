"""One `.keras` file, every backend: the same predictions (faults case 24)."""

import importlib.util
import subprocess
import sys

import keras
import numpy as np
import pytest
from helpers import environment

import keras_vit

PREDICT = """
import sys
import numpy as np
import keras, keras_vit
folder = sys.argv[1]
model = keras.models.load_model(f"{folder}/model.keras")
images = np.load(f"{folder}/images.npy")
np.save(f"{folder}/{keras.backend.backend()}.npy", keras_vit.predict(
    model, images, verbose=0))
# And back: what this backend saves, the first one loads.
model.save(f"{folder}/{keras.backend.backend()}.keras")
"""


@pytest.mark.parametrize("other", ["tensorflow", "jax", "torch"])
def test_predictions_are_equal_under_another_backend(
    other, tiny_vit, rng, tmp_path
):
    if other == keras.backend.backend():
        pytest.skip("the backend of this process")
    if importlib.util.find_spec(other) is None:
        pytest.skip(f"{other} is not installed")
    model = tiny_vit(
        num_registers=1,
        pooling="attention",
        position="learned_2d",
        representation_dim=6,
        block=lambda index: keras_vit.layers.TransformerBlock(
            attention=keras_vit.layers.SelfAttention(2, qk_norm=True),
            mlp=keras_vit.layers.MLP(8, activation="swiglu"),
            layer_scale=0.5,
        ),
    )
    images = rng.uniform(0, 255, (4, 8, 12, 3)).astype("float32")
    model.save(tmp_path / "model.keras")
    np.save(tmp_path / "images.npy", images)
    subprocess.run(
        [sys.executable, "-c", PREDICT, str(tmp_path)],
        env=environment(other),
        check=True,
        timeout=240,
    )
    expected = keras_vit.predict(model, images, verbose=0)
    given = np.load(tmp_path / f"{other}.npy")
    np.testing.assert_allclose(given, expected, atol=1e-5)
    back = keras.models.load_model(tmp_path / f"{other}.keras")
    np.testing.assert_allclose(
        keras_vit.predict(back, images, verbose=0), expected, atol=1e-6
    )
