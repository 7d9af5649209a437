"""Augmentation in the two places it is meant for, and `ArrayDataset`."""

import keras
import numpy as np
import pytest
from helpers import EAGER

from keras_vit import recipes
from keras_vit.data import ArrayDataset, CropAndFlip, augmentation
from keras_vit.data.augmentation import AUGMENTATION_LEVELS

# Keras 3.15's own: its MixUp asks JAX for int64, its Equalization transposes
# a vector on PyTorch.
pytestmark = [
    pytest.mark.filterwarnings("ignore:Explicitly requested dtype"),
    pytest.mark.filterwarnings("ignore:Tensor.T is deprecated"),
]


def data(size=6, classes=3):
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (size, 8, 8, 3)).astype("uint8")
    return images, rng.integers(0, classes, size)


def as_numpy(batch):
    return [keras.ops.convert_to_numpy(part) for part in batch]


# Only two of the levels: RandAugment is slow to compile on JAX.
@pytest.mark.parametrize("level", ["none", "light1"])
def test_levels_give_images_in_range_and_one_hot_labels(level):
    images, labels = data()
    augment = augmentation(level, num_classes=3, seed=0)
    out, mixed = as_numpy(augment(images, labels))
    assert out.shape == images.shape and out.dtype == np.float32
    # Interpolation and mixing round in float32.
    assert out.min() >= -1e-2 and out.max() <= 255 + 1e-2
    assert mixed.shape == (6, 3)
    np.testing.assert_allclose(mixed.sum(axis=1), 1.0, rtol=1e-5)
    if not AUGMENTATION_LEVELS[level].mixup_alpha:
        np.testing.assert_array_equal(mixed, np.eye(3)[labels])


def test_level_none_flips_alone():
    images, labels = data()
    out, _ = as_numpy(augmentation("none", 3, seed=0)(images, labels))
    for before, after in zip(images, out, strict=True):
        assert np.array_equal(after, before) or np.array_equal(
            after, before[:, ::-1]
        )


@pytest.mark.parametrize("level", ["light1", "medium2", "strong2"])
def test_levels_reach_the_layers_of_keras(level):
    settings = AUGMENTATION_LEVELS[level]
    augment = augmentation(level, 3, value_range=(0, 1), seed=0)
    config = augment.image_layers[1].get_config()
    assert config["num_ops"] == settings.num_ops == 2
    assert tuple(config["factor"]) == (0, settings.magnitude / 30)
    assert tuple(config["value_range"]) == (0, 1)
    if settings.mixup_alpha:
        assert augment.mix_layer.alpha == settings.mixup_alpha


def test_mixing_mixes_images_and_labels_alike():
    # Image k is constant k / 5, so its mixed brightness tells its labels.
    brightness = np.linspace(0, 1, 6).astype("float32")
    images = np.ones((6, 8, 8, 3), "float32") * brightness[:, None, None, None]
    augment = augmentation("none", 6, seed=3)
    augment.mix_layer = keras.layers.MixUp(alpha=0.5, seed=3)
    out, mixed = as_numpy(augment(images, np.arange(6)))
    assert not np.allclose(mixed, np.eye(6))
    np.testing.assert_allclose(
        out.mean(axis=(1, 2, 3)), mixed @ brightness, atol=1e-5
    )


def test_cutmix_takes_the_place_of_mixup():
    images, labels = data()
    augment = augmentation("none", 3, seed=0, cutmix=True)
    out, mixed = as_numpy(augment(images, labels))
    assert isinstance(augment.mix_layer, keras.layers.CutMix)
    np.testing.assert_allclose(mixed.sum(axis=1), 1.0, rtol=1e-5)
    # Pixels are taken from images (or their mirror images), never blended.
    pool = set(map(bytes, images.reshape(-1, 3)))
    assert set(map(bytes, out.astype("uint8").reshape(-1, 3))) <= pool


@pytest.mark.parametrize("form", ["column", "one_hot", "tensor"])
def test_labels_may_come_in_other_forms(form):
    images, labels = data()
    given = {
        "column": labels[:, None],
        "one_hot": np.eye(3, dtype="float32")[labels],
        "tensor": keras.ops.convert_to_tensor(labels.astype("int32")),
    }[form]
    _, out = as_numpy(augmentation("none", 3, seed=0)(images, given))
    np.testing.assert_array_equal(out, np.eye(3)[labels])


