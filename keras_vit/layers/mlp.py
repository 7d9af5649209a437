"""The two-layer perceptron of a transformer block, plain or gated.

Dosovitskiy et al. 2021, equation 3; SwiGLU: Shazeer 2020, arXiv:2002.05202
(used by DINOv2's giant and later models).
"""

import keras
from keras import ops

from keras_vit.arguments import (
    check_choice,
    check_positive,
    check_rank,
    check_rate,
)
from keras_vit.keras_gaps import Layer, without_inner_remat
from keras_vit.ops.gelu import gelu_exact, gelu_tanh
from keras_vit.ops.linear import linear

ACTIVATIONS = ("gelu_tanh", "gelu", "swiglu")
GELUS = {"gelu_tanh": gelu_tanh, "gelu": gelu_exact}


@keras.saving.register_keras_serializable(package="keras_vit")
class MLP(Layer):
    """Widens each token to `mlp_dim`, applies a non-linearity, narrows again.

        gelu:   y = gelu(x W_1 + b_1) W_2 + b_2
        swiglu: y = (silu(x W_g + b_g) * (x W_1 + b_1)) W_2 + b_2

    Args:
        mlp_dim: width between the two matrices.
        activation: `"gelu_tanh"`, GELU in the tanh form, which is Flax'
            default and hence the official code's; `"gelu"`, the exact form of
            timm and Hugging Face; or `"swiglu"`.
        dropout: rate in `[0, 1)` of dropout after the non-linearity. The
            dropout after the second matrix belongs to `TransformerBlock`.
        seed: int, for the dropout.

    Call arguments:
        tokens: tensor of shape `(batch, num_tokens, hidden_dim)`.
        training: whether dropout is on.

    Returns:
        A tensor of the shape of `tokens`.

    Example:

    >>> keras_vit.layers.MLP(256)(keras.ops.ones((2, 7, 64))).shape
    (2, 7, 64)

    Reference:
        - [Dosovitskiy et al., 2021](https://arxiv.org/abs/2010.11929),
          equation 3; `vit_jax/models_vit.py`, `MlpBlock`
    """

    def __init__(
        self,
        mlp_dim,
        *,
        activation="gelu_tanh",
        dropout=0.0,
        seed=None,
        **kwargs,
    ):
        super().__init__(**kwargs)
        self.mlp_dim = check_positive("mlp_dim", mlp_dim)
        self.activation = check_choice("activation", activation, ACTIVATIONS)
        self.dropout = check_rate("dropout", dropout)
        self.seed = seed

    def build(self, input_shape):
        check_rank(self, input_shape, 3, "(batch, tokens, hidden_dim)")
        inner_shape = (*input_shape[:-1], self.mlp_dim)
        with without_inner_remat():
            self.hidden = self._dense("hidden", self.mlp_dim, input_shape)
            if self.activation == "swiglu":
                self.gate = self._dense("gate", self.mlp_dim, input_shape)
            self.output_projection = self._dense(
                "output", input_shape[-1], inner_shape
            )
            self.hidden_dropout = keras.layers.Dropout(
                self.dropout, seed=self.seed, dtype=self.dtype_policy
            )

    def _dense(self, name, units, input_shape):
        layer = keras.layers.Dense(
            units,
            kernel_initializer="glorot_uniform",
            bias_initializer=keras.initializers.RandomNormal(stddev=1e-6),
            name=name,
            dtype=self.part_policy(name),
        )
        layer.build(input_shape)
        return layer

    def call(self, tokens, training=None):
        if self.activation == "swiglu":
            x = ops.silu(linear(self.gate, tokens))
            x = x * linear(self.hidden, tokens)
        else:
            gelu = GELUS[self.activation]
            x = linear(self.hidden, tokens, gelu, training)
        if self.dropout:
            x = self.hidden_dropout(x, training=training)
        return linear(self.output_projection, x)

    def compute_output_shape(self, input_shape):
        return input_shape

    def get_config(self):
        return {
            **super().get_config(),
            "mlp_dim": self.mlp_dim,
            "activation": self.activation,
            "dropout": self.dropout,
            "seed": self.seed,
        }
