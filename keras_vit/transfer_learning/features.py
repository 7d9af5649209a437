"""Features and labels of a data set, in one pass that keeps them together.

A shuffled data set that is read twice, once for its images and once for its
labels, gives wrong pairs without a word. Here both go through `predict`
together, so whatever order, thread or process a batch comes from, an image's
features stand beside its label.
"""

import typing
import warnings

import keras
import numpy as np

from keras_vit.data.checks import check_images, check_labels
from keras_vit.models import feature_extractor
from keras_vit.serving.running import predict

# Rows named in an error, before it says "and more".
NAMED_ROWS = 10


class Split(typing.NamedTuple):
    """Features, float64 of shape `(n, dim)`, and labels, int64 of `(n,)`."""

    features: np.ndarray
    labels: np.ndarray


class Extractor(keras.Model):
    """A model whose `predict` returns the labels of its images as well.

    Args:
        model: a `keras.Model` from images to vectors; one with a layer named
            `pre_logits`, as every classifier of this library has, is cut off
            behind it.
    """

    def __init__(self, model):
        model = _up_to_representation(model)
        # No casts: pixels are the model's own business.
        super().__init__(name=model.name, autocast=False)
        self.model = model

    def call(self, images, training=False):
        return self.model(images, training=training)

    def predict_step(self, *arguments):
        # JAX passes the state in front of the data and takes it back.
        _, labels, _ = keras.utils.unpack_x_y_sample_weight(arguments[-1])
        if keras.backend.backend() != "jax":
            features = super().predict_step(*arguments)
            return features if labels is None else (features, labels)
        features, state = super().predict_step(*arguments)
        return (features if labels is None else (features, labels)), state


def extract(extractor, data, name, batch_size=32, verbose="auto"):
    """Returns features and labels as they come, in one pass over the data.

    Args:
        extractor: an `Extractor`, or `None` where the data holds features.
        data: a pair of arrays, or a data set that yields pairs of batches.
        name: what errors call the data.
        batch_size: images a step, for arrays.
        verbose: as in Keras.

    Returns:
        Two NumPy arrays.

    Raises:
        ValueError: if there is nothing, or no pairs.
    """
    if isinstance(data, (tuple, list)):
        return _extract_arrays(extractor, data, name, batch_size, verbose)
    if _length(data) == 0:
        raise ValueError(
            f"`{name}` must hold at least one batch. Received: {name}={data!r}"
        )
    if isinstance(data, keras.utils.PyDataset):
        data = _Batches(data, name)
    if extractor is None:
        batches = [_pair(batch, name) for batch in _each(data)]
        if not batches:
            raise ValueError(f"`{name}` must hold at least one batch.")
        return tuple(np.concatenate(parts) for parts in zip(*batches))
    with warnings.catch_warnings():
        # Of a source that does not know its length, Keras takes the end for
        # an interrupted training.
        warnings.filterwarnings("ignore", "Your input ran out of data")
        return _pair(predict(extractor, data, verbose=verbose), name)


def check_split(name, features, labels, num_classes=None):
    """Returns features and labels as a `Split`, or raises.

    Args:
        name: what errors call the data.
        features: array of shape `(n, dim)`.
        labels: integers of shape `(n,)` or `(n, 1)`, or one-hot rows.
        num_classes: number of classes, or `None` for as many as there are.

    Returns:
        A `Split` and the number of classes.

    Raises:
        ValueError: if the features are not vectors or not finite, or the
            labels are not one of `num_classes` for each of them.
    """
    if features.ndim != 2 or 0 in features.shape:
        raise ValueError(
            f"`{name}` must hold at least one vector of features, in an array "
            f"of shape (num_images, dim). Received: shape={features.shape}"
        )
    if len(features) != len(labels):
        raise ValueError(
            f"`{name}` must have one label an image. "
            f"Received: {len(features)} images, {len(labels)} labels"
        )
    features = np.array(features, "float64")  # a copy, ours to work on
    bad = np.flatnonzero(~np.isfinite(features).all(axis=1))
    if len(bad):
        rows = ", ".join(map(str, bad[:NAMED_ROWS]))
        more = ", ..." if len(bad) > NAMED_ROWS else ""
        raise ValueError(
            f"Features of `{name}` must be finite. Received: NaN or infinity "
            f"in {len(bad)} of {len(features)} rows: {rows}{more}"
        )
    one_hot = labels.ndim == 2 and labels.shape[1] > 1
    if num_classes is None:
        whole = np.issubdtype(labels.dtype, np.integer)
        num_classes = max(int(labels.max()) + 1, 1) if whole else 1
        num_classes = labels.shape[1] if one_hot else num_classes
    try:
        labels = check_labels(labels, num_classes)
        if one_hot and not np.all(np.sort(labels)[:, -2:] == (0, 1)):
            raise ValueError("One-hot `labels` must have a single 1 a row.")
    except ValueError as error:
        raise ValueError(f"`{name}`: {error}") from None
    labels = labels.argmax(axis=1) if one_hot else labels.reshape(-1)
    return Split(features, labels.astype("int64")), num_classes


