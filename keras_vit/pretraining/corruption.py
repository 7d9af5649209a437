"""Which patches a model sees, and what replaces the others.

Masked patch prediction: Dosovitskiy et al. 2021, appendix B.1.2, after BERT.
Masked autoencoders: He et al. 2021, arXiv:2111.06377. The two differ only in
the table of indices that is drawn: an index says which token is at a place,
and the index after the last one means the mask token.
"""

import math
from typing import Any

import keras
from keras import ops

from keras_vit.arguments import (
    check_not_negative,
    check_positive,
    check_rank,
    check_rate,
)
from keras_vit.keras_gaps import Layer
from keras_vit.ops.tokens import select_tokens

GRID_AXES = "(batch, rows, columns, patch_dim)"
# As in MAE and BERT.
MASK_TOKEN_STDDEV = 0.02


def share_of(num_patches: int | Any, share: float) -> int | Any:
    """Returns a share of the patches as a whole number, half rounded up."""
    if isinstance(num_patches, int):
        return int(num_patches * share + 0.5)
    exact = ops.cast(num_patches, "float32") * share
    return ops.cast(ops.floor(exact + 0.5), "int32")


def check_share(name: str, value: float, num_patches: int | None) -> None:
    """Raises if a known number of patches has no such share."""
    if num_patches is None:
        return
    count = share_of(num_patches, value)
    if not 0 < count < num_patches:
        raise ValueError(
            f"`{name}` must leave at least one of the patches and take at "
            f"least one. Received: {name}={value}, which is {count} of "
            f"{num_patches} patches"
        )


def random_order(
    shape: tuple[Any, Any], seed: keras.random.SeedGenerator
) -> tuple[Any, Any]:
    """Returns a random permutation of each row, and where each place went.

    Args:
        shape: `(batch, num_patches)`.
        seed: a `keras.random.SeedGenerator`.

    Returns:
        Two tensors of ints of that shape, one the inverse of the other.
    """
    # Equal draws still make a permutation.
    order = ops.argsort(keras.random.uniform(shape, seed=seed), axis=1)
    return ops.cast(order, "int32"), ops.cast(ops.argsort(order), "int32")


def _num_patches(shape):
    rows, columns = shape[1:3]
    return None if None in (rows, columns) else rows * columns


@keras.saving.register_keras_serializable(package="keras_vit")
class PatchCorruption(Layer):
    """Draws which patch embeddings are corrupted, and by what.

    Each image has the same number of corrupted patches,
    `round(corruption * num_patches)`. Each of them independently becomes the
    mask token with probability `mask_rate`, the embedding of another patch of
    the same image with probability `swap_rate`, and otherwise stays as it is.
    The layer draws at inference too: without corruption there is nothing to
    predict.

    Args:
        corruption: share in `(0, 1)` of the patches that are corrupted.
        mask_rate: share in `[0, 1]` of those that become the mask token.
        swap_rate: share in `[0, 1]` of those that become another patch.
        seed: int, for the draws.

    Call arguments:
        patches: tensor of shape `(batch, rows, columns, patch_dim)`. The layer
            reads only its shape.

    Returns:
        Two tensors of shape `(batch, rows, columns)`. `sources`, ints: for
        each place the index, in row order, of the patch whose embedding goes
        there, or `rows * columns` for the mask token. `corrupted`, booleans:
        the places to predict.

    Raises:
        ValueError: if an argument breaks its rule, or if no patch is corrupted
            or none is left.

    Example:

    >>> patches = keras.ops.ones((1, 4, 4, 768))
    >>> layer = keras_vit.pretraining.PatchCorruption(0.5, seed=0)
    >>> sources, corrupted = layer(patches)
    >>> int(keras.ops.sum(keras.ops.cast(corrupted, "int32")))
    8

    Reference:
        - [Dosovitskiy et al., 2021](https://arxiv.org/abs/2010.11929),
          appendix B.1.2
    """

    def __init__(
        self,
        corruption: float = 0.5,
        mask_rate: float = 0.8,
        swap_rate: float = 0.1,
        seed: int | None = None,
        **kwargs,
    ):
        super().__init__(**kwargs)
        self.corruption = check_rate("corruption", corruption)
        for name, rate in [("mask_rate", mask_rate), ("swap_rate", swap_rate)]:
            if not 0 <= rate <= 1:
                raise ValueError(
                    f"`{name}` must be a number in [0, 1]. "
                    f"Received: {name}={rate!r}"
                )
        # Sums such as 0.8 + 0.2 are off by a rounding.
        if mask_rate + swap_rate > 1 + 1e-9:
            raise ValueError(
                "`mask_rate` and `swap_rate` must add up to at most 1. "
                f"Received: mask_rate={mask_rate}, swap_rate={swap_rate}"
            )
        self.mask_rate, self.swap_rate = float(mask_rate), float(swap_rate)
        self.seed = seed
        self.seed_generator = keras.random.SeedGenerator(seed)

    def build(self, input_shape):
        check_rank(self, input_shape, 4, GRID_AXES)
        check_share("corruption", self.corruption, _num_patches(input_shape))

    def call(self, patches):
        check_rank(self, patches.shape, 4, GRID_AXES)
        batch, rows, columns = ops.shape(patches)[:3]
        num_patches = rows * columns
        shape = (batch, num_patches)
        _, ranks = random_order(shape, self.seed_generator)
        corrupted = ranks < share_of(num_patches, self.corruption)

        own = ops.arange(num_patches, dtype="int32")
        # A step around the sequence that does not return to its start.
        step = keras.random.randint(
            shape, 1, num_patches, seed=self.seed_generator
        )
        other = (own + ops.cast(step, "int32")) % num_patches
        kind = keras.random.uniform(shape, seed=self.seed_generator)
        masked = corrupted & (kind < self.mask_rate)
        swapped = corrupted & (kind < self.mask_rate + self.swap_rate)
        sources = ops.where(swapped, other, own)
        sources = ops.where(masked, num_patches, sources)
        grid = (batch, rows, columns)
        return ops.reshape(sources, grid), ops.reshape(corrupted, grid)

    def compute_output_spec(self, patches):
        check_rank(self, patches.shape, 4, GRID_AXES)
        grid = tuple(patches.shape[:3])
        return keras.KerasTensor(grid, "int32"), keras.KerasTensor(grid, "bool")

    def get_config(self):
        return {
            **super().get_config(),
            "corruption": self.corruption,
            "mask_rate": self.mask_rate,
            "swap_rate": self.swap_rate,
            "seed": self.seed,
        }


