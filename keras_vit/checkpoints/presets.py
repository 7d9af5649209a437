"""Public checkpoints by name: one row each, and where it comes from.

Addresses of Google's files: README and notebooks of
google-research/vision_transformer; the AugReg rows are those its README
recommends, with the accuracy it states. All of them are Apache-2.0. SHA-256
sums are given where their owner publishes them; the others are recorded at
the first download (see `web`). The first row needs no download: its file is
part of this package. The rows of other families are in `hub_releases`.
"""

import dataclasses
import pathlib

from keras_vit.checkpoints.hub_releases import FAMILIES

AUGREG = "gs://vit_models/augreg/"
PAPER = "https://arxiv.org/abs/2010.11929"
AUGREG_PAPER = "https://arxiv.org/abs/2106.10270"
SAM_PAPER = "https://arxiv.org/abs/2106.01548"
PACKAGE = "package://"


@dataclasses.dataclass(frozen=True)
class Preset:
    """A public checkpoint.

    Args:
        family: which training it comes from.
        variant: name for `ViT`; where the network is not `plain`, the size
            as its authors name it.
        image_size: edge of the images in pixels.
        num_classes: classes of its head, or `None`.
        address: where the file is; `package://` is this package.
        accuracy: top-1 in percent as its authors state it, or `None`: on
            ImageNet, or of `"cifar100"` on the test set of CIFAR-100.
        measure: what the accuracy is of: `"head"`, the head in the file;
            `"linear"`, a linear probe of the authors on the features;
            `"zero-shot"`, the comparison with names of classes by the tower
            of texts that belongs to it.
        activation: of its MLPs.
        epsilon: of its layer norms.
        representation_dim: width of its layer before the head, or `None`.
        plain: whether `ViT(variant, weights=name)` makes its network. All
            others are opened by `from_checkpoint(name)`.
        license: its licence.
        source: the paper.
        sha256: of the file, or `None`.

    Example:

    >>> preset = keras_vit.presets("imagenet21k")[1]
    >>> preset.name, preset.num_classes, preset.representation_dim
    ('imagenet21k:B/16', 21843, 768)
    """

    family: str
    variant: str
    image_size: int
    num_classes: int | None
    address: str
    accuracy: float | None = None
    measure: str = "head"
    activation: str = "gelu_tanh"
    epsilon: float = 1e-6
    representation_dim: int | None = None
    plain: bool = True
    license: str = "Apache-2.0"
    source: str = AUGREG_PAPER
    sha256: str | None = None

    @property
    def name(self):
        """Name for `from_checkpoint`, `load_checkpoint` and `weights=`."""
        return f"{self.family}:{self.variant}"

    @property
    def location(self):
        """What is fetched: the address, or a path inside this package."""
        if not self.address.startswith(PACKAGE):
            return self.address
        return pathlib.Path(__file__).parent.joinpath(
            self.address.removeprefix(PACKAGE)
        )


def _augreg(variant, recipe, fine_tuning, accuracy):
    stem = variant.replace("/", "_").replace("+", "_")
    file = f"{AUGREG}{stem}-i21k-300ep-lr_0.001-{recipe}"
    tuned = f"{file}--imagenet2012-steps_20k-lr_{fine_tuning}-res_384"
    return (
        Preset("augreg_i21k", variant, 224, 21843, f"{file}.npz"),
        Preset("augreg_i1k", variant, 384, 1000, f"{tuned}.npz", accuracy),
    )


def _original(variant, hidden_dim):
    stem = variant.replace("+", "+ViT-") if "+" in variant else f"ViT-{variant}"
    stem = stem.replace("/", "_")
    return Preset(
        "imagenet21k",
        variant,
        224,
        21843,
        f"gs://vit_models/imagenet21k/{stem}.npz",
        representation_dim=hidden_dim,
        source=PAPER,
    )


def _fine_tuned(variant, image_size, suffix=""):
    stem = variant.replace("+", "+ViT-") if "+" in variant else f"ViT-{variant}"
    stem = stem.replace("/", "_")
    return Preset(
        "imagenet21k+imagenet2012" + suffix,
        variant,
        image_size,
        1000,
        f"gs://vit_models/imagenet21k+imagenet2012/{stem}{suffix}.npz",
        source=PAPER,
    )


def _sam(variant):
    stem = variant.replace("/", "_")
    address = f"gs://vit_models/sam/ViT-{stem}.npz"
    return Preset("sam", variant, 224, 1000, address, source=SAM_PAPER)


def _hugging_face(family, variant, size, classes, address, dim=None, sha=None):
    return Preset(
        family,
        variant,
        size,
        classes,
        address,
        activation="gelu",
        epsilon=1e-12,
        representation_dim=dim,
        source=PAPER,
        sha256=sha,
    )


def _of_timm(family):
    for variant, size, name, accuracy, *activation in family.rows:
        yield Preset(
            family.name,
            variant,
            size,
            family.num_classes,
            f"hf://timm/{name}",
            accuracy,
            measure=family.measure,
            activation=(*activation, family.activation)[0],
            epsilon=family.epsilon,
            plain=family.plain,
            license=family.license,
            source=family.source,
        )


