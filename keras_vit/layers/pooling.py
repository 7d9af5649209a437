"""From the tokens of an image to one vector.

Class token and global average: Dosovitskiy et al. 2021, section 3.1 and D.3.
Attention pooling ("MAP"): Zhai et al. 2022, arXiv:2106.04560, and big_vision's
`MAPHead`. `keras.layers.Flatten` puts all tokens in a row.
"""

from typing import Any

import keras
from keras import ops

from keras_vit.arguments import (
    Shape,
    check_above_zero,
    check_not_negative,
    check_rank,
)
from keras_vit.keras_gaps import Layer, without_inner_remat
from keras_vit.layers.attention import SelfAttention
from keras_vit.layers.layer_norm import LayerNorm
from keras_vit.layers.mlp import MLP, Activation
from keras_vit.ops.norms import EPSILON

_AXES = "(batch, tokens, hidden_dim)"


@keras.saving.register_keras_serializable(package="keras_vit")
class TokenPooling(keras.layers.Layer):
    """Takes one token, by default the first: the class token.

    Args:
        index: position of the token in the sequence, 0 or more.

    Call arguments:
        tokens: tensor of shape `(batch, num_tokens, hidden_dim)`.

    Returns:
        A tensor of shape `(batch, hidden_dim)`.

    Example:

    >>> keras_vit.layers.TokenPooling()(keras.ops.ones((2, 7, 64))).shape
    (2, 64)
    """

    def __init__(self, index: int = 0, **kwargs):
        super().__init__(**kwargs)
        self.index = check_not_negative("index", index)

    def build(self, input_shape: Shape) -> None:
        check_rank(self, input_shape, 3, _AXES)
        _check_longer(self, input_shape, "index", self.index)

    def call(self, tokens: Any) -> Any:
        return tokens[:, self.index]

    def compute_output_shape(self, input_shape: Shape) -> Shape:
        return (input_shape[0], input_shape[2])

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "index": self.index}


@keras.saving.register_keras_serializable(package="keras_vit")
class AveragePooling(keras.layers.Layer):
    """Averages the patch tokens, without class token and registers.

    Args:
        num_prefix_tokens: number of tokens at the front to leave out.

    Call arguments:
        tokens: tensor of shape `(batch, num_tokens, hidden_dim)`.

    Returns:
        A tensor of shape `(batch, hidden_dim)`.

    Example:

    >>> keras_vit.layers.AveragePooling()(keras.ops.ones((2, 7, 64))).shape
    (2, 64)
    """

    def __init__(self, num_prefix_tokens: int = 0, **kwargs):
        super().__init__(**kwargs)
        self.num_prefix_tokens = check_not_negative(
            "num_prefix_tokens", num_prefix_tokens
        )

    def build(self, input_shape: Shape) -> None:
        check_rank(self, input_shape, 3, _AXES)
        _check_longer(
            self, input_shape, "num_prefix_tokens", self.num_prefix_tokens
        )

    def call(self, tokens: Any) -> Any:
        return ops.mean(tokens[:, self.num_prefix_tokens :], axis=1)

    def compute_output_shape(self, input_shape: Shape) -> Shape:
        return (input_shape[0], input_shape[2])

    def get_config(self) -> dict[str, Any]:
        return {
            **super().get_config(),
            "num_prefix_tokens": self.num_prefix_tokens,
        }


@keras.saving.register_keras_serializable(package="keras_vit")
class AttentionPooling(Layer):
    """Lets a learned query attend to all tokens, and an MLP refine the result.

        x = attention(query=probe, key=value=tokens)
        y = x + mlp(norm(x))

    Args:
        num_heads: heads of the attention.
        mlp_dim: inner width of the MLP.
        activation: activation of the MLP, see `MLP`.
        epsilon: epsilon of the layer norm, above 0.

    Call arguments:
        tokens: tensor of shape `(batch, num_tokens, hidden_dim)`.

    Returns:
        A tensor of shape `(batch, hidden_dim)`.

    Example:

    >>> pooling = keras_vit.layers.AttentionPooling(num_heads=4, mlp_dim=256)
    >>> pooling(keras.ops.ones((2, 7, 64))).shape
    (2, 64)

    Reference:
        - [Zhai et al., 2022](https://arxiv.org/abs/2106.04560), section 3.2;
          big_vision, `models/vit.py`, `MAPHead`
    """

    def __init__(
        self,
        num_heads: int,
        mlp_dim: int,
        *,
        activation: Activation = "gelu_tanh",
        epsilon: float = EPSILON,
        **kwargs,
    ):
        super().__init__(**kwargs)
        self.num_heads = num_heads
        self.mlp_dim = mlp_dim
        self.activation = activation
        self.epsilon = check_above_zero("epsilon", epsilon)
        with without_inner_remat():
            common = {"dtype": self.dtype_policy}
            self.attention = SelfAttention(
                num_heads, name="attention", **common
            )
            self.norm = LayerNorm(self.epsilon, name="norm", **common)
            self.mlp = MLP(mlp_dim, activation=activation, name="mlp", **common)

    def build(self, input_shape: Shape) -> None:
        check_rank(self, input_shape, 3, _AXES)
        self.probe = self.add_weight(
            name="probe",
            shape=(1, 1, input_shape[-1]),
            initializer="glorot_uniform",
        )
        for layer in (self.attention, self.norm, self.mlp):
            layer.build(input_shape)

    def call(self, tokens: Any) -> Any:
        batch, _, hidden_dim = ops.shape(tokens)
        probe = ops.cast(self.probe, tokens.dtype)
        probe = ops.broadcast_to(probe, (batch, 1, hidden_dim))
        x = self.attention(tokens, queries=probe)
        x = x + self.mlp(self.norm(x))
        return x[:, 0]

    def compute_output_shape(self, input_shape: Shape) -> Shape:
        return (input_shape[0], input_shape[2])

    def get_config(self) -> dict[str, Any]:
        return {
            **super().get_config(),
            "num_heads": self.num_heads,
            "mlp_dim": self.mlp_dim,
            "activation": self.activation,
            "epsilon": self.epsilon,
        }


def _check_longer(layer, shape, name, count):
    num_tokens = shape[1]
    if num_tokens is not None and count >= num_tokens:
        raise ValueError(
            f"`{name}` must be less than the number of tokens, {num_tokens}. "
            f"Received: {name}={count} in '{layer.name}'"
        )
