"""The block and its parts."""

import math

import numpy as np
from helpers import to_numpy

from keras_vit import layers


def test_block_hands_training_to_its_parts(rng):
    """Dropout inside the MLP and the attention of a block is on in `fit`."""
    tokens = rng.normal(size=(2, 7, 8)).astype("float32")
    for part in (
        {"num_heads": 2, "mlp": layers.MLP(6, dropout=0.5)},
        {"attention": layers.SelfAttention(2, dropout=0.5), "mlp_dim": 6},
        {"num_heads": 2, "mlp_dim": 6, "dropout": 0.5},
        {"num_heads": 2, "mlp_dim": 6, "stochastic_depth": 0.5},
    ):
        block = layers.TransformerBlock(**part)
        still = to_numpy(block(tokens))
        np.testing.assert_array_equal(to_numpy(block(tokens)), still)
        draws = [to_numpy(block(tokens, training=True)) for _ in range(5)]
        assert any((draw != still).any() for draw in draws), part


def test_block_with_zero_branches_is_the_identity(rng):
    tokens = rng.normal(size=(2, 5, 8)).astype("float32")
    block = layers.TransformerBlock(2, 16, layer_scale=0.0)
    np.testing.assert_array_equal(to_numpy(block(tokens)), tokens)


def test_initial_values_are_those_of_the_official_code():
    encoder = layers.PatchEncoder(64)
    encoder(np.zeros((1, 16, 16, 48), "float32"))
    assert not to_numpy(encoder.cls_token_weight).any()
    assert not to_numpy(encoder.projection.bias).any()
    table = to_numpy(encoder.position_embedding.table)
    assert abs(table.std() - 0.02) < 0.001  # 16,448 draws: error 0.0001
    kernel = to_numpy(encoder.projection.kernel)
    assert abs(kernel.std() - 48**-0.5) < 0.01  # LeCun: variance 1 / fan-in

    block = layers.TransformerBlock(4, 256)
    block(np.zeros((1, 2, 64), "float32"))
    limit = math.sqrt(6 / (64 + 64))  # Xavier: uniform up to this
    query = to_numpy(block.attention.query.kernel)
    assert 0.98 * limit < abs(query).max() <= limit
    limit = math.sqrt(6 / (64 + 256))
    hidden = to_numpy(block.mlp.hidden.kernel)
    assert 0.98 * limit < abs(hidden).max() <= limit
    assert 0 < to_numpy(block.mlp.hidden.bias).std() < 2e-6
    assert not to_numpy(block.attention.query.bias).any()


def seeds_of(block):
    """The seeds of the three parts that draw, MLP first."""
    block.build((None, 5, 8))
    parts = (block.mlp.hidden_dropout, block.branch_dropout, block.branch_depth)
    return [int(to_numpy(part.seed_generator.state)[0]) for part in parts]


def test_parts_of_a_block_do_not_share_a_seed():
    """Parts with equal seeds would drop the same elements."""
    block = layers.TransformerBlock(
        2, 16, dropout=0.5, stochastic_depth=0.5, seed=7
    )
    assert seeds_of(block) == [7, 8, 9]
    blocks = layers.AxialBlock(
        2, 16, (1, 5), dropout=0.5, stochastic_depth=0.5, seed=7
    )
    seeds = [*seeds_of(blocks.row), *seeds_of(blocks.column)]
    assert len(set(seeds)) == 6
