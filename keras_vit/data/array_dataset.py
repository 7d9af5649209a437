"""Arrays as a Keras data set whose order depends on seed and epoch alone.

Keras does not store the position or the order of a data set, so a training
resumed from a checkpoint sees other batches than an uninterrupted one. Left
out: reading files, which `ImageFolder` does.
"""

import threading
from collections.abc import Callable
from typing import Any

import keras
import numpy as np

from keras_vit.arguments import check_not_negative, check_positive
from keras_vit.data.augmentation import to_numpy
from keras_vit.keras_gaps import current_distribution


class ArrayDataset(keras.utils.PyDataset):
    """Batches of NumPy arrays, shuffled and augmented reproducibly.

    The order of an epoch is `default_rng((seed, epoch)).permutation(n)`, and
    an augmentation from `augmentation()` is seeded by `(seed, epoch, index)`,
    so a batch is the same whatever order, thread or process makes it. Give
    `shuffle=False` to `fit`, which otherwise shuffles the batches of a
    `PyDataset` once more, from an unseeded generator.

    `epoch` counts by itself. For a training that continues with
    `initial_epoch`, add `epoch_callback()`, which sets Keras' number of the
    epoch; the run then sees what one without a break would have seen.
    `keras_vit.callbacks.Resume` does that too, and goes on within an epoch.

    Args:
        images: array of shape `(num_images, height, width, channels)`, or
            anything that an array of row numbers can index.
        labels: array of shape `(num_images,)` or `(num_images, num_classes)`.
        batch_size: images in a batch. The last batch may be smaller.
        augment: callable from `(images, labels)` of one batch to the same,
            or `None`. Calls are made one at a time.
        shuffle: whether to shuffle anew each epoch.
        seed: integer of 0 or more.
        epoch: number of the first epoch.
        drop_remainder: whether to leave out a smaller last batch; with
            `shuffle` its images differ from epoch to epoch. Training on
            several devices needs batches that divide by their number.
        shard: pair `(index, count)`: the data set returns only part `index` of
            `count` equal parts of every batch of `batch_size` images, and
            augments each part by itself. Give all processes of a training the
            same arguments and `shard=keras_vit.distribution.process_shard()`.
        **kwargs: arguments of `keras.utils.PyDataset`: `workers`,
            `max_queue_size`. Worker threads are fine; with processes
            (`use_multiprocessing`) keep `augment` off.

    Raises:
        ValueError: if the arrays are empty or differ in length, or a number is
            outside its range. When an epoch begins: if a batch does not
            divide by the number of devices of a `keras.distribution`.

    Example:

    ```python
    augment = augmentation("light2", num_classes=10)
    train = ArrayDataset(images, labels, batch_size=256, augment=augment)
    model.fit(
        train,
        epochs=10,
        shuffle=False,
        callbacks=[train.epoch_callback()],
    )
    ```
    """

    def __init__(
        self,
        images: Any,
        labels: np.ndarray,
        batch_size: int,
        augment: Callable[[Any, Any], tuple[Any, Any]] | None = None,
        shuffle: bool = True,
        seed: int = 0,
        epoch: int = 0,
        drop_remainder: bool = False,
        shard: tuple[int, int] = (0, 1),
        **kwargs,
    ):
        super().__init__(**kwargs)
        if len(images) != len(labels) or not len(images):
            raise ValueError(
                "`images` and `labels` must have the same length, above 0. "
                f"Received: len(images)={len(images)}, "
                f"len(labels)={len(labels)}"
            )
        self.images = images
        self.labels = labels
        self.batch_size = check_positive("batch_size", batch_size)
        self.augment = augment
        self.shuffle = shuffle
        self.seed = check_not_negative("seed", seed)
        self.epoch = check_not_negative("epoch", epoch)
        self.drop_remainder = bool(drop_remainder)
        self.shard = _check_shard(shard, self.batch_size)
        if self.drop_remainder and len(images) < self.batch_size:
            raise ValueError(
                "`drop_remainder=True` leaves nothing of fewer images than "
                f"`batch_size`. Received: len(images)={len(images)}, "
                f"batch_size={batch_size}"
            )
        # `keras_vit.callbacks.Resume` lets an epoch begin within.
        self.first_batch = 0
        self._order = self._zeros = (None, None)
        # Worker threads share the state of random layers.
        self._lock = threading.Lock()

    def __len__(self):
        if self.drop_remainder:
            return len(self.images) // self.batch_size
        return -(-len(self.images) // self.batch_size)

    def __getitem__(self, index):
        if not 0 <= index < len(self):
            raise IndexError(
                f"`index` must be in [0, {len(self)}). Received: index={index}"
            )
        if index < self.first_batch:
            return self._stand_in()
        epoch = self.epoch
        start = index * self.batch_size
        rows = self._permutation(epoch)[start : start + self.batch_size]
        part, count = self.shard
        rows = rows[part * len(rows) // count : (part + 1) * len(rows) // count]
        images, labels = self.images[rows], self.labels[rows]
        if self.augment is None:
            return images, labels
        with self._lock:
            if hasattr(self.augment, "reseed"):
                self.augment.reseed(self.seed, epoch, index * count + part)
            return to_numpy(self.augment(images, labels))

    def on_epoch_begin(self):
        """Raises at the start if devices cannot share a batch equally."""
        parts = _parts_of_a_batch() * self.shard[1]
        sizes = [self.batch_size]
        if not self.drop_remainder:
            sizes.append(len(self.images) % self.batch_size)
        for size in sizes:
            if size % parts:
                raise ValueError(
                    f"A batch must divide by the {parts} parts that devices "
                    "and processes take of it. Choose such a `batch_size`, and "
                    "leave a smaller last batch out by `drop_remainder=True`; "
                    "`keras_vit.evaluate` and `keras_vit.predict` take arrays "
                    f"of any number of images. Received: a batch of {size} of "
                    f"{len(self.images)} images, batch_size={self.batch_size}"
                )

    def on_epoch_end(self):
        self.epoch += 1

    def epoch_callback(self) -> keras.callbacks.Callback:
        """Returns a callback that sets `epoch` to Keras' number of it.

        Returns:
            A callback for `fit`.
        """

        def set_epoch(epoch, logs=None):
            self.epoch = epoch

        return keras.callbacks.LambdaCallback(on_epoch_begin=set_epoch)

    def _stand_in(self):
        """A batch of zeros for one that nobody will look at."""
        key = (self.epoch, self.first_batch)
        if self._zeros[0] != key:
            batch = self[self.first_batch]
            self._zeros = (key, tuple(np.zeros_like(part) for part in batch))
        return self._zeros[1]

    def _permutation(self, epoch):
        cached, order = self._order
        if cached != epoch:
            order = np.arange(len(self.images))
            if self.shuffle:
                rng = np.random.default_rng((self.seed, epoch))
                order = rng.permutation(len(self.images))
            # One assignment, so that no thread sees half of it.
            self._order = (epoch, order)
        return order


def _check_shard(shard, batch_size):
    index, count = shard
    index = check_not_negative("shard[0]", index)
    count = check_positive("shard[1]", count)
    if index >= count:
        raise ValueError(
            "`shard` must be (index, count) with index below count. "
            f"Received: shard={shard}"
        )
    if batch_size % count:
        raise ValueError(
            "`batch_size` must divide by the number of shards. "
            f"Received: batch_size={batch_size}, shard={shard}"
        )
    return index, count


def _parts_of_a_batch():
    """Returns over how many devices a batch of this process is split."""
    current = current_distribution()
    if current is None:
        return 1
    processes = min(current.num_processes, current.num_model_replicas)
    return current.num_model_replicas // processes
