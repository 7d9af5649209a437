"""The paper's model sizes as data, and their names.

ViT-B, -L, -H: Dosovitskiy et al. 2021, Table 1. Ti and S: Touvron et al. 2021
(DeiT) and AugReg, arXiv:2106.10270. g, G and e: Zhai et al. 2022,
arXiv:2106.04560, Table 2, and Chen et al. 2022, arXiv:2209.06794. mu, M,
So400m and the -opt shapes: big_vision's `decode_variant`. Hybrids: the paper's
section 4.1 and `vit_jax/configs/models.py`. ResNets: He et al. 2016.
"""

import dataclasses
import re
from collections.abc import Sequence

from keras_vit.arguments import check_pair, check_positive
from keras_vit.layers.residual_unit import GROUPS

__all__ = ["Variant", "parse_resnet", "parse_variant"]

PATCH = re.compile("/[0-9]{1,9}")
ROOT_WIDTH = 64  # channels of a ResNet's stem at a width factor of 1


@dataclasses.dataclass(frozen=True)
class Variant:
    """The size of a Vision Transformer.

    Args:
        num_layers: transformer blocks, L.
        hidden_dim: width of a token, D.
        mlp_dim: inner width of the MLP.
        num_heads: attention heads, a divisor of `hidden_dim`.
        patch_size: edge of a patch in pixels, an int or a pair; in a hybrid,
            in cells of the feature map.
        stages: in a hybrid, the residual units in each stage of the ResNet
            under the transformer; `()` for its stem alone. `None` if the
            patches are cut from the image itself.
        width_factor: in a hybrid, the width of its ResNet, above 0: 1 for 64
            channels in the stem.

    Raises:
        ValueError: if a size is not above 0, if `num_heads` does not divide
            `hidden_dim`, or if `stages` has more than four stages.

    Example:

    >>> keras_vit.Variant(6, 64, 128, 4, patch_size=2).hidden_dim
    64
    """

    num_layers: int
    hidden_dim: int
    mlp_dim: int
    num_heads: int
    patch_size: int | tuple[int, int]
    stages: tuple[int, ...] | None = None
    width_factor: float = 1.0

    def __post_init__(self):
        for name in ("num_layers", "hidden_dim", "mlp_dim", "num_heads"):
            check_positive(name, getattr(self, name))
        check_pair("patch_size", self.patch_size)
        if self.hidden_dim % self.num_heads:
            raise ValueError(
                "`hidden_dim` must be a multiple of `num_heads`. Received: "
                f"hidden_dim={self.hidden_dim}, num_heads={self.num_heads}"
            )
        if self.stages is not None:
            object.__setattr__(self, "stages", check_stages(self.stages))
        if not self.width_factor > 0:
            raise ValueError(
                "`width_factor` must be above 0. "
                f"Received: width_factor={self.width_factor}"
            )

    @property
    def stride(self) -> int:
        """Pixels of the image in one cell of what patches are cut from."""
        return 1 if self.stages is None else stride_of(self.stages)


def check_stages(stages: Sequence[int]) -> tuple[int, ...]:
    """Returns the units in each stage of a ResNet, or raises."""
    if not isinstance(stages, (tuple, list)) or len(stages) > 4:
        raise ValueError(
            "`stages` must be a tuple of at most four numbers of residual "
            f"units. Received: stages={stages!r}"
        )
    return tuple(check_positive("stages", units) for units in stages)


def stride_of(stages: Sequence[int]) -> int:
    """Returns how many pixels a cell of a ResNet's last feature map covers."""
    # Stem and pooling halve once each, every stage but the first once more.
    return 4 * 2 ** max(len(stages) - 1, 0)


def root_width(width_factor: float) -> int:
    """Returns the channels of a ResNet's stem, or raises."""
    width = int(ROOT_WIDTH * width_factor)
    if width < 1 or width % GROUPS:
        raise ValueError(
            f"`width_factor` must give a multiple of {GROUPS} channels, times "
            f"{ROOT_WIDTH}. Received: width_factor={width_factor}"
        )
    return width


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
    "Mi":     (        3,        192,     576,         3),
}

