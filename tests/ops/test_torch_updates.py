"""What the optimizer does where PyTorch lacks the kernels it would call."""

import keras
import pytest
from helpers import to_numpy

from keras_vit.ops import plain, torch_updates
from keras_vit.training.optimizers import AdamW

if keras.backend.backend() != "torch":
    pytest.skip("PyTorch's kernels", allow_module_level=True)

import torch


@pytest.fixture(autouse=True)
def probe_again():
    """The answer of the probe is kept: neither find nor leave one."""
    torch_updates._there.cache_clear()
    yield
    torch_updates._there.cache_clear()


def steps(arrays):
    """Three clipped steps of two variables, one of which decays."""
    kernel = keras.Variable(arrays[0], name="kernel")
    bias = keras.Variable(arrays[1], name="bias")
    optimizer = AdamW(0.1, 0.3, {"bias": 0.5}, global_clipnorm=0.5)
    optimizer.build([kernel, bias])
    for _ in range(3):
        gradients = [torch.tensor(a, dtype=torch.float32) for a in arrays[2:]]
        optimizer.apply(gradients)
    return to_numpy(kernel), to_numpy(bias)


@pytest.fixture
def arrays(rng):
    return [rng.normal(size=shape) for shape in [(3, 4), (4,)] * 2]


def refuse(*args, **kwargs):
    raise RuntimeError("not in this PyTorch")


def test_this_pytorch_has_the_kernels():
    assert torch_updates._there("cpu")


@pytest.mark.parametrize("name", torch_updates.PRIVATE)
@pytest.mark.parametrize("fault", ["absent", "refuses", "wrong"])
def test_without_a_kernel_the_steps_are_the_same(
    name, fault, arrays, monkeypatch
):
    expected = steps(arrays)
    torch_updates._there.cache_clear()
    if fault == "absent":
        monkeypatch.delattr(torch, name)
    elif fault == "refuses":
        monkeypatch.setattr(torch, name, refuse)
    else:
        # Changes nothing, and says nothing.
        monkeypatch.setattr(torch, name, lambda x, *args, **kwargs: x)
    actual = steps(arrays)
    assert not torch_updates._there("cpu")
    for got, want in zip(actual, expected):
        # Three steps of about 0.1 in float32.
        assert abs(got - want).max() < 1e-6


def test_plain_ops_call_no_kernel(arrays, monkeypatch):
    expected = steps(arrays)
    monkeypatch.setattr(plain, "PLAIN_OPS", True)
    for name in torch_updates.PRIVATE:
        monkeypatch.setattr(torch, name, refuse)
    for got, want in zip(steps(arrays), expected):
        assert abs(got - want).max() < 1e-6


def test_a_compiler_does_not_record_the_probe(arrays, monkeypatch):
    monkeypatch.setattr(torch.compiler, "is_compiling", lambda: True)
    assert torch_updates._usable("cpu")
    assert torch_updates._there.cache_info().currsize == 0
    monkeypatch.delattr(torch, torch_updates.PRIVATE[0])
    assert not torch_updates._usable("cpu")
