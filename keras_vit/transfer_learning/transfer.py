"""A trained model, made ready for your own task in one call.

Dosovitskiy et al. 2021, section 3.2: a zero-initialised head replaces the
pre-trained one, and images may be larger than before. The official
`vit_jax/checkpoint.py` also drops the dense layer in front of the head.
`freeze` and `enable_lora` add what the paper does not have: frozen parts and
LoRA.
"""

from collections.abc import Sequence
from typing import Literal

import keras

from keras_vit.anatomy import check_functional, find_layers, layer_names
from keras_vit.arguments import check_choice, check_pair, check_positive
from keras_vit.models.class_names import name_classes
from keras_vit.models.ends import head, identity
from keras_vit.models.functional import functional
from keras_vit.ops.resize import METHODS
from keras_vit.resize.resolution import rebuild
from keras_vit.transfer_learning.freezing import freeze as freeze_layers
from keras_vit.transfer_learning.lora import enable_lora

TAP = "pre_logits"


def transfer(
    model: keras.Model,
    num_classes: int,
    image_size: int | tuple[int, int] | None = None,
    *,
    freeze: str | Sequence[str] | None = None,
    freeze_up_to: str | None = None,
    lora_rank: int | None = None,
    lora_alpha: float | None = None,
    drop_pre_logits: bool = True,
    head_bias: float = 0.0,
    classifier_activation: str | None = None,
    class_names: Sequence[str] | None = None,
    method: Literal["corner_aligned", "bilinear", "bicubic"] = "corner_aligned",
    name: str | None = None,
) -> keras.Model:
    """Returns a trained model with a new head, for another task.

    Everything up to `pre_logits` is copied with its weights, and one dense
    layer initialised to zero, `head`, replaces what comes after it. The result
    is not compiled. All its layers learn unless they are frozen here, even
    those that are frozen in `model`:

    | to train | pass |
    |---|---|
    | everything, as the paper does | nothing |
    | the upper half | `freeze_up_to="block_05"` |
    | the head, a linear probe | `freeze_up_to="pre_logits"` |
    | LoRA in the blocks, and the head | `lora_rank=8` |
    | LoRA in the upper half, and the head | both |

    Args:
        model: a functional `keras.Model` with one image input and a layer
            named `pre_logits`: a ViT, a hybrid or a ResNet, built here or
            loaded from a file, or a model of your own layers. It is not
            changed.
        num_classes: number of classes of the new task.
        image_size: the new height and width in pixels, an int or a pair.
            Defaults to that of `model`. Position tables are resampled, see
            `change_resolution`.
        freeze: name or names of layers to freeze, see `freeze`.
        freeze_up_to: name of a layer to freeze with all layers before it. Give
            either this or `freeze`.
        lora_rank: rank of LoRA, or `None` for none, see `enable_lora`. With
            LoRA the other weights of the blocks are frozen.
        lora_alpha: factor of LoRA. Defaults to `lora_rank`.
        drop_pre_logits: whether to leave out a dense layer `pre_logits`, as in
            the official code.
        head_bias: initial value of the biases of the head.
        classifier_activation: activation of the head, as a Keras name.
            Defaults to none: the model returns logits.
        class_names: what the classes are called, in the order of the labels,
            as `ImageFolder.class_names`; see `name_classes`.
        method: how position tables are resampled, see `change_resolution`.
        name: name of the new model. Defaults to that of `model`.

    Returns:
        A new `keras.Model`, which shares nothing with `model`.

    Raises:
        ValueError: if an argument breaks its rule; if `model` has no layer
            `pre_logits`; as in `change_resolution`, `freeze` and
            `enable_lora`.

    Example:

    >>> trained = keras_vit.ViT("Ti/16", image_size=32, num_classes=100)
    >>> model = keras_vit.transfer(trained, num_classes=5, image_size=(48, 64))
    >>> model.output_shape
    (None, 5)

    ```python
    trained = keras_vit.ViT("B/16", weights="augreg_i21k")
    model = keras_vit.transfer(trained, num_classes=37, image_size=384)
    model.compile(**keras_vit.recipes.finetune(steps=500))
    ```

    Reference:
        - [Dosovitskiy et al., 2021](https://arxiv.org/abs/2010.11929),
          section 3.2; `vit_jax/checkpoint.py`, `load_pretrained`
    """
    check_positive("num_classes", num_classes)
    check_choice("method", method, METHODS)
    if image_size is not None:
        image_size = check_pair("image_size", image_size)
    if lora_rank is None and lora_alpha is not None:
        raise ValueError(
            "`lora_alpha` needs `lora_rank`. Received: lora_rank=None, "
            f"lora_alpha={lora_alpha!r}"
        )
    tap = _tap_of(model)
    replaced = drop_pre_logits and isinstance(tap, keras.layers.Dense)
    # Cut the head off first: on flattened tokens it fits one image size alone.
    trunk = keras.Model(
        model.input, tap.input if replaced else tap.output, name=model.name
    )
    trunk = rebuild(trunk, image_size, method=method)
    for layer in find_layers(trunk, keras.layers.Layer):
        # On TensorFlow Keras skips a layer and its children if the layer itself
        # has that value already.
        layer.trainable = False
        layer.trainable = True
    x = trunk.output
    if replaced:
        x = identity(TAP, tap.dtype_policy)(x)
    logits = head(
        num_classes, classifier_activation, head_bias, tap.dtype_policy
    )(x)
    result = functional(
        trunk.input, logits, name=name or model.name, dtype=model.dtype_policy
    )
    if class_names is not None:
        result = name_classes(result, class_names)
    if freeze is not None or freeze_up_to is not None:
        freeze_layers(result, taps=freeze, up_to=freeze_up_to)
    if lora_rank is not None:
        enable_lora(result, lora_rank, lora_alpha)
    return result


def _tap_of(model):
    check_functional(model)
    if TAP not in [layer.name for layer in model.layers]:
        raise ValueError(
            f"`model` must have a layer named '{TAP}', whose output is the "
            "representation: give the layer in front of your head that name. "
            f"Received: '{model.name}' with layers {layer_names(model)}"
        )
    return model.get_layer(TAP)
