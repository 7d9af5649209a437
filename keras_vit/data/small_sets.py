"""Small sets of real images by name, as NumPy arrays.

They have the form of `keras.datasets`. The digits come with scikit-learn.
CIFAR is read from local copies if the environment variable KERAS_VIT_DATA
names a folder that has them, and otherwise comes through `keras.datasets`,
which downloads it once and verifies it.
"""

import io
import os
import pathlib
import typing

import keras
import numpy as np

from keras_vit.arguments import check_choice
from keras_vit.extras import require

DATA_FOLDER = "KERAS_VIT_DATA"
# Height and width of an image. A local copy holds columns of images, one above
# the other.
CIFAR_SIZE = 32

Name = typing.Literal["digits", "cifar10", "cifar100"]
Arrays = tuple[np.ndarray, np.ndarray]


def load(name: Name) -> tuple[Arrays, Arrays]:
    """Loads a small set of real images.

    | name | images | size | classes | test set | source |
    |---|---|---|---|---|---|
    | `"digits"` | 1,797 | 8 x 8 x 1 | 10 | 599, stratified | scikit-learn |
    | `"cifar10"` | 60,000 | 32 x 32 x 3 | 10 | 10,000 | `keras.datasets` |
    | `"cifar100"` | 60,000 | 32 x 32 x 3 | 100 | 10,000 | `keras.datasets` |

    The digits are scans of the handwriting of 13 people (Alpaydin and Kaynak,
    1998). Their pixels count dots of ink from 0 to 16; here they are scaled to
    [0, 255]. The split into two thirds and one third is this library's own,
    the same in every call and on every machine. Each writer is likely to be in
    both parts, so the test set has new digits rather than new writers.

    CIFAR (Krizhevsky, 2009) is read from `cifar10.npz`, `cifar100.npz` and
    `cifar100_train_rest.npz` in the folder that the environment variable
    `KERAS_VIT_DATA` names, if it has them, and otherwise from
    `keras.datasets`. A local copy may hold fewer training images and another
    order of them; the test images are the same 10,000.

    Args:
        name: name of the set, from the table above.

    Returns:
        `(x_train, y_train), (x_test, y_test)`: images as `uint8` in [0, 255]
        of shape `(num_images, height, width, channels)`; labels as `int64` of
        shape `(num_images,)`, which index `class_names(name)`.

    Raises:
        ValueError: if no set has that name, or if a local copy is damaged.
        OSError: if the set cannot be downloaded; the message says what to do.
        ImportError: if the package that contains or decodes the set is not
            installed.

    Example:

    >>> (x_train, y_train), (x_test, y_test) = keras_vit.data.load("digits")
    >>> x_train.shape, x_test.shape
    ((1198, 8, 8, 1), (599, 8, 8, 1))

    Reference:
        - [Optical Recognition of Handwritten Digits, UCI](
          https://doi.org/10.24432/C50P49)
        - [Krizhevsky, 2009](
          https://www.cs.toronto.edu/~kriz/learning-features-2009-TR.pdf)
    """
    return SETS[check_choice("name", name, SETS)].load()


def class_names(name: Name) -> list[str]:
    """Returns the names of the classes of a set, in the order of its labels.

    Args:
        name: name of the set, see `load`.

    Returns:
        A list of strings.

    Raises:
        ValueError: if no set has that name.

    Example:

    >>> keras_vit.data.class_names("digits")[:3]
    ['0', '1', '2']
    """
    return list(SETS[check_choice("name", name, SETS)].class_names)


def _load_digits():
    datasets = require(
        "sklearn.datasets", "data", "The digits come with scikit-learn"
    )
    digits = datasets.load_digits()
    images = np.rint(digits.images[..., None] * (255 / 16)).astype("uint8")
    labels = digits.target.astype("int64")
    test = _stratified_third(labels)
    return (images[~test], labels[~test]), (images[test], labels[test])


def _stratified_third(labels, seed=0):
    """Marks a third of each class, always the same third."""
    # NumPy promises that the stream of RandomState never changes; those of the
    # newer generators may.
    random = np.random.RandomState(seed)
    chosen = np.zeros(len(labels), bool)
    for label in np.unique(labels):
        rows = random.permutation(np.flatnonzero(labels == label))
        chosen[rows[: round(len(rows) / 3)]] = True
    return chosen


