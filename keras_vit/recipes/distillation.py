"""What a student learns from a teacher, for `keras.distillation.Distiller`.

Touvron et al. 2020 (DeiT), arXiv:2012.12877, equations 2 and 3. Keras has the
trainer, and a loss on the outputs of both models. DeiT compares the teacher
with the distillation head alone, by hard labels or at a temperature.
"""

from typing import Literal

import keras

from keras_vit.arguments import check_above_zero, check_choice
from keras_vit.training.losses import DistillationLoss

KINDS = ("hard", "soft")
# Weight and temperature of the distillation term in equation 2.
SOFT_WEIGHT, SOFT_TEMPERATURE = 0.1, 3.0


def distillation(
    kind: Literal["hard", "soft"] = "hard",
    *,
    temperature: float = SOFT_TEMPERATURE,
    weight: float | None = None,
    teacher_layer: str = "head",
    student_layer: str = "distillation_head",
) -> dict:
    """Distillation as in DeiT: the arguments of Keras' `Distiller`.

    The head on the class token learns the labels, the head on the
    distillation token learns from the teacher. With the weight `w` of the
    teacher the loss is

        (1 - w) cross_entropy(head, labels) + w teacher_loss(distillation_head)

    Soft labels are compared at a temperature (equation 2, `w` 0.1). Hard
    labels are the teacher's decisions (equation 3, `w` 0.5), which the paper
    found better. The student is a `distillation_model`, or any model with a
    layer of the name `student_layer`.

    Keras' `Distiller` freezes the teacher, needs images and logits of the same
    shapes on both sides, and runs the student a second time to read the inner
    layer, so a step takes one more forward pass of the student.

    Args:
        kind: `"hard"` or `"soft"`.
        temperature: temperature of soft labels, above 0.
        weight: weight of the teacher, in `[0, 1]`. Defaults to the paper's.
        teacher_layer: name of the layer that returns the teacher's logits.
        student_layer: name of the layer that learns to return the same.

    Returns:
        A dict with `distillation_losses` and `student_loss_weight`.

    Raises:
        ValueError: if an argument is outside its range.

    Example:

    ```python
    backbone = keras_vit.ViT(
        "S/16", image_size=384, num_registers=1, num_classes=None
    )
    student = keras_vit.pretraining.distillation_model(backbone, 1000)
    teacher = keras_vit.ViT("B/16", weights="augreg_i1k")  # for 384 pixels
    distiller = keras.distillation.Distiller(
        teacher, student, **keras_vit.recipes.distillation("hard")
    )
    distiller.compile(**keras_vit.recipes.adamw(steps, weight_decay=0.05))
    distiller.fit(train)
    student.save("student.keras")
    ```

    Reference:
        - [Touvron et al., 2020](https://arxiv.org/abs/2012.12877), section 4
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
