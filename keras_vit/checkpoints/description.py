"""What a file of weights is: the network that it was trained as.

A format reads this off names, shapes and the configuration beside the file
(`describe` in each file of `formats`); `from_checkpoint` builds what it says,
and prints it, so that you can write the same by hand.
"""

import dataclasses
import math

from keras_vit.arguments import check_pair
from keras_vit.checkpoints.guards import CheckpointError
from keras_vit.preprocessing import NAMED, Preprocessing
from keras_vit.variants import ROOT_WIDTH, Variant

# The deepest Vision Transformer that was published has 72.
MOST_BLOCKS = 256


@dataclasses.dataclass(frozen=True, kw_only=True)
class Description:
    """The arguments of `ViT` that a file of weights is for.

    What is at the default of the layer that takes it is left out of the dicts.

    Args:
        format: name of the format.
        variant: the sizes.
        image_size: height and width that the position table is for, or `None`
            for positions that fit any size.
        num_channels: channels of the images.
        num_classes: classes of the head, or `None` for no head.
        distilled: whether a second head is on the distillation token, and the
            logits are the mean of both, see `distillation_model`.
        activation: of the MLPs, as `ViT` takes it.
        epsilon: of the layer norms.
        pooling: as `ViT` takes it.
        representation_dim: width of the dense layer before the head, or `None`.
        norm: kind of the norms, `"layer"` or `"rms"`.
        final_norm: whether a norm follows the blocks.
        norm_after_pooling: whether it follows the pooling too.
        trunk: epsilons of the ResNet of a hybrid, as `ViT` takes them.
        patch_encoder: further arguments of `PatchEncoder`.
        attention: further arguments of the attention, and under `"layer"` its
            class, `"SelfAttention"` if there is none.
        mlp: further arguments of `MLP`.
        block: further arguments of `TransformerBlock`.
        pool: further arguments of `AttentionPooling`.
        preprocessing: the statistics of its images.
        class_names: what the classes of the head are called, or `None`.
        stated: what of this somebody said, where names and shapes do not tell.
        resampling: how its library resamples position tables, see
            `resize_matrix`.
    """

    format: str
    variant: Variant
    image_size: tuple[int, int] | None
    num_channels: int = 3
    num_classes: int | None = None
    distilled: bool = False
    activation: str = "gelu_tanh"
    epsilon: float = 1e-6
    pooling: str | None = "token"
    representation_dim: int | None = None
    norm: str = "layer"
    final_norm: bool = True
    norm_after_pooling: bool = False
    trunk: dict = dataclasses.field(default_factory=dict)
    patch_encoder: dict = dataclasses.field(default_factory=dict)
    attention: dict = dataclasses.field(default_factory=dict)
    mlp: dict = dataclasses.field(default_factory=dict)
    block: dict = dataclasses.field(default_factory=dict)
    pool: dict = dataclasses.field(default_factory=dict)
    preprocessing: Preprocessing = NAMED["inception"]
    resampling: str = "corner_aligned"
    class_names: tuple[str, ...] | None = None
    stated: dict = dataclasses.field(default_factory=dict)

    def __str__(self):
        own = self.arguments()
        if self.distilled:
            # Its two heads stand on a model without one.
            own["num_classes"] = "None"
        lines = _call("keras_vit.ViT", own)
        if self.distilled:
            lines = [
                "keras_vit.pretraining.distillation_model(",
                *(f"    {line}" for line in lines[:-1]),
                "    ),",
                f"    {self.num_classes},",
                ")",
            ]
        head = [f"# {self.format}"]
        if self.class_names:
            names = [*self.class_names[:3], "..."][: len(self.class_names)]
            head.append(f"# classes: {', '.join(names)}")
        return "\n".join([*head, *lines])

    def arguments(self) -> dict:
        """Returns the arguments of `ViT`, as source text by name."""
        v = self.variant
        sizes = [v.num_layers, v.hidden_dim, v.mlp_dim, v.num_heads]
        text = ", ".join(map(str, sizes)) + f", patch_size={v.patch_size!r}"
        if v.stages is not None:
            text += f", stages={v.stages}, width_factor={v.width_factor}"
        own = {
            "variant": f"keras_vit.Variant({text})",
            "image_size": repr(self.image_size),
            "num_classes": repr(self.num_classes),
            "pooling": self._pooling(),
            "epsilon": repr(self.epsilon),
            "preprocessing": _named(self.preprocessing),
        }
        if self.num_channels != 3:
            own["num_channels"] = repr(self.num_channels)
        for name, default in (
            ("representation_dim", None),
            ("norm", "layer"),
            ("final_norm", True),
            ("norm_after_pooling", False),
            ("trunk", {}),
        ):
            if getattr(self, name) != default:
                own[name] = repr(getattr(self, name))
        common = {
            name: getattr(self, name)
            for name, default in (("norm", "layer"), ("epsilon", 1e-6))
            if getattr(self, name) != default
        }
        if self.patch_encoder:
            own["patch_encoder"] = _layer(
                "PatchEncoder", v.hidden_dim, **self.patch_encoder, **common
            )
        if not self.is_plain():
            attention = dict(self.attention)
            kind = attention.pop("layer", "SelfAttention")
            parts = {
                "attention": _Source(
                    _layer(kind, v.num_heads, **attention, **common)
                ),
                "mlp": _Source(
                    _layer(
                        "MLP",
                        v.mlp_dim,
                        activation=self.activation,
                        **self.mlp,
                        **{k: x for k, x in common.items() if k == "epsilon"},
                    )
                ),
            }
            own["block"] = "lambda index: " + _layer(
                "TransformerBlock", **parts, **self.block, **common
            )
        if self.is_plain() or (self.pooling == "attention" and not self.pool):
            own["activation"] = repr(self.activation)
        return own

    def _pooling(self):
        if not self.pool:
            return repr(self.pooling)
        v = self.variant
        own = {
            "num_heads": v.num_heads,
            "mlp_dim": v.mlp_dim,
            "activation": self.activation,
            "epsilon": self.epsilon,
        }
        return _layer("AttentionPooling", **{**own, **self.pool})

    def is_plain(self) -> bool:
        """Returns whether its blocks are what `ViT` makes by itself."""
        return not (self.attention or self.mlp or self.block)

    def check_size(self, path, shapes) -> None:
        """Raises if the network has more weights than the file.

        Args:
            path: path of the file.
            shapes: those of its arrays, a dict.
        """
        held = sum(map(math.prod, shapes.values()))
        blocks, fewest = self.variant.num_layers, self.fewest_weights()
        # Twice, for parts that a network computes from others.
        if fewest > 2 * held or blocks > MOST_BLOCKS:
            raise CheckpointError(
                f"'{path}' has {held:,} numbers, and its shapes are of a "
                f"network of {blocks} blocks with at least {fewest:,} weights: "
                f"they lie, or there are more than {MOST_BLOCKS} blocks."
            )

    def fewest_weights(self) -> int:
        """Returns a number of weights that no such network is below.

        Kernels alone, so that no form of attention or MLP has fewer.
        """
        v = self.variant
        dim, patch = v.hidden_dim, check_pair("patch_size", v.patch_size)
        count = 2 * v.num_layers * dim * (dim + v.mlp_dim)
        count += dim * (self.num_classes or 0)
        count += dim * (self.representation_dim or 0)
        count += dim * self.patch_encoder.get("num_registers", 0)
        if v.stages is None:
            count += dim * self.num_channels * math.prod(patch)
        else:
            # The 3 x 3 convolutions in the units.
            root = int(ROOT_WIDTH * v.width_factor)
            count += root * self.num_channels
            for stage, units in enumerate(v.stages):
                count += 9 * units * (root * 2**stage) ** 2
        if self.image_size and "position" not in self.patch_encoder:
            cells = math.prod(
                edge // cell for edge, cell in zip(self.image_size, patch)
            )
            count += dim * cells // v.stride**2
        return count


class _Source(str):
    """Source text that is printed as it is."""

    __repr__ = str.__str__


def _layer(kind, *first, **options):
    options = [f"{name}={value!r}" for name, value in options.items()]
    return f"layers.{kind}({', '.join([*map(repr, first), *options])})"


def _named(preprocessing):
    for name, known in NAMED.items():
        if preprocessing == known:
            return repr(name)
    own = {
        field.name: getattr(preprocessing, field.name)
        for field in dataclasses.fields(preprocessing)
        if getattr(preprocessing, field.name) != field.default
    }
    text = ", ".join(f"{name}={value!r}" for name, value in own.items())
    return f"keras_vit.Preprocessing({text})"


def _call(function, arguments):
    lines = [f"{function}("]
    for name, text in arguments.items():
        label = "" if name == "variant" else f"{name}="
        lines.append(f"    {label}{text},")
    return [*lines, ")"]
