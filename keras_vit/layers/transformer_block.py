"""The pre-norm transformer block.

Dosovitskiy et al. 2021, equations 2 and 3:

    z' = attention(norm(z)) + z
    z  = mlp(norm(z')) + z'
"""

from typing import Any, Self

import keras

from keras_vit.arguments import (
    Shape,
    check_above_zero,
    check_rank,
    check_rate,
)
from keras_vit.keras_gaps import Layer, serialize_part, without_inner_remat
from keras_vit.layers.attention import SelfAttention
from keras_vit.layers.mlp import MLP, Activation, check_activation
from keras_vit.layers.regularization import LayerScale, StochasticDepth
from keras_vit.layers.rms_norm import make_norm
from keras_vit.ops.norms import EPSILON


@keras.saving.register_keras_serializable(package="keras_vit")
class TransformerBlock(Layer):
    """Attention and MLP, each after a layer norm and added to its input.

    The two numbers of the paper's Table 1 make the ordinary block. Another
    attention or MLP is given as a layer:

        TransformerBlock(attention=SelfAttention(12, qk_norm=True),
                         mlp=MLP(2048, activation="swiglu"))

    Each branch goes through dropout, `LayerScale` and `StochasticDepth`, in
    this order. By default there are none of them.

    Args:
        num_heads: heads of the attention; or give `attention`.
        mlp_dim: inner width of the MLP; or give `mlp`.
        attention: a layer called as `attention(tokens, training=...)`, instead
            of `SelfAttention(num_heads)`.
        mlp: a layer called as `mlp(tokens, training=...)`, instead of
            `MLP(mlp_dim, activation=activation, dropout=dropout)`.
        activation: activation of the MLP that `mlp_dim` makes, see `MLP`.
        dropout: rate in `[0, 1)` of dropout at the end of both branches and
            inside the MLP that `mlp_dim` makes, as in the official code.
            Scores are not dropped; see `SelfAttention`.
        stochastic_depth: rate in `[0, 1)` of dropping a branch.
        layer_scale: start value of `LayerScale` on both branches, or `None`
            for no such layers.
        norm: kind of the norms, `"layer"` or `"rms"`.
        norm_after: whether the norm of a branch is at its end, before
            `LayerScale` (Liu et al. 2021, arXiv:2111.09883), and not at its
            start.
        epsilon: epsilon of the norms, above 0.
        seed: seed of dropout and stochastic depth. Each part has its own:
            `seed`, `seed + 1` and `seed + 2`.

    Call arguments:
        tokens: tensor of shape `(batch, num_tokens, hidden_dim)`.
        training: whether dropout and stochastic depth are on.

    Returns:
        A tensor of the shape of `tokens`.

    Example:

    >>> block = keras_vit.layers.TransformerBlock(num_heads=4, mlp_dim=256)
    >>> block(keras.ops.ones((2, 7, 64))).shape
    (2, 7, 64)

    Reference:
        - [Dosovitskiy et al., 2021](https://arxiv.org/abs/2010.11929),
          equations 2 and 3; `vit_jax/models_vit.py`, `Encoder1DBlock`
    """

    def __init__(
        self,
        num_heads: int | None = None,
        mlp_dim: int | None = None,
        *,
        attention: keras.layers.Layer | None = None,
        mlp: keras.layers.Layer | None = None,
        activation: Activation = "gelu_tanh",
        dropout: float = 0.0,
        stochastic_depth: float = 0.0,
        layer_scale: float | None = None,
        norm: str = "layer",
        norm_after: bool = False,
        epsilon: float = EPSILON,
        seed: int | None = None,
        **kwargs,
    ):
        super().__init__(**kwargs)
        _check_either("num_heads", num_heads, "attention", attention)
        _check_either("mlp_dim", mlp_dim, "mlp", mlp)
        self.num_heads, self.mlp_dim = num_heads, mlp_dim
        self.activation = check_activation(activation)
        self.norm = norm
        self.norm_after = bool(norm_after)
        self.dropout = check_rate("dropout", dropout)
        self.stochastic_depth = check_rate("stochastic_depth", stochastic_depth)
        self.layer_scale = layer_scale
        self.epsilon = check_above_zero("epsilon", epsilon)
        self.seed = seed
        self._own_attention = attention is None
        self._own_mlp = mlp is None

        with without_inner_remat():
            # Parts that share a seed would draw the same numbers.
            seeds = [None if seed is None else seed + part for part in range(3)]
            common = {"dtype": self.dtype_policy}
            self.attention_norm = make_norm(
                norm, self.epsilon, name="attention_norm", **common
            )
            if attention is None:
                attention = SelfAttention(num_heads, **common)
            # Named by its place, so that weights have the same paths whatever
            # layer it is.
            attention.name = "attention"
            self.attention = attention
            self.mlp_norm = make_norm(
                norm, self.epsilon, name="mlp_norm", **common
            )
            if mlp is None:
                mlp = MLP(
                    mlp_dim,
                    activation=activation,
                    dropout=dropout,
                    seed=seeds[0],
                    **common,
                )
            mlp.name = "mlp"
            self.mlp = mlp
            self.branch_dropout = keras.layers.Dropout(
                self.dropout, seed=seeds[1], **common
            )
            self.attention_scale = self.mlp_scale = None
            if layer_scale is not None:
                self.attention_scale = LayerScale(
                    layer_scale, name="attention_scale", **common
                )
                self.mlp_scale = LayerScale(
                    layer_scale, name="mlp_scale", **common
                )
            self.branch_depth = StochasticDepth(
                self.stochastic_depth, seed=seeds[2], **common
            )

    def build(self, input_shape: Shape) -> None:
        check_rank(self, input_shape, 3, "(batch, tokens, hidden_dim)")
        for layer in (
            self.attention_norm,
            self.attention,
            self.attention_scale,
            self.mlp_norm,
            self.mlp,
            self.mlp_scale,
            self.branch_dropout,
            self.branch_depth,
        ):
            if layer is not None:
                layer.build(input_shape)

    def call(self, tokens: Any, training: bool | None = None) -> Any:
        # Keras drops `training` for a layer that does not take it. As a keyword
        # it also reaches a block that is recomputed in the backward pass,
        # outside of Keras' own call context.
        for branch, norm, scale in (
            (self.attention, self.attention_norm, self.attention_scale),
            (self.mlp, self.mlp_norm, self.mlp_scale),
        ):
            if self.norm_after:
                x = norm(branch(tokens, training=training))
            else:
                x = branch(norm(tokens), training=training)
            tokens = tokens + self._regularize(x, scale, training)
        return tokens

    def _regularize(self, x, scale, training):
        # Even a layer that does nothing takes time to call in every step.
        if self.dropout:
            x = self.branch_dropout(x, training=training)
        if scale is not None:
            x = scale(x)
        if self.stochastic_depth:
            x = self.branch_depth(x, training=training)
        return x

    def compute_output_shape(self, input_shape: Shape) -> Shape:
        return input_shape

    def get_config(self) -> dict[str, Any]:
        return {
            **super().get_config(),
            "num_heads": self.num_heads,
            "mlp_dim": self.mlp_dim,
            "attention": None
            if self._own_attention
            else serialize_part(self.attention),
            "mlp": None if self._own_mlp else serialize_part(self.mlp),
            "activation": self.activation,
            "dropout": self.dropout,
            "stochastic_depth": self.stochastic_depth,
            "layer_scale": self.layer_scale,
            "norm": self.norm,
            "norm_after": self.norm_after,
            "epsilon": self.epsilon,
            "seed": self.seed,
        }

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> Self:
        config = dict(config)
        for name in ("attention", "mlp"):
            if isinstance(config.get(name), dict):
                config[name] = keras.saving.deserialize_keras_object(
                    config[name]
                )
        return super().from_config(config)


def _check_either(number, value, part, layer):
    if (value is None) == (layer is None):
        raise ValueError(
            f"Give either `{number}` or a layer `{part}`, and not both. "
            f"Received: {number}={value!r}, {part}={layer!r}"
        )
