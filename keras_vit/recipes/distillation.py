"""What a student learns from a teacher, for `keras.distillation.Distiller`.

Touvron et al. 2020 (DeiT), arXiv:2012.12877, equations 2 and 3. Keras has the
trainer, and a loss on the outputs of both models; DeiT compares the teacher
with the distillation head alone, by hard labels or at a temperature.
"""

import keras
from keras import ops

from keras_vit.arguments import check_above_zero, check_choice

KINDS = ("hard", "soft")
# Weight of the distillation term in equation 2, and its temperature.
SOFT_WEIGHT, SOFT_TEMPERATURE = 0.1, 3.0


@keras.saving.register_keras_serializable(package="keras_vit")
class DistillationLoss(keras.losses.Loss):
    """Cross-entropy with the teacher's decision, or KL to its distribution.

    With teacher logits `t` and student logits `s` the loss of an image is

    ```
    hard    cross_entropy(softmax(s), argmax(t))
    soft    T^2 KL(softmax(t / T) || softmax(s / T))
    ```

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


def distillation(
    kind: str = "hard",
    *,
    temperature: float = SOFT_TEMPERATURE,
    weight: float | None = None,
    teacher_layer: str = "head",
    student_layer: str = "distillation_head",
) -> dict:
    """Distillation as in DeiT: what Keras' `Distiller` takes.

    The head on the class token learns the labels, the head on the
    distillation token what the teacher says. With the weight `w` of the
    teacher the loss is

    ```
    (1 - w) cross_entropy(head, labels) + w teacher_loss(distillation_head)
    ```

    Soft labels are compared at a temperature (equation 2, `w` 0.1), hard ones
    are the teacher's decisions (equation 3, `w` 0.5, the better in the paper).
    The student is a `distillation_model`; any student will do whose layer is
    named.

    Keras' `Distiller` freezes the teacher, wants images and logits of the same
    shapes on both sides, and runs the student a second time to get at the
    inner layer, so a step takes one more forward pass of the student.

    Args:
        kind: `"hard"` or `"soft"`.
        temperature: Of soft labels, above 0.
        weight: Of the teacher, in `[0, 1]`. Defaults to the papers' value.
        teacher_layer: Name of the layer that returns the teacher's logits.
        student_layer: Name of the layer that shall return the same.

    Returns:
        A dict with `distillation_losses` and `student_loss_weight`.

    Raises:
        ValueError: If an argument is outside its range.

    Example:

    ```python
    backbone = keras_vit.ViT("S/16", num_registers=1, num_classes=None)
    student = keras_vit.pretraining.distillation_model(backbone, 1000)
    teacher = keras_vit.ViT("B/16", weights="augreg")
    distiller = keras.distillation.Distiller(
        teacher, student, **keras_vit.recipes.distillation("hard")
    )
    distiller.compile(**keras_vit.recipes.adamw(steps, weight_decay=0.05))
    distiller.fit(train)
    student.save("student.keras")
    ```

    Reference:
        Touvron et al., arXiv 2012.12877, Section 4.
    """
    check_choice("kind", kind, KINDS)
    temperature = check_above_zero("temperature", temperature)
    if weight is None:
        weight = 0.5 if kind == "hard" else SOFT_WEIGHT
    if not 0 <= weight <= 1:
        raise ValueError(
            f"`weight` must be in [0, 1]. Received: weight={weight!r}"
        )
    loss = DistillationLoss(temperature if kind == "soft" else None)
    return {
        "distillation_losses": [
            keras.distillation.FeatureDistillation(
                loss,
                teacher_layer_name=teacher_layer,
                student_layer_name=student_layer,
            )
        ],
        "student_loss_weight": 1.0 - weight,
    }
