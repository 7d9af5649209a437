"""A folder of image files, one sub-folder a class, as a Keras data set.

Reads `folder/class_name/*.jpg` as `keras.utils.image_dataset_from_directory`
does, but needs no TensorFlow and has an order that depends on seed and epoch
alone. Left out: augmentation (see `keras_vit.data.augmentation`) and
labels that are not folder names.
"""

import concurrent.futures
import os
import pathlib
import warnings
from collections.abc import Callable, Sequence
from typing import Any, Literal

import numpy as np

from keras_vit.arguments import check_choice, check_data_format, check_pair
from keras_vit.data.array_dataset import ArrayDataset
from keras_vit.data.images import SQUASH, fit, read_image
from keras_vit.preprocessing import Preprocessing, get

EXTENSIONS = (".bmp", ".gif", ".jpeg", ".jpg", ".png", ".webp")
# What Pillow calls the color modes of Keras.
PILLOW_MODES = {"rgb": "RGB", "grayscale": "L"}


class ImageFolder(ArrayDataset):
    """A folder of image files, one sub-folder a class, as a Keras data set.

    Pillow decodes files when their batch is needed, as `load_image` does:
    upright and, where they are transparent, on white. It resizes them to
    `image_size` by bilinear interpolation with antialiasing; the aspect ratio
    is not kept. The data set ignores files whose name does not end in .bmp,
    .gif, .jpeg, .jpg, .png or .webp, and files whose name starts with a dot.
    It takes the first frame of an animation.

    Every file is decoded once when the data set is made, so that a corrupt
    file raises then and not in the middle of an epoch. This takes about as
    long as reading the set for one epoch. A file that goes bad later raises
    the same error when its batch is needed; `keras_vit.predict` and
    `keras_vit.evaluate` then leave the model usable.

    Order and augmentation are those of `ArrayDataset`: they depend on `seed`
    and the number of the epoch alone. Give `fit` `shuffle=False`, and
    `keras_vit.callbacks.Resume` if a training may be killed.

    Args:
        directory: folder with one folder for each class. Images in folders
            further down belong to the class too.
        image_size: height and width in pixels, an int or a pair.
        batch_size: images in a batch. The last batch may be smaller.
        shuffle: whether to shuffle anew each epoch. Switch it off to
            `predict`, so that predictions come in the order of `paths`.
        seed: integer of 0 or more.
        on_error: what to do about a file that cannot be decoded: `"raise"`,
            or `"skip"`, which leaves it out and lists it in `skipped`.
        color_mode: `"rgb"`, 3 channels, or `"grayscale"`, 1 channel.
        class_names: the names of the class folders in the order of the
            labels. Defaults to all folders in alphabetical order; one without
            an image stays a class, with a warning. Give the names of the
            training set if a test set may lack a class.
        data_format: `"channels_last"` or `"channels_first"`. Defaults to
            `keras.config.image_data_format()`.
        preprocessing: how images are resized and cropped, a `Preprocessing`:
            that of a model, `model.get_layer("rescaling").preprocessing`, so
            that it is trained on what `load_image` and `classify` give it.
            Defaults to both sides at once, as said above.
        augment: callable from `(images, labels)` of a batch to the same, see
            `ArrayDataset`.
        **kwargs: further arguments of `ArrayDataset` and
            `keras.utils.PyDataset`, such as `workers`: threads that decode.

    Attributes:
        paths: the files in use, in the order of `labels`.
        labels: array of ints of shape `(num_images,)`, one for each path.
        class_names: names of the classes, in the order of the labels.
        skipped: files left out because they could not be decoded.

    A batch is a pair of images, `float32` in [0, 255] of shape `(batch,
    height, width, channels)`, and labels, `int64` of shape `(batch,)`.

    Raises:
        ValueError: if an argument breaks its rule, if there is no folder or
            no image, if a folder cannot be read, or if a file cannot be
            decoded and `on_error` is `"raise"`; the message names the file.
        ImportError: if Pillow is not installed.

    Example:

    ```python
    train = keras_vit.ImageFolder("flowers/train", image_size=224)
    test = keras_vit.ImageFolder(
        "flowers/test",
        image_size=224,
        shuffle=False,
        class_names=train.class_names,
    )
    model.fit(train, validation_data=test, epochs=10, shuffle=False)
    ```
    """

    def __init__(
        self,
        directory: str | os.PathLike,
        image_size: int | tuple[int, int],
        batch_size: int = 32,
        shuffle: bool = True,
        seed: int = 0,
        on_error: Literal["raise", "skip"] = "raise",
        color_mode: Literal["rgb", "grayscale"] = "rgb",
        class_names: Sequence[str] | None = None,
        data_format: Literal["channels_last", "channels_first"] | None = None,
        preprocessing: Preprocessing | None = None,
        augment: Callable[[Any, Any], tuple[Any, Any]] | None = None,
        **kwargs,
    ):
        check_choice("on_error", on_error, ("raise", "skip"))
        files = _Files(image_size, color_mode, data_format, preprocessing)
        self.class_names, paths, labels = _index(directory, class_names)
        errors = files.find_errors(paths)
        if errors and on_error == "raise":
            more = f" (and {len(errors) - 1} more)" if len(errors) > 1 else ""
            first = next(iter(errors.values()))
            raise ValueError(
                f"{first}{more}. Pass on_error='skip' to leave such files out."
            )
        self.skipped = list(errors)
        kept = [path not in errors for path in paths]
        if not any(kept):
            raise ValueError(
                "`directory` must hold an image that can be decoded. "
                f"Received: directory={str(directory)!r} with {len(paths)} "
                f"files, of which none can; the first: {self.skipped[0]}"
            )
        files.paths = [path for path, keep in zip(paths, kept) if keep]
        super().__init__(
            files,
            labels[kept],
            batch_size,
            augment=augment,
            shuffle=shuffle,
            seed=seed,
            **kwargs,
        )

    @property
    def paths(self) -> list[str]:
        return list(self.images.paths)


