"""The same weights for images, or patches, of another size.

A functional model is rebuilt from its own configuration with another input,
and its weights are carried over; only position tables, whose shape is that of
a grid, are resampled, and patch kernels if the patch changes.
"""

import copy
import dataclasses
import warnings

import keras

from keras_vit.anatomy import (
    check_functional,
    find_layers,
    image_input,
    only_layer,
)
from keras_vit.arguments import check_choice, check_pair
from keras_vit.layers import PatchEncoder, Patches
from keras_vit.ops.resize import METHODS, Method
from keras_vit.resize.weights import carry_flags, carry_weights


def change_resolution(
    model: keras.Model,
    image_size: int | tuple[int, int],
    method: Method = "corner_aligned",
) -> keras.Model:
    """Returns the same model for images of another size.

    Architecture, names, dtype policies and trainable flags stay, and so do all
    weights but the grid rows of position tables, which are resampled in two
    dimensions; rows of class tokens are kept as they are. Tables of relative
    biases are resampled as in BEiT, see `RelativeBiasAttention`. Any functional
    model
    with one image input will do: a ViT, a hybrid, a model with a head of your
    own. The paper fine-tunes at a higher resolution in this way; going down
    without fine-tuning costs accuracy (384 to 224 pixels: about ten points on
    ImageNet).

    A compiled model comes back compiled in the same way, but its optimizer
    starts anew, with a warning if that loses anything. LoRA comes back merged
    into the kernels, and what it held still learns again, as in a saved file;
    layers that were frozen stay frozen.

    Args:
        model: a functional `keras.Model`.
        image_size: the new height and width in pixels, an int or a pair.
        method: how tables are resampled: `"corner_aligned"` as in the official
            code, `"bilinear"` or `"bicubic"` as in timm, `"torch_bicubic"` as
            in transformers, `"corner_aligned_bicubic"` as in torchvision; see
            `keras_vit.ops.resize.resize_matrix`.

    Returns:
        A new `keras.Model`, which shares nothing with `model`.

    Raises:
        ValueError: if the model has no image input or more than one, or holds
            weights whose shape depends on the image size and that are no
            position tables, as a dense layer on flattened tokens.

    Example:

    >>> model = keras_vit.ViT("Ti/16", image_size=224)
    >>> larger = keras_vit.change_resolution(model, (384, 256))
    >>> larger.output_shape, larger.count_params() - model.count_params()
    ((None, 1000), 36096)

    Reference:
        - [Dosovitskiy et al., 2021](https://arxiv.org/abs/2010.11929),
          section 3.2; `vit_jax/checkpoint.py`, `interpolate_posembed`
    """
    check_choice("method", method, METHODS)
    size = check_pair("image_size", image_size)
    rebuilt = rebuild(model, size, method=method)
    _compile(model, rebuilt)
    return rebuilt


def change_patch_size(
    model: keras.Model,
    patch_size: int | tuple[int, int],
    image_size: int | tuple[int, int] | None = None,
    method: Method = "bilinear",
) -> keras.Model:
    """Returns the same model with patches of another size.

    The patch kernel is resized by the pseudo-inverse of the resampling of
    images, so that a patch and its enlarged copy give the same token; for
    smaller patches this holds as nearly as it can. On images of the same size
    the grid changes too, and position tables are resampled as by
    `change_resolution`.

    Args:
        model: a functional `keras.Model` with one `Patches` layer, whose
            output goes straight into a `PatchEncoder`.
        patch_size: the new edge of a patch in pixels, an int or a pair.
        image_size: the new height and width of images. Defaults to those that
            the model has.
        method: how pixels are resampled, see `change_resolution`.

    Returns:
        A new `keras.Model`, which shares nothing with `model`.

    Raises:
        ValueError: as `change_resolution`, or if the model has not one
            `Patches` layer.

    Example:

    >>> model = keras_vit.ViT("Ti/16", image_size=64)
    >>> smaller = keras_vit.resize.change_patch_size(model, 8)
    >>> smaller.get_layer("patches").output.shape
    (None, 8, 8, 192)

    Reference:
        - [Beyer et al., 2023](https://arxiv.org/abs/2212.08013) (FlexiViT),
          section 3.4
    """
    check_choice("method", method, METHODS)
    only_layer(model, Patches, deep=True)
    if image_size is not None:
        image_size = check_pair("image_size", image_size)
    patch_size = check_pair("patch_size", patch_size)
    rebuilt = rebuild(model, image_size, patch_size, pixel_method=method)
    _compile(model, rebuilt)
    return rebuilt