def test_labels_out_of_range_are_refused():
    images, _ = data()
    with pytest.raises(ValueError, match=r"`labels`.*\[0, 3\).*0 to 5"):
        augmentation("none", 3)(images, np.arange(6))


@pytest.mark.parametrize(
    "arguments, name",
    [(("light3", 3), "level"), (("none", 0), "num_classes")],
)
def test_bad_arguments_are_named(arguments, name):
    with pytest.raises(ValueError, match=f"`{name}`.*Received"):
        augmentation(*arguments)


@pytest.mark.parametrize(
    "level, cutmix",
    [
        ("none", True),
        # Keras unrolls equalisation over 256 grey values: slow to trace.
        pytest.param("medium2", False, marks=pytest.mark.slow),
    ],
)
def test_works_in_a_tf_data_pipeline_under_any_backend(level, cutmix):
    tf = pytest.importorskip("tensorflow")
    images, labels = data()
    augment = augmentation(level, num_classes=3, seed=0, cutmix=cutmix)
    dataset = tf.data.Dataset.from_tensor_slices((images, labels))
    dataset = dataset.batch(4).map(augment)
    shapes = []
    for out, mixed in dataset.as_numpy_iterator():
        shapes.append(out.shape)
        assert out.dtype == np.float32
        np.testing.assert_allclose(mixed.sum(axis=1), 1.0, rtol=1e-5)
    assert shapes == [(4, 8, 8, 3), (2, 8, 8, 3)]


def test_equal_integers_give_equal_draws():
    images, labels = data()
    augment = augmentation("strong1", 3, seed=0)
    augment.reseed(1, 2, 3)
    first = as_numpy(augment(images, labels))
    between = as_numpy(augment(images, labels))
    augment.reseed(1, 2, 3)
    again = as_numpy(augment(images, labels))
    for a, b in zip(first, again, strict=True):
        np.testing.assert_array_equal(a, b)
    assert not np.array_equal(first[0], between[0])


def test_order_depends_on_seed_and_epoch_alone():
    images, labels = np.arange(10), np.arange(10)
    dataset = ArrayDataset(images, labels, batch_size=4, seed=7)
    assert len(dataset) == 3

    def epoch(dataset):
        return np.concatenate([dataset[i][0] for i in range(len(dataset))])

    first = epoch(dataset)
    assert sorted(first) == list(range(10))
    np.testing.assert_array_equal(
        first, np.random.default_rng((7, 0)).permutation(10)
    )
    dataset.on_epoch_end()
    second = epoch(dataset)
    assert not np.array_equal(first, second)
    # A new object told the epoch sees what the old one saw, in any order.
    resumed = ArrayDataset(images, labels, batch_size=4, seed=7, epoch=1)
    np.testing.assert_array_equal(resumed[2][0], second[8:])
    np.testing.assert_array_equal(resumed[0][0], second[:4])
    unshuffled = ArrayDataset(images, labels, batch_size=4, shuffle=False)
    np.testing.assert_array_equal(epoch(unshuffled), images)
    with pytest.raises(IndexError, match="index=3"):
        dataset[3]


def test_layers_do_not_share_a_seed():
    augment = augmentation("light2", 3, seed=5)
    layers = [*augment.image_layers, augment.mix_layer]
    assert len({layer.get_config()["seed"] for layer in layers}) == 3
    augment.reseed(1, 2)
    states = [
        tuple(keras.ops.convert_to_numpy(state.value))
        for layer in layers
        for state in layer.variables
    ]
    assert len(states) >= 3 and len(set(states)) == len(states)


def test_shards_draw_different_augmentations():
    """Nor does a shard draw what another draws for another batch."""
    # Equal images, so that what comes out shows what was drawn.
    image = np.random.default_rng(0).integers(0, 256, (1, 8, 8, 3))
    images, labels = np.repeat(image, 32, axis=0), np.zeros(32, int)
    parts = set()
    for shard in range(4):
        dataset = ArrayDataset(
            images, labels, 16, augment=CropAndFlip(3), shard=(shard, 4)
        )
        parts |= {dataset[index][0].tobytes() for index in range(2)}
    assert len(parts) == 8