@keras.saving.register_keras_serializable(package="keras_vit")
class PatchMasking(Layer):
    """Draws which patches an encoder sees, and how to restore their order.

    Each image has the same number of masked patches,
    `round(masking * num_patches)`, so that all sequences have one length. The
    layer draws at inference too.

    Args:
        masking: share in `(0, 1)` of the patches that are masked.
        seed: int, for the draws.

    Call arguments:
        patches: tensor of shape `(batch, rows, columns, patch_dim)`. The layer
            reads only its shape. Rows and columns must be known.

    Returns:
        Three tensors. `kept`, ints of shape `(batch, num_kept)`: the indices,
        in row order, of the patches that the encoder sees, in random order.
        `sources`, ints of shape `(batch, rows, columns)`: for each place the
        index in `kept` of its patch, or `num_kept` for the mask token.
        `masked`, booleans of that shape.

    Raises:
        ValueError: if `masking` is out of range, if no patch or every patch is
            masked, or if the grid is not known.

    Example:

    >>> patches = keras.ops.ones((2, 4, 4, 768))
    >>> masking = keras_vit.pretraining.PatchMasking(0.75)
    >>> kept, sources, masked = masking(patches)
    >>> kept.shape, sources.shape
    ((2, 4), (2, 4, 4))

    Reference:
        - [He et al., 2021](https://arxiv.org/abs/2111.06377), section 3;
          `models_mae.py`, `random_masking`
    """

    def __init__(
        self, masking: float = 0.75, seed: int | None = None, **kwargs
    ):
        super().__init__(**kwargs)
        self.masking = check_rate("masking", masking)
        self.seed = seed
        self.seed_generator = keras.random.SeedGenerator(seed)

    def build(self, input_shape):
        self._num_kept(input_shape)

    def _num_kept(self, shape):
        check_rank(self, shape, 4, GRID_AXES)
        num_patches = _num_patches(shape)
        if num_patches is None:
            raise ValueError(
                f"PatchMasking '{self.name}' needs images of one size, for "
                "the encoder's sequence to have a length. "
                f"Received: shape={tuple(shape)}"
            )
        check_share("masking", self.masking, num_patches)
        return num_patches - share_of(num_patches, self.masking)

    def call(self, patches):
        num_kept = self._num_kept(patches.shape)
        batch, rows, columns = ops.shape(patches)[:3]
        order, ranks = random_order(
            (batch, rows * columns), self.seed_generator
        )
        sources = ops.reshape(
            ops.minimum(ranks, num_kept), (batch, rows, columns)
        )
        return order[:, :num_kept], sources, sources == num_kept

    def compute_output_spec(self, patches):
        num_kept = self._num_kept(patches.shape)
        grid = tuple(patches.shape[:3])
        return (
            keras.KerasTensor((grid[0], num_kept), "int32"),
            keras.KerasTensor(grid, "int32"),
            keras.KerasTensor(grid, "bool"),
        )

    def get_config(self):
        return {
            **super().get_config(),
            "masking": self.masking,
            "seed": self.seed,
        }


