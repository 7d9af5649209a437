"""What BiT's own files and big_vision call the weights of BiT's ResNets.

Sources: google-research/big_transfer, `bit_tf2/models.py`; big_vision,
`models/bit_paper.py`. The two differ in the pool at the root: the first pads
with zeros, Flax's with minus infinity.
"""

from keras_vit.checkpoints.formats.official import UNIT
from keras_vit.checkpoints.rules import Format, Rule, dense, norm

# BiT's own `.npz`, with the names of its TensorFlow modules.
_BIT_UNIT = "block{s}/unit{u:02d}/"
BIT = Format(
    name="BiT",
    marker="root_block/standardized_conv2d/kernel",
    prefixes=("resnet/", ""),
    root_padding="zeros",
    rules=(
        Rule("root_block/standardized_conv2d/kernel", ("root_conv/kernel",)),
        *(
            rule
            for letter, part in (("a", "1"), ("b", "2"), ("c", "3"))
            for rule in (
                Rule(
                    f"{_BIT_UNIT}{letter}/standardized_conv2d/kernel",
                    (f"{UNIT[1]}conv{part}/kernel",),
                ),
                *norm(
                    f"{_BIT_UNIT}{letter}/group_norm",
                    f"{UNIT[1]}norm{part}",
                    names=("gamma", "beta"),
                    separator="/",
                ),
            )
        ),
        Rule(
            f"{_BIT_UNIT}a/proj/standardized_conv2d/kernel",
            (f"{UNIT[1]}conv_proj/kernel",),
        ),
        *norm("group_norm", "final_norm", ("gamma", "beta"), "/"),
        *dense("head/conv2d/", "head"),
    ),
)
_VISION_UNIT = "block{s}/unit{u:02d}/"
BIT_OF_BIG_VISION = Format(
    name="BiT of big_vision",
    marker="root_block/conv_root/kernel",
    prefixes=("params/", ""),
    root_padding="ignored",
    rules=(
        Rule("root_block/conv_root/kernel", ("root_conv/kernel",)),
        *(
            rule
            for part in ("1", "2", "3")
            for rule in (
                Rule(
                    f"{_VISION_UNIT}conv{part}/kernel",
                    (f"{UNIT[1]}conv{part}/kernel",),
                ),
                *norm(
                    f"{_VISION_UNIT}gn{part}",
                    f"{UNIT[1]}norm{part}",
                    names=("scale", "bias"),
                    separator="/",
                ),
            )
        ),
        Rule(
            f"{_VISION_UNIT}conv_proj/kernel", (f"{UNIT[1]}conv_proj/kernel",)
        ),
        *norm("norm-pre-head", "final_norm", ("scale", "bias"), "/"),
        *dense("head/", "head"),
    ),
)