def both_splits(model, train, test, num_classes, batch_size, verbose):
    """Returns training and test split, checked, and the number of classes.

    Args:
        model: a `keras.Model`, an `Extractor`, or `None` where the data holds
            features.
        train: a pair of arrays or a data set.
        test: likewise.
        num_classes: number of classes, or `None` for as many as `train` has.
        batch_size: images a step, for arrays.
        verbose: as in Keras.

    Returns:
        Two `Split` and an integer.

    Raises:
        ValueError: as `few_shot` says.
    """
    if model is not None and not isinstance(model, Extractor):
        model = Extractor(model)
    options = {"batch_size": batch_size, "verbose": verbose}
    # The labels of the first are checked before the second takes its time.
    train, num_classes = check_split(
        "train", *extract(model, train, "train", **options), num_classes
    )
    empty = np.flatnonzero(np.bincount(train.labels, minlength=num_classes) < 1)
    if len(empty):
        raise ValueError(
            "`train` must have an image of each class. Received: none of "
            f"class {empty[0]} ({len(empty)} of {num_classes} classes are "
            "empty)"
        )
    test, _ = check_split(
        "test", *extract(model, test, "test", **options), num_classes
    )
    if train.features.shape[1] != test.features.shape[1]:
        raise ValueError(
            "`train` and `test` must have features of one width. Received: "
            f"{train.features.shape[1]} and {test.features.shape[1]}"
        )
    return train, test, num_classes


def _up_to_representation(model):
    if not isinstance(model, keras.Model):
        raise ValueError(
            "`model` must be a keras.Model, or None where `train` and `test` "
            f"hold features. Received: model={model!r}"
        )
    names = [layer.name for layer in model.layers]
    functional = getattr(model, "inputs", None)
    if functional and "pre_logits" in names:
        model = feature_extractor(model, "pre_logits")
    elif "head" in names:
        raise ValueError(
            "`model` must return features, and a model with a layer 'head' "
            "returns logits. Pass the part in front of it: "
            "keras_vit.feature_extractor(model, NAME), where NAME is the "
            f"layer that the head reads. Received: '{model.name}' with layers "
            f"{', '.join(names)}"
        )
    shape = getattr(model, "output_shape", (None, None))
    if not isinstance(shape, tuple) or len(shape) != 2:
        raise ValueError(
            "`model` must return one vector an image, of shape (batch, dim). "
            "Pass a model with pooling, or the part up to a layer that gives "
            "vectors: keras_vit.feature_extractor(model, NAME). "
            f"Received: '{model.name}' with output shape {shape}"
        )
    return model


def _extract_arrays(extractor, data, name, batch_size, verbose):
    images, labels = _pair(data, name)
    if len(images) != len(labels):
        raise ValueError(
            f"`{name}` must have one label an image. "
            f"Received: {len(images)} images, {len(labels)} labels"
        )
    if extractor is None:
        return images, labels
    check_images(extractor.model, images)
    return predict(extractor, images, batch_size, verbose), labels


def _pair(data, name):
    if not isinstance(data, (tuple, list)) or len(data) != 2:
        length = f" of length {len(data)}" if hasattr(data, "__len__") else ""
        raise ValueError(
            f"`{name}` must be a pair (images, labels), or a data set that "
            f"yields such pairs. Received: a {type(data).__name__}{length}"
        )
    return tuple(np.asarray(part) for part in data)


def _length(data):
    try:
        return len(data)
    except TypeError:  # unknown, or endless
        return None


def _each(data):
    if isinstance(data, keras.utils.PyDataset):
        return (data[index] for index in range(len(data)))
    return data


class _Batches(keras.utils.PyDataset):
    """The batches of a data set, without its epochs.

    Keras tells a `PyDataset` when an epoch ends, and many then shuffle. To
    look at the one that a training reads from must not move it on.
    """

    def __init__(self, source, name):
        super().__init__(
            workers=source.workers,
            use_multiprocessing=source.use_multiprocessing,
            max_queue_size=source.max_queue_size,
        )
        if source.num_batches is None:
            raise ValueError(
                f"`{name}` must end. Received: a {type(source).__name__} "
                "whose `num_batches` is None"
            )
        self.source = source

    def __len__(self):
        return self.source.num_batches

    def __getitem__(self, index):
        return self.source[index]
