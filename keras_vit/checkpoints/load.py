"""Checkpoints of other libraries into a model: `load_checkpoint`.

First the plan, then every array is checked, and only then is the first weight
written. No more than three arrays are in memory at a time.
"""

import dataclasses
import math
import os
import warnings

import keras

from keras_vit.anatomy import image_input
from keras_vit.arguments import check_choice, check_grid
from keras_vit.checkpoints import advice, class_names, configs, formats
from keras_vit.checkpoints.assignment import Plan
from keras_vit.checkpoints.containers import open_weights
from keras_vit.checkpoints.evidence import Evidence, UndescribedError
from keras_vit.checkpoints.fetch import fetch
from keras_vit.checkpoints.files import check_all
from keras_vit.checkpoints.guards import CheckpointError, shown
from keras_vit.checkpoints.presets import find as find_preset
from keras_vit.ops.resize import METHODS
from keras_vit.preprocessing import NAMED, Preprocessing


def load_checkpoint(
    model: keras.Model,
    source: str | os.PathLike,
    *,
    reset_head: bool | None = None,
    drop_pre_logits: bool = False,
    resize_positions: str | None = None,
    file_grid: tuple[int, int] | None = None,
    adapt_channels: bool = False,
    check_numerics: bool = True,
    read_config: bool = True,
    sha256: str | None = None,
) -> None:
    """Loads weights that another library trained.

    The format is recognised from the names in the file:

    | format | files |
    |---|---|
    | official | `.npz`: ImageNet-21k, AugReg, SAM, GSAM |
    | big_vision | `.npz`: also of two towers, stacked for scan, MAP head |
    | timm | `.safetensors`: LayerScale, registers, QK-norm, `fc_norm` |
    | Hugging Face | `.safetensors` of ViT, DeiT and DINOv2 |
    | vit-pytorch | its `state_dict` as `.safetensors` |
    | KerasHub | a preset's folder: `model.weights.h5` of ViT |

    Everything in the file must have a place in the model and every weight of
    the model must be in the file; what does not fit is reported together, and
    the model is then as it was. Two things are settled on the way, with a
    warning: a head for another number of classes, or none, leaves the model
    with a head of zeros; weights of a download that nobody vouched for.

    Time and memory of a load are bounded by the model and the size of the
    file, however it was made. A file is refused if it has more than 10,000
    arrays, an array of another shape than the model's, a position table of
    more than 16,448 rows that is also 16 times longer than the model's, or if
    it unpacks to over 64 MiB and 100 times its own size.

    Args:
        model: a `keras.Model` made by `ViT`, or of the same layers under the
            same names.
        source: path of a file; an `https://`, `gs://` or
            `hf://owner/name@revision` address; or the name of a preset, see
            `presets`.
        reset_head: whether the model keeps none of the file's head and gets
            one of zeros. Defaults to doing so, with a warning, only where the
            two do not fit; `False` makes that an error.
        drop_pre_logits: whether a dense layer before the head that the file
            has and the model lacks is left out. Fine-tuning in the paper does
            so.
        resize_positions: how a position table for another grid is resampled:
            `"as_trained"`, as the library of the file does it;
            one of `"corner_aligned"`, `"bilinear"`, `"smooth_bilinear"`,
            `"bicubic"`, `"torch_bicubic"` and `"corner_aligned_bicubic"`, see
            `resize_matrix`; or `None`: such a table is an error.
        file_grid: rows and columns of the file's position table, a pair,
            where the file is for rectangular images. Files do not say.
        adapt_channels: whether a model for images of other channels than the
            file's gets kernels for them, with a warning: their sum for one
            channel, else the kernels in turn, scaled, as timm does.
        check_numerics: whether the model must have the GELU and the epsilon
            that the weights were trained with.
        read_config: whether `config.json` and `preprocessor_config.json` in
            the folder of the file are read. Pass `False` where they belong to
            other weights.
        sha256: the SHA-256 of the file as hexadecimal digits, if you know it.

    Raises:
        CheckpointError: if the file is damaged or does not fit. It is a
            `ValueError`.
        OSError: if the file cannot be had.

    Example:

    ```python
    model = keras_vit.ViT("B/16", image_size=224, num_classes=1000)
    keras_vit.load_checkpoint(
        model, "gs://vit_models/imagenet21k+imagenet2012/ViT-B_16-224.npz"
    )
    ```

    A DINOv2 backbone, whose blocks have LayerScale, at half its resolution:

    ```python
    def block(index):
        return keras_vit.layers.TransformerBlock(
            num_heads=12, mlp_dim=3072, activation="gelu", layer_scale=1.0
        )

    model = keras_vit.ViT("B/14", image_size=252, num_classes=None, block=block)
    keras_vit.load_checkpoint(
        model, "hf://facebook/dinov2-base", resize_positions="bicubic"
    )
    ```
    """
    if resize_positions is not None:
        check_choice(
            "resize_positions", resize_positions, ("as_trained", *METHODS)
        )
    if file_grid is not None:
        file_grid = check_grid("file_grid", file_grid)
    checkpoint = source
    if not isinstance(source, Checkpoint):
        checkpoint = Checkpoint.locate(source, sha256, read_config=read_config)
    if file_grid is not None:
        checkpoint = dataclasses.replace(checkpoint, grid=file_grid)
    with open_weights(checkpoint.path) as arrays:
        plan = Plan(model, arrays, checkpoint, adapt_channels)
        plan.settle_head(reset_head)
        plan.settle_pre_logits(drop_pre_logits)
        description = None
        if check_numerics or resize_positions == "as_trained":
            size, _ = image_input(model)
            size = {} if None in size else {"image_size": size}
            description = checkpoint.description_or_none(**size)
        if resize_positions == "as_trained":
            resize_positions = (description or plan.format).resampling
        plan.fit_tokens(resize_positions)
        plan.find_missing()
        if check_numerics:
            plan.check_numerics(description)
        plan.raise_problems()
        check_all(arrays, plan.keys())
        plan.carry_out()
    for message in plan.notes:
        warnings.warn(message, stacklevel=2)


