"""By what the likeness of an image and a text becomes a logit."""

from typing import Any

import keras

from keras_vit.arguments import Shape, check_above_zero


@keras.saving.register_keras_serializable(package="keras_vit")
class LogitScale(keras.layers.Layer):
    """Stores how embeddings of images and texts are compared, and does no more.

    A network that was trained on images and texts learned two numbers beside
    its towers. The logit of an image `x` and a text `y` is

        scale * cosine(x, y) + bias

    `keras_vit.from_checkpoint` puts the layer behind the embedding of images,
    and `keras_vit.zero_shot` reads it.

    Args:
        scale: factor of the cosine, above 0: the exponential of what files
            call `logit_scale`. 100 in OpenAI's CLIP.
        bias: what is added, 0 in CLIP.

    Call arguments:
        inputs: embeddings, a tensor of shape `(batch, dim)`.

    Returns:
        `inputs`.

    Example:

    >>> layer = keras_vit.layers.LogitScale(100.0)
    >>> layer(keras.ops.zeros((1, 512))).shape
    (1, 512)

    Reference:
        - [Radford et al., 2021](https://arxiv.org/abs/2103.00020), figure 3
        - [Zhai et al., 2023](https://arxiv.org/abs/2303.15343), algorithm 1
    """

    def __init__(self, scale: float, bias: float = 0.0, **kwargs):
        super().__init__(**kwargs)
        self.scale = check_above_zero("scale", scale)
        self.bias = float(bias)

    def build(self, input_shape: Shape) -> None:
        pass

    def call(self, inputs: Any) -> Any:
        return inputs

    def compute_output_shape(self, input_shape: Shape) -> Shape:
        return input_shape

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "scale": self.scale, "bias": self.bias}