# fmt: off
PRESETS = (
    # Its card: cifar100/README.md beside this file.
    Preset("cifar100", "R20+Mi/4", 32, 100,
        f"{PACKAGE}cifar100/model.safetensors", 55.91, source=PAPER),
    *_augreg("Ti/16",    "aug_none-wd_0.03-do_0.0-sd_0.0",   "0.03", 78.22),
    *_augreg("S/32",     "aug_none-wd_0.1-do_0.0-sd_0.0",    "0.01", 79.58),
    *_augreg("S/16",     "aug_light1-wd_0.03-do_0.0-sd_0.0", "0.03", 83.73),
    *_augreg("B/32",     "aug_light1-wd_0.1-do_0.0-sd_0.0",  "0.01", 83.59),
    *_augreg("B/16",     "aug_medium1-wd_0.1-do_0.0-sd_0.0", "0.03", 85.49),
    *_augreg("L/16",     "aug_strong1-wd_0.1-do_0.0-sd_0.0", "0.01", 85.59),
    *_augreg("R+Ti/16",  "aug_none-wd_0.03-do_0.0-sd_0.0",   "0.03", 75.40),
    *_augreg("R26+S/32", "aug_light1-wd_0.1-do_0.0-sd_0.0",  "0.01", 83.85),
    *_augreg("R50+L/32", "aug_medium1-wd_0.1-do_0.1-sd_0.1", "0.01", 85.99),
    # Their heads are all zeros: the authors took the classes away.
    _original("B/32",      768),
    _original("B/16",      768),
    _original("B/8",       768),
    _original("L/32",     1024),
    _original("L/16",     1024),
    _original("H/14",     1280),
    _original("R26+B/32",  768),
    _original("R50+B/16",  768),
    _original("R50+L/32", 1024),
    _fine_tuned("B/32",     384),
    _fine_tuned("B/16",     384),
    _fine_tuned("B/16",     224, "-224"),
    _fine_tuned("B/8",      384),
    _fine_tuned("L/32",     384),
    _fine_tuned("L/16",     384),
    _fine_tuned("L/16",     224, "-224"),
    _fine_tuned("R50+B/16", 384),
    _sam("B/32"),
    _sam("B/16"),
    _sam("L/32"),
    _sam("L/16"),
    _hugging_face("hf_imagenet1k", "B/16", 224, 1000,
        "hf://google/vit-base-patch16-224"
        "@3f49326eb077187dfe1c2a2bb15fbd74e6ab91e3"),
    _hugging_face("hf_imagenet21k", "B/16", 224, None,
        "hf://google/vit-base-patch16-224-in21k"
        "@b4569560a39a0f1af58e3ddaf17facf20ab919b0", 768,
        "fd4e1169c7aa6c2dbfa8a6448be13b35abc0ee256190857c90009d12c094619b"),
    *(preset for family in FAMILIES for preset in _of_timm(family)),
)
# fmt: on


def find(source, variant=None):
    """Returns the preset of a name, or `None` if the source is none.

    Args:
        source: `"family:variant"`, or a family if the variant is given.
        variant: name of the variant, or `None`.

    Raises:
        ValueError: if the family is known but has no such variant.
    """
    text = str(source)
    family, _, of = text.partition(":")
    if family not in {preset.family for preset in PRESETS}:
        return None
    wanted = of or variant
    for preset in PRESETS:
        if preset.family == family and preset.variant == wanted:
            return preset
    choices = [p.name for p in PRESETS if p.family == family]
    raise ValueError(
        f"There is no preset of that name. Of '{family}' there are: "
        f"{', '.join(choices)}. Received: {source!r}, variant={variant!r}"
    )


class PresetTable(tuple):
    """Presets, which print as a table."""

    def __str__(self):
        rows = [("name", "pixels", "classes", "accuracy", "license", "address")]
        for preset in self:
            accuracy = f"{preset.accuracy:.2f} %" if preset.accuracy else "-"
            if preset.accuracy and preset.measure != "head":
                accuracy = f"{accuracy} {preset.measure}"
            rows.append(
                (
                    preset.name,
                    str(preset.image_size),
                    str(preset.num_classes or "-"),
                    accuracy,
                    preset.license,
                    preset.address,
                )
            )
        widths = [max(map(len, column)) for column in zip(*rows)]
        lines = [
            "  ".join(cell.ljust(width) for cell, width in zip(row, widths))
            for row in rows
        ]
        return "\n".join(line.rstrip() for line in lines)

    __repr__ = __str__


def presets(family: str | None = None) -> "PresetTable":
    """Lists the public checkpoints that have a name here.

    Args:
        family: `"cifar100"`, a small network whose weights come with this
            package and need no download; `"augreg_i21k"` and `"augreg_i1k"`,
            what the AugReg authors recommend, before and after fine-tuning;
            `"imagenet21k"` and `"imagenet21k+imagenet2012"`, the files of the
            ViT paper (the latter with `"-224"` at the smaller size); `"sam"`;
            `"hf_imagenet1k"` and `"hf_imagenet21k"` on Hugging Face; and, in
            timm's files there, `"dinov2"`, `"dinov2_reg"` (with registers),
            `"dinov3"`, `"siglip2"`, `"clip_openai"`, `"clip_laion2b"`,
            `"clip_dfn"`, `"deit3_i1k"`, `"deit3_i21k+i1k"`, `"mae"`,
            `"eva02"`, `"eva02_i1k"`, `"timm_augreg_i21k"` and
            `"timm_augreg_i1k"`, some with their pixels behind the name
            (`"siglip2-384"`). Defaults to all.

    Returns:
        A tuple of `Preset` that prints as a table.

    Raises:
        ValueError: if there is no such family.

    Example:

    >>> print(keras_vit.presets("sam"))
    name      pixels  classes  accuracy  license     address
    sam:B/32  224     1000     -         Apache-2.0  gs://vit_models/sam/...
    ...
    """
    families = dict.fromkeys(preset.family for preset in PRESETS)
    if family is not None and family not in families:
        raise ValueError(
            f"`family` must be one of {', '.join(families)}. "
            f"Received: family={family!r}"
        )
    return PresetTable(
        preset for preset in PRESETS if family in (None, preset.family)
    )
