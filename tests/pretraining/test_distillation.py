"""DeiT: two tokens, two heads, and Keras' distiller."""

import keras
import numpy as np
import pytest
from helpers import EAGER, randomize, to_numpy

import keras_vit
from keras_vit.training.losses import DistillationLoss

SIZE, CLASSES = 8, 5


def backbone(**arguments):
    arguments = {"image_size": SIZE, "num_classes": None} | arguments
    arguments.setdefault("num_registers", 1)
    variant = keras_vit.Variant(2, 16, 32, 4, patch_size=4)
    return keras_vit.ViT(variant, **arguments)


@pytest.fixture
def student(rng):
    model = keras_vit.pretraining.distillation_model(backbone(), CLASSES)
    randomize(model, rng)
    return model


@pytest.fixture
def data(rng):
    images = rng.uniform(0, 255, (6, SIZE, SIZE, 3)).astype("float32")
    return images, np.arange(6) % CLASSES


def softmax(x):
    x = np.exp(x - x.max(axis=-1, keepdims=True))
    return x / x.sum(axis=-1, keepdims=True)


def logits_of(model, names, images):
    taps = keras_vit.feature_extractor(model, names)
    outputs = taps.predict(images, verbose=0)
    return [np.asarray(outputs[name], "float64") for name in names]


def test_inference_is_the_mean_of_both_heads(student, data, tmp_path):
    images, _ = data
    tokens, first, second = logits_of(
        student, ["encoder_norm", "head", "distillation_head"], images
    )
    weights = {w.path: to_numpy(w) for w in student.weights}
    for index, (name, given) in enumerate(
        [("head", first), ("distillation_head", second)]
    ):
        expected = tokens[:, index] @ weights[f"{name}/kernel"]
        expected += weights[f"{name}/bias"]
        np.testing.assert_allclose(given, expected, atol=1e-5)
    given = student.predict(images, verbose=0)
    np.testing.assert_allclose(given, (first + second) / 2, atol=1e-6)
    trained = to_numpy(student(images, training=True))
    np.testing.assert_allclose(trained, first, atol=1e-5)
    student.save(tmp_path / "student.keras")
    loaded = keras.saving.load_model(tmp_path / "student.keras")
    np.testing.assert_array_equal(loaded.predict(images, verbose=0), given)


def test_heads_start_from_zero_and_size_is_that_of_deit():
    model = keras_vit.pretraining.distillation_model(
        keras_vit.ViT("Ti/16", num_registers=1, num_classes=None), 1000
    )
    # timm's `deit_tiny_distilled_patch16_224` has 5,910,800 parameters; 192
    # of them are the position that the distillation token has there.
    assert model.count_params() == 5_910_800 - 192
    for name in ("head", "distillation_head"):
        assert not to_numpy(model.get_layer(name).kernel).any()


def test_other_poolings_and_half_precision(data):
    average = keras_vit.pretraining.distillation_model(
        backbone(pooling="average", num_registers=2), CLASSES
    )
    assert average.get_layer("distillation_pooling").index == 0
    half = keras_vit.pretraining.distillation_model(
        backbone(dtype="mixed_bfloat16"), CLASSES
    )
    assert half.predict(data[0], verbose=0).dtype == "float32"


@pytest.mark.parametrize("arguments", [{"num_registers": 0}, {"plain": True}])
def test_backbones_that_will_not_do(arguments):
    if "plain" in arguments:
        model = keras.Sequential([keras.Input((3,)), keras.layers.Dense(2)])
    else:
        model = backbone(**arguments)
    with pytest.raises(ValueError, match="`backbone`.*num_registers=1.*Rec"):
        keras_vit.pretraining.distillation_model(model, CLASSES)
    with pytest.raises(ValueError, match="`num_classes`"):
        keras_vit.pretraining.distillation_model(backbone(), 0)


# Equations 2 and 3 of the paper, in NumPy.
def hard_loss(teacher, student):
    rows = np.arange(len(teacher))
    return -np.log(softmax(student)[rows, teacher.argmax(-1)]).mean()


def soft_loss(teacher, student, temperature=3.0):
    p, q = softmax(teacher / temperature), softmax(student / temperature)
    return temperature**2 * (p * np.log(p / q)).sum(-1).mean()


def test_losses_are_those_of_the_equations(rng):
    teacher, student = rng.normal(0, 3, (2, 6, CLASSES)).astype("float32")
    for loss, expected in [
        (DistillationLoss(), hard_loss(teacher, student)),
        (DistillationLoss(3.0), soft_loss(teacher, student)),
        (DistillationLoss(0.5), soft_loss(teacher, student, 0.5)),
    ]:
        assert float(loss(teacher, student)) == pytest.approx(
            expected, rel=1e-4
        )
        again = keras.losses.deserialize(keras.losses.serialize(loss))
        assert again.temperature == loss.temperature


@pytest.mark.parametrize("kind", ["hard", "soft"])
def test_a_step_of_keras_distiller(kind, student, data, tmp_path):
    images, labels = data
    rng = np.random.default_rng(1)
    teacher = backbone(num_registers=0, num_classes=CLASSES)
    randomize(teacher, rng, scale=0.5)
    first, second = logits_of(student, ["head", "distillation_head"], images)
    (says,) = logits_of(teacher, ["head"], images)
    cross_entropy = -np.log(softmax(first)[np.arange(6), labels]).mean()
    if kind == "hard":
        expected = 0.5 * cross_entropy + 0.5 * hard_loss(says, second)
    else:
        expected = 0.9 * cross_entropy + 0.1 * soft_loss(says, second)

    distiller = keras.distillation.Distiller(
        teacher, student, **keras_vit.recipes.distillation(kind)
    )
    distiller.compile(**keras_vit.recipes.finetune(10, warmup_steps=0), **EAGER)
    before = {w.path: to_numpy(w).copy() for w in student.weights}
    of_teacher = [to_numpy(w).copy() for w in teacher.weights]
    history = distiller.fit(images, labels, batch_size=6, verbose=0).history
    assert history["total_loss"][0] == pytest.approx(expected, rel=1e-3)
    moved = {
        w.path for w in student.weights if (to_numpy(w) != before[w.path]).any()
    }
    assert {"head/kernel", "distillation_head/kernel"} <= moved
    assert "patch_encoder/register_tokens" in moved
    for weight, value in zip(teacher.weights, of_teacher):
        np.testing.assert_array_equal(to_numpy(weight), value)
    # The student is a model like any other.
    student.save(tmp_path / "student.keras")
    loaded = keras.saving.load_model(tmp_path / "student.keras")
    np.testing.assert_array_equal(
        loaded.predict(images, verbose=0),
        keras_vit.predict(student, images, verbose=0),
    )


def test_recipe_is_that_of_the_paper():
    hard = keras_vit.recipes.distillation()
    soft = keras_vit.recipes.distillation("soft")
    assert hard["student_loss_weight"] == 0.5
    assert soft["student_loss_weight"] == 0.9
    (loss,) = soft["distillation_losses"]
    assert loss.loss.temperature == 3.0
    assert (loss.teacher_layer_name, loss.student_layer_name) == (
        "head",
        "distillation_head",
    )


@pytest.mark.parametrize(
    "options, name",
    [
        ({"kind": "both"}, "kind"),
        ({"temperature": 0.0}, "temperature"),
        ({"weight": 1.5}, "weight"),
    ],
)
def test_bad_options(options, name):
    with pytest.raises(ValueError, match=f"`{name}`.*Received: {name}="):
        keras_vit.recipes.distillation(**options)
