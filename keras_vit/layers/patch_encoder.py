"""From a grid of patches to the sequence that a transformer reads.

Dosovitskiy et al. 2021, equation 1: `z_0 = [x_class; x_1 E; ...; x_N E] +
E_pos`. Register tokens: Darcet et al. 2023, arXiv:2309.16588. Layer norms on
both sides of the projection: vit-pytorch, after Kumar et al. 2023,
arXiv:2302.01327.
"""

from typing import Any

import keras
from keras import ops

from keras_vit.arguments import (
    Shape,
    check_above_zero,
    check_choice,
    check_not_negative,
    check_pair,
    check_positive,
    check_rank,
    check_rate,
)
from keras_vit.keras_gaps import Layer, without_inner_remat
from keras_vit.layers.position import POSITIONS, Position, PositionEmbedding
from keras_vit.layers.rms_norm import KINDS, make_norm
from keras_vit.ops.linear import linear
from keras_vit.ops.norms import EPSILON
from keras_vit.ops.tokens import select_tokens


@keras.saving.register_keras_serializable(package="keras_vit")
class PatchEncoder(Layer):
    """Projects patches and adds class token, registers and positions.

    The sequence is: class token, registers, patches in row order. Positions
    are made for the grid that the layer is built on. On any other grid they are
    resampled in each call (see `PositionEmbedding`).

    Args:
        hidden_dim: width D of a token.
        position: `"learned_1d"`, `"learned_2d"`, `"sincos_2d"` or `None`.
        cls_token: whether a learned class token leads the sequence.
        position_of_cls_token: whether the class token has a row of the
            position table, as in the official code (timm's `no_embed_class`
            is the opposite). Ignored without class token or table.
        num_registers: number of learned tokens between class token and
            patches. They have no position.
        norm_before: whether to layer-norm the flattened patches.
        norm_after: whether to layer-norm the projected patches.
        norm_tokens: whether to norm the whole sequence at the end (Radford et
            al. 2021, CLIP, arXiv:2103.00020).
        norm: kind of these norms, `"layer"` or `"rms"`.
        use_bias: whether the projection has a bias.
        dropout: rate in `[0, 1)` of dropout after the positions.
        epsilon: epsilon of the norms, above 0.
        grid_size: rows and columns that the position table is made for; an int
            stands for both. Defaults to the grid that the layer is built on.
            Needed if that grid is unknown, as in a model for images of any
            size.
        seed: seed of the dropout.

    Call arguments:
        patches: tensor of shape `(batch, rows, columns, patch_dim)`: the
            result of `Patches`, or the feature map of a convolutional network.
        sources: ints of shape `(batch, rows, columns)`, from
            `PatchCorruption`: the index of the patch whose embedding each place
            gets, before positions are added. By default each patch keeps its
            own.
        mask_token: tensor of shape `(batch, 1, hidden_dim)`, from `MaskToken`:
            the embedding that the index `rows * columns` means.
        training: whether dropout is on.

    Returns:
        A tensor of shape `(batch, num_prefix_tokens + rows * columns,
        hidden_dim)`.

    Example:

    >>> images = keras.ops.ones((2, 32, 48, 3))
    >>> patches = keras_vit.layers.Patches(16)(images)
    >>> keras_vit.layers.PatchEncoder(64)(patches).shape
    (2, 7, 64)

    Reference:
        - [Dosovitskiy et al., 2021](https://arxiv.org/abs/2010.11929),
          equation 1; `vit_jax/models_vit.py`, `VisionTransformer`
    """

    def __init__(
        self,
        hidden_dim: int,
        *,
        position: Position | None = "learned_1d",
        cls_token: bool = True,
        position_of_cls_token: bool = True,
        num_registers: int = 0,
        norm_before: bool = False,
        norm_after: bool = False,
        norm_tokens: bool = False,
        norm: str = "layer",
        use_bias: bool = True,
        dropout: float = 0.0,
        epsilon: float = EPSILON,
        grid_size: int | tuple[int, int] | None = None,
        seed: int | None = None,
        **kwargs,
    ):
        super().__init__(**kwargs)
        self.hidden_dim = check_positive("hidden_dim", hidden_dim)
        self.position = check_choice("position", position, (*POSITIONS, None))
        self.cls_token = bool(cls_token)
        self.position_of_cls_token = bool(position_of_cls_token)
        self.num_registers = check_not_negative("num_registers", num_registers)
        self.norm_before = bool(norm_before)
        self.norm_after = bool(norm_after)
        self.norm_tokens = bool(norm_tokens)
        self.norm = check_choice("norm", norm, KINDS)
        self.use_bias = bool(use_bias)
        self.dropout = check_rate("dropout", dropout)
        self.epsilon = check_above_zero("epsilon", epsilon)
        self.grid_size = (
            None if grid_size is None else check_pair("grid_size", grid_size)
        )
        self.seed = seed

        with without_inner_remat():
            for wanted, name in (
                (self.norm_before, "patch_norm"),
                (self.norm_after, "embedding_norm"),
                (self.norm_tokens, "token_norm"),
            ):
                if wanted:
                    layer = make_norm(
                        self.norm,
                        self.epsilon,
                        name=name,
                        dtype=self.dtype_policy,
                    )
                    setattr(self, name, layer)
            self.position_dropout = keras.layers.Dropout(
                self.dropout, seed=seed, dtype=self.dtype_policy
            )

    @property
    def num_prefix_tokens(self) -> int:
        """Number of tokens before the patches: class token and registers."""
        return int(self.cls_token) + self.num_registers

    def build(self, input_shape: Shape) -> None:
        check_rank(self, input_shape, 4, "(batch, rows, columns, patch_dim)")
        if self.norm_before:
            self.patch_norm.build(input_shape)
        with without_inner_remat():
            self.projection = keras.layers.Dense(
                self.hidden_dim,
                use_bias=self.use_bias,
                kernel_initializer="lecun_normal",  # as a Flax convolution
                name="projection",
                dtype=self.part_policy("projection"),
            )
        self.projection.build(input_shape)
        if self.norm_after:
            self.embedding_norm.build((*input_shape[:-1], self.hidden_dim))
        if self.norm_tokens:
            self.token_norm.build((None, None, self.hidden_dim))

        if self.cls_token:
            self.cls_token_weight = self.add_weight(
                name="cls_token",
                shape=(1, 1, self.hidden_dim),
                initializer="zeros",
            )
        if self.num_registers:
            # Not zeros: equal registers would receive equal gradients.
            self.register_tokens = self.add_weight(
                name="register_tokens",
                shape=(1, self.num_registers, self.hidden_dim),
                initializer=keras.initializers.RandomNormal(stddev=0.02),
            )
        if self.position is not None:
            grid_size = self.grid_size or tuple(input_shape[1:3])
            if None in grid_size:
                raise ValueError(
                    "`grid_size` must be given where images of any size are "
                    "taken and positions are not None: the position table "
                    f"needs a size. Received: grid_size={self.grid_size}, "
                    f"input shape={tuple(input_shape)}"
                )
            with_cls = self.cls_token and self.position_of_cls_token
            with without_inner_remat():
                self.position_embedding = PositionEmbedding(
                    self.position,
                    grid_size,
                    num_prefix_tokens=int(with_cls),
                    name="position_embedding",
                    dtype=self.dtype_policy,
                )
            self.position_embedding.build((None, None, self.hidden_dim))

    def call(
        self,
        patches: Any,
        sources: Any = None,
        mask_token: Any = None,
        training: bool | None = None,
    ) -> Any:
        check_rank(self, patches.shape, 4, "(batch, rows, columns, patch_dim)")
        batch, rows, columns, _ = ops.shape(patches)
        if self.norm_before:
            patches = self.patch_norm(patches)
        x = linear(self.projection, patches)
        if self.norm_after:
            x = self.embedding_norm(x)
        x = ops.reshape(x, (batch, rows * columns, self.hidden_dim))
        if sources is not None:
            x = select_tokens(x, sources, mask_token)

        def prepend(tokens, x):
            shape = (batch, tokens.shape[1], self.hidden_dim)
            tokens = ops.broadcast_to(ops.cast(tokens, x.dtype), shape)
            return ops.concatenate([tokens, x], axis=1)

        def add_positions(x):
            if self.position is None:
                return x
            return self.position_embedding(x, grid_size=(rows, columns))

        # Registers follow the class token but have no position.
        if self.cls_token and self.position_of_cls_token:
            x = add_positions(prepend(self.cls_token_weight, x))
            if self.num_registers:
                cls_token, x = x[:, :1], x[:, 1:]
                x = prepend(self.register_tokens, x)
                x = ops.concatenate([cls_token, x], axis=1)
        else:
            x = add_positions(x)
            if self.num_registers:
                x = prepend(self.register_tokens, x)
            if self.cls_token:
                x = prepend(self.cls_token_weight, x)
        x = self.position_dropout(x, training=training)
        return self.token_norm(x) if self.norm_tokens else x

    def compute_output_shape(self, input_shape: Shape) -> Shape:
        batch, rows, columns, _ = input_shape
        unknown = rows is None or columns is None
        tokens = None if unknown else self.num_prefix_tokens + rows * columns
        return (batch, tokens, self.hidden_dim)

    def get_config(self) -> dict[str, Any]:
        return {
            **super().get_config(),
            "hidden_dim": self.hidden_dim,
            "position": self.position,
            "cls_token": self.cls_token,
            "position_of_cls_token": self.position_of_cls_token,
            "num_registers": self.num_registers,
            "norm_before": self.norm_before,
            "norm_after": self.norm_after,
            "norm_tokens": self.norm_tokens,
            "norm": self.norm,
            "use_bias": self.use_bias,
            "dropout": self.dropout,
            "epsilon": self.epsilon,
            "grid_size": self.grid_size,
            "seed": self.seed,
        }
