"""What a configuration may state: the range of every fact that is read.

Shapes are held against the weights; what stands in JSON beside them would be
believed. An epsilon of 1e30 makes all images equal, without a word. So each
fact has a range that no network is outside of.
"""

import numbers

from keras_vit.checkpoints.guards import CheckpointError, shown

LONGEST_TEXT = 200


def _number(low, high, kind=numbers.Real):
    """The rule of a number in `[low, high]`."""

    def holds(value):
        return (
            isinstance(value, kind)
            and not isinstance(value, bool)
            and low <= value <= high
        )

    noun = "an integer" if kind is numbers.Integral else "a number"
    return f"{noun} from {low:g} to {high:g}", holds


def _one_or_more(rule, most=3):
    """The rule of one such value, or of a list of a few."""
    text, holds = rule

    def all_hold(value):
        values = value if isinstance(value, list) else [value]
        return 1 <= len(values) <= most and all(map(holds, values))

    return f"{text}, or a list of at most {most}", all_hold


def _either(*rules):
    return (
        ", or ".join(text for text, _ in rules),
        lambda value: any(holds(value) for _, holds in rules),
    )


TEXT = (
    f"text of at most {LONGEST_TEXT} characters",
    lambda value: isinstance(value, str) and len(value) <= LONGEST_TEXT,
)
NUMBERED = (
    "an object from class numbers to text",
    lambda value: (
        isinstance(value, dict)
        and all(key.isdecimal() and key.isascii() for key in value)
        and all(isinstance(name, str) for name in value.values())
    ),
)
TEXTS = (
    "a list of texts",
    lambda value: (
        isinstance(value, list) and all(isinstance(x, str) for x in value)
    ),
)
NESTED = "an object", lambda value: isinstance(value, dict)
# Published ones are from 1e-12 to 1e-5.
EPSILON = _number(1e-15, 1e-2)
HEADS = _number(1, 1024, numbers.Integral)
EDGE = _number(1, 8192, numbers.Integral)
STATISTICS = _one_or_more(_number(-1e3, 1e3), most=1024)
# By the name in `config.json` or `preprocessor_config.json`, of timm, of
# transformers or of KerasHub. `None` is as good as nothing.
FACTS = {
    "act_layer": TEXT,
    "architecture": TEXT,
    "attn_pool_num_heads": HEADS,
    "backbone_config": NESTED,
    "block_fn": TEXT,
    "config": NESTED,
    "crop_mode": TEXT,
    "crop_pct": _number(0.01, 1),
    "crop_size": _either(_one_or_more(EDGE), NESTED),
    "global_pool": TEXT,
    "height": EDGE,
    "hidden_act": TEXT,
    "id2label": NUMBERED,
    "image_mean": STATISTICS,
    "image_processor_type": TEXT,
    "image_shape": _one_or_more(EDGE),
    "image_size": _one_or_more(EDGE),
    "image_std": STATISTICS,
    "img_size": _one_or_more(EDGE),
    "input_size": _one_or_more(EDGE),
    "interpolation": TEXT,
    "label_descriptions": NESTED,
    "label_names": TEXTS,
    "layer_norm_eps": EPSILON,
    "layer_norm_epsilon": EPSILON,
    "mean": STATISTICS,
    "model_args": NESTED,
    "model_type": TEXT,
    "num_attention_heads": HEADS,
    "num_blocks": _number(0, 256, numbers.Integral),
    "num_channels": _number(1, 1024, numbers.Integral),
    "num_heads": HEADS,
    "offset": STATISTICS,
    "patch_size": _one_or_more(_number(1, 512, numbers.Integral)),
    "pooling": TEXT,
    "pretrained_cfg": NESTED,
    "ref_feat_shape": _one_or_more(EDGE),
    "resample": _either(_number(0, 5, numbers.Integral), TEXT),
    "rms_norm_eps": EPSILON,
    "rope_grid_indexing": TEXT,
    "rope_grid_offset": _number(-16, 16),
    "rope_parameters": NESTED,
    "rope_temperature": _number(1, 1e8),
    "rope_theta": _number(1, 1e8),
    "rope_type": TEXT,
    "scale": STATISTICS,
    "shortest_edge": EDGE,
    "size": _either(_one_or_more(EDGE), NESTED),
    "std": STATISTICS,
    "vision_config": NESTED,
}


def check_facts(path, stated):
    """Raises if a configuration states what no network is.

    Args:
        path: path of the file, for the error.
        stated: the dict that it holds.
    """
    for name, value in stated.items():
        if value is None or name not in FACTS:
            continue
        rule, holds = FACTS[name]
        if not holds(value):
            raise CheckpointError(
                f"'{path}' cannot be right: '{name}' must be {rule}. "
                f"Received: {shown(repr(value))}"
            )
        if isinstance(value, dict):
            check_facts(path, value)
