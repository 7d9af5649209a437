"""Cross-entropy with labels, and with a teacher.

The teacher: Touvron et al. 2020 (DeiT), arXiv:2012.12877, equations 2 and 3.
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


@keras.saving.register_keras_serializable(package="keras_vit")
class SparseCategoricalCrossentropy(keras.losses.SparseCategoricalCrossentropy):
    """Keras' cross-entropy with integer labels, NaN for labels of no class.

    A label below 0, not below the number of classes, between two numbers or
    NaN makes the loss NaN on every backend. Keras leaves such labels to the
    backend: JAX trains on as if the image were not there, TensorFlow and
    PyTorch stop, each with a message of its own, and all round a fraction
    down. `keras_vit.data.check_labels` says which label it is.

    Args:
        from_logits: whether predictions are logits. The recipes say so.
        ignore_class: label of what does not count, or `None`.
        **kwargs: further arguments of Keras' loss, `reduction` and `name`.

    Example:

    >>> loss = SparseCategoricalCrossentropy(from_logits=True)
    >>> logits = np.zeros((1, 2))
    >>> float(loss(np.array([1]), logits)), float(loss(np.array([2]), logits))
    (0.6931471824645996, nan)
    """

    def __init__(
        self,
        from_logits: bool = False,
        ignore_class: int | None = None,
        **kwargs,
    ):
        super().__init__(
            from_logits=from_logits, ignore_class=ignore_class, **kwargs
        )

    def call(self, y_true, y_pred):
        # Keras hands over labels as floats.
        labels = ops.cast(y_true, "float32")
        y_pred = ops.convert_to_tensor(y_pred)
        if len(labels.shape) == len(y_pred.shape) and labels.shape[-1] == 1:
            labels = ops.squeeze(labels, axis=-1)
        valid = ops.logical_and(labels >= 0, labels < y_pred.shape[-1])
        valid = ops.logical_and(valid, labels == ops.floor(labels))
        if self.ignore_class is not None:
            valid = ops.logical_or(valid, labels == self.ignore_class)
        labels = ops.where(valid, labels, ops.zeros_like(labels))
        # Through the predictions, so that what is ignored stays ignored.
        wrong = ops.where(valid, 0.0, float("nan"))
        wrong = ops.cast(ops.expand_dims(wrong, -1), y_pred.dtype)
        return super().call(labels, y_pred + wrong)
