"""The kernels that PyTorch is made to call, against the plain formulas."""

import keras
import numpy as np
import pytest

from keras_vit.layers import MLP
from keras_vit.ops.gelu import gelu_exact, gelu_tanh
from keras_vit.ops.linear import linear

if keras.backend.backend() != "torch":
    pytest.skip("PyTorch's kernels", allow_module_level=True)

import torch

from keras_vit.ops import on_torch

# A unit in the last place of numbers around 1; 24 products are added up.
ATOL = 24 * 2.0**-23


@pytest.fixture
def tensors(rng):
    """An input, a kernel and a bias, and the same in float64."""
    arrays = [rng.normal(size=shape) for shape in ((3, 5, 8), (8, 6), (6,))]
    exact = [torch.tensor(a, requires_grad=True) for a in arrays]
    return [x.detach().float().requires_grad_() for x in exact], exact


def plain(x, kernel, bias):
    return x @ kernel + bias


def test_gradients_of_a_product(tensors):
    """Also from a gradient of strides zero, which a sum sends back."""
    ours, exact = tensors
    assert on_torch.suit(*ours)
    for reduce in (lambda y: y.sum(), lambda y: (y**3).sum()):
        actual = reduce(on_torch.linear(*ours))
        expected = reduce(plain(*exact))
        for got, want in zip(
            torch.autograd.grad(actual, ours),
            torch.autograd.grad(expected, exact),
        ):
            scale = float(want.abs().max())
            assert torch.allclose(got.double(), want, atol=ATOL * scale)


def test_gradients_of_gradients(tensors):
    """As for a penalty on the slope of the loss."""
    ours, exact = tensors

    def penalty(function, parts, gelu):
        slope = torch.autograd.grad(
            gelu(function(*parts)).sum(), parts[0], create_graph=True
        )[0]
        return torch.autograd.grad((slope**2).sum(), parts)

    actual = penalty(on_torch.linear, ours, on_torch.gelu_tanh)
    expected = penalty(
        plain,
        exact,
        lambda y: torch.nn.functional.gelu(y, approximate="tanh"),
    )
    for got, want in zip(actual, expected):
        scale = float(want.abs().max())
        assert torch.allclose(got.double(), want, atol=4 * ATOL * scale)


@pytest.mark.parametrize(
    "gelu, form", [(gelu_tanh, "tanh"), (gelu_exact, "none")]
)
def test_product_and_gelu_in_one(gelu, form, tensors):
    (x, kernel, bias), exact = tensors
    layer = keras.layers.Dense(6)
    layer.build((None, None, 8))
    layer.set_weights([kernel.detach(), bias.detach()])
    expected = torch.nn.functional.gelu(plain(*exact), approximate=form)
    with torch.no_grad():
        actual = linear(layer, x, gelu, training=False)
    assert torch.allclose(actual.double(), expected, atol=4 * ATOL)
    # Where there will be a gradient, in two steps.
    actual = linear(layer, x, gelu, training=True)
    assert actual.requires_grad
    assert torch.allclose(actual.double(), expected, atol=4 * ATOL)


@pytest.mark.parametrize(
    "x",
    [
        torch.randn(3, 1, 8).expand(3, 5, 8),
        torch.randn(3, 5, 1).expand(3, 5, 8),
        torch.randn(8, 5, 3).transpose(0, 2),
        torch.randn(3, 5, 16)[..., ::2],
        torch.randn(3, 7, 8)[:, 2:],
    ],
)
def test_any_strides(x):
    kernel = torch.randn(8, 6)
    with torch.no_grad():
        actual = on_torch.linear(x, kernel)
    expected = x.double() @ kernel.double()
    scale = float(expected.abs().max())
    assert torch.allclose(actual.double(), expected, atol=ATOL * scale)


@pytest.mark.parametrize("shape", [(0, 5, 8), (2, 0, 8), (1, 1, 8), (8,)])
def test_odd_shapes(shape):
    kernel = torch.ones(8, 6, requires_grad=True)
    x = torch.ones(shape)
    y = on_torch.linear(x, kernel)
    assert y.shape == (*shape[:-1], 6) and bool((y == 8).all())
    if x.dim() > 1:
        y.sum().backward()
        rows = x.numel() // 8
        assert bool((kernel.grad == rows).all())


def test_they_are_for_float32_on_a_processor_alone():
    x = torch.ones(2, 8)
    assert on_torch.suit(x)
    assert not on_torch.suit(x, x.double())
    assert not on_torch.suit(x.bfloat16())
    assert not on_torch.suit(x.to("meta"))
    torch.backends.mkldnn.set_flags(False)
    try:
        assert not on_torch.suit(x)
    finally:
        torch.backends.mkldnn.set_flags(True)


def test_without_a_sign_of_transforms_nothing_is_called(monkeypatch):
    """The question whether `torch.func` is at work is no public one."""
    x = torch.ones(2, 8)
    assert on_torch.suit(x)
    monkeypatch.delattr(torch._C, "_are_functorch_transforms_active")
    assert not on_torch.suit(x)


def test_functional_gradients_take_the_plain_way(rng):
    """`torch.func` does not know these kernels, and need not."""
    mlp = MLP(16)
    x = torch.tensor(rng.normal(size=(2, 3, 8)), dtype=torch.float32)
    mlp.build(x.shape)
    slope = torch.func.grad(lambda x: mlp(x, training=True).sum())(x)
    x.requires_grad_()
    expected = torch.autograd.grad(mlp(x, training=True).sum(), x)[0]
    np.testing.assert_allclose(
        slope.detach().numpy(), expected.numpy(), atol=1e-6
    )
