"""Checkpoints of other libraries into a model: `load_checkpoint`.

First the plan, then every array is checked, and only then is the first weight
written. No more than three arrays are in memory at a time.
"""

import dataclasses
import warnings

from keras_vit.arguments import check_choice
from keras_vit.checkpoints import configs
from keras_vit.checkpoints.assignment import Plan, recognise
from keras_vit.checkpoints.fetch import fetch
from keras_vit.checkpoints.files import check_all, open_arrays
from keras_vit.checkpoints.presets import find as find_preset
from keras_vit.ops.resize import METHODS


def load_checkpoint(
    model,
    source,
    *,
    reset_head=None,
    drop_pre_logits=False,
    resize_positions=None,
    file_grid=None,
    check_numerics=True,
    sha256=None,
):
    """Loads weights that another library trained.

    The format is recognised from the names in the file:

    | format | files |
    |---|---|
    | official | `.npz`: ImageNet-21k, AugReg, SAM, GSAM |
    | big_vision | `.npz`: also of two towers, stacked for scan, MAP head |
    | timm | `.safetensors`: LayerScale, registers, QK-norm, `fc_norm` |
    | Hugging Face | `.safetensors` of ViT, DeiT and DINOv2 |
    | vit-pytorch | its `state_dict` as `.safetensors` |

    Everything in the file must have a place in the model and every weight of
    the model must be in the file; what does not fit is reported together, and
    the model is then as it was. Two things are settled on the way, with a
    warning: a head for another number of classes, or none, leaves the model
    with a head of zeros; weights of a download that nobody vouched for.

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
            `"corner_aligned"` as in the official code, `"bilinear"`,
            `"bicubic"` (see `resize_matrix`), or `None`: such a table is an
            error.
        file_grid: rows and columns of the file's position table, a pair,
            where the file is for rectangular images. Files do not say.
        check_numerics: whether the model must have the GELU and the epsilon
            that the weights were trained with.
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
        check_choice("resize_positions", resize_positions, METHODS)
    checkpoint = source
    if not isinstance(source, Checkpoint):
        checkpoint = Checkpoint.locate(source, sha256)
    if file_grid is not None:
        checkpoint = dataclasses.replace(checkpoint, grid=tuple(file_grid))
    with open_arrays(checkpoint.path) as arrays:
        plan = Plan(model, arrays, checkpoint)
        plan.settle_head(reset_head)
        plan.settle_pre_logits(drop_pre_logits)
        plan.fit_tokens(resize_positions)
        plan.find_missing()
        if check_numerics:
            plan.check_numerics()
        plan.raise_problems()
        check_all(arrays, plan.keys())
        plan.carry_out()
    for message in plan.notes:
        warnings.warn(message, stacklevel=2)


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
    """

    path: object
    activation: str | None = None
    epsilon: float | None = None
    image_size: tuple | None = None
    grid: tuple | None = None
    num_classes: int | str | None = "auto"

    @classmethod
    def locate(cls, source, sha256=None, variant=None):
        """Finds or downloads the file of a source."""
        preset = find_preset(source, variant)
        if preset is None:
            path = fetch(source, sha256)
            return cls(path, **configs.read(path))
        return cls(
            fetch(preset.location, sha256 or preset.sha256),
            activation=preset.activation,
            epsilon=preset.epsilon,
            image_size=(preset.image_size, preset.image_size),
            num_classes=preset.num_classes,
        )

    def facts(self):
        """Returns arguments of `ViT` that the weights are made for.

        Returns:
            A dict with `activation` and `epsilon`, and with `image_size` and
            `num_classes` if they are known.
        """
        with open_arrays(self.path) as arrays:
            form, prefix = recognise(self.path, arrays)
            gated = any(
                name.endswith(("mlp.weights_in.weight", "mlp.fc1_g.weight"))
                for name in arrays.shapes
            )
        facts = {
            "activation": "swiglu"
            if gated
            else self.activation or form.activation,
            "epsilon": self.epsilon or form.epsilon,
        }
        if self.image_size is not None:
            facts["image_size"] = self.image_size
        if self.num_classes != "auto":
            facts["num_classes"] = self.num_classes
        return facts
