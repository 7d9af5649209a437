"""What BiT's own files call the weights of its ResNets.

Source: google-research/big_transfer, `bit_tf2/models.py`.
"""

from keras_vit.checkpoints.formats.official import UNIT
from keras_vit.checkpoints.rules import Format, Rule, dense, norm

# BiT's own `.npz`, with the names of its TensorFlow modules.
_BIT_UNIT = "block{s}/unit{u:02d}/"
BIT = Format(
    name="BiT",
    marker="root_block/standardized_conv2d/kernel",
    prefixes=("resnet/", ""),
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
