"""`few_shot`: models and data sets that features come from, and stay alive."""

import os
import signal

import keras
import numpy as np
import pytest

import keras_vit

CLASSES = 3


@pytest.fixture
def pictures(rng):
    """Images of 8 x 12 whose channel 0, 1 or 2 is bright: 10 of each."""
    labels = rng.permutation(np.repeat(np.arange(CLASSES), 10))
    images = rng.uniform(0, 40, (len(labels), 8, 12, 3)).astype("float32")
    images[np.arange(len(labels)), :, :, labels] += 200
    return images, labels


@pytest.fixture
def small_model():
    """A classifier that compiles in no time, with the tap of a ViT."""
    images = keras.Input((8, 12, 3))
    x = keras.layers.GlobalAveragePooling2D()(images)
    x = keras.layers.Dense(6, name="pre_logits")(x)
    return keras.Model(images, keras.layers.Dense(5, name="head")(x))


# The model: where features come from.


def test_a_classifier_is_cut_behind_its_representation(tiny_vit, pictures):
    model = tiny_vit()
    extractor = keras_vit.feature_extractor(model, "pre_logits")
    vectors = keras_vit.predict(extractor, pictures[0], verbose=0)
    assert vectors.shape == (30, 16)
    options = {"shots": (1, 5), "verbose": 0}
    expected = keras_vit.few_shot(
        None, *[(vectors, pictures[1])] * 2, **options
    )
    for given in (model, extractor):
        result = keras_vit.few_shot(given, pictures, pictures, **options)
        np.testing.assert_array_equal(result.accuracies, expected.accuracies)


class Custom(keras.Model):
    """Not a functional model: it knows no shapes."""

    def __init__(self):
        super().__init__()
        self.pool = keras.layers.GlobalAveragePooling2D()

    def call(self, images):
        return self.pool(images)


def test_other_models(pictures):
    result = keras_vit.few_shot(
        Custom(), pictures, pictures, shots=5, verbose=0
    )
    np.testing.assert_array_equal(result.accuracies, 1)


def test_models_without_vectors_are_refused(tiny_vit, pictures):
    with pytest.raises(ValueError, match=r"one vector an image.*6, 16"):
        keras_vit.few_shot(
            tiny_vit(pooling=None, num_classes=None), pictures, pictures
        )
    inputs = keras.Input((4,))
    outputs = keras.layers.Dense(2, name="head")(inputs)
    with pytest.raises(ValueError, match="feature_extractor.*layers.*head"):
        keras_vit.few_shot(keras.Model(inputs, outputs), pictures, pictures)
    with pytest.raises(ValueError, match="`model` must be a keras.Model"):
        keras_vit.few_shot("B/16", pictures, pictures)


# Sources of data. Each shuffles anew each time it is read.


def as_array_dataset(images, labels):
    return keras_vit.ArrayDataset(images, labels, 4, workers=2)


def as_generator(images, labels):
    rows = np.random.default_rng().permutation(len(images))
    return ((images[r : r + 1], labels[r : r + 1]) for r in rows)


def as_tf_dataset(images, labels):
    tf = pytest.importorskip("tensorflow")
    data = tf.data.Dataset.from_tensor_slices((images, labels))
    return data.shuffle(30, reshuffle_each_iteration=True).batch(4)


def as_data_loader(images, labels):
    data = pytest.importorskip("torch.utils.data")
    torch = pytest.importorskip("torch")
    tensors = torch.from_numpy(images), torch.from_numpy(labels)
    return data.DataLoader(data.TensorDataset(*tensors), 4, shuffle=True)


def as_grain(images, labels):
    grain = pytest.importorskip("grain")
    pairs = list(zip(images, labels))
    seed = int(np.random.default_rng().integers(1000))
    return grain.MapDataset.source(pairs).shuffle(seed).batch(4)


SOURCES = (
    as_array_dataset,
    as_generator,
    as_tf_dataset,
    as_data_loader,
    as_grain,
)


