"""The two-layer perceptron of a transformer block, plain or gated.

Dosovitskiy et al. 2021, equation 3; SwiGLU: Shazeer 2020, arXiv:2002.05202
(used by DINOv2's giant and later models).
"""

from collections.abc import Callable
from typing import Any

import keras

from keras_vit.arguments import (
    Shape,
    check_above_zero,
    check_positive,
    check_rank,
    check_rate,
)
from keras_vit.keras_gaps import Layer, without_inner_remat
from keras_vit.layers.rms_norm import make_norm
from keras_vit.ops.activations import activation_function
from keras_vit.ops.linear import linear
from keras_vit.ops.norms import EPSILON

# A name, or a function that Keras can serialise.
Activation = str | Callable
SWIGLU = "swiglu"


def check_activation(activation: Activation) -> Any:
    """Returns an activation as a configuration holds it, or raises."""
    if activation != SWIGLU:
        activation_function(activation)
    if callable(activation):
        return keras.activations.serialize(activation)
    return activation


@keras.saving.register_keras_serializable(package="keras_vit")
class MLP(Layer):
    """Widens each token, applies a non-linearity and narrows it again.

        plain: y = f(x W_1 + b_1) W_2 + b_2
        gated: y = (f(x W_g + b_g) * (x W_1 + b_1)) W_2 + b_2

    Args:
        mlp_dim: width between the two matrices.
        activation: `f`: `"gelu_tanh"`, GELU in the tanh form of Flax and the
            official code; `"gelu"`, the exact form of timm and Hugging Face;
            `"quick_gelu"` of OpenAI's CLIP; what `keras.activations.get`
            takes; or `"swiglu"`, which is `"silu"` and gated.
        gated: whether the second form is computed.
        use_bias: whether the matrices have biases.
        norm: `"layer"` or `"rms"` for a norm before the second matrix (sub-LN,
            Wang et al. 2022, arXiv:2210.06423), or `None`.
        dropout: rate in `[0, 1)` of dropout after the non-linearity. The
            dropout after the second matrix belongs to `TransformerBlock`.
        epsilon: epsilon of that norm, above 0.
        seed: seed of the dropout.

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
        mlp_dim: int,
        *,
        activation: Activation = "gelu_tanh",
        gated: bool = False,
        use_bias: bool = True,
        norm: str | None = None,
        dropout: float = 0.0,
        epsilon: float = EPSILON,
        seed: int | None = None,
        **kwargs,
    ):
        super().__init__(**kwargs)
        self.mlp_dim = check_positive("mlp_dim", mlp_dim)
        self.activation = check_activation(activation)
        swiglu = activation == SWIGLU
        self._function = activation_function("silu" if swiglu else activation)
        self.gated = bool(gated)
        self.is_gated = self.gated or swiglu
        self.use_bias = bool(use_bias)
        self.norm_kind = norm
        self.epsilon = check_above_zero("epsilon", epsilon)
        self.norm = None
        if norm is not None:
            with without_inner_remat():
                self.norm = make_norm(
                    norm, self.epsilon, name="norm", dtype=self.dtype_policy
                )
        self.dropout = check_rate("dropout", dropout)
        self.seed = seed

    def build(self, input_shape: Shape) -> None:
        check_rank(self, input_shape, 3, "(batch, tokens, hidden_dim)")
        inner_shape = (*input_shape[:-1], self.mlp_dim)
        with without_inner_remat():
            self.hidden = self._dense("hidden", self.mlp_dim, input_shape)
            if self.is_gated:
                self.gate = self._dense("gate", self.mlp_dim, input_shape)
            if self.norm is not None:
                self.norm.build(inner_shape)
            self.output_projection = self._dense(
                "output", input_shape[-1], inner_shape
            )
            self.hidden_dropout = keras.layers.Dropout(
                self.dropout, seed=self.seed, dtype=self.dtype_policy
            )

    def _dense(self, name, units, input_shape):
        layer = keras.layers.Dense(
            units,
            use_bias=self.use_bias,
            kernel_initializer="glorot_uniform",
            bias_initializer=keras.initializers.RandomNormal(stddev=1e-6),
            name=name,
            dtype=self.part_policy(name),
        )
        layer.build(input_shape)
        return layer

    def call(self, tokens: Any, training: bool | None = None) -> Any:
        if self.is_gated:
            x = linear(self.gate, tokens, self._function, training)
            x = x * linear(self.hidden, tokens)
        else:
            x = linear(self.hidden, tokens, self._function, training)
        if self.norm is not None:
            x = self.norm(x)
        if self.dropout:
            x = self.hidden_dropout(x, training=training)
        return linear(self.output_projection, x)

    def compute_output_shape(self, input_shape: Shape) -> Shape:
        return input_shape

    def get_config(self) -> dict[str, Any]:
        return {
            **super().get_config(),
            "mlp_dim": self.mlp_dim,
            "activation": self.activation,
            "gated": self.gated,
            "use_bias": self.use_bias,
            "norm": self.norm_kind,
            "epsilon": self.epsilon,
            "dropout": self.dropout,
            "seed": self.seed,
        }
