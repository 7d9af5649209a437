"""The forward pass against the paper's equations, written out in NumPy.

Dosovitskiy et al. 2021, equations 1 to 4 (and 5 to 8 for the attention), in
float64, from pixels to logits.
"""

import math

import numpy as np
import pytest
from helpers import to_numpy


def layer_norm(x, weights, name):
    mean = x.mean(axis=-1, keepdims=True)
    variance = ((x - mean) ** 2).mean(axis=-1, keepdims=True)
    x = (x - mean) / np.sqrt(variance + 1e-6)
    return x * weights[f"{name}/gamma"] + weights[f"{name}/beta"]


def gelu(x):
    """The tanh form, which is what the official code computes."""
    inner = math.sqrt(2 / math.pi) * (x + 0.044715 * x**3)
    return 0.5 * x * (1 + np.tanh(inner))


def self_attention(z, weights, name):
    """Equations 5 to 8, one head after the other."""
    heads = []
    queries, keys, values = (
        weights[f"{name}/{part}/kernel"] for part in ("query", "key", "value")
    )
    for head in range(queries.shape[1]):
        q = z @ queries[:, head] + weights[f"{name}/query/bias"][head]
        k = z @ keys[:, head] + weights[f"{name}/key/bias"][head]
        v = z @ values[:, head] + weights[f"{name}/value/bias"][head]
        logits = q @ k.T / math.sqrt(k.shape[-1])
        exponentials = np.exp(logits - logits.max(axis=-1, keepdims=True))
        scores = exponentials / exponentials.sum(axis=-1, keepdims=True)
        heads.append(scores @ v)
    out = weights[f"{name}/output/kernel"]
    z = np.concatenate(heads, axis=-1) @ out.reshape(-1, out.shape[-1])
    return z + weights[f"{name}/output/bias"]


def mlp(z, weights, name):
    z = z @ weights[f"{name}/hidden/kernel"] + weights[f"{name}/hidden/bias"]
    z = gelu(z) @ weights[f"{name}/output/kernel"]
    return z + weights[f"{name}/output/bias"]


def vision_transformer(image, weights, num_layers, patch_size):
    """One image of pixels in [0, 255] to logits."""
    image = (image - 127.5) / 127.5
    rows, columns = (size // patch_size for size in image.shape[:2])
    patches = [
        image[
            row * patch_size : (row + 1) * patch_size,
            column * patch_size : (column + 1) * patch_size,
        ].reshape(-1)
        for row in range(rows)
        for column in range(columns)
    ]
    # Equation 1.
    embedded = (
        np.stack(patches) @ weights["patch_encoder/projection/kernel"]
        + weights["patch_encoder/projection/bias"]
    )
    z = np.concatenate([weights["patch_encoder/cls_token"][0], embedded])
    z = z + weights["patch_encoder/position_embedding/table"]
    for index in range(num_layers):
        block = f"block_{index:02d}"
        # Equation 2.
        normed = layer_norm(z, weights, f"{block}/attention_norm")
        z = self_attention(normed, weights, f"{block}/attention") + z
        # Equation 3.
        normed = layer_norm(z, weights, f"{block}/mlp_norm")
        z = mlp(normed, weights, f"{block}/mlp") + z
    # Equation 4.
    y = layer_norm(z, weights, "encoder_norm")[0]
    return y @ weights["head/kernel"] + weights["head/bias"]


@pytest.mark.parametrize("image_size", [(8, 12), (12, 4)])
def test_logits_equal_the_paper(image_size, tiny_vit, rng):
    model = tiny_vit(image_size=image_size)
    weights = {
        weight.path: to_numpy(weight).astype("float64")
        for weight in model.weights
    }
    images = rng.uniform(0, 255, (3, *image_size, 3))
    expected = [vision_transformer(image, weights, 2, 4) for image in images]
    logits = model.predict(images.astype("float32"), verbose=0)
    assert np.abs(expected).max() > 0.5  # a comparison of something
    np.testing.assert_allclose(logits, expected, atol=1e-5)
