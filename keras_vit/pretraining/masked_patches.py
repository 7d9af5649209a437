"""Pre-training on images alone, by predicting patches that were corrupted.

Dosovitskiy et al. 2021, section 4.6 and appendix B.1.2. The authors never
published their code; comments say what was chosen where the paper is open.
"""

from collections.abc import Mapping
from typing import Any, Literal

import keras
from keras import ops

from keras_vit.anatomy import (
    cell_size,
    image_data_format,
    only_layer,
    preprocessing_of,
)
from keras_vit.arguments import check_choice
from keras_vit.layers import PatchEncoder, Patches, TokenGrid
from keras_vit.models.functional import ModelWithPolicy
from keras_vit.ops.precision import is_half
from keras_vit.pretraining.corruption import MaskToken, PatchCorruption
from keras_vit.pretraining.targets import Kind, PatchTargets

TARGETS = ("mean_color", "thumbnail", "pixels")


@keras.saving.register_keras_serializable(package="keras_vit")
class PatchPrediction(ModelWithPolicy):
    """A functional model that trains on its own outputs.

    Its outputs are a dict of maps: `predictions`, of shape `(batch, rows,
    columns, ...)`; `targets`, classes or pixels; and `corrupted`, booleans of
    shape `(batch, rows, columns)`. The loss is the mean over corrupted patches
    alone: cross-entropy of classes, whose accuracy is a metric, or the squared
    error of pixels. Labels are ignored.

    Args:
        inputs: as for `keras.Model`.
        outputs: the dict.
        name: name of the model.
        **kwargs: as for `keras.Model`.
    """

    def __init__(
        self,
        inputs: Any,
        outputs: Mapping[str, Any],
        name: str | None = None,
        **kwargs,
    ):
        super().__init__(inputs, outputs, name=name, **kwargs)
        common = {
            "reduction": "mean_with_sample_weight",
            # That of the predictions: float32 if the policy has 16 bits.
            "dtype": outputs["predictions"].dtype,
        }
        if "int" in outputs["targets"].dtype:
            self.patch_loss = keras.losses.SparseCategoricalCrossentropy(
                from_logits=True, **common
            )
            self.accuracy = keras.metrics.SparseCategoricalAccuracy("accuracy")
        else:
            self.patch_loss = keras.losses.MeanSquaredError(**common)
            self.accuracy = None

    def compile(self, optimizer="rmsprop", loss=None, **kwargs):
        labelled = [loss, kwargs.get("metrics"), kwargs.get("weighted_metrics")]
        if any(argument is not None for argument in labelled):
            raise ValueError(
                "`loss` and `metrics` must not be given: the model has its "
                "own. Use `compile(optimizer)` or "
                "`compile(**keras_vit.recipes.masked_patches(steps))`. "
                f"Received: loss={loss!r}, metrics={kwargs.get('metrics')!r}"
            )
        super().compile(optimizer, **kwargs)

    def compile_from_config(self, config):
        # Keras' own does nothing where `compile` is overridden.
        self.compile(**keras.saving.deserialize_keras_object(config))
        self.optimizer.build(self.trainable_variables)

    def compute_loss(
        self, x=None, y=None, y_pred=None, sample_weight=None, training=True
    ):
        loss = self.patch_loss(
            y_pred["targets"],
            y_pred["predictions"],
            sample_weight=self._weights(y_pred, sample_weight),
        )
        # Losses of regularizers, if the user's own layers have any.
        return sum((ops.sum(extra) for extra in self.losses), loss)

    def compute_metrics(self, x, y, y_pred, sample_weight=None):
        if self.accuracy is not None:
            self.accuracy.update_state(
                y_pred["targets"],
                y_pred["predictions"],
                sample_weight=self._weights(y_pred, sample_weight),
            )
        return self.get_metrics_result()

    def _weights(self, y_pred, sample_weight):
        """Weights of the loss: 0 for patches that are not corrupted."""
        predictions, corrupted = y_pred["predictions"], y_pred["corrupted"]
        weights = ops.cast(corrupted, predictions.dtype)
        if sample_weight is not None:
            sample_weight = ops.cast(sample_weight, weights.dtype)
            weights = weights * ops.reshape(sample_weight, (-1, 1, 1))
        if len(predictions.shape) == 5:  # the parts of a thumbnail
            weights = ops.expand_dims(weights, -1)
            weights = ops.repeat(weights, predictions.shape[3], axis=-1)
        return weights