def rebuild(
    model,
    image_size=None,
    patch_size=None,
    method="corner_aligned",
    pixel_method="bilinear",
):
    """Returns a copy of a model, for another size if one is given.

    The two functions above without their checks, and not compiled.
    """
    check_functional(model)
    config = copy.deepcopy(model.get_config())
    old_size, data_format = image_input(model)
    change = _Change(
        old_size, image_size or old_size, data_format, patch_size, {}
    )
    _note_grids(model, change)
    _edit(config, change)
    try:
        rebuilt = type(model).from_config(config, _classes(model))
    except ValueError as error:
        raise ValueError(
            f"'{model.name}' cannot be rebuilt for images of {image_size}: "
            f"{error}"
        ) from error
    carry_weights(model, rebuilt, method, pixel_method)
    carry_flags(model, rebuilt)
    return rebuilt


@dataclasses.dataclass(frozen=True)
class _Change:
    """What becomes of a model: sizes, patches, and the grids behind them."""

    old_size: tuple
    new_size: tuple
    data_format: str
    patch_size: tuple | None
    grids: dict


def _note_grids(model, change):
    """Finds out which grid of tokens becomes which, for layers told of it."""
    for layer in model.layers:
        if isinstance(layer, PatchEncoder):
            stem = keras.Model(model.inputs, layer.input)
            config = stem.get_config()
            _edit(config, change)
            new_stem = type(stem).from_config(config, _classes(stem))
            old, new = (x.output_shape[1:3] for x in (stem, new_stem))
            change.grids[tuple(old)] = tuple(new)
        elif isinstance(layer, keras.Model):
            _note_grids(layer, change)


def _classes(model):
    return {
        type(layer).__name__: type(layer)
        for layer in find_layers(model, keras.layers.Layer)
    }


def _edit(config, change):
    """Changes what depends on the image size in the config of a model."""
    at = 2 if change.data_format == "channels_first" else 1
    for layer in config["layers"]:
        # What a layer was built for; it shall be built for what comes now.
        layer.pop("build_config", None)
        own = layer["config"]
        if isinstance(own, dict):
            for name in ("lora_rank", "lora_alpha"):
                own.pop(name, None)
        kind = layer["class_name"]
        if kind == "InputLayer":
            shape = list(own["batch_shape"])
            size = tuple(shape[at : at + 2])
            if len(shape) == 4 and size == change.old_size:
                shape[at : at + 2] = change.new_size
                own["batch_shape"] = tuple(shape)
        elif kind == "PatchEncoder":
            own["grid_size"] = None
        elif kind == "Patches" and change.patch_size is not None:
            own["patch_size"] = change.patch_size
        elif isinstance(own, dict) and "layers" in own:
            own.pop("build_input_shape", None)
            _edit(own, change)
        else:
            _replace_grids(own, change.grids)


def _replace_grids(config, grids):
    """Tells a layer, or the layers in it, of the new grid."""
    if isinstance(config, dict):
        old = config.get("grid_size")
        if isinstance(old, (list, tuple)) and tuple(old) in grids:
            config["grid_size"] = grids[tuple(old)]
        for value in config.values():
            _replace_grids(value, grids)


def _compile(old, new):
    if not old.compiled:
        return
    new.compile_from_config(old.get_compile_config())
    optimizer = old.optimizer
    if optimizer is not None and int(optimizer.iterations) > 0:
        warnings.warn(
            f"The optimizer of the new model starts anew; that of "
            f"'{old.name}' has made {int(optimizer.iterations)} steps.",
            stacklevel=3,
        )
