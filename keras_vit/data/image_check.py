"""A look at every image before a long run begins.

A training of hours that meets a broken file dies in the middle, and one that
meets a wrong file does not even say so. Left out: mending what is found.
"""

import collections
import concurrent.futures
import csv
import io
import os
import pathlib
import warnings
from collections.abc import Callable, Iterable
from typing import Any, NamedTuple

import keras
import numpy as np

from keras_vit.arguments import check_pair, check_positive
from keras_vit.checkpoints.writers import write_text
from keras_vit.data.image_folder import EXTENSIONS, ImageFolder
from keras_vit.data.images import PILLOW, read_image
from keras_vit.extras import require

# Formats that may stand under the names of others: cameras write photographs
# with a second image inside under .jpg.
RELATED_FORMATS = {"MPO": "JPEG"}
# Lines of problems that a result prints.
PRINTED = 20


class ImageProblem(NamedTuple):
    """What is wrong with one image.

    Args:
        image: path of the file, or its place in a data set.
        kind: `"unreadable"`, `"damaged"`, `"mistyped"`, `"oversized"`,
            `"shape"` or `"pixels"`, see `check_images`.
        reason: the same in words.

    Example:

    >>> problem = keras_vit.data.ImageProblem("cat/1.png", "mistyped", "JPEG")
    >>> problem.kind
    'mistyped'
    """

    image: str
    kind: str
    reason: str


class ImageCheck(NamedTuple):
    """What `check_images` found. It prints as a list.

    Args:
        num_images: how many images were looked at.
        problems: an `ImageProblem` for each that is wrong, in the order of
            the files or of the data set.

    Example:

    >>> problem = keras_vit.data.ImageProblem("cat/1.png", "mistyped", "JPEG")
    >>> print(keras_vit.data.ImageCheck(9, [problem]))
    9 images, 1 wrong: 1 mistyped
    mistyped    cat/1.png: JPEG
    """

    num_images: int
    problems: list[ImageProblem]

    def __str__(self):
        if not self.problems:
            return f"{self.num_images:,} images, none wrong"
        counts = collections.Counter(problem.kind for problem in self.problems)
        kinds = ", ".join(f"{n:,} {kind}" for kind, n in counts.most_common())
        wrong = len({problem.image for problem in self.problems})
        lines = [f"{self.num_images:,} images, {wrong:,} wrong: {kinds}"]
        lines += [
            f"{problem.kind:<12}{problem.image}: {problem.reason}"
            for problem in self.problems[:PRINTED]
        ]
        if len(self.problems) > PRINTED:
            lines.append(f"... and {len(self.problems) - PRINTED:,} more")
        return "\n".join(lines)

    def write_csv(self, file: str | os.PathLike) -> None:
        """Writes a table of the problems: image, kind, reason.

        Args:
            file: path of the CSV file.
        """
        text = io.StringIO()
        writer = csv.writer(text, lineterminator="\n")
        writer.writerow(ImageProblem._fields)
        writer.writerows(self.problems)
        write_text(file, text.getvalue())


def check_images(
    source: str | os.PathLike | keras.utils.PyDataset,
    image_size: int | tuple[int, int] | None = None,
    *,
    max_pixels: int | None = None,
    verbose: bool = True,
) -> ImageCheck:
    """Looks at every image, and returns those that are wrong.

    Call it before a long run: it decodes every image once, in threads, and
    goes on where `ImageFolder` would stop. A file is

    - `"unreadable"` if it cannot be opened, or holds no image;
    - `"oversized"` if it has more than `max_pixels`. It is not decoded: a file
      of some kilobytes may unpack to gigabytes;
    - `"damaged"` if it begins as an image and cannot be decoded to its end, as
      after a broken download;
    - `"mistyped"` if its name promises another format than its content has.
      Pillow reads it all the same; other programs may not;
    - `"shape"` if it is of another size than `image_size`.

    In a data set that is no `ImageFolder` a batch is `"unreadable"` if the
    data set raises, an image is `"shape"` if it is not like the first one of
    the set (or not of `image_size`), and `"pixels"` if it holds NaN or
    infinity.

    Args:
        source: a folder with the images of `ImageFolder` in it or in its
            folders, also without classes; an `ImageFolder`; or another
            `keras.utils.PyDataset`, such as `ArrayDataset`, whose batches are
            images or tuples that begin with images, `(batch, height, width,
            channels)` or with channels first.
        image_size: height and width in pixels that every image must have
            once it stands upright, an int or a pair. `None` takes any.
        max_pixels: most pixels of a file. Defaults to Pillow's own limit,
            `PIL.Image.MAX_IMAGE_PIXELS`, 89 million. Pillow itself refuses
            twice its limit.
        verbose: whether to show a progress bar.

    Returns:
        An `ImageCheck`, with `num_images`, `problems` and `write_csv(file)`.

    Raises:
        ValueError: if an argument breaks its rule, or there is no image.
        ImportError: if files are to be read and Pillow is not installed.

    Example:

    ```python
    found = keras_vit.check_images("flowers/train")
    print(found)
    found.write_csv("wrong.csv")
    ```
    """
    size = None if image_size is None else check_pair("image_size", image_size)
    if isinstance(source, (str, os.PathLike, ImageFolder)):
        return _check_files(source, size, max_pixels, verbose)
    if isinstance(source, keras.utils.PyDataset):
        return _check_batches(source, size, verbose)
    raise ValueError(
        "`source` must be a folder, an `ImageFolder` or another "
        f"`keras.utils.PyDataset`. Received: source={source!r}"
    )


