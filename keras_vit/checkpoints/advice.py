"""How a network's library cuts an image file to size, as its files say.

timm says it in `pretrained_cfg`, transformers in `preprocessor_config.json`.
What neither says is left out, and so at the default of `Preprocessing`.
"""

import math

# What `resample` of Pillow and the names of timm mean.
INTERPOLATIONS = {
    0: "nearest",
    1: "lanczos",
    2: "bilinear",
    3: "bicubic",
    "nearest": "nearest",
    "lanczos": "lanczos",
    "bilinear": "bilinear",
    "bicubic": "bicubic",
}
# Pillow's numbers.
RESAMPLE = {"nearest": 0, "lanczos": 1, "bilinear": 2, "bicubic": 3}
# timm's names.
CROP_MODES = {"center": "shortest", "squash": "squash", "border": "longest"}
MODES = {ours: theirs for theirs, ours in CROP_MODES.items()}
# What timm does where nothing is said.
TIMM = {"crop_pct": 0.875, "crop_mode": "center", "interpolation": "bicubic"}


def read(config, preprocessor):
    """Returns the fields of `Preprocessing` that are not statistics.

    Args:
        config: what `config.json` holds, `{}` without one.
        preprocessor: what `preprocessor_config.json` holds, likewise.

    Returns:
        A dict with some of `crop_fraction`, `interpolation`, `resize`,
        `crop_rounding` and `image_size`.

    Raises:
        TypeError, ValueError: if a number is none.
    """
    if preprocessor:
        return _of_transformers(preprocessor)
    if config.get("pretrained_cfg"):
        return _of_timm(config["pretrained_cfg"])
    return {}


def _of_timm(stated):
    stated = TIMM | {key: x for key, x in stated.items() if x is not None}
    found = {
        "crop_fraction": float(stated["crop_pct"]),
        "resize": CROP_MODES.get(stated["crop_mode"], "shortest"),
        "crop_rounding": "even",
    }
    if stated["interpolation"] in INTERPOLATIONS:
        found["interpolation"] = INTERPOLATIONS[stated["interpolation"]]
    if stated.get("input_size"):
        found["image_size"] = _pair(stated["input_size"][-2:])
    return found


def _of_transformers(stated):
    found = {}
    if stated.get("resample") in INTERPOLATIONS:
        found["interpolation"] = INTERPOLATIONS[stated["resample"]]
    size, crop = stated.get("size"), None
    if stated.get("do_resize") is False or not size:
        return found
    kind = stated.get("image_processor_type") or stated.get(
        "feature_extractor_type", ""
    )
    if not isinstance(size, dict):
        # As files were written once.
        keeps = kind.startswith(("CLIP", "Bit", "ConvNext", "ChineseCLIP"))
        size = {"shortest_edge": size} if keeps else _sides(size)
    if stated.get("do_center_crop") and stated.get("crop_size"):
        crop = _pair(_sides(stated["crop_size"]))
    edge = size.get("shortest_edge")
    if edge is None and "height" not in size:
        return found
    resized = (int(edge),) * 2 if edge is not None else _pair(size)
    found |= {
        "resize": "squash" if edge is None else "shortest",
        "crop_rounding": "down",
        "crop_fraction": _fraction(crop or resized, resized),
        "image_size": crop or resized,
    }
    return found


def _sides(size):
    if isinstance(size, dict):
        return size
    height, width = size if isinstance(size, (list, tuple)) else (size, size)
    return {"height": height, "width": width}


def _pair(size):
    if isinstance(size, dict):
        size = size["height"], size["width"]
    height, width = map(int, size)
    return height, width


def _fraction(crop, resized):
    """The fraction that gives back the edge that was resized to."""
    fraction = min(crop[0] / resized[0], 1.0)
    while fraction < 1 and math.floor(crop[0] / fraction) < resized[0]:
        fraction = math.nextafter(fraction, 0)
    return fraction


def for_timm(preprocessing):
    """Returns what timm's `pretrained_cfg` says of a `Preprocessing`."""
    return {
        "crop_pct": preprocessing.crop_fraction,
        "crop_mode": MODES[preprocessing.resize],
        "interpolation": preprocessing.interpolation,
    }


def for_transformers(preprocessing, image_size):
    """Returns what `preprocessor_config.json` says of a `Preprocessing`.

    transformers cuts a rectangle out of what is resized in proportion in no
    other way than after both sides: so they are squashed.

    Args:
        preprocessing: the `Preprocessing`.
        image_size: height and width of the images of the model.
    """
    height, width = image_size
    crop = {"height": height, "width": width}
    fraction = preprocessing.crop_fraction
    size = {name: math.floor(edge / fraction) for name, edge in crop.items()}
    found = {
        "image_processor_type": "ViTImageProcessor",
        "do_resize": True,
        "size": size,
        "resample": RESAMPLE[preprocessing.interpolation],
    }
    if preprocessing.resize == "shortest" and height == width:
        found["size"] = {"shortest_edge": size["height"]}
    if found["size"] != crop:
        found |= {
            "image_processor_type": "BitImageProcessor",
            "do_center_crop": True,
            "crop_size": crop,
        }
    return found
