"""The other libraries, where they are installed: imported as tests need it."""

import warnings

import numpy as np
import pytest


def import_oracle(name):
    """Imports timm, transformers or vit_pytorch, or skips the test."""
    torch = pytest.importorskip("torch")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        _bear_with_torchvision(torch)
        try:
            return __import__(name)
        except ImportError:
            pytest.skip(f"{name} is not installed: make torch")


def _bear_with_torchvision(torch):
    # All three import torchvision where it is, of which nothing is used here.
    # Its wheels belong to CUDA builds; beside a CPU build they lack two
    # operators, which only have to be known by name.
    library = torch.library.Library("torchvision", "FRAGMENT")
    for name in ("nms", "qnms"):
        try:
            library.define(
                f"{name}(Tensor dets, Tensor scores, float threshold) -> Tensor"
            )
        except RuntimeError:
            pass  # a build that has it
    LIBRARIES.append(library)


LIBRARIES = []  # what is defined lasts as long as the library object


def randomize(module, rng):
    """Gives every parameter a value that tells in outputs; returns arrays."""
    import torch

    with torch.no_grad():
        for name, parameter in module.named_parameters():
            value = rng.normal(0, 0.2, tuple(parameter.shape))
            if parameter.ndim == 1 and name.endswith("weight"):
                value += 1
            parameter.copy_(torch.from_numpy(value))
    module.eval()


def run(module, images):
    """Runs a PyTorch model on images of shape (batch, height, width, 3)."""
    import torch

    x = torch.from_numpy(images.transpose(0, 3, 1, 2).copy())
    with torch.no_grad():
        y = module(x)
    return getattr(y, "logits", y).numpy()


def images(rng, *size):
    """Images in [-1, 1], the second with 1/256 of the contrast."""
    x = rng.uniform(-1, 1, (2, *size, 3)).astype("float32")
    return x * np.array([1, 1 / 256], "float32")[:, None, None, None]


def save(module, path):
    """Writes a state dict as `.safetensors`, as these libraries do."""
    from safetensors.torch import save_file

    state = {k: v.contiguous() for k, v in module.state_dict().items()}
    save_file(state, path)
    return path
