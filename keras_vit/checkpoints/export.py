"""A model's weights under the names of other libraries: `export_checkpoint`.

The rules of `formats`, read from the other end.
"""

import json
import os
import pathlib
from typing import Literal

import keras
import numpy as np

from keras_vit.anatomy import Anatomy, preprocessing_of, weights_by_path
from keras_vit.arguments import check_choice
from keras_vit.checkpoints import configs, formats, writers
from keras_vit.checkpoints.formats.timm_describe import TRUNK as TIMM_TRUNK
from keras_vit.layers.residual_unit import trunk_arithmetic
from keras_vit.preprocessing import INCEPTION, Preprocessing, get
from keras_vit.threads import beside_training
from keras_vit.variants import ROOT_WIDTH

FORMATS = ("official", "big_vision", "timm", "huggingface")
POOLINGS = {
    "official": ("token", "average"),
    "big_vision": ("token", "average", "attention"),
    "timm": ("token", "average", "attention"),
    "huggingface": ("token",),
}


def export_checkpoint(
    model: keras.Model,
    path: str | os.PathLike,
    format: Literal["official", "big_vision", "timm", "huggingface"] = (
        "official"
    ),
    *,
    preprocessing: Preprocessing | str | None = None,
) -> pathlib.Path:
    """Writes a model's weights so that another library opens them.

    | format | what is written |
    |---|---|
    | `"official"` | an `.npz` file, as google-research/vision_transformer |
    | `"big_vision"` | an `.npz` file, as big_vision |
    | `"timm"` | a folder for `timm.create_model("local-dir:folder")` |
    | `"huggingface"` | a folder for transformers' `from_pretrained("folder")` |

    The folders hold `model.safetensors` and the `config.json` from which the
    other library builds the model. For transformers that is `ViTModel` or
    `ViTForImageClassification`; with LayerScale it is `Dinov2Model`, with
    registers `Dinov2WithRegistersModel`.

    Loading the file again gives back the same bits. A model that the other
    library could not compute (another activation or epsilon, registers in a
    format that has none) is refused: nothing is left out and nothing changed.
    timm has hybrids with the ResNets of its own names, and with its own
    `trunk`, see `ViT`.

    Every file takes its place whole or not at all. Another thread may train the
    model meanwhile.

    Args:
        model: a `keras.Model` made by `ViT`, or of the same layers under the
            same names.
        path: path of the `.npz` file, or of the folder.
        format: one of the names above.
        preprocessing: what the model's images are brought to before it, see
            `ViT`, if it does not do so itself. The folders must tell others;
            an `.npz` file is for images in [-1, 1] alone, `"inception"`.

    Returns:
        The path of the file of weights.

    Raises:
        ValueError: if the format has no place for a part of the model, or no
            such arithmetic, or if nothing says what images are brought to.
        OSError: if the file cannot be written.

    Example:

    ```python
    keras_vit.export_checkpoint(model, "pets.npz")
    keras_vit.export_checkpoint(model, "pets_timm", format="timm")
    ```
    """
    check_choice("format", format, FORMATS)
    anatomy = Anatomy(model)
    path = pathlib.Path(path)
    is_npz = format in ("official", "big_vision")
    if is_npz != (path.suffix == ".npz"):
        kind = "end in .npz" if is_npz else "be a folder"
        raise ValueError(
            f"`path` must {kind} for format={format!r}. Received: path='{path}'"
        )
    form = _form(anatomy, format)
    anatomy.preprocessing = _preprocessing(model, preprocessing, is_npz)
    _check_blocks(anatomy, format)
    _check_arithmetic(anatomy, format, form)
    _check_around(model, anatomy, format)
    _check_trunk(anatomy, format)
    arrays = beside_training(
        model, lambda: _arrays(model, anatomy, format, form)
    )
    if is_npz:
        writers.write_npz(path, arrays)
        return path
    # The weights last: a folder that has them is complete.
    if format == "timm":
        texts = {"config.json": configs.for_timm(anatomy)}
    else:
        is_dinov2 = form is not formats.HUGGING_FACE
        write = configs.for_dinov2 if is_dinov2 else configs.for_transformers
        texts = {
            "config.json": write(anatomy),
            "preprocessor_config.json": (
                configs.preprocessor_for_transformers(anatomy)
            ),
        }
    for name, config in texts.items():
        writers.write_text(path / name, json.dumps(config, indent=2) + "\n")
    # transformers asks for this note.
    metadata = {"format": "pt"}
    writers.write_safetensors(path / "model.safetensors", arrays, metadata)
    return path / "model.safetensors"


