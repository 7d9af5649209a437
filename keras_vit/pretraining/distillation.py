"""A Vision Transformer with a second head that learns from a teacher.

Touvron et al. 2020 (DeiT), arXiv:2012.12877, section 4. The distillation token
is a token like others: here a register, with a head of its own.
"""

import keras

from keras_vit.anatomy import find_layers, layer_names
from keras_vit.arguments import check_positive
from keras_vit.keras_gaps import without_inner_remat
from keras_vit.layers import PatchEncoder, TokenPooling
from keras_vit.models.ends import head
from keras_vit.models.functional import functional


def distillation_model(
    backbone: keras.Model, num_classes: int, *, name: str | None = None
) -> keras.Model:
    """Builds a model with a class token and a distillation token, as DeiT.

    The first register of the backbone is the distillation token. Two layers
    initialised to zero, `head` on the backbone's representation and
    `distillation_head` on the distillation token, give logits. The model
    returns those of `head` in training and the mean of both otherwise. See
    `keras_vit.recipes.distillation` for the training with Keras' `Distiller`.

    Weights of DeiT from timm or Hugging Face load into it, with both heads.
    There the distillation token has a position of its own; loading adds the
    position to the token.

    Args:
        backbone: a functional `keras.Model` made by `ViT` with
            `num_registers=1` or more. Its head is left out; its layers and
            weights are shared.
        num_classes: number of classes.
        name: name of the model. Defaults to the backbone's name and
            `_distilled`.

    Returns:
        A `keras.Model` from images to logits of shape `(batch, num_classes)`.

    Raises:
        ValueError: if the backbone has no register, or lacks one of the
            layers `encoder_norm` and `pre_logits`.

    Example:

    >>> backbone = keras_vit.ViT("Ti/16", num_registers=1, num_classes=None)
    >>> model = keras_vit.pretraining.distillation_model(backbone, 1000)
    >>> model.count_params()
    5910608

    ```python
    backbone = keras_vit.ViT(
        "Ti/16", num_registers=1, num_classes=None, activation="gelu"
    )
    model = keras_vit.pretraining.distillation_model(backbone, 1000)
    keras_vit.load_checkpoint(
        model, "hf://timm/deit_tiny_distilled_patch16_224.fb_in1k"
    )
    ```

    Reference:
        - [Touvron et al., 2020](https://arxiv.org/abs/2012.12877), section 4
    """
    check_positive("num_classes", num_classes)
    layers = {layer.name: layer for layer in backbone.layers}
    missing = {"encoder_norm", "pre_logits"} - layers.keys()
    encoders = find_layers(backbone, PatchEncoder)
    if missing or len(encoders) != 1 or not encoders[0].num_registers:
        raise ValueError(
            "`backbone` must have one PatchEncoder with a register, "
            "`ViT(..., num_registers=1)`, and layers named 'encoder_norm' and "
            f"'pre_logits'. Received: '{backbone.name}' with layers "
            f"{layer_names(backbone)} and registers "
            f"{[encoder.num_registers for encoder in encoders]}"
        )
    tokens = layers["encoder_norm"].output
    representation = layers["pre_logits"].output
    policy = layers["pre_logits"].dtype_policy
    # Registers come after the class token, if there is one.
    index = int(encoders[0].cls_token)
    pooling = TokenPooling(index, name="distillation_pooling", dtype=policy)
    first = head(num_classes, None, 0.0, policy)
    second = head(num_classes, None, 0.0, policy, name="distillation_head")
    # As in `ViT`, heads are not recomputed in a `keras.RematScope`.
    with without_inner_remat():
        outputs = DistilledLogits(name="logits", dtype=second.dtype_policy)(
            first(representation), second(pooling(tokens))
        )
    name = name or f"{backbone.name}_distilled"
    return functional(
        backbone.input, outputs, name=name, dtype=backbone.dtype_policy
    )


@keras.saving.register_keras_serializable(package="keras_vit")
class DistilledLogits(keras.layers.Layer):
    """Returns the first head's logits in training, the mean otherwise.

        training:   logits
        inference:  (logits + distillation_logits) / 2

    In training the labels are for the head on the class token. A teacher
    trains the head on the distillation token; Keras' `Distiller` finds it by
    its name.

    Args:
        **kwargs: arguments of `keras.layers.Layer`.

    Call arguments:
        logits: tensor of shape `(batch, num_classes)`, of the class token.
        distillation_logits: tensor of the same shape, of the distillation
            token.
        training: whether the model is in training.

    Returns:
        A tensor of shape `(batch, num_classes)`.

    Example:

    >>> logits = keras_vit.pretraining.DistilledLogits()
    >>> a, b = keras.ops.array([[1.0, 3.0]]), keras.ops.array([[3.0, 1.0]])
    >>> keras.ops.convert_to_numpy(logits(a, b))
    array([[2., 2.]], dtype=float32)

    Reference:
        - [Touvron et al., 2020](https://arxiv.org/abs/2012.12877), section 4
    """

    def __init__(self, **kwargs):
        super().__init__(**kwargs)

    def call(self, logits, distillation_logits, training=None):
        return logits if training else (logits + distillation_logits) / 2

    def compute_output_shape(self, logits_shape, distillation_logits_shape):
        return logits_shape

    def get_config(self):
        # Keras needs one if the dtype policy is given as an object.
        return {**super().get_config()}
