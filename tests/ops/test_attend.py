"""The fast path of attention against the plain formula, both ways."""

import keras
import numpy as np
import pytest
from helpers import float64_on_jax, to_numpy, value_and_gradients
from keras import ops

from keras_vit.ops import attention
from keras_vit.ops.attention import attend, attend_in_closed_form
from keras_vit.ops.chunked_attention import chunked_attention

BATCH, QUERIES, TOKENS, HEADS, DIM = 2, 5, 7, 3, 4
SCALE = DIM**-0.5


def formula(query, key, value, bias, g):
    """`softmax(q k^T + bias) v` and, for an upstream `g`, its gradients.

    In NumPy and float64: of `y = p v` with `p = softmax(z)`, row by row
    `dz = (diag(p) - p p^T) dp`.
    """
    logits = SCALE * np.einsum("bthk,bshk->bhts", query, key) + bias
    raised = np.exp(logits - logits.max(-1, keepdims=True))
    p = raised / raised.sum(-1, keepdims=True)
    output = np.einsum("bhts,bshk->bthk", p, value)
    dvalue = np.einsum("bhts,bthk->bshk", p, g)
    dp = np.einsum("bthk,bshk->bhts", g, value)
    jacobian = p[..., :, None] * (np.eye(p.shape[-1]) - p[..., None, :])
    dz = np.einsum("bhtsr,bhtr->bhts", jacobian, dp)
    dquery = SCALE * np.einsum("bhts,bshk->bthk", dz, key)
    dkey = SCALE * np.einsum("bhts,bthk->bshk", dz, query)
    return output, dquery, dkey, dvalue, dz.sum(axis=0)


def inputs(rng, dtype, spread=1.0):
    """Queries, keys, values, a bias and an upstream gradient."""
    of_queries = (BATCH, QUERIES, HEADS, DIM)
    of_keys = (BATCH, TOKENS, HEADS, DIM)
    shapes = of_queries, of_keys, of_keys, (HEADS, QUERIES, TOKENS), of_queries
    arrays = [rng.normal(0, spread, shape) for shape in shapes]
    tensors = [ops.convert_to_tensor(x, dtype) for x in arrays]
    # As they were rounded: the formula is not to blame for that.
    exact = [to_numpy(ops.cast(x, "float64")) for x in tensors]
    return tensors, exact


@pytest.mark.parametrize("function", [attend, attend_in_closed_form])
@pytest.mark.parametrize("biased", [False, True])
@pytest.mark.parametrize(
    "dtype, units",
    [
        # Sums of 7 and 4 products in three stages, each rounded to half a
        # unit in the last place of numbers around 1, and some added up.
        ("float64", 50),
        ("float32", 50),
        # Scores, their exponentials and the results are rounded to the low
        # precision; the sums in between are not.
        ("bfloat16", 8),
        ("float16", 8),
    ],
)
def test_value_and_gradients_equal_the_formula(
    function, biased, dtype, units, rng
):
    with float64_on_jax():
        tensors, exact = inputs(rng, dtype)
        *tensors, g = tensors
        if not biased:
            tensors, exact[3] = tensors[:3], 0
        if function is attend and dtype == "float16":
            if keras.backend.backend() == "torch":
                pytest.skip("PyTorch has no fused float16 on a CPU to compare")
        expected = formula(*exact)
        actual = value_and_gradients(
            lambda q, k, v, *bias: function(q, k, v, SCALE, *bias), tensors, g
        )
        assert len(actual) == 1 + len(tensors)
        unit = {
            "float64": np.finfo("float64").eps,
            "float32": np.finfo("float32").eps,
            "bfloat16": 2.0**-8,
            "float16": 2.0**-11,
        }[dtype]
        for got, want in zip(actual, expected):
            assert keras.backend.standardize_dtype(got.dtype) == dtype
            got = to_numpy(ops.cast(got, "float64"))
            np.testing.assert_allclose(
                got, want, rtol=0, atol=units * unit * np.abs(want).max()
            )


def test_the_fused_kernel_takes_a_bias(monkeypatch, rng):
    """Keras' own, which on a CPU would not pay."""
    monkeypatch.setattr(attention, "has_fused_kernel", lambda query: True)
    with float64_on_jax():
        (*tensors, _), exact = inputs(rng, "float32")
    *tensors, bias = tensors
    output = to_numpy(attend(*tensors, SCALE, bias))
    np.testing.assert_allclose(output, formula(*exact)[0], atol=1e-5)


def test_large_scores_do_not_overflow(rng):
    """`exp(200)` is infinite in float32; `exp(200 - 200)` is 1."""
    with float64_on_jax():
        tensors, exact = inputs(rng, "float32", spread=20.0)
    *tensors, _, g = tensors
    actual = value_and_gradients(
        lambda q, k, v: attend_in_closed_form(q, k, v, SCALE), tensors, g
    )
    exact[3] = 0
    for got, want in zip(actual, formula(*exact)):
        np.testing.assert_allclose(
            to_numpy(got), want, rtol=0, atol=1e-4 * np.abs(want).max()
        )


def test_many_scores_go_block_by_block(monkeypatch, rng):
    """Faults case 37: memory linear in the tokens, and the same result."""
    blocks = []

    def in_blocks(*inputs, bias):
        blocks.append(inputs)
        return chunked_attention(*inputs, block_size=2, bias=bias)

    monkeypatch.setattr(attention, "LARGEST", HEADS * QUERIES * TOKENS - 1)
    monkeypatch.setattr(attention, "chunked_attention", in_blocks)
    monkeypatch.setattr(attention, "has_fused_kernel", lambda query: False)
    with float64_on_jax():
        (*tensors, g), exact = inputs(rng, "float32")
    *tensors, bias = tensors
    output = to_numpy(attend(*tensors, SCALE, bias))
    assert len(blocks) == 1
    np.testing.assert_allclose(output, formula(*exact)[0], atol=1e-5)
    exact[3] = 0
    output = to_numpy(attend(*tensors, SCALE))
    assert len(blocks) == 2
    np.testing.assert_allclose(output, formula(*exact)[0], atol=1e-5)
    monkeypatch.setattr(attention, "LARGEST", HEADS * QUERIES * TOKENS)
    attend(*tensors, SCALE)
    assert len(blocks) == 2
