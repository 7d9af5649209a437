"""Maps at several scales, and the task models of KerasCV and KerasHub."""

import keras
import numpy as np
import pytest
from helpers import EAGER, to_numpy

import keras_vit

# Warnings of the other libraries about themselves are none of our errors.
of_others = pytest.mark.filterwarnings("default")


def backbone(patch_size=16, **arguments):
    variant = keras_vit.Variant(2, 32, 64, 4, patch_size)
    return keras_vit.ViT(
        variant,
        **{"image_size": (64, 96), "num_classes": None, **arguments},
    )


@pytest.mark.parametrize("patch_size", [4, 8, 16, 32])
def test_maps_at_a_quarter_to_a_thirtysecond(patch_size, rng):
    pyramid = keras_vit.models.feature_pyramid(
        backbone(patch_size), hidden_dim=8
    )
    shapes = {
        name: tuple(x.shape[1:]) for name, x in pyramid.pyramid_outputs.items()
    }
    assert shapes == {
        "P2": (16, 24, 8),
        "P3": (8, 12, 8),
        "P4": (4, 6, 8),
        "P5": (2, 3, 8),
    }
    assert pyramid.output_shape == (None, 2, 3, 8)
    images = rng.uniform(0, 255, (2, 64, 96, 3))
    maps = keras_vit.feature_extractor(pyramid, list(shapes))
    maps = maps.predict(images, verbose=0)
    assert all(np.isfinite(x).all() for x in maps.values())


def test_every_weight_learns_and_the_file_loads(rng, tmp_path):
    pyramid = keras_vit.models.feature_pyramid(backbone(), hidden_dim=8)
    pyramid.compile(keras.optimizers.SGD(0.1), "mse", **EAGER)
    before = [to_numpy(w).copy() for w in pyramid.trainable_weights]
    images = rng.uniform(0, 255, (2, 64, 96, 3))
    pyramid.fit(images, rng.normal(size=(2, 2, 3, 8)), verbose=0)
    for weight, old in zip(pyramid.trainable_weights, before):
        if not weight.path.endswith("key/bias"):
            assert not np.array_equal(to_numpy(weight), old), weight.path
    pyramid.save(tmp_path / "pyramid.keras")
    loaded = keras.models.load_model(tmp_path / "pyramid.keras")
    np.testing.assert_array_equal(
        loaded.predict(images, verbose=0), pyramid.predict(images, verbose=0)
    )


def test_a_hybrid_and_a_frozen_size():
    variant = keras_vit.Variant(
        1, 16, 32, 4, patch_size=1, stages=(1, 1, 1), width_factor=0.5
    )
    hybrid = keras_vit.ViT(variant, image_size=64, num_classes=None)
    pyramid = keras_vit.models.feature_pyramid(hybrid, hidden_dim=8)
    assert pyramid.pyramid_outputs["P4"].shape == (None, 4, 4, 8)
    larger = keras_vit.change_resolution(pyramid, 96)
    assert larger.output_shape == (None, 3, 3, 8)


@pytest.mark.parametrize(
    "build, message",
    [
        (lambda: backbone(image_size=(64, 80)), r"\(64, 80\)"),
        (lambda: backbone(patch_size=(16, 32)), r"\(16, 32\)"),
        (lambda: backbone(patch_size=2, image_size=64), r"\(2, 2\)"),
    ],
)
def test_backbones_that_will_not_do(build, message):
    with pytest.raises(ValueError, match=message):
        keras_vit.models.feature_pyramid(build())


@pytest.fixture
def keras_cv():
    if keras.backend.backend() != "tensorflow":
        pytest.skip("KerasCV is used on the TensorFlow backend")
    return pytest.importorskip("keras_cv")


@pytest.fixture
def pictures(rng):
    return rng.uniform(0, 255, (2, 128, 128, 3)).astype("float32")


def pyramid():
    return keras_vit.models.feature_pyramid(
        backbone(image_size=128), hidden_dim=16
    )


@of_others
def test_keras_cv_classifier(keras_cv, pictures):
    task = keras_cv.models.ImageClassifier(backbone=pyramid(), num_classes=3)
    task.compile("adam", "sparse_categorical_crossentropy", **EAGER)
    losses = task.fit(pictures, np.array([0, 2]), verbose=0).history["loss"]
    assert np.isfinite(losses).all()


@of_others
def test_keras_cv_segmenter(keras_cv, pictures):
    task = keras_cv.models.DeepLabV3Plus(backbone=pyramid(), num_classes=3)
    task.compile("adam", "sparse_categorical_crossentropy", **EAGER)
    labels = np.zeros((2, 128, 128))
    losses = task.fit(pictures, labels, verbose=0).history["loss"]
    assert np.isfinite(losses).all()


@of_others
def test_keras_cv_detector(keras_cv, pictures):
    task = keras_cv.models.RetinaNet(
        num_classes=3, bounding_box_format="xywh", backbone=pyramid()
    )
    task.compile(
        optimizer="adam",
        classification_loss="focal",
        box_loss="smoothl1",
        **EAGER,
    )
    labels = {
        "boxes": np.array([[[10, 10, 40, 40]], [[20, 30, 50, 30]]], "float32"),
        "classes": np.array([[0.0], [1.0]], "float32"),
    }
    losses = task.fit(pictures, labels, verbose=0).history["loss"]
    assert np.isfinite(losses).all()


@of_others
@pytest.mark.parametrize("maps", ["feature_map", "feature_pyramid"])
def test_keras_hub_classifier_and_presets(maps, pictures, tmp_path):
    keras_hub = pytest.importorskip("keras_hub")
    import keras_vit.hub

    model = getattr(keras_vit, maps)(backbone(image_size=128))
    wrapped = keras_vit.hub.Backbone(model)
    task = keras_hub.models.ImageClassifier(backbone=wrapped, num_classes=3)
    task.compile("adam", "sparse_categorical_crossentropy", **EAGER)
    losses = task.fit(pictures, np.array([0, 2]), verbose=0).history["loss"]
    assert np.isfinite(losses).all()
    wrapped.save_to_preset(str(tmp_path / "preset"))
    for kind in (keras_hub.models.Backbone, keras_vit.hub.Backbone):
        again = kind.from_preset(str(tmp_path / "preset"))
        assert isinstance(again, keras_vit.hub.Backbone)
        assert list(again.pyramid_outputs) == list(wrapped.pyramid_outputs)
        np.testing.assert_array_equal(
            again.predict(pictures, verbose=0),
            wrapped.predict(pictures, verbose=0),
        )
    with pytest.raises(ValueError, match="maps of shape"):
        keras_vit.hub.Backbone(backbone())


def test_hub_says_what_to_install(monkeypatch):
    import sys

    monkeypatch.setitem(sys.modules, "keras_hub", None)
    monkeypatch.delitem(sys.modules, "keras_vit.hub", raising=False)
    with pytest.raises(ImportError, match="pip install .keras-hub"):
        import keras_vit.hub  # noqa: F401
