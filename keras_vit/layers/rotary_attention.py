"""Self-attention with rotary positions in two dimensions.

Su et al. 2021, arXiv:2104.09864, for a sequence; Heo et al. 2024,
arXiv:2403.13298, for the axes of an image. Axial rotations have no weights:
the same kernels serve any grid.
"""

from typing import Any, Literal

import keras
import numpy as np
from keras import ops

from keras_vit.arguments import (
    Shape,
    check_above_zero,
    check_choice,
    check_not_negative,
    check_pair,
    check_placed_tokens,
    check_rank,
)
from keras_vit.layers.attention import SelfAttention
from keras_vit.ops.positions import (
    grid_places,
    rotary_angles,
    rotary_frequencies,
)
from keras_vit.ops.precision import at_least_float32

PAIRINGS = ("quarter", "interleaved", "half")
COORDINATES = ("index", "normalized")
INDEXINGS = ("ij", "xy")


@keras.saving.register_keras_serializable(package="keras_vit")
class RotaryAttention(SelfAttention):
    """Self-attention whose queries and keys are turned by their places.

    A token has two coordinates `(u, v)`, by default its row and its column.
    The elements of a head are pairs, `(a, b)`, of which each turns in its
    plane: to `(a cos t - b sin t, b cos t + a sin t)`. With

        omega_k = base ** (-k / (head_dim / 4)),  k = 0 ... head_dim / 4 - 1

    the angles `t` of the pairs are `[u omega, v omega]`, so that logits depend
    on the places of two tokens only through differences of coordinates. Tokens
    before the grid are not turned, unless they learn their angles; values never
    are. Queries and keys are turned after `qk_norm`, in at least float32.

    Public networks differ in which elements are a pair and in what the
    coordinates are:

    | network | `base` | `pairing` | `indexing` | and |
    |---|---|---|---|---|
    | this library | 100 | `"quarter"` | `"ij"` | |
    | EVA-02 | 10,000 | `"interleaved"` | `"ij"` | `reference_grid=16` |
    | RoPE-ViT, axial | 100 | `"interleaved"` | `"xy"` | |
    | RoPE-ViT, mixed | 10 | `"interleaved"` | `"xy"` | `mixed=True` |
    | Perception Encoder | 10,000 | `"interleaved"` | `"xy"` | `grid_offset=1` |
    | DINOv3 | 100 | `"half"` | `"ij"` | `coordinates="normalized"` |
    | MLCD | 10,000 | `"half"` | `"ij"` | `prefix_angles=True` |

    The layer has the weights of `SelfAttention`, and one more each with
    `mixed=True` and `prefix_angles=True`. In a model, use `position=None` for
    `PatchEncoder`, unless the network has both. Tokens do not tell their grid,
    so `grid_size` is needed; `change_resolution` replaces it.

    Args:
        num_heads: number of heads.
        grid_size: rows and columns of the grid; an int stands for both.
        num_prefix_tokens: number of tokens before the grid (class token,
            registers).
        base: base of the frequencies, above 0. The lowest frequency is just
            above `1 / base` radians a row or column: 100 is for grids of some
            tens of rows (language models have 10,000).
        pairing: which elements are a pair, in the order of their angles.
            `"quarter"`: `k` with `k + head_dim / 4`, in each half of the head;
            `"interleaved"`: `2 k` with `2 k + 1`; `"half"`: `k` with
            `k + head_dim / 2`.
        coordinates: `"index"`, the number `i` of the row or column; or
            `"normalized"`, the centre of the patch in an image that reaches
            from -1 to 1, in turns:
            `2 pi (2 (i + 1/2 + grid_offset) / size - 1)`.
        indexing: `"ij"`, the row is the first coordinate; `"xy"`, the column.
        grid_offset: added to rows and columns.
        reference_grid: rows and columns that indices are stretched to, an int
            or a pair: `(i + grid_offset) * reference / size`. A network for
            larger images than it was trained for sees the same range of
            coordinates. Defaults to the grid itself.
        mixed: whether each head learns its frequencies, two for each pair: the
            angle is `u f_u + v f_v`. They begin as `omega` along two axes at
            right angles, in a direction that each head draws.
        prefix_angles: whether the tokens before the grid learn angles of their
            own, the same for all heads. They begin at zero.
        **kwargs: the other arguments of `SelfAttention` (`head_dim`,
            `use_bias`, `use_output_bias`, `qk_norm`, `dropout`, `epsilon`,
            `seed` and the rest) and those of `keras.layers.Layer`.

    Call arguments:
        tokens: tensor of shape
            `(batch, num_prefix_tokens + rows * columns, hidden_dim)`.
        queries: tensor of the shape of `tokens`, at the same places.
            Defaults to `tokens`.
        training: whether dropout is on.
        return_attention_scores: whether to return the scores too.

    Returns:
        A tensor of the shape of `tokens`; with `return_attention_scores=True`
        a pair of it and the scores, of shape `(batch, num_heads, num_tokens,
        num_tokens)`, whose rows sum to 1.

    Raises:
        ValueError: if the width of a head is no multiple of 4, or if the
            number of tokens is not `num_prefix_tokens + rows * columns`.

    Example:

    >>> attention = keras_vit.layers.RotaryAttention(4, (2, 3), 1)
    >>> attention(keras.ops.ones((2, 7, 64))).shape
    (2, 7, 64)

    Reference:
        - [Su et al., 2021](https://arxiv.org/abs/2104.09864), section 3.2
        - [Heo et al., 2024](https://arxiv.org/abs/2403.13298), "axial
          frequency" with its base of 100, and "mixed learnable frequency";
          naver-ai/rope-vit, `models/vit_rope.py`
        - [Fang et al., 2023](https://arxiv.org/abs/2303.11331) (EVA-02);
          baaivision/EVA, `EVA-02/asuka/rope.py`
        - [Bolya et al., 2025](https://arxiv.org/abs/2504.13181) (Perception
          Encoder); facebookresearch/perception_models,
          `core/vision_encoder/rope.py`
        - [Simeoni et al., 2025](https://arxiv.org/abs/2508.10104) (DINOv3);
          facebookresearch/dinov3, `dinov3/layers/rope_position_encoding.py`
        - [An et al., 2024](https://arxiv.org/abs/2407.17331) (MLCD);
          transformers, `models/mlcd/modeling_mlcd.py`
    """

    def __init__(
        self,
        num_heads: int,
        grid_size: int | tuple[int, int],
        num_prefix_tokens: int = 0,
        base: float = 100.0,
        *,
        pairing: Literal["quarter", "interleaved", "half"] = "quarter",
        coordinates: Literal["index", "normalized"] = "index",
        indexing: Literal["ij", "xy"] = "ij",
        grid_offset: float = 0.0,
        reference_grid: int | tuple[int, int] | None = None,
        mixed: bool = False,
        prefix_angles: bool = False,
        **kwargs,
    ):
        super().__init__(num_heads, **kwargs)
        self.grid_size = check_pair("grid_size", grid_size)
        self.num_prefix_tokens = check_not_negative(
            "num_prefix_tokens", num_prefix_tokens
        )
        self.base = check_above_zero("base", base)
        self.pairing = check_choice("pairing", pairing, PAIRINGS)
        self.coordinates = check_choice("coordinates", coordinates, COORDINATES)
        self.indexing = check_choice("indexing", indexing, INDEXINGS)
        self.grid_offset = float(grid_offset)
        self.reference_grid = (
            None
            if reference_grid is None
            else check_pair("reference_grid", reference_grid)
        )
        if self.reference_grid is not None and coordinates == "normalized":
            raise ValueError(
                "`reference_grid` stretches indices, and normalized "
                "coordinates have the range of any grid: give one of the two. "
                f"Received: reference_grid={reference_grid}, "
                f"coordinates={coordinates!r}"
            )
        self.mixed = bool(mixed)
        if self.mixed and self.num_kv_heads is not None:
            raise ValueError(
                "`mixed` frequencies belong to single heads, so queries and "
                "keys must have the same heads. Received: mixed=True, "
                f"num_kv_heads={self.num_kv_heads}"
            )
        self.prefix_angles = bool(prefix_angles)
        if self.prefix_angles and not self.num_prefix_tokens:
            raise ValueError(
                "`prefix_angles` are those of tokens before the grid. "
                "Received: prefix_angles=True, num_prefix_tokens=0"
            )

    def build(
        self, tokens_shape: Shape, queries_shape: Shape | None = None
    ) -> None:
        check_rank(self, tokens_shape, 3, "(batch, tokens, hidden_dim)")
        check_placed_tokens(self, tokens_shape)
        head_dim = self._width_of_heads(tokens_shape[-1])
        if head_dim % 4:
            raise ValueError(
                "`head_dim` must be a multiple of 4: pairs for the row, pairs "
                f"for the column. Received: head_dim={head_dim}"
            )
        super().build(tokens_shape, queries_shape)

        self._parts = {"quarter": 2, "half": 1, "interleaved": head_dim // 2}[
            self.pairing
        ]
        places = grid_places(
            self.grid_size,
            self.coordinates,
            self.indexing,
            self.grid_offset,
            self.reference_grid,
        )
        # Prefix tokens have the angle 0: cosine 1, sine 0.
        prefix = ((self.num_prefix_tokens, 0), (0, 0))
        if self.prefix_angles:
            self.angles_of_prefix = self.add_weight(
                name="prefix_angles",
                shape=(self.num_prefix_tokens, head_dim // 2),
                initializer="zeros",
                autocast=False,
            )
        if self.mixed:
            self._places = np.pad(places, prefix)
            self.frequencies = self.add_weight(
                name="frequencies",
                shape=(2, self.num_heads, head_dim // 2),
                initializer=self._turned_axes,
                # Not autocast: angles grow with the places.
                autocast=False,
            )
        else:
            angles = np.pad(rotary_angles(places, head_dim, self.base), prefix)
            # One for all heads.
            self._angles = angles[:, None]
            self._tables = self._of_elements(np, self._angles)

    def _of_elements(self, library, angles):
        """Cosine and signed sine of each element, from angles of pairs.

        Args:
            library: `numpy` or `keras.ops`.
            angles: array of shape `(tokens, heads or 1, head_dim / 2)`.
        """
        tokens, heads, pairs = angles.shape
        shape = (tokens, heads, self._parts, pairs // self._parts)
        angles = library.reshape(angles, shape)
        cosines, sines = library.cos(angles), library.sin(angles)
        return tuple(
            # A head is (parts, 2, pairs of a part): the second axis, a pair.
            library.reshape(
                library.stack(both, axis=-2), (tokens, heads, 2 * pairs)
            )
            for both in ((cosines, cosines), (-sines, sines))
        )

    def _turned_axes(self, shape, dtype=None):
        """`omega` along two axes at right angles, which each head draws."""
        _, heads, half = shape
        dtype = at_least_float32(dtype or self.variable_dtype)
        omega = rotary_frequencies(2 * half, self.base)
        omega = ops.convert_to_tensor(omega[None], dtype)
        angles = keras.random.uniform(
            (heads, 1), 0, 2 * np.pi, dtype=dtype, seed=self.seed
        )
        cosines, sines = omega * ops.cos(angles), omega * ops.sin(angles)
        first = ops.concatenate([cosines, -sines], axis=-1)
        second = ops.concatenate([sines, cosines], axis=-1)
        return ops.stack([first, second])

    @property
    def _num_tokens(self):
        rows, columns = self.grid_size
        return self.num_prefix_tokens + rows * columns

    def _prepare(self, query, key):
        query, key = super()._prepare(query, key)
        waves = self._waves()
        return self._turn(query, *waves), self._turn(key, *waves)

    def _waves(self):
        """Cosines and signed sines, `(tokens, heads or 1, head_dim)`."""
        dtype = at_least_float32(self.compute_dtype)
        if not (self.mixed or self.prefix_angles):
            return tuple(ops.convert_to_tensor(x, dtype) for x in self._tables)
        angles = self._angles_of_mixed(dtype) if self.mixed else self._angles
        angles = ops.convert_to_tensor(angles, dtype)
        if self.prefix_angles:
            of_prefix = ops.cast(self.angles_of_prefix, dtype)[:, None]
            of_prefix = ops.broadcast_to(
                of_prefix, (self.num_prefix_tokens, *angles.shape[1:])
            )
            of_grid = angles[self.num_prefix_tokens :]
            angles = ops.concatenate([of_prefix, of_grid], axis=0)
        return self._of_elements(ops, angles)

    def _angles_of_mixed(self, dtype):
        # Two products and their sum: a matrix product is less exact on some
        # accelerators.
        places = ops.convert_to_tensor(self._places[:, :, None, None], dtype)
        frequencies = ops.cast(self.frequencies, dtype)
        return places[:, 0] * frequencies[0] + places[:, 1] * frequencies[1]

    def _turn(self, x, cosines, sines):
        """Turns each pair `(a, b)` to `(a cos - b sin, b cos + a sin)`."""
        check_placed_tokens(self, x.shape)
        wide = ops.cast(x, cosines.dtype)
        turned = wide * cosines + self._partners(wide) * sines
        return ops.cast(turned, x.dtype)

    def _partners(self, x):
        """Each element of a pair in the place of the other."""
        if self.pairing == "interleaved":
            heads, head_dim = x.shape[2:]
            shape = (-1, self._num_tokens, heads, head_dim)
            pairs = ops.reshape(x, (*shape[:3], head_dim // 2, 2))
            return ops.reshape(ops.flip(pairs, axis=-1), shape)
        pieces = list(ops.split(x, 2 * self._parts, axis=-1))
        pieces[::2], pieces[1::2] = pieces[1::2], pieces[::2]
        return ops.concatenate(pieces, axis=-1)

    def get_config(self) -> dict[str, Any]:
        return {
            **super().get_config(),
            "grid_size": self.grid_size,
            "num_prefix_tokens": self.num_prefix_tokens,
            "base": self.base,
            "pairing": self.pairing,
            "coordinates": self.coordinates,
            "indexing": self.indexing,
            "grid_offset": self.grid_offset,
            "reference_grid": self.reference_grid,
            "mixed": self.mixed,
            "prefix_angles": self.prefix_angles,
        }