def _form(anatomy, format):
    """Returns the table of names: transformers has two families for ours."""
    if format == "huggingface" and anatomy.layer_scale is not None:
        return formats.dinov2_to_write(
            registers=anatomy.encoder.num_registers > 0,
            gated=anatomy.activation == "swiglu",
        )
    return {
        "official": formats.PRE_LINEN,
        "big_vision": formats.LINEN,
        "timm": formats.TIMM,
        "huggingface": formats.HUGGING_FACE,
    }[format]


def _preprocessing(model, given, is_npz):
    """What images are brought to, by the model or before it."""
    own, given = preprocessing_of(model), get(given)
    if own is None and given is None and is_npz:
        return INCEPTION  # all that such a file can be for
    if own is None and given is None:
        raise ValueError(
            f"'{model.name}' takes images that are prepared already, and "
            "nothing says how: others would prepare them in another way. Pass "
            "`preprocessing`, such as 'imagenet', or 'inception' for [-1, 1]. "
            "Received: preprocessing=None"
        )
    if own is not None and given is not None:
        raise ValueError(
            f"`preprocessing` must be left out for '{model.name}', which does "
            f"its own: {own}. Received: preprocessing={given}"
        )
    return own or given


def _check_blocks(anatomy, format):
    """Raises if the blocks compute what no other library of these does."""
    first = anatomy.blocks[0]
    facts = {
        "attention": lambda x: type(x.attention).__name__,
        "mlp": lambda x: type(x.mlp).__name__,
        "num_heads": lambda x: getattr(x.attention, "num_heads", None),
        "head_dim": lambda x: (
            getattr(x.attention, "head_dim", None)
            or anatomy.hidden_dim // anatomy.num_heads
        ),
        "norm_after": lambda x: x.norm_after,
        "norm": lambda x: x.norm,
        "layer_scale": lambda x: x.layer_scale is not None,
        "qk_norm": lambda x: getattr(x.attention, "qk_norm", False),
        "output_norm": lambda x: getattr(x.attention, "output_norm", False),
        "num_kv_heads": lambda x: getattr(x.attention, "num_kv_heads", None),
        "use_bias": lambda x: getattr(x.attention, "use_bias", True),
        "use_key_bias": lambda x: getattr(x.attention, "use_key_bias", True),
        "use_output_bias": lambda x: getattr(
            x.attention, "use_output_bias", True
        ),
        "bias of the MLP": lambda x: getattr(x.mlp, "use_bias", True),
        "norm of the MLP": lambda x: getattr(x.mlp, "norm", None) is not None,
        "gated": lambda x: getattr(x.mlp, "gated", False),
    }
    plain = {
        "attention": "SelfAttention",
        "mlp": "MLP",
        "head_dim": anatomy.hidden_dim // anatomy.num_heads,
        "norm_after": False,
        "norm": "layer",
        "output_norm": False,
        "num_kv_heads": None,
        "use_key_bias": True,
        "use_output_bias": True,
        "bias of the MLP": True,
        "norm of the MLP": False,
        "gated": False,
    }
    for name, fact in facts.items():
        value = fact(first)
        odd = [x for x in anatomy.blocks if fact(x) != value]
        if odd:
            raise ValueError(
                f"The format {format!r} has one kind of block. Received: "
                f"{name}={value!r} in '{first.name}' and {fact(odd[0])!r} in "
                f"'{odd[0].name}'"
            )
        if name in plain and value != plain[name]:
            raise ValueError(
                f"The format {format!r} has no such blocks. Received: "
                f"{name}={value!r} in '{first.name}', expected "
                f"{plain[name]!r}"
            )


def _check_around(model, anatomy, format):
    """Raises if what stands around the blocks is of no such library."""
    encoder = anatomy.encoder
    names = {layer.name: layer for layer in model.layers}
    problems = {
        "norm_tokens": encoder.norm_tokens,
        "norm_after": encoder.norm_after,
        "norm_before": encoder.norm_before,
        "a projection without bias": not encoder.use_bias,
        "norm_after_pooling": "pooling_norm" in names,
        "no final norm": not names["encoder_norm"].weights
        and not anatomy.norm_after_pooling,
        # big_vision computes such positions; the others have a table.
        f"position={encoder.position!r}": encoder.position == "sincos_2d"
        and format in ("timm", "huggingface"),
    }
    for name, found in problems.items():
        if found and not (name == "norm_after_pooling" and format == "timm"):
            raise ValueError(
                f"The format {format!r} has no place for this part of "
                f"'{model.name}': {name}"
            )
    own = anatomy.preprocessing
    npz = format in ("official", "big_vision")
    if npz and {*own.mean, *own.std} != {0.5}:
        raise ValueError(
            f"Files of the format {format!r} are for images in [-1, 1], and "
            "have no place to say otherwise. Received: a model of "
            f"mean={own.mean}, std={own.std}"
        )