def _index(directory, class_names):
    """Names of the classes, paths, and the label of each path."""
    root = pathlib.Path(directory)
    # The path of "" is the working directory.
    if not str(directory) or not root.is_dir():
        raise ValueError(
            "`directory` must be a folder. "
            f"Received: directory={str(directory)!r}"
        )
    folders = sorted(
        entry.name
        for entry in root.iterdir()
        if entry.is_dir() and not entry.name.startswith(".")
    )
    names = folders if class_names is None else list(class_names)
    unknown = [name for name in folders if name not in names]
    if unknown or len(set(names)) < len(names):
        raise ValueError(
            "`class_names` must name every folder, each once. Received: "
            f"class_names={names}, folders={folders}"
        )
    paths, labels = [], []
    for label, name in enumerate(names):
        found = sorted(_images_in(root / name)) if name in folders else []
        paths += [str(path) for path in found]
        labels += [label] * len(found)
    if not paths:
        raise ValueError(
            "`directory` must hold a folder for each class, with images in it "
            f"({', '.join(EXTENSIONS)}). "
            f"Received: directory={str(directory)!r} with folders {folders}"
        )
    empty = [name for name in folders if names.index(name) not in labels]
    if empty:
        more = f" and {len(empty) - 10} more" if len(empty) > 10 else ""
        warnings.warn(
            f"These folders of '{root}' hold no image, so that their class has "
            f"none: {', '.join(map(repr, empty[:10]))}{more}.",
            stacklevel=4,
        )
    return names, paths, np.array(labels, "int64")


def _images_in(folder):
    """Yields the image files of a class, or raises if one cannot look."""

    def stop(error):
        raise ValueError(
            f"Folder {error.filename!r} of `directory` cannot be read: "
            f"{error.strerror}"
        ) from error

    # `rglob` passes over what it may not read.
    for root, _, files in os.walk(folder, onerror=stop):
        for name in files:
            path = pathlib.Path(root, name)
            if (
                path.suffix.lower() in EXTENSIONS
                and not name.startswith(".")
                and path.is_file()
            ):
                yield path


class _Files:
    """Image files that look like an array: decoded when they are indexed."""

    def __init__(self, image_size, color_mode, data_format, preprocessing):
        self.height, self.width = check_pair("image_size", image_size)
        self.mode = PILLOW_MODES[
            check_choice("color_mode", color_mode, PILLOW_MODES)
        ]
        self.data_format = check_data_format(data_format)
        self.preprocessing = get(preprocessing) or SQUASH
        self.paths = []

    def __len__(self):
        return len(self.paths)

    def __getitem__(self, rows):
        images = np.stack([self._pixels(self.paths[row]) for row in rows])
        images = images.reshape(len(rows), self.height, self.width, -1)
        if self.data_format == "channels_first":
            images = images.transpose(0, 3, 1, 2)
        return images.astype("float32")

    def find_errors(self, paths):
        """Errors by path, for the files that cannot be decoded."""

        def error_of(path):
            try:
                read_image(path, self.mode)
            except ValueError as error:
                return error
            return None

        # Pillow decodes outside the interpreter lock, so threads help.
        with concurrent.futures.ThreadPoolExecutor() as threads:
            errors = threads.map(error_of, paths)
            return {path: e for path, e in zip(paths, errors) if e is not None}

    def _pixels(self, path):
        image = read_image(path, self.mode)
        size = self.height, self.width
        return np.asarray(fit(image, size, self.preprocessing))