def test_augmented_batches_do_not_depend_on_what_came_before():
    images, labels = data()

    def dataset():
        augment = augmentation("none", 3, cutmix=True)
        return ArrayDataset(images, labels, 3, augment=augment, seed=5)

    one, other = dataset(), dataset()
    expected = [one[0], one[1]]
    received = [other[1], other[0]][::-1]
    for a, b in zip(expected, received, strict=True):
        np.testing.assert_array_equal(a[0], b[0])
        np.testing.assert_array_equal(a[1], b[1])
    assert isinstance(expected[0][0], np.ndarray)


class Recorder:
    """Stands for an augmentation and writes down what it is seeded with."""

    def __init__(self):
        self.seen = set()

    def reseed(self, seed, epoch, index):
        self.seen.add((epoch, index))

    def __call__(self, images, labels):
        return images, labels


@pytest.mark.parametrize("workers", [1, 2])
def test_fit_resumes_at_the_epoch_it_is_told(workers):
    images, labels = data(size=8)
    recorder = Recorder()
    dataset = ArrayDataset(
        images.astype("float32"), labels, 4, augment=recorder, workers=workers
    )
    model = keras.Sequential(
        [
            keras.Input((8, 8, 3)),
            keras.layers.Flatten(),
            keras.layers.Dense(3),
        ]
    )
    model.compile(**recipes.adamw(10), **EAGER)
    model.fit(
        dataset,
        initial_epoch=3,
        epochs=5,
        shuffle=False,
        verbose=0,
        callbacks=[dataset.epoch_callback()],
    )
    # Epoch 0 may show up too: Keras looks at a batch before it begins.
    assert {(3, 0), (3, 1), (4, 0), (4, 1)} <= recorder.seen
    assert {epoch for epoch, _ in recorder.seen} <= {0, 3, 4}


def test_fit_on_augmented_batches():
    images, labels = data(size=8)
    augment = augmentation("none", num_classes=3, cutmix=True)
    dataset = ArrayDataset(images, labels, 4, augment=augment)
    model = keras.Sequential(
        [
            keras.Input((8, 8, 3)),
            keras.layers.Rescaling(1 / 255),
            keras.layers.Flatten(),
            keras.layers.Dense(3),
        ]
    )
    model.compile(**recipes.adamw(10, one_hot=True), **EAGER)
    history = model.fit(dataset, epochs=1, shuffle=False, verbose=0)
    assert np.isfinite(history.history["loss"]).all()


def test_array_dataset_checks_its_arguments():
    with pytest.raises(ValueError, match="same length.*len.labels.=2"):
        ArrayDataset(np.zeros(3), np.zeros(2), 1)
    with pytest.raises(ValueError, match="`batch_size`"):
        ArrayDataset(np.zeros(3), np.zeros(3), 0)
    with pytest.raises(ValueError, match="`seed`"):
        ArrayDataset(np.zeros(3), np.zeros(3), 1, seed=-1)


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("name", ["MixUp", "CutMix"])
def test_keras_cv_layers_take_the_same_place(name):
    if keras.backend.backend() != "tensorflow":
        pytest.skip("KerasCV is used on the TensorFlow backend")
    keras_cv = pytest.importorskip("keras_cv")
    images, labels = data()
    rand_augment = keras_cv.layers.RandAugment(
        value_range=(0, 255), augmentations_per_image=2, magnitude=0.5
    )
    mix = getattr(keras_cv.layers, name)()

    def augment(images, labels):
        images = rand_augment(keras.ops.convert_to_tensor(images, "float32"))
        labels = keras.ops.one_hot(keras.ops.convert_to_tensor(labels), 3)
        mixed = mix({"images": images, "labels": labels})
        return mixed["images"], mixed["labels"]

    dataset = ArrayDataset(images, labels, 6, augment=augment)
    out, mixed = dataset[0]
    assert out.shape == images.shape
    np.testing.assert_allclose(mixed.sum(axis=1), 1.0, rtol=1e-5)
