"""Dropout stands where the official code has it, and nowhere else.

Paper, B.1: after every dense layer except for the qkv projections, and after
adding positions to patch embeddings.
"""

import keras
import numpy as np
import pytest
from helpers import to_numpy
from keras import ops

from keras_vit.layers import MLP, PatchEncoder, SelfAttention, TransformerBlock

RATE = 0.5
KEPT = 1 / (1 - RATE)  # what is kept is scaled up


class Constant(keras.layers.Layer):
    """A part of a block that says one number to every token."""

    def __init__(self, value):
        super().__init__()
        self.value = value

    def call(self, tokens):
        return ops.zeros_like(tokens) + self.value


def assert_half_dropped(array, kept):
    values, counts = np.unique(array.round(5), return_counts=True)
    np.testing.assert_allclose(values, [0, kept], atol=1e-5)
    # 4 standard deviations of a binomial distribution.
    bound = 4 * np.sqrt(0.25 / array.size)
    assert abs(counts[0] / array.size - RATE) < bound


@pytest.mark.parametrize("branch", ["attention", "mlp"])
def test_after_each_branch_of_a_block(branch):
    values = {"attention": 0.0, "mlp": 0.0, branch: 3.0}
    parts = {name: Constant(value) for name, value in values.items()}
    block = TransformerBlock(**parts, dropout=RATE, seed=1)
    tokens = np.zeros((4, 8, 16), "float32")
    np.testing.assert_array_equal(to_numpy(block(tokens)), tokens + 3)
    dropped = to_numpy(block(tokens, training=True))
    assert_half_dropped(dropped, 3 * KEPT)


def test_branches_drop_apart_from_one_another():
    block = TransformerBlock(
        attention=Constant(1.0), mlp=Constant(8.0), dropout=RATE, seed=1
    )
    tokens = np.zeros((4, 8, 16), "float32")
    dropped = to_numpy(block(tokens, training=True))
    # Neither, one, the other, both.
    assert set(np.unique(dropped.round(5))) == {0, 2, 16, 18}


def test_after_the_nonlinearity_of_an_mlp():
    mlp = MLP(32, dropout=RATE, seed=1)
    mlp.build((None, None, 16))
    mlp.hidden.kernel.assign(np.zeros((16, 32)))
    mlp.hidden.bias.assign(np.full(32, 20.0))  # where GELU is the identity
    eye = np.eye(32, 16)
    mlp.output_projection.kernel.assign(eye)
    mlp.output_projection.bias.assign(np.zeros(16))
    tokens = np.zeros((4, 8, 16), "float32")
    assert_half_dropped(to_numpy(mlp(tokens, training=True)), 20 * KEPT)


def test_after_adding_positions():
    encoder = PatchEncoder(16, dropout=RATE, seed=1)
    encoder.build((None, 4, 8, 3))
    encoder.projection.kernel.assign(np.zeros((3, 16)))
    encoder.position_embedding.table.assign(np.full((33, 16), 5.0))
    patches = np.zeros((2, 4, 8, 3), "float32")
    # The class token drops as the patches do.
    assert_half_dropped(to_numpy(encoder(patches, training=True)), 5 * KEPT)


def test_a_block_passes_no_dropout_to_its_attention():
    """Not on the scores: the official code leaves that rate at 0."""
    block = TransformerBlock(2, 8, dropout=RATE)
    assert block.attention.dropout == 0.0


def test_on_attention_scores_if_asked():
    attention = SelfAttention(2, dropout=RATE, seed=1)
    tokens = np.random.default_rng(0).normal(size=(2, 6, 8))
    still = to_numpy(attention(tokens))
    assert not np.allclose(to_numpy(attention(tokens, training=True)), still)
    np.testing.assert_array_equal(to_numpy(attention(tokens)), still)