def load_into_new(model, checkpoint, drop_pre_logits=False):
    """Loads weights into a model that a builder has just made for them.

    Warns if the model is for smaller images than the weights.
    """
    load_checkpoint(
        model,
        checkpoint,
        # Without a head there is nothing to ask about.
        reset_head=None if "head" in [x.name for x in model.layers] else True,
        drop_pre_logits=drop_pre_logits,
        resize_positions="as_trained",
        adapt_channels=True,
    )
    size, _ = image_input(model)
    trained_at = checkpoint.image_size
    if (
        None not in size
        and trained_at
        and math.prod(size) < math.prod(trained_at)
    ):
        warnings.warn(
            f"These weights were trained at {trained_at} pixels; at "
            f"{size} they are less accurate until fine-tuned. Pass "
            f"`image_size={trained_at}` to use them as they are.",
            stacklevel=3,
        )


@dataclasses.dataclass(frozen=True)
class Checkpoint:
    """A file of weights, and what is known of it without reading the arrays.

    Args:
        path: path of the file.
        activation: of the MLPs, or `None` to go by the format.
        epsilon: of the layer norms, or `None` to go by the format.
        image_size: height and width in pixels, or `None`.
        grid: rows and columns of its position table, or `None`.
        num_classes: classes of its head, `None` for no head, or `"auto"` if
            that is not known before it is opened.
        preprocessing: what its pixels were brought to, or `None` if nothing
            says so.
        config: what `config.json` beside it holds.
        preprocessor: what `preprocessor_config.json` beside it holds.
    """

    path: object
    activation: str | None = None
    epsilon: float | None = None
    image_size: tuple | None = None
    grid: tuple | None = None
    num_classes: int | str | None = "auto"
    preprocessing: Preprocessing | None = None
    config: dict | None = None
    preprocessor: dict | None = None

    @classmethod
    def locate(cls, source, sha256=None, variant=None, read_config=True):
        """Finds or downloads the file of a source.

        Args:
            source: as `load_checkpoint` takes it.
            sha256: the hash that the file must have, or `None`.
            variant: name of the variant that a builder makes, which must be
                all there is to the network of a preset; or `None`.
            read_config: whether what lies beside the file is read.
        """
        preset = find_preset(source, variant)
        if preset is None:
            path = fetch(source, sha256)
            return cls(path, **configs.read(path) if read_config else {})
        if variant is not None and not preset.plain:
            raise ValueError(
                "`weights` must be of a network that `ViT(variant)` makes, "
                "and this one has other blocks, tokens or another pooling. "
                f"Open it with `keras_vit.from_checkpoint({preset.name!r})`, "
                "or build its layers yourself and use `load_checkpoint`. "
                f"Received: weights={source!r}"
            )
        path = fetch(preset.location, sha256 or preset.sha256)
        stated = {
            "activation": preset.activation,
            "epsilon": preset.epsilon,
            "image_size": (preset.image_size, preset.image_size),
            "num_classes": preset.num_classes,
        }
        beside = configs.read(path) if read_config else {}
        return cls(path, **{**beside, **stated})

    def describe(self, given=None):
        """Returns what network the file is of, and what was assumed.

        Args:
            given: dict of what the caller says, see `Evidence`.

        Returns:
            A `Description` and a list of sentences.

        Raises:
            CheckpointError: if the file does not say.
        """
        with open_weights(self.path) as arrays:
            form, prefix = formats.of_file(self.path, arrays.shapes)
            shapes = {
                key.removeprefix(prefix): shape
                for key, shape in arrays.shapes.items()
                # Behind a prefix like `params/` stands something else.
                if key.startswith(prefix) or not prefix.endswith("/")
            }
        evidence = Evidence(
            path=str(self.path),
            shapes=shapes,
            config=self.config or {},
            preprocessor=self.preprocessor or {},
            given={**self._stated(), **(given or {})},
            image_size=self.image_size,
        )
        if form.describe is None:
            raise CheckpointError(
                f"'{self.path}' is of the format {form.name}, of which no "
                "network can be made from the file alone: build it with `ViT` "
                "or `ResNet`, and use `load_checkpoint`."
            )
        try:
            description = form.describe(evidence)
        except CheckpointError:
            raise
        except (ArithmeticError, LookupError, TypeError, ValueError) as error:
            # Shapes or a configuration of no network: what they broke first.
            raise UndescribedError(
                f"'{self.path}' has the names of {form.name}, but its shapes "
                "or its configuration are of no such network: "
                f"{shown(error, 300)}"
            ) from error
        description.check_size(self.path, arrays.shapes)
        return self._completed(description, evidence), evidence.notes

    def _completed(self, description, evidence):
        """Adds what formats need not ask for."""
        preprocessing = description.preprocessing
        given = evidence.given.get("preprocessing")
        # A name says what the statistics are, an object all there is to say.
        if given is None or given in NAMED.values():
            try:
                own = advice.read(evidence.config, evidence.preprocessor)
                preprocessing = dataclasses.replace(preprocessing, **own)
            except (LookupError, TypeError, ValueError) as error:
                raise CheckpointError(
                    f"The configuration beside '{self.path}' cannot be right: "
                    f"{error}"
                ) from error
        count = description.num_classes
        names = class_names.of_config(evidence.config, count)
        if names is None and self.num_classes == count:
            # A preset: all with so many classes are of ImageNet.
            names = class_names.imagenet(count)
        return dataclasses.replace(
            description,
            preprocessing=preprocessing,
            class_names=names,
            stated=evidence.stated,
        )

    def description_or_none(self, **given):
        """Returns what network the file is of, as far as it says so itself.

        Args:
            **given: what the caller says, see `Evidence`.
        """
        form = self.format()
        if form.describe is None:
            return None
        try:
            # Of no matter here: a model knows how many heads it has.
            return self.describe({"num_heads": 1, **given})[0]
        except UndescribedError:
            return None

    def format(self):
        """Returns the `Format` of the names in the file."""
        with open_weights(self.path) as arrays:
            return formats.of_file(self.path, arrays.shapes)[0]

    def _stated(self):
        """What a preset, or a caller, says of its file."""
        stated = {
            "activation": self.activation,
            "epsilon": self.epsilon,
            "preprocessing": self.preprocessing,
            "file_grid": self.grid,
        }
        return {key: value for key, value in stated.items() if value}

    def facts(self, activation=None):
        """Returns arguments of `ViT` that the weights are made for.

        Args:
            activation: what the caller says it is, or `None`.

        Returns:
            A dict with `activation` and `epsilon`, and with `trunk`,
            `image_size`, `num_classes` and `preprocessing` as far as they are
            known.
        """
        form = self.format()
        facts = {
            "activation": self.activation or form.activation,
            "epsilon": self.epsilon or form.epsilon,
        }
        if self.image_size is not None:
            facts["image_size"] = self.image_size
        if self.num_classes != "auto":
            facts["num_classes"] = self.num_classes
        given = {} if activation is None else {"activation": activation}
        description = self.description_or_none(**given)
        if description is None:
            # `ViT` is told by its own arguments what the network is.
            return facts
        own = {
            name: getattr(description, name)
            for name in (
                "activation",
                "epsilon",
                "trunk",
                "image_size",
                "num_classes",
                "preprocessing",
            )
        }
        if description.distilled:
            own["num_classes"] = None  # A `ViT` has one head.
        return own | facts | {"activation": description.activation}