def _check_files(source, size, max_pixels, verbose):
    Image = require("PIL.Image", "data", PILLOW)
    if max_pixels is None:
        max_pixels = Image.MAX_IMAGE_PIXELS
    else:
        check_positive("max_pixels", max_pixels)
    formats = Image.registered_extensions()
    problems = []
    if isinstance(source, ImageFolder):
        paths = sorted({*source.paths, *source.skipped})
    else:
        paths = _image_files(source, problems)
    if not paths and not problems:
        raise ValueError(
            f"`source` must hold images ({', '.join(EXTENSIONS)}). "
            f"Received: source={str(source)!r}"
        )

    def look(path):
        try:
            with Image.open(path) as image:
                known = image.format
                pixels = image.width * image.height
        except Image.DecompressionBombError as error:
            yield "oversized", str(error)
            return
        except Exception as error:
            # As many classes as there are decoders.
            yield "unreadable", f"{type(error).__name__}: {error}"
            return
        if max_pixels is not None and pixels > max_pixels:
            yield "oversized", f"{pixels:,} pixels, more than {max_pixels:,}"
            return
        promised = formats.get(pathlib.Path(path).suffix.lower())
        if RELATED_FORMATS.get(known, known) != promised:
            yield "mistyped", f"named as {promised}, holds {known}"
        try:
            image = read_image(path, "RGB")
        except ValueError as error:
            yield "damaged", str(error.__cause__)
            return
        if size not in (None, (image.height, image.width)):
            yield "shape", _not_of(size, (image.height, image.width))

    with warnings.catch_warnings():
        # Said by `problems`, for every file and not for the first alone.
        warnings.simplefilter("ignore", Image.DecompressionBombWarning)
        for path, found in _in_threads(
            lambda path: list(look(path)), paths, None, "image", verbose
        ):
            problems += [ImageProblem(path, *words) for words in found]
    return ImageCheck(len(paths), problems)


def _image_files(folder, problems):
    """The files that `ImageFolder` reads, and folders that cannot be read."""
    root = pathlib.Path(folder)
    if not root.is_dir():
        raise ValueError(
            f"`source` must be a folder. Received: source={str(folder)!r}"
        )

    def note(error):
        problems.append(
            ImageProblem(error.filename, "unreadable", error.strerror)
        )

    # A link to a folder is a class to `ImageFolder`; further down it is none.
    classes = [x for x in sorted(root.iterdir()) if not x.name.startswith(".")]
    tops = [x for x in classes if x.is_dir()]
    names = [x for x in classes if not x.is_dir()]
    for top in tops:
        for place, _, files in os.walk(top, onerror=note):
            names += [pathlib.Path(place, file) for file in files]
    return sorted(
        str(path)
        for path in names
        if path.suffix.lower() in EXTENSIONS
        and not path.name.startswith(".")
        and path.is_file()
    )


def _check_batches(dataset, size, verbose):
    problems, count, expected = [], 0, None
    threads = max(getattr(dataset, "workers", 1), 1)

    def look(index):
        try:
            batch = dataset[index]
        except Exception as error:
            return f"{type(error).__name__}: {error}", 0, None, ()
        images = batch[0] if isinstance(batch, (tuple, list)) else batch
        images = keras.ops.convert_to_numpy(images)
        finite = np.isfinite(images.reshape(len(images), -1)).all(axis=1)
        return None, len(images), images.shape[1:], np.flatnonzero(~finite)

    for index, (error, rows, shape, bad) in _in_threads(
        look, range(len(dataset)), threads, "batch", verbose
    ):
        place = f"batch {index}"
        count += rows
        if error is not None:
            problems.append(ImageProblem(place, "unreadable", error))
            continue
        expected = expected or shape
        if shape != expected or not _is_of(size, shape):
            wanted = expected if shape != expected else size
            reason = _not_of(wanted, shape)
            problems.append(ImageProblem(place, "shape", reason))
        problems += [
            ImageProblem(f"{place}, image {row}", "pixels", "NaN or infinity")
            for row in bad
        ]
    return ImageCheck(count, problems)


def _is_of(size, shape):
    """Whether a shape is that of images, and of the given size."""
    if len(shape) != 3:
        return False
    return size is None or size in (shape[:2], shape[1:])


def _not_of(expected, given):
    wanted = "" if expected is None else f", not {tuple(expected)}"
    return f"{tuple(given)}{wanted}"


def _in_threads(
    look: Callable, items: Iterable, threads: int | None, unit: str, show: bool
) -> Iterable[tuple[Any, Any]]:
    """Yields each item with what `look` says of it, and shows how far it is."""
    # Where output is a file, each update is a line.
    bar = keras.utils.Progbar(
        len(items), interval=1, unit_name=unit, verbose=int(show)
    )
    # Pillow decodes outside the interpreter lock.
    with concurrent.futures.ThreadPoolExecutor(threads) as pool:
        try:
            for done, pair in enumerate(zip(items, pool.map(look, items)), 1):
                bar.update(done)
                yield pair
        except BaseException:
            # Ctrl-C must not wait for a million images.
            pool.shutdown(wait=False, cancel_futures=True)
            raise
