"""Fixtures of all tests: seeds, reference data, tiny models."""

from helpers import SHARED, randomize  # isort: skip, before Keras

import keras
import numpy as np
import pytest

import keras_vit


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


@pytest.fixture
def photograph(rng):
    """Draws smooth shades, hard edges and noise, as photographs have them."""

    def draw(height, width, channels=3):
        y, x = np.mgrid[:height, :width]
        waves = [np.sin(x / (5 + c)) + np.cos(y / (7 - c)) for c in range(3)]
        pixels = 128 + 50 * np.stack(waves, -1)
        pixels[height // 3 : height // 2, width // 4 : width // 2] = 250, 5, 90
        pixels += rng.normal(0, 8, pixels.shape)
        return pixels.clip(0, 255).astype("uint8")[..., :channels]

    return draw