def _check_trunk(anatomy, format):
    """Raises if the ResNet of a hybrid is none that the format knows."""
    if anatomy.stages is None or format == "huggingface":
        return  # Hugging Face has no names for one.
    own = TIMM_TRUNK if format == "timm" else {}
    right = trunk_arithmetic(**own)
    for given in anatomy.trunks:
        if given != right:
            raise ValueError(
                f"The format {format!r} has ResNets of {right} alone: "
                f"`ViT(..., trunk={own})`. Received: trunk={given}"
            )
    if format != "timm":
        return
    known = ", ".join(map(str, configs.TIMM_HYBRIDS))
    if anatomy.stages not in configs.TIMM_HYBRIDS:
        raise ValueError(
            f"The format 'timm' has ResNets of the stages {known} alone. "
            f"Received: stages={anatomy.stages}"
        )
    if anatomy.root_width != ROOT_WIDTH:
        raise ValueError(
            f"The format 'timm' has ResNets of {ROOT_WIDTH} channels in the "
            f"stem alone. Received: {anatomy.root_width}"
        )


def _check_arithmetic(anatomy, format, form):
    activations = {"gelu_tanh"}
    if format in ("timm", "huggingface"):
        activations |= {"gelu"}
    if format == "huggingface" and form is not formats.HUGGING_FACE:
        activations |= {"swiglu"}
    allowed = {
        "activation": activations,
        "pooling": set(POOLINGS[format]),
    }
    given = {"activation": anatomy.activation, "pooling": anatomy.pooling}
    for name, value in given.items():
        if value not in allowed[name]:
            choices = ", ".join(map(repr, sorted(allowed[name])))
            raise ValueError(
                f"The format {format!r} knows {name} {choices} alone. "
                f"Received: {name}={value!r}"
            )
    same = len(anatomy.epsilons) == 1
    if not same or (format != "huggingface" and anatomy.epsilons != {1e-6}):
        rule = "one epsilon" if format == "huggingface" else "epsilon 1e-06"
        raise ValueError(
            f"The format {format!r} has {rule} in all its layer norms. "
            f"Received: {sorted(anatomy.epsilons)}"
        )


def _arrays(model, anatomy, format, form):
    weights = {
        path: keras.ops.convert_to_numpy(weight).astype("float32", copy=False)
        for path, weight in weights_by_path(model).items()
    }
    left = dict.fromkeys(sorted(weights))
    refused = []
    if form is formats.HUGGING_FACE:
        # These names are those of DeiT, and a classifier looks past the pooler.
        refused += [path for path in left if path == formats.REGISTERS]
        if anatomy.num_classes is not None:
            refused += [path for path in left if path.startswith("pre_logits/")]
    elif format == "huggingface":
        # DINOv2's head takes the mean of the patches too, and has no pooler.
        refused += [x for x in left if x.startswith(("head/", "pre_logits/"))]
    arrays = {}
    for rule in form.rules:
        for path in list(left):
            key = rule.key_for(path)
            if key is None or path not in left or path in refused:
                continue
            paths = rule.match(key)
            if not all(path in left for path in paths):
                continue
            values = [weights[path] for path in paths]
            array = rule.layout.write(values, anatomy.patch_size)
            arrays[_as_written(key, form, anatomy)] = array
            for path in paths:
                del left[path]
    if left:
        raise ValueError(
            f"The format {format!r} has no place for: {', '.join(left)}"
        )
    for key, array in arrays.items():
        if key.endswith(("pos_embedding", "pos_embed", "position_embeddings")):
            arrays[key] = _table(array, anatomy, format)[None]
    return arrays


def _table(table, anatomy, format):
    """The position table with a row for each prefix token that wants one."""
    encoder = anatomy.encoder
    has_row = encoder.cls_token and encoder.position_of_cls_token
    zeros = np.zeros((1, table.shape[-1]), "float32")
    if has_row and format == "timm" and encoder.num_registers:
        # timm gives every prefix token a row, or none.
        registers = np.repeat(zeros, encoder.num_registers, axis=0)
        return np.concatenate([table[:1], registers, table[1:]])
    if encoder.cls_token and not has_row and format != "timm":
        return np.concatenate([zeros, table])
    return table


def _as_written(key, form, anatomy):
    """The key that stands for a rule's in the network at hand."""
    if form is formats.TIMM and anatomy.stages == ():
        return key.replace(".backbone.stem.", ".backbone.")
    # `ViTForImageClassification` has the backbone under a name of its own.
    if form is not formats.HUGGING_FACE or anatomy.num_classes is None:
        return key
    return key if key.startswith("classifier.") else f"vit.{key}"
