"""Names for the classes of any classifier."""

from collections.abc import Sequence

import keras

from keras_vit.anatomy import check_functional
from keras_vit.layers import ClassNames
from keras_vit.models.functional import functional


def name_classes(model: keras.Model, class_names: Sequence[str]) -> keras.Model:
    """Returns a classifier that knows what its classes are called.

    The names are saved with the model, and `keras_vit.classify` answers with
    them. `from_checkpoint` and `transfer` call this by themselves where they
    are told names.

    Args:
        model: a functional `keras.Model` with one output of shape `(...,
            num_classes)`: built here, by `keras.applications` or by yourself.
        class_names: one string for each class, in the order of the output, as
            `ImageFolder.class_names`. They replace those that the model has.

    Returns:
        A `keras.Model`, not compiled, which shares its layers with `model`.

    Raises:
        ValueError: if the model has more than one output, or not as many
            classes as there are names.

    Example:

    >>> model = keras_vit.ViT("Ti/16", image_size=32, num_classes=2)
    >>> model = keras_vit.name_classes(model, ["cat", "dog"])
    >>> model.layers[-1].class_names
    ('cat', 'dog')
    """
    check_functional(model)
    if len(model.outputs) != 1:
        raise ValueError(
            "`model` must have one output, whose classes are named. Received: "
            f"{len(model.outputs)} outputs of '{model.name}'"
        )
    (output,) = model.outputs
    if isinstance(model.layers[-1], ClassNames):
        output = model.layers[-1].input
    # No rounding behind a head, whatever the policy is.
    layer = ClassNames(class_names, name="class_names", dtype=output.dtype)
    return functional(
        model.input, layer(output), name=model.name, dtype=model.dtype_policy
    )
