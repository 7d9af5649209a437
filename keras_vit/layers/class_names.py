"""What the classes of a model are called: the last layer of a classifier.

It is part of the model, as the statistics of its pixels are, so that whoever
opens its file knows what class 3 is.
"""

from collections.abc import Sequence
from typing import Any

import keras

from keras_vit.arguments import Shape


@keras.saving.register_keras_serializable(package="keras_vit")
class ClassNames(keras.layers.Layer):
    """Stores what the classes of a head are called, and changes nothing.

    `keras_vit.name_classes` puts it behind a head, and `keras_vit.classify`
    reads it.

    Args:
        class_names: one string for each class, in the order of the head. Two
            classes may have one name, as "crane" in ImageNet.

    Call arguments:
        inputs: tensor of shape `(..., num_classes)`.

    Returns:
        `inputs`.

    Example:

    >>> layer = keras_vit.layers.ClassNames(["cat", "dog"])
    >>> layer(keras.ops.zeros((1, 2))).shape
    (1, 2)
    """

    def __init__(self, class_names: Sequence[str], **kwargs):
        super().__init__(**kwargs)
        self.class_names = tuple(class_names)
        if isinstance(class_names, str) or not all(
            isinstance(name, str) for name in self.class_names
        ):
            raise ValueError(
                "`class_names` must be a list of strings, one for each class. "
                f"Received: class_names={class_names!r}"
            )

    def build(self, input_shape: Shape) -> None:
        if input_shape[-1] != len(self.class_names):
            raise ValueError(
                "`class_names` must have one name for each class. Received: "
                f"{len(self.class_names)} names, {input_shape[-1]} classes"
            )

    def call(self, inputs: Any) -> Any:
        return inputs

    def compute_output_shape(self, input_shape: Shape) -> Shape:
        return input_shape

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "class_names": self.class_names}