def _load_cifar10():
    return _local_copy("cifar10") or _from_keras("cifar10")


def _load_cifar100():
    local = _local_copy("cifar100")
    if local is None:
        return _from_keras("cifar100")
    (images, labels), test = local
    rest = _folder() / "cifar100_train_rest.npz"
    if rest.is_file():
        more_images, more_labels = _read(rest, "train")
        images = np.concatenate([images, more_images])
        labels = np.concatenate([labels, more_labels])
    return (images, labels), test


def _from_keras(name):
    try:
        (x_train, y_train), (x_test, y_test) = getattr(
            keras.datasets, name
        ).load_data()
    except Exception as error:  # Keras raises `Exception` itself
        raise OSError(
            f"{name!r} could not be downloaded: {error}\nIf there is no "
            f"network, run `keras_vit.data.load({name!r})` on a machine that "
            f"has one, and copy its folder {_keras_folder()} here."
        ) from error
    return (
        (x_train, y_train.reshape(-1).astype("int64")),
        (x_test, y_test.reshape(-1).astype("int64")),
    )


def _keras_folder():
    home = os.environ.get("KERAS_HOME", pathlib.Path("~", ".keras"))
    return pathlib.Path(home, "datasets")


def _folder():
    return pathlib.Path(os.environ.get(DATA_FOLDER, ""))


def _local_copy(name):
    path = _folder() / f"{name}.npz"
    if not os.environ.get(DATA_FOLDER) or not path.is_file():
        return None
    return _read(path, "train"), _read(path, "test")


def _read(path, split):
    """Images and labels of a split: WebP streams of columns of images."""
    require("PIL", "data", "Local copies of CIFAR are decoded by Pillow")
    from PIL import Image

    try:
        with np.load(path, allow_pickle=False) as arrays:
            streams = arrays[f"{split}_webp"].tobytes()
            ends = arrays[f"{split}_offsets"]
            labels = arrays[f"{split}_labels"].astype("int64")
        columns = [
            np.asarray(Image.open(io.BytesIO(streams[start:end])))
            for start, end in zip(ends[:-1], ends[1:])
        ]
        images = np.concatenate(columns)
        return images.reshape(-1, CIFAR_SIZE, CIFAR_SIZE, 3), labels
    except Exception as error:  # decoders raise almost anything
        raise ValueError(
            f"Local copy {str(path)!r} ({DATA_FOLDER}) is damaged: {error}"
        ) from error


# fmt: off
CIFAR10 = (
    "airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse",
    "ship", "truck",
)
CIFAR100 = (
    "apple", "aquarium_fish", "baby", "bear", "beaver", "bed", "bee",
    "beetle", "bicycle", "bottle", "bowl", "boy", "bridge", "bus",
    "butterfly", "camel", "can", "castle", "caterpillar", "cattle", "chair",
    "chimpanzee", "clock", "cloud", "cockroach", "couch", "crab",
    "crocodile", "cup", "dinosaur", "dolphin", "elephant", "flatfish",
    "forest", "fox", "girl", "hamster", "house", "kangaroo", "keyboard",
    "lamp", "lawn_mower", "leopard", "lion", "lizard", "lobster", "man",
    "maple_tree", "motorcycle", "mountain", "mouse", "mushroom", "oak_tree",
    "orange", "orchid", "otter", "palm_tree", "pear", "pickup_truck",
    "pine_tree", "plain", "plate", "poppy", "porcupine", "possum", "rabbit",
    "raccoon", "ray", "road", "rocket", "rose", "sea", "seal", "shark",
    "shrew", "skunk", "skyscraper", "snail", "snake", "spider", "squirrel",
    "streetcar", "sunflower", "sweet_pepper", "table", "tank", "telephone",
    "television", "tiger", "tractor", "train", "trout", "tulip", "turtle",
    "wardrobe", "whale", "willow_tree", "wolf", "woman", "worm",
)
# fmt: on


class _Set(typing.NamedTuple):
    load: typing.Callable
    class_names: tuple[str, ...]


# fmt: off
SETS = {
    # name           how to load it    names of the labels
    "digits":   _Set(_load_digits,     tuple("0123456789")),
    "cifar10":  _Set(_load_cifar10,    CIFAR10),
    "cifar100": _Set(_load_cifar100,   CIFAR100),
}
# fmt: on