RESNETS = {
    # depth     units in each stage
    "26":      (2, 2,  2, 2),
    "50":      (3, 4,  6, 3),
    "101":     (3, 4, 23, 3),
    "152":     (3, 8, 36, 3),
    "200":     (3, 24, 36, 3),
    "20":      (6,),
}
# fmt: on


def parse_variant(variant: Variant | str) -> Variant:
    """Returns the `Variant` that a name such as `"B/16"` stands for.

    The number after the slash is the edge of a patch in pixels of the image.
    In a hybrid it says where the ResNet ends: `"R50+B/32"` takes the output of
    stage 4; `"R50+B/16"` removes stage 4 and adds its units to stage 3, which
    doubles the grid (section 4.1). `"R+Ti/16"` has the stem alone; the
    published model cuts 8 x 8 patches from it, so that it is really a /32.
    `"R20+Mi/4"` is not from the papers: it is the small hybrid for images of
    32 x 32 pixels whose weights are part of this package.

    Args:
        variant: size and patch edge, as the papers write them, with or without
            a ResNet before it; or a `Variant`, which is returned unchanged.

    Returns:
        A `Variant`.

    Raises:
        ValueError: if the name does not have this form; the message lists the
            known sizes.

    Example:

    >>> keras_vit.variants.parse_variant("B/16").num_heads
    12
    >>> keras_vit.variants.parse_variant("R50+B/16").stages
    (3, 4, 9)
    """
    if isinstance(variant, Variant):
        return variant
    trunk, plus, rest = str(variant).rpartition("+")
    size, slash, patch = rest.partition("/")
    known = trunk in ("", "R") or trunk.removeprefix("R") in RESNETS
    known = known and bool(plus) == trunk.startswith("R")
    if size not in SIZES or not known or not PATCH.fullmatch(slash + patch):
        raise ValueError(
            "`variant` must be a size and a patch edge such as 'B/16', with a "
            "ResNet in front for a hybrid, 'R50+B/16', or a "
            f"`keras_vit.Variant`. Known sizes: {', '.join(SIZES)}. Known "
            f"ResNets: R, R{', R'.join(RESNETS)}. Received: "
            f"variant={variant!r}"
        )
    patch = check_positive("patch_size", int(patch))
    if not plus:
        return Variant(*SIZES[size], patch_size=patch)
    if trunk == "R":
        if patch % 2:
            raise ValueError(
                "Behind the stem alone a patch has an even edge. Received: "
                f"variant={variant!r}"
            )
        return Variant(*SIZES[size], patch_size=patch // 2, stages=())
    units = RESNETS[trunk.removeprefix("R")]
    forms = {stride_of(units): units}
    if len(units) == 4:
        forms[16] = (*units[:2], units[2] + units[3])
    if patch not in forms:
        ends = " or ".join(f"1/{end}" for end in sorted(forms))
        raise ValueError(
            f"A hybrid with {trunk} ends at {ends} of the image. Received: "
            f"variant={variant!r}"
        )
    return Variant(*SIZES[size], patch_size=1, stages=forms[patch])


def parse_resnet(
    variant: str | tuple[Sequence[int], float],
) -> tuple[tuple[int, ...], float]:
    """Returns stages and width factor of a ResNet with a name as `"50x1"`.

    Args:
        variant: depth and width, as the papers write them, or the pair itself.

    Returns:
        A pair: the residual units in each stage, and the width factor.

    Raises:
        ValueError: if the name does not have this form.

    Example:

    >>> keras_vit.variants.parse_resnet("50x2")
    ((3, 4, 6, 3), 2.0)
    """
    if not isinstance(variant, str):
        stages, width_factor = variant
        return check_stages(stages), float(width_factor)
    depth, _, width = variant.partition("x")
    if depth not in RESNETS or not width.isdecimal() or not int(width):
        raise ValueError(
            "`variant` must be a depth and a width such as '50x1'. Known "
            f"depths: {', '.join(RESNETS)}. Received: variant={variant!r}"
        )
    return RESNETS[depth], float(width)
