"""A model from a file alone: `from_checkpoint`.

The file says what network it is of, as far as files do; that network is built
by `ViT`, with `distillation_model` around it for two heads, and filled by
`load_checkpoint`. Nothing is guessed in silence.
"""

import dataclasses
import os
import warnings
from typing import Literal

import keras

from keras_vit import layers
from keras_vit.arguments import (
    check_above_zero,
    check_grid,
    check_pair,
    check_positive,
)
from keras_vit.checkpoints.description import Description
from keras_vit.checkpoints.guards import CheckpointError
from keras_vit.checkpoints.load import Checkpoint, load_checkpoint
from keras_vit.checkpoints.two_towers import read_joint
from keras_vit.models.class_names import name_classes
from keras_vit.models.functional import functional
from keras_vit.models.vit import ViT
from keras_vit.ops.precision import is_half
from keras_vit.preprocessing import Preprocessing, get
from keras_vit.pretraining.distillation import distillation_model
from keras_vit.resize import change_resolution


def from_checkpoint(
    source: str | os.PathLike,
    *,
    image_size: int | tuple[int, int] | Literal["auto"] = "auto",
    num_classes: int | Literal["auto"] | None = "auto",
    num_channels: int | Literal["auto"] = "auto",
    embedding: bool = False,
    num_heads: int | None = None,
    file_grid: tuple[int, int] | None = None,
    activation: str | None = None,
    epsilon: float | None = None,
    preprocessing: Preprocessing | str | None = None,
    data_format: str | None = None,
    dtype: str | keras.DTypePolicy | None = None,
    name: str | None = None,
    read_config: bool = True,
    sha256: str | None = None,
    verbose: int = 1,
) -> keras.Model:
    """Opens a public Vision Transformer by its address or file.

    Width, depth, patch, pooling, prefix tokens, positions, LayerScale, norms,
    biases, activation, head, image size, the statistics of its images and the
    names of its classes are read off the file and the configuration beside it.
    What was found is printed as the call of `ViT` that makes the same by hand.

    What a file does not say and a guess could get wrong is an error that names
    the argument to pass; what is assumed because it is nearly always so (heads
    of width 64, pixels in [-1, 1]) is a warning. The bounds of
    `load_checkpoint` hold here too; besides, no network is built that has more
    than 256 blocks or more weights than the file.

    Args:
        source: path of a file, or of a folder as timm, transformers and
            KerasHub (its ViT) write them; an `https://`, `gs://` or
            `hf://owner/name@revision` address; or the name of a preset, see
            `presets`.
        image_size: height and width in pixels, an int or a pair. Positions are
            resampled as the library of the file does. Defaults to the size
            that the file is for.
        num_classes: number of classes: another number than the file's starts
            a head of zeros, `None` leaves the head out. Defaults to the head
            of the file. Where the file has two, as DeiT with a distillation
            token, all this is about both.
        num_channels: channels of the images: for another number than the
            file's, kernels are adapted as timm does and statistics likewise,
            with a warning. Defaults to those of the file.
        embedding: whether a file of images and texts (CLIP, SigLIP) gives the
            embedding of images that texts are compared with, behind the
            projection, together with the scale of the comparison; see
            `zero_shot`. By default its trunk is opened, as any other.
        num_heads: heads of the attention, where nothing says how many.
        file_grid: rows and columns of the file's positions, where it is for
            rectangular images and nothing says so.
        activation: of the MLPs, in place of what the configuration says.
        epsilon: of the layer norms, likewise.
        preprocessing: statistics of the images, likewise; see `ViT`.
        data_format: of the images, `"channels_last"` or `"channels_first"`.
            Defaults to `keras.config.image_data_format()`.
        dtype: dtype policy of all layers, by name or as an object.
        name: name of the model. Defaults to one made of the format.
        read_config: whether `config.json` and `preprocessor_config.json` in
            the folder of the file are read. Pass `False` where they belong to
            other weights.
        sha256: the SHA-256 of the file as hexadecimal digits, if you know it.
        verbose: 1 to print what was found, 0 for silence.

    Returns:
        A `keras.Model` from images, pixels in [0, 255], to logits, or to the
        representation if there is no head. Of two heads the logits are the
        mean, as in the library of the file, see
        `pretraining.distillation_model`.

    Raises:
        CheckpointError: if the file is damaged, of no known format, or does
            not say what network it is of. It is a `ValueError`.
        OSError: if the file cannot be had.

    Example:

    ```python
    model = keras_vit.from_checkpoint("hf://google/vit-base-patch16-224")
    print(keras_vit.classify(model, "zebra.jpg"))

    model = keras_vit.from_checkpoint("dinov2:B/14")
    model = keras_vit.from_checkpoint(
        "hf://timm/deit3_base_patch16_224.fb_in1k", num_classes=37
    )
    ```
    """
    if image_size != "auto":
        image_size = check_pair("image_size", image_size)
    if num_classes not in ("auto", None):
        check_positive("num_classes", num_classes)
    if num_channels != "auto":
        check_positive("num_channels", num_channels)
    if num_heads is not None:
        check_positive("num_heads", num_heads)
    if file_grid is not None:
        file_grid = check_grid("file_grid", file_grid)
    if epsilon is not None:
        check_above_zero("epsilon", epsilon)
    if embedding and num_classes not in ("auto", None):
        raise ValueError(
            "An embedding has no classes: pass `num_classes` or "
            f"`embedding=True`. Received: num_classes={num_classes!r}"
        )
    checkpoint = Checkpoint.locate(source, sha256, read_config=read_config)
    joint = read_joint(checkpoint) if embedding else None
    given = {
        "num_heads": num_heads,
        "file_grid": file_grid,
        "activation": activation,
        "epsilon": epsilon,
        "preprocessing": get(preprocessing),
        "image_size": None if image_size == "auto" else image_size,
        "embedding": embedding or None,
    }
    description, notes = checkpoint.describe(
        {key: value for key, value in given.items() if value is not None}
    )
    if num_channels not in ("auto", description.num_channels):
        own = description.preprocessing
        if preprocessing is None:
            own = own.adapted(num_channels)
        description = dataclasses.replace(
            description, num_channels=num_channels, preprocessing=own
        )
    if verbose:
        print(description, *([] if joint is None else [joint]), sep="\n")
    for note in notes:
        warnings.warn(note, stacklevel=2)
    try:
        model = build(
            description,
            num_classes=num_classes,
            data_format=data_format,
            dtype=dtype,
            name=name,
        )
    except ValueError as error:
        # What a configuration states may contradict the shapes.
        raise CheckpointError(
            f"The network of '{checkpoint.path}' cannot be built: {error}"
        ) from error
    load_checkpoint(
        model,
        checkpoint,
        reset_head=_resets(num_classes, description),
        drop_pre_logits=num_classes is None,
        # Of one grid, but for files that are resampled for every image.
        resize_positions=description.resampling,
        file_grid=file_grid,
        adapt_channels=num_channels != "auto",
        check_numerics=False,
    )
    if image_size not in ("auto", description.image_size):
        model = change_resolution(
            model, image_size, method=description.resampling
        )
    if joint is not None:
        return _with_embedding(model, joint)
    names = description.class_names
    # Those of the file's head, and not of a new one.
    if names and num_classes in ("auto", description.num_classes):
        model = name_classes(model, names)
    return model