@pytest.mark.parametrize("source", SOURCES)
def test_a_shuffled_data_set_keeps_its_pairs(source, small_model, pictures):
    """All shots: the set is the same in every order, so the result is."""
    options = {"shots": 10, "seeds": 0, "l2": (1, 1024), "verbose": 0}
    expected = keras_vit.few_shot(small_model, pictures, pictures, **options)
    np.testing.assert_array_equal(expected.accuracies, 1)
    given = keras_vit.few_shot(
        small_model, source(*pictures), source(*pictures), **options
    )
    np.testing.assert_array_equal(given.accuracies, expected.accuracies)


@pytest.mark.parametrize("source", SOURCES)
def test_features_may_come_as_a_data_set(source, rng):
    labels = np.arange(60) % CLASSES
    x = rng.normal(size=(60, 8)) + np.eye(CLASSES, 8)[labels]
    features = (x[:36], labels[:36]), (x[36:], labels[36:])
    expected = keras_vit.few_shot(None, *features, shots=12)
    given = keras_vit.few_shot(
        None, *[source(*split) for split in features], shots=12
    )
    np.testing.assert_array_equal(given.accuracies, expected.accuracies)


@pytest.mark.filterwarnings("ignore:Your input ran out of data:UserWarning")
@pytest.mark.parametrize("source", SOURCES)
def test_predict_takes_data_sets_of_pairs(source, small_model, pictures):
    given = keras_vit.predict(small_model, source(*pictures), verbose=0)
    expected = keras_vit.predict(small_model, pictures[0], verbose=0)
    order = [np.lexsort(np.round(rows, 3).T) for rows in (given, expected)]
    np.testing.assert_allclose(given[order[0]], expected[order[1]], atol=1e-4)


def test_a_data_set_in_use_is_not_moved_on(small_model, pictures):
    data = keras_vit.ArrayDataset(*pictures, batch_size=4)
    keras_vit.few_shot(small_model, data, data, shots=1, verbose=0)
    assert data.epoch == 0


# What goes wrong in the data, and that the model lives.


class Unlabelled(keras.utils.PyDataset):
    def __init__(self, batches, item):
        super().__init__()
        self.batches, self.item = batches, item

    def __len__(self):
        return self.batches

    def __getitem__(self, index):
        return self.item(index)


def test_bad_data_sets_are_refused_and_the_model_lives(small_model, pictures):
    """Faults cases 27, 28 and 33, by data sets that go wrong."""
    images = pictures[0]
    expected = small_model.predict(images, verbose=0)

    def raises(error, match, batches, item):
        with pytest.raises(error, match=match):
            data = Unlabelled(batches, item)
            keras_vit.few_shot(small_model, data, data, verbose=0)
        np.testing.assert_array_equal(
            small_model.predict(images, verbose=0), expected
        )

    def interrupt(index):
        if index == 1:
            raise KeyboardInterrupt
        return pictures

    raises(ValueError, "yields such pairs", 2, lambda index: images)
    raises(ValueError, "at least one batch", 0, None)
    raises(KeyboardInterrupt, None, 3, interrupt)
    with pytest.raises(ValueError, match=r"shape=\(0, 8, 12, 3\)"):
        keras_vit.few_shot(small_model, (images[:0], []), pictures, verbose=0)
    with pytest.raises(ValueError, match=r"Received: shape=\(30, 8, 4, 3\)"):
        keras_vit.few_shot(
            small_model, (images[:, :, :4], pictures[1]), pictures
        )
    broken = images.copy()
    broken[4, 0, 0, 0] = np.nan
    with pytest.raises(ValueError, match="1 of 30 rows: 4$"):
        keras_vit.few_shot(
            small_model, pictures, (broken, pictures[1]), verbose=0
        )
    np.testing.assert_array_equal(
        small_model.predict(images, verbose=0), expected
    )


def test_ctrl_c_leaves_the_model_alive(small_model, pictures):
    """Faults case 27, with the real signal."""
    expected = small_model.predict(pictures[0], verbose=0)

    def item(index):
        if index == 3:
            os.kill(os.getpid(), signal.SIGINT)
        return pictures

    data = Unlabelled(1000, item)
    # A shell that runs tests in the background makes them ignore Ctrl-C.
    outside = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        with pytest.raises(KeyboardInterrupt):
            keras_vit.few_shot(small_model, data, data, verbose=0)
    finally:
        signal.signal(signal.SIGINT, outside)
    np.testing.assert_array_equal(
        small_model.predict(pictures[0], verbose=0), expected
    )
