"""What becomes of pixels before a network sees them.

Every network was trained on images of one mean and one standard deviation per
channel, and answers wrongly, without a word, on others. A model of this library
takes pixels in [0, 255] and does the rest itself; here are the statistics that
public weights were trained with, and the advice on size and crop beside them.
"""

import dataclasses
import numbers

from keras_vit.arguments import check_choice, check_pair

__all__ = ["Preprocessing"]

INTERPOLATIONS = ("nearest", "bilinear", "bicubic", "lanczos")
RESIZES = ("shortest", "squash", "longest")
CROP_ROUNDINGS = ("even", "down")


@dataclasses.dataclass(frozen=True)
class Preprocessing:
    """How images are brought to what the weights of a network expect.

    A model computes, for each channel,

        (pixel / 255 - mean) / std

    The other facts are advice for whoever reads an image file, which
    `keras_vit.load_image` follows: resize to `image size / crop_fraction`,
    rounded down, then crop the centre.

    Args:
        mean: mean of each channel, on the scale where white is 1.
        std: standard deviation of each channel, above 0.
        crop_fraction: share of the resized image that is kept, in (0, 1].
        interpolation: `"nearest"`, `"bilinear"`, `"bicubic"` or `"lanczos"`.
        resize: what is resized: the `"shortest"` side, and the other in
            proportion; both sides, `"squash"`, whatever the proportion; or the
            `"longest"` side, where borders of the mean fill up what is left.
        crop_rounding: where a crop begins if half a pixel is left over: at
            the `"even"` pixel, as in torchvision and timm, or one `"down"`, as
            in transformers.
        image_size: height and width that the weights are for, an int or a
            pair, or `None`. A model for images of one size has its own.

    Raises:
        ValueError: if a number is outside its range.

    Example:

    >>> keras_vit.preprocessing.IMAGENET.mean
    (0.485, 0.456, 0.406)
    """

    mean: tuple[float, ...]
    std: tuple[float, ...]
    crop_fraction: float = 1.0
    interpolation: str = "bilinear"
    resize: str = "shortest"
    crop_rounding: str = "even"
    image_size: tuple[int, int] | None = None

    def __post_init__(self):
        for name in ("mean", "std"):
            values = getattr(self, name)
            if isinstance(values, numbers.Real):
                values = (values,)
            # The range of what any library has trained with, and far beyond.
            low, high = (-10, 10) if name == "mean" else (1e-3, 100)
            if not values or not all(low <= x <= high for x in values):
                raise ValueError(
                    f"`{name}` must be numbers in [{low}, {high}], on the "
                    f"scale where white is 1. Received: {name}={values!r}"
                )
            object.__setattr__(self, name, tuple(map(float, values)))
        if len({len(self.mean), len(self.std), 1} - {1}) > 1:
            raise ValueError(
                "`mean` and `std` must have equally many channels. Received: "
                f"mean={self.mean}, std={self.std}"
            )
        if not 0 < self.crop_fraction <= 1:
            raise ValueError(
                "`crop_fraction` must be in (0, 1]. Received: "
                f"crop_fraction={self.crop_fraction}"
            )
        for name, known in (
            ("interpolation", INTERPOLATIONS),
            ("resize", RESIZES),
            ("crop_rounding", CROP_ROUNDINGS),
        ):
            check_choice(name, getattr(self, name), known)
        if self.image_size is not None:
            size = check_pair("image_size", self.image_size)
            object.__setattr__(self, "image_size", size)

    def for_channels(self, num_channels: int) -> "Preprocessing":
        """Returns the same for so many channels, or raises.

        One number serves any number of channels, and so do equal ones.
        """
        values = {}
        for name in ("mean", "std"):
            own = getattr(self, name)
            if len(set(own)) == 1:
                own = own[:1] * num_channels
            if len(own) != num_channels:
                raise ValueError(
                    f"`{name}` must have one number for each of "
                    f"{num_channels} channels. Received: {name}={own}. Pass "
                    "`preprocessing=keras_vit.Preprocessing(mean, std)` with "
                    "those of your images."
                )
            values[name] = own
        return dataclasses.replace(self, **values)

    def adapted(self, num_channels: int) -> "Preprocessing":
        """Returns statistics for images of other channels, as a guess.

        One channel gets the means of all, more channels take them in turn: as
        `load_checkpoint` adapts kernels.
        """
        values = {}
        for name in ("mean", "std"):
            own = getattr(self, name)
            if num_channels == 1:
                own = (sum(own) / len(own),)
            elif len(own) not in (1, num_channels):
                own = tuple(own[i % len(own)] for i in range(num_channels))
            values[name] = own
        return dataclasses.replace(self, **values)


# The paper's code, AugReg, SigLIP: [0, 255] to [-1, 1].
INCEPTION = Preprocessing((0.5,), (0.5,))
# DeiT, DINO, DINOv2, DINOv3, MAE; torchvision.
IMAGENET = Preprocessing((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
# OpenAI's CLIP and what followed it, EVA.
CLIP = Preprocessing(
    (0.48145466, 0.4578275, 0.40821073),
    (0.26862954, 0.26130258, 0.27577711),
    interpolation="bicubic",
)
# [0, 255] to [0, 1]: PE, AIM's successors, RADIO.
UNIT = Preprocessing((0.0,), (1.0,))
NAMED = {
    "inception": INCEPTION,
    "imagenet": IMAGENET,
    "clip": CLIP,
    "unit": UNIT,
}


def get(
    value: "Preprocessing | str | None", name: str = "preprocessing"
) -> Preprocessing | None:
    """Returns the `Preprocessing` that a name stands for.

    Args:
        value: `"inception"`, `"imagenet"`, `"clip"`, `"unit"`, a
            `Preprocessing`, or `None` for images that come as the network
            wants them.
        name: the argument, for the error.

    Returns:
        A `Preprocessing`, or `None`.

    Raises:
        ValueError: if it is none of these.

    Example:

    >>> keras_vit.preprocessing.get("inception").std
    (0.5,)
    """
    if value is None or isinstance(value, Preprocessing):
        return value
    if not isinstance(value, str) or value not in NAMED:
        known = ", ".join(map(repr, NAMED))
        raise ValueError(
            f"`{name}` must be one of {known}, a `keras_vit.Preprocessing`, "
            "or None for images that are prepared already. Received: "
            f"{name}={value!r}"
        )
    return NAMED[value]
