"""Features and labels of a data set, in one pass that keeps them together.

A shuffled data set that is read twice, once for its images and once for its
labels, silently gives wrong pairs. Here both go through `predict` together, so
an image's features stay with its label, whatever order, thread or process a
batch comes from.
"""

import typing
import warnings
from collections.abc import Iterable

import keras
import numpy as np

from keras_vit.arguments import check_positive
from keras_vit.data.checks import check_batch, check_labels
from keras_vit.models import feature_extractor
from keras_vit.serving.running import predict

# The most rows that an error lists.
NAMED_ROWS = 10
# What evaluations take: images and labels, or batches of them.
Data = tuple[typing.Any, typing.Any] | keras.utils.PyDataset | Iterable
Verbose = int | typing.Literal["auto"]


class Split(typing.NamedTuple):
    """Features and labels of some images.

    Args:
        features: float64 array of shape `(num_images, dim)`.
        labels: int64 array of shape `(num_images,)`.
    """

    features: np.ndarray
    labels: np.ndarray


class Extractor(keras.Model):
    """A model whose `predict` returns the labels of its images too.

    Args:
        model: a `keras.Model` from images to vectors. A model with a layer
            named `pre_logits`, as every classifier of this library, is cut off
            after that layer.
    """

    def __init__(self, model: keras.Model):
        model = _up_to_representation(model)
        # No casts: the model itself casts its pixels.
        super().__init__(name=model.name, autocast=False)
        self.model = model

    def call(self, images, training=False):
        return self.model(images, training=training)

    def predict_step(self, *arguments):
        # Under JAX the state comes before the data and is returned too.
        _, labels, _ = keras.utils.unpack_x_y_sample_weight(arguments[-1])
        if keras.backend.backend() != "jax":
            features = super().predict_step(*arguments)
            return features if labels is None else (features, labels)
        features, state = super().predict_step(*arguments)
        return (features if labels is None else (features, labels)), state


def extract(
    extractor: Extractor | None,
    data: Data,
    name: str,
    batch_size: int = 32,
    verbose: Verbose = "auto",
) -> tuple[np.ndarray, np.ndarray]:
    """Returns unchecked features and labels, in one pass over the data.

    Args:
        extractor: an `Extractor`, or `None` if the data holds features.
        data: a pair of arrays, or a data set that yields pairs of batches.
        name: name of the data in errors.
        batch_size: images in a step, for arrays.
        verbose: as in Keras.

    Returns:
        Features and labels.

    Raises:
        ValueError: if the data is empty, or does not consist of pairs.
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
        # Keras takes the end of a source of unknown length for an interrupted
        # training.
        warnings.filterwarnings("ignore", "Your input ran out of data")
        return _pair(predict(extractor, data, verbose=verbose), name)


def check_split(
    name: str,
    features: np.ndarray,
    labels: np.ndarray,
    num_classes: int | None = None,
) -> tuple[Split, int]:
    """Returns features and labels as a `Split`, or raises.

    Args:
        name: name of the data in errors.
        features: array of shape `(num_images, dim)`.
        labels: integers of shape `(num_images,)` or `(num_images, 1)`, or
            one-hot rows.
        num_classes: number of classes, or `None` for the largest label and
            one more.

    Returns:
        A `Split` and the number of classes.

    Raises:
        ValueError: if the features are not vectors or not finite, or if there
            is not one label in `[0, num_classes)` for each.
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
    features = np.array(features, "float64")  # a copy
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


def both_splits(
    model: keras.Model | None,
    train: Data,
    test: Data,
    num_classes: int | None,
    batch_size: int,
    verbose: Verbose,
) -> tuple[Split, Split, int]:
    """Returns training and test split, checked, and the number of classes.

    Args:
        model: a `keras.Model`, an `Extractor`, or `None` if the data holds
            features.
        train: a pair of arrays or a data set.
        test: a pair of arrays or a data set.
        num_classes: number of classes, or `None` for the largest label of
            `train` and one more.
        batch_size: images in a step, for arrays.
        verbose: as in Keras.

    Returns:
        Training split, test split, and the number of classes.

    Raises:
        ValueError: as in `few_shot`.
    """
    if model is not None and not isinstance(model, Extractor):
        model = Extractor(model)
    if num_classes is not None:
        check_positive("num_classes", num_classes)
    options = {"batch_size": batch_size, "verbose": verbose}
    # Check the labels of the first before the second pass takes its time.
    train, num_classes = check_split(
        "train", *extract(model, train, "train", **options), num_classes
    )
    # By the labels that are there: a count has a place for each number.
    present = np.unique(train.labels)
    if len(present) < num_classes:
        gaps = np.flatnonzero(present != np.arange(len(present)))
        first = gaps[0] if len(gaps) else len(present)
        raise ValueError(
            "`train` must have an image of each class. Received: none of "
            f"class {first} ({num_classes - len(present)} of {num_classes} "
            "classes are empty)"
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
    check_batch(extractor.model, images)
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

    Keras tells a `PyDataset` when an epoch ends, and many then shuffle. An
    evaluation must not move on the data set that a training reads from.
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