@keras.saving.register_keras_serializable(package="keras_vit")
class MaskToken(keras.layers.Layer):
    """One learned vector, in place of every patch that is not seen.

    Args:
        hidden_dim: length of the vector.

    Call arguments:
        inputs: tensor of shape `(batch, ...)`. The layer reads only the batch
            size.

    Returns:
        A tensor of shape `(batch, 1, hidden_dim)`.

    Example:

    >>> keras_vit.pretraining.MaskToken(64)(keras.ops.ones((2, 7, 8))).shape
    (2, 1, 64)
    """

    def __init__(self, hidden_dim: int, **kwargs):
        super().__init__(**kwargs)
        self.hidden_dim = check_positive("hidden_dim", hidden_dim)

    def build(self, input_shape):
        self.mask_token = self.add_weight(
            name="mask_token",
            shape=(1, 1, self.hidden_dim),
            initializer=keras.initializers.RandomNormal(
                stddev=MASK_TOKEN_STDDEV
            ),
        )

    def call(self, inputs):
        token = ops.cast(self.mask_token, self.compute_dtype)
        shape = (ops.shape(inputs)[0], 1, self.hidden_dim)
        return ops.broadcast_to(token, shape)

    def compute_output_shape(self, input_shape):
        return (input_shape[0], 1, self.hidden_dim)

    def get_config(self):
        return {**super().get_config(), "hidden_dim": self.hidden_dim}


@keras.saving.register_keras_serializable(package="keras_vit")
class SelectTokens(keras.layers.Layer):
    """Takes tokens out of a sequence, or puts them back in their places.

    Tokens in front that belong to no patch stay in front.

    Args:
        num_prefix_tokens: number of those tokens.

    Call arguments:
        tokens: tensor of shape `(batch, num_prefix_tokens + num_tokens,
            hidden_dim)`.
        indices: ints of shape `(batch, ...)`: for each place the index of its
            token in `[0, num_tokens)`, or `num_tokens` for the mask token.
            `PatchMasking` draws them.
        mask_token: tensor of shape `(batch, 1, hidden_dim)`, needed only if an
            index is `num_tokens`.

    Returns:
        A tensor of shape `(batch, num_prefix_tokens + num_indices,
        hidden_dim)`.

    Example:

    >>> tokens = keras.ops.ones((2, 1 + 16, 64))
    >>> kept = keras.ops.zeros((2, 4), "int32")
    >>> select = keras_vit.pretraining.SelectTokens(num_prefix_tokens=1)
    >>> select(tokens, kept).shape
    (2, 5, 64)
    """

    def __init__(self, num_prefix_tokens: int = 0, **kwargs):
        super().__init__(**kwargs)
        self.num_prefix_tokens = check_not_negative(
            "num_prefix_tokens", num_prefix_tokens
        )

    def build(self, tokens_shape, indices_shape, mask_token_shape=None):
        check_rank(self, tokens_shape, 3, "(batch, tokens, hidden_dim)")

    def call(self, tokens, indices, mask_token=None):
        prefix = self.num_prefix_tokens
        chosen = select_tokens(tokens[:, prefix:], indices, mask_token)
        if not prefix:
            return chosen
        return ops.concatenate([tokens[:, :prefix], chosen], axis=1)

    def compute_output_shape(
        self, tokens_shape, indices_shape, mask_token_shape=None
    ):
        sizes = indices_shape[1:]
        count = None
        if None not in sizes:
            count = self.num_prefix_tokens + math.prod(sizes)
        return (tokens_shape[0], count, tokens_shape[2])

    def get_config(self):
        return {
            **super().get_config(),
            "num_prefix_tokens": self.num_prefix_tokens,
        }
