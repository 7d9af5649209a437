"""The axial transformer block of the paper's comparison.

Dosovitskiy et al. 2021, appendix D.6, after Ho et al. 2019, arXiv:1912.12180:
attention along rows, then along columns, each with its own MLP.
"""

from typing import Any

import keras

from keras_vit.arguments import (
    Shape,
    check_above_zero,
    check_pair,
    check_positive,
    check_rank,
    check_rate,
)
from keras_vit.keras_gaps import Layer, without_inner_remat
from keras_vit.layers.mlp import Activation, check_activation
from keras_vit.layers.transformer_block import TransformerBlock
from keras_vit.layers.window_attention import WindowAttention
from keras_vit.ops.norms import EPSILON


@keras.saving.register_keras_serializable(package="keras_vit")
class AxialBlock(Layer):
    """Two transformer blocks: one along the rows, one along the columns.

        z' = row_block(z)       row self-attention, then MLP
        z  = column_block(z')   column self-attention, then MLP

    It replaces one `TransformerBlock` and has twice its parameters. Its parts,
    `row` and `column`, are `TransformerBlock`s with `WindowAttention`, whose
    windows are whole rows and whole columns.

    The paper does not say what happens to the class token, which has neither
    row nor column. Here there is none: the tokens are the grid, and a model
    of these blocks has `cls_token=False` and `pooling="average"`.

    Args:
        num_heads: heads of both attentions.
        mlp_dim: inner width of both MLPs.
        grid_size: rows and columns of the grid; an int stands for both.
        activation: activation of the MLPs, see `MLP`.
        dropout: rate in `[0, 1)`, see `TransformerBlock`.
        stochastic_depth: rate in `[0, 1)` of dropping each of the four
            branches.
        layer_scale: start value of `LayerScale` on the branches, or `None`.
        epsilon: epsilon of the layer norms, above 0.
        seed: seed of dropout and stochastic depth.

    Call arguments:
        tokens: tensor of shape `(batch, rows * columns, hidden_dim)`.
        training: whether dropout and stochastic depth are on.

    Returns:
        A tensor of the shape of `tokens`.

    Raises:
        ValueError: if the number of tokens is not `rows * columns`.

    Example:

    >>> block = keras_vit.layers.AxialBlock(4, 256, grid_size=(2, 3))
    >>> block(keras.ops.ones((2, 6, 64))).shape
    (2, 6, 64)

    Reference:
        - [Dosovitskiy et al., 2021](https://arxiv.org/abs/2010.11929),
          appendix D.6
    """

    def __init__(
        self,
        num_heads: int,
        mlp_dim: int,
        grid_size: int | tuple[int, int],
        *,
        activation: Activation = "gelu_tanh",
        dropout: float = 0.0,
        stochastic_depth: float = 0.0,
        layer_scale: float | None = None,
        epsilon: float = EPSILON,
        seed: int | None = None,
        **kwargs,
    ):
        super().__init__(**kwargs)
        self.num_heads = check_positive("num_heads", num_heads)
        self.mlp_dim = check_positive("mlp_dim", mlp_dim)
        self.grid_size = check_pair("grid_size", grid_size)
        self.activation = check_activation(activation)
        self.dropout = check_rate("dropout", dropout)
        self.stochastic_depth = check_rate("stochastic_depth", stochastic_depth)
        self.layer_scale = layer_scale
        self.epsilon = check_above_zero("epsilon", epsilon)
        self.seed = seed

        def block(name, window_size, first_seed):
            return TransformerBlock(
                attention=WindowAttention(
                    num_heads,
                    window_size,
                    self.grid_size,
                    dtype=self.dtype_policy,
                ),
                mlp_dim=mlp_dim,
                activation=activation,
                dropout=dropout,
                stochastic_depth=stochastic_depth,
                layer_scale=layer_scale,
                epsilon=epsilon,
                # A block uses this seed and the next two.
                seed=None if seed is None else seed + first_seed,
                name=name,
                dtype=self.dtype_policy,
            )

        with without_inner_remat():
            self.row = block("row", (1, None), 0)
            self.column = block("column", (None, 1), 3)

    def build(self, input_shape: Shape) -> None:
        check_rank(self, input_shape, 3, "(batch, tokens, hidden_dim)")
        self.row.build(input_shape)
        self.column.build(input_shape)

    def call(self, tokens: Any, training: bool | None = None) -> Any:
        tokens = self.row(tokens, training=training)
        return self.column(tokens, training=training)

    def compute_output_shape(self, input_shape: Shape) -> Shape:
        return input_shape

    def get_config(self) -> dict[str, Any]:
        return {
            **super().get_config(),
            "num_heads": self.num_heads,
            "mlp_dim": self.mlp_dim,
            "grid_size": self.grid_size,
            "activation": self.activation,
            "dropout": self.dropout,
            "stochastic_depth": self.stochastic_depth,
            "layer_scale": self.layer_scale,
            "epsilon": self.epsilon,
            "seed": self.seed,
        }
