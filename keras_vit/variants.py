"""The paper's model sizes as data, and the names that stand for them.

ViT-B, -L, -H: Dosovitskiy et al. 2021, Table 1. Ti and S: Touvron et al. 2021
(DeiT) and AugReg, arXiv:2106.10270. g, G and e: Zhai et al. 2022,
arXiv:2106.04560, Table 2, and Chen et al. 2022, arXiv:2209.06794. mu, M,
So400m and the -opt shapes: big_vision's `decode_variant`.
"""

import dataclasses

from keras_vit.layers.arguments import check_pair, check_positive


@dataclasses.dataclass(frozen=True)
class Variant:
    """The size of a Vision Transformer.

    Args:
        num_layers: transformer blocks, L.
        hidden_dim: width of a token, D.
        mlp_dim: inner width of the MLP.
        num_heads: attention heads, a divisor of `hidden_dim`.
        patch_size: edge of a patch in pixels, an int or a pair.

    Example:

    >>> keras_vit.Variant(6, 64, 128, 4, patch_size=2).hidden_dim
    64
    """

    num_layers: int
    hidden_dim: int
    mlp_dim: int
    num_heads: int
    patch_size: int | tuple[int, int]

    def __post_init__(self):
        for name in ("num_layers", "hidden_dim", "mlp_dim", "num_heads"):
            check_positive(name, getattr(self, name))
        check_pair("patch_size", self.patch_size)
        if self.hidden_dim % self.num_heads:
            raise ValueError(
                "`hidden_dim` must be a multiple of `num_heads`. Received: "
                f"hidden_dim={self.hidden_dim}, num_heads={self.num_heads}"
            )


# fmt: off
SIZES = {
    # name    num_layers  hidden_dim  mlp_dim  num_heads
    "mu":     (        1,         32,     128,         2),
    "Ti":     (       12,        192,     768,         3),
    "S":      (       12,        384,    1536,         6),
    "M":      (       12,        512,    2048,         8),
    "B":      (       12,        768,    3072,        12),
    "L":      (       24,       1024,    4096,        16),
    "So400m": (       27,       1152,    4304,        16),
    "H":      (       32,       1280,    5120,        16),
    "g":      (       40,       1408,    6144,        16),
    "g-opt":  (       40,       1536,    6144,        16),
    "G":      (       48,       1664,    8192,        16),
    "G-opt":  (       48,       1536,    8192,        16),
    "e":      (       56,       1792,   15360,        16),
}
# fmt: on


def parse_variant(variant):
    """Returns the `Variant` that a name such as `"B/16"` stands for.

    Args:
        variant: size and patch edge in pixels, as the paper writes them, or a
            `Variant`, which is returned as it is.

    Returns:
        A `Variant`.

    Raises:
        ValueError: if the name is not of that form; the message lists the
            known sizes.

    Example:

    >>> keras_vit.parse_variant("B/16").num_heads
    12
    """
    if isinstance(variant, Variant):
        return variant
    size, slash, patch = str(variant).partition("/")
    if size not in SIZES or not slash or not patch.isdecimal():
        raise ValueError(
            "`variant` must be a size and a patch edge such as 'B/16', or a "
            f"`keras_vit.Variant`. Known sizes: {', '.join(SIZES)}. "
            f"Received: variant={variant!r}"
        )
    return Variant(
        *SIZES[size], patch_size=check_positive("patch_size", int(patch))
    )