def masked_patch_model(
    backbone: keras.Model,
    target: Literal["mean_color", "thumbnail", "pixels"] = "mean_color",
    corruption: float = 0.5,
    *,
    mask_rate: float = 0.8,
    swap_rate: float = 0.1,
    tap: str = "encoder_norm",
    seed: int | None = None,
    name: str | None = None,
) -> PatchPrediction:
    """Builds a model that learns from images alone, as BERT does from text.

    Half of the patch embeddings are corrupted before positions are added: they
    become a learned mask token (80 %), the embedding of another patch of the
    image (10 %), or stay as they are (10 %). A dense layer on each token then
    predicts what the corrupted patches looked like, and the loss counts those
    patches alone. Every image has the same number of corrupted patches,
    `round(corruption * num_patches)`; what each becomes is drawn
    independently. All draws are made anew in every step, of `evaluate` and
    `predict` too.

    `fit` takes images, or data sets of them, and ignores labels. `compile`
    takes an optimizer, and neither loss nor metrics; the logs have `loss` and,
    for colours, `accuracy`. The layers and weights of `backbone` are shared:
    it trains with the model, and you save, transfer or evaluate it by itself.

    Args:
        backbone: a functional `keras.Model` made by `ViT`, pure or hybrid; its
            pooling and head are left out.
        target: `"mean_color"`, the mean colour of a patch in 3 bits a channel,
            one of 512 classes, the paper's choice; `"thumbnail"`, the same of
            its 4 x 4 parts; `"pixels"`, all its pixels scaled to [-1, 1] with
            a squared error. See `PatchTargets`. A patch of a hybrid is the
            part of the image that one token covers.
        corruption: share in `(0, 1)` of the patches that are corrupted.
        mask_rate: share in `[0, 1]` of those that become the mask token.
        swap_rate: share in `[0, 1]` of those that become another patch.
        tap: name of the layer whose tokens predict.
        seed: int, for the draws.
        name: name of the model. Defaults to the backbone's name and
            `_masked_patches`.

    Returns:
        A `keras.Model` from images to a dict of maps: `predictions`, logits of
        shape `(batch, rows, columns, 512)`, `(..., 16, 512)` for thumbnails or
        `(..., patch_dim)` for pixels; `targets`, ints without the last axis,
        or pixels; `corrupted`, booleans of shape `(batch, rows, columns)`.

    Raises:
        ValueError: if an argument breaks its rule, if the backbone is not such
            a model, or if a token does not cover a whole part of the image, as
            with padded images.

    Example:

    >>> variant = keras_vit.Variant(2, 32, 64, 4, patch_size=4)
    >>> backbone = keras_vit.ViT(variant, image_size=32, num_classes=None)
    >>> model = keras_vit.pretraining.masked_patch_model(backbone, seed=0)
    >>> model.compile(**keras_vit.recipes.masked_patches(total_steps=1))
    >>> images = np.zeros((4, 32, 32, 3))
    >>> sorted(model.fit(images, verbose=0).history)
    ['accuracy', 'loss']

    Then use the backbone by itself:

    ```python
    (images, _), _ = keras_vit.data.load("cifar10")
    model.fit(images, batch_size=256, epochs=100)
    backbone.save("pretrained.keras")
    logits = keras.layers.Dense(10, name="head")(backbone.output)
    classifier = keras.Model(backbone.input, logits)
    ```

    Reference:
        - [Dosovitskiy et al., 2021](https://arxiv.org/abs/2010.11929),
          section 4.6 and appendix B.1.2
    """
    check_choice("target", target, TARGETS)
    encoder = only_layer(backbone, PatchEncoder, "backbone")
    patches = only_layer(backbone, Patches, "backbone").output
    dtype = encoder.dtype_policy
    sources, corrupted = PatchCorruption(
        corruption, mask_rate, swap_rate, seed, name="patch_corruption"
    )(patches)
    mask_token = MaskToken(encoder.hidden_dim, name="mask_token", dtype=dtype)
    tokens = encoder(patches, sources=sources, mask_token=mask_token(patches))
    for layer in layers_after_encoder(backbone, tap):
        tokens = layer(tokens)
    grid = TokenGrid(encoder.num_prefix_tokens, name="token_grid", dtype=dtype)
    predictions, targets = predictions_and_targets(
        backbone, grid(tokens, patches), target
    )
    model = PatchPrediction(
        backbone.input,
        {
            "predictions": predictions,
            "targets": targets,
            "corrupted": corrupted,
        },
        name=name or f"{backbone.name}_masked_patches",
    )
    model.dtype_policy = backbone.dtype_policy
    return model


def layers_after_encoder(
    backbone: keras.Model, tap: str
) -> list[keras.layers.Layer]:
    """Returns the layers between the patch encoder and a tap, in order."""
    encoder = only_layer(backbone, PatchEncoder, "backbone")
    part = keras.Model(encoder.output, backbone.get_layer(tap).output)
    return part.layers[1:]


def predictions_and_targets(
    backbone: keras.Model, tokens: keras.KerasTensor, kind: Kind
) -> tuple[keras.KerasTensor, keras.KerasTensor]:
    """Returns the end of a model that predicts patches from their tokens.

    Args:
        backbone: the model that takes the images.
        tokens: a `keras.KerasTensor` of shape `(batch, rows, columns, dim)`.
        kind: kind of the targets, see `PatchTargets`.

    Returns:
        Predictions and targets, in at least float32.
    """
    policy = only_layer(backbone, PatchEncoder, "backbone").dtype_policy
    dtype = "float32" if is_half(policy.compute_dtype) else policy
    size = cell_size(backbone)
    pure = only_layer(backbone, Patches, "backbone").patch_size == size
    remainder = only_layer(backbone, Patches, "backbone").remainder
    # From the images, which have lost no bits to half precision.
    pixels = Patches(
        size,
        # A padded patch has no colour of its own, so that is an error.
        "crop" if pure and remainder == "crop" else "error",
        image_data_format(backbone),
        name="target_patches",
        dtype=dtype,
    )(backbone.input)
    if None not in tokens.shape[1:3] and pixels.shape[1:3] != tokens.shape[1:3]:
        raise ValueError(
            "`backbone` must have one token for each whole part of the image. "
            f"Received: tokens in a grid of {tokens.shape[1:3]}, parts of "
            f"{size} pixels in one of {pixels.shape[1:3]}"
        )
    prepared = preprocessing_of(backbone) is None
    targets = PatchTargets(
        kind,
        size,
        (-1, 1) if prepared else (0, 255),
        name="targets",
        dtype=dtype,
    )
    shape = targets.prediction_shape(pixels.shape[-1])
    axes = "kn"[-len(shape) :]
    predictions = keras.layers.EinsumDense(
        f"bxyd,d{axes}->bxy{axes}",
        output_shape=(*tokens.shape[1:3], *shape),
        bias_axes=axes,
        kernel_initializer="zeros",  # as the heads of the official code
        name="predictions",
        dtype=dtype,
    )
    return predictions(tokens), targets(pixels)
