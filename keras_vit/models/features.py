"""The inside of a model as a model: any tap, or several, in one line."""

from collections.abc import Sequence

import keras


def feature_extractor(
    model: keras.Model, taps: str | Sequence[str]
) -> keras.Model:
    """Returns the part of a model that ends at the named layers.

    The result shares its layers and weights with `model`. Every model of this
    library has the taps `patches`, `patch_encoder`, `block_00` and on,
    `encoder_norm`, `pooling`, `pre_logits` and, unless it was left out,
    `head`; any layer name of any functional model will do.

    Args:
        model: a functional `keras.Model`.
        taps: the name of a layer, or a list of names.

    Returns:
        A `keras.Model` with the inputs of `model`, which returns the output
        of the layer, or a dict from name to output for a list of names.

    Raises:
        ValueError: if a name is not that of a layer; the message lists those
            that are.

    Example:

    >>> model = keras_vit.ViT("Ti/16", image_size=32)
    >>> tokens = keras_vit.feature_extractor(model, "block_05")
    >>> tokens.output_shape
    (None, 5, 192)
    """
    names = [taps] if isinstance(taps, str) else list(taps)
    known = [layer.name for layer in model.layers]
    unknown = [name for name in names if name not in known]
    if unknown or not names:
        raise ValueError(
            f"`taps` must be names of layers of '{model.name}': "
            f"{', '.join(known)}. Received: taps={taps!r}"
        )
    outputs = {name: model.get_layer(name).output for name in names}
    return keras.Model(
        model.input, outputs[taps] if isinstance(taps, str) else outputs
    )
