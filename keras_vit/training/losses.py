"""The loss between a teacher and a student.

Touvron et al. 2020 (DeiT), arXiv:2012.12877, equations 2 and 3.
"""

import keras
from keras import ops

from keras_vit.arguments import check_above_zero


@keras.saving.register_keras_serializable(package="keras_vit")
class DistillationLoss(keras.losses.Loss):
    """Cross-entropy with the teacher's decision, or KL to its distribution.

    With teacher logits `t` and student logits `s` the loss of an image is

        hard    cross_entropy(softmax(s), argmax(t))
        soft    T^2 KL(softmax(t / T) || softmax(s / T))

    Args:
        temperature: `T`, above 0, for soft labels; `None` for hard ones.
        **kwargs: Arguments of `keras.losses.Loss`: `reduction`, `name`.

    Example:

    >>> loss = DistillationLoss()
    >>> teacher, student = np.array([[4.0, 1.0]]), np.array([[0.0, 0.0]])
    >>> round(float(loss(teacher, student)), 4)  # log(2)
    0.6931
    """

    def __init__(self, temperature: float | None = None, **kwargs):
        super().__init__(**kwargs)
        if temperature is not None:
            temperature = check_above_zero("temperature", temperature)
        self.temperature = temperature

    def call(self, teacher, student):
        if self.temperature is None:
            labels = ops.argmax(teacher, axis=-1)
            return keras.losses.sparse_categorical_crossentropy(
                labels, student, from_logits=True
            )
        teacher = ops.log_softmax(teacher / self.temperature)
        student = ops.log_softmax(student / self.temperature)
        divergence = ops.sum(ops.exp(teacher) * (teacher - student), axis=-1)
        return self.temperature**2 * divergence

    def get_config(self):
        return {**super().get_config(), "temperature": self.temperature}
