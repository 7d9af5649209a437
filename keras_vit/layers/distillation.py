"""The way out of a model with a class token and a distillation token.

Touvron et al. 2020 (DeiT), arXiv:2012.12877, section 4; deit/models.py,
`DistilledVisionTransformer.forward`.
"""

import keras


@keras.saving.register_keras_serializable(package="keras_vit")
class DistilledLogits(keras.layers.Layer):
    """Returns the logits that count: trained by labels, or of both heads.

        training:   logits
        inference:  (logits + distillation_logits) / 2

    In training the labels are for the head on the class token; that on the
    distillation token is trained by a teacher, which reads it by its name.

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

    >>> logits = keras_vit.layers.DistilledLogits()
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
        # Keras wants one where a dtype policy is given as an object.
        return {**super().get_config()}