def _with_embedding(model, joint):
    """Puts behind a trunk what joins it to a tower of texts."""
    tap = model.get_layer("pre_logits")
    x, width = tap.output, tap.output.shape[-1]
    if joint.kernel is not None:
        if joint.kernel.shape[0] != width:
            raise CheckpointError(
                f"The projection to the embedding takes {joint.kernel.shape[0]}"
                f" numbers, and '{model.name}' returns {width}."
            )
        dtype = tap.dtype_policy
        projection = keras.layers.Dense(
            joint.kernel.shape[1],
            use_bias=False,
            name="projection",
            # Compared by cosine, and no trunk follows: as a head.
            dtype="float32" if is_half(dtype.compute_dtype) else dtype,
        )
        x = projection(x)
        projection.kernel.assign(joint.kernel)
    if joint.scale is not None:
        x = layers.LogitScale(
            joint.scale, joint.bias, name="logit_scale", dtype=x.dtype
        )(x)
    return functional(model.input, x, name=model.name, dtype=model.dtype_policy)


def _resets(num_classes, description):
    # `True` asks for a head of zeros, or none; without a word where it is
    # wanted, or where the description has had it.
    if num_classes == "auto":
        return description.num_classes is None or None
    return num_classes != description.num_classes or None


def build(
    description: Description, *, num_classes="auto", **options
) -> keras.Model:
    """Builds the model that a `Description` is of, with weights as at birth.

    Args:
        description: what `Checkpoint.describe` returns.
        num_classes: number of classes, `None` for no head, or `"auto"` for
            those of the description.
        **options: `data_format`, `dtype` and `name` of `ViT`.
    """
    d = description
    classes = d.num_classes if num_classes == "auto" else num_classes
    distilled = d.distilled and classes is not None
    epsilon, dtype = d.epsilon, options.get("dtype")
    common = {"norm": d.norm, "epsilon": epsilon, "dtype": dtype}
    own = dict(d.attention)
    attention = getattr(layers, own.pop("layer", "SelfAttention"))
    plain = d.is_plain()

    def block(index):
        return layers.TransformerBlock(
            attention=attention(d.variant.num_heads, **own, **common),
            mlp=layers.MLP(
                d.variant.mlp_dim,
                activation=d.activation,
                epsilon=epsilon,
                dtype=dtype,
                **d.mlp,
            ),
            **d.block,
            **common,
        )

    model = ViT(
        d.variant,
        image_size=d.image_size,
        num_channels=d.num_channels,
        num_classes=None if distilled else classes,
        pooling=_pooling(d, dtype),
        representation_dim=None
        if num_classes is None
        else d.representation_dim,
        preprocessing=d.preprocessing,
        activation=d.activation
        if plain or (d.pooling == "attention" and not d.pool)
        else None,
        epsilon=epsilon,
        norm=d.norm,
        final_norm=d.final_norm,
        norm_after_pooling=d.norm_after_pooling,
        trunk=d.trunk or None,
        patch_encoder=layers.PatchEncoder(
            d.variant.hidden_dim, **d.patch_encoder, **common
        ),
        block=None if plain else block,
        **{**options, "name": options.get("name") or f"{d.format}_vit"},
    )
    if not distilled:
        return model
    return distillation_model(model, classes, name=options.get("name"))


def _pooling(description, dtype):
    d = description
    if not d.pool:
        return d.pooling
    own = {
        "num_heads": d.variant.num_heads,
        "mlp_dim": d.variant.mlp_dim,
        "activation": d.activation,
        "epsilon": d.epsilon,
    }
    return layers.AttentionPooling(**{**own, **d.pool}, dtype=dtype)
