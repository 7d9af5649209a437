"""Arrays as a Keras data set whose order depends on seed and epoch alone.

Keras does not store the position or the order of a data set, so a training
resumed from a checkpoint sees other batches than an uninterrupted one. Left
out: reading files; use `keras.utils.image_dataset_from_directory` or grain.
"""

import threading

import keras
import numpy as np

from keras_vit.layers.arguments import check_not_negative, check_positive
from keras_vit.training.augmentation import to_numpy


class ArrayDataset(keras.utils.PyDataset):
    """Batches of NumPy arrays, shuffled and augmented reproducibly.

    The order of an epoch is `default_rng((seed, epoch)).permutation(n)` and an
    augmentation from `augmentation()` is seeded by `(seed, epoch, index)`, so
    a batch is the same in whatever order, thread or process run it is made.
    Give `shuffle=False` to `fit`, which otherwise shuffles the batches of a
    `PyDataset` once more, from an unseeded generator.

    `epoch` counts by itself. For a training that resumes, or is continued by
    `initial_epoch`, add `epoch_callback()`, which tells the data set Keras'
    number of the epoch; with it a resumed run sees what an uninterrupted one
    would have seen.

    Args:
        images: Array `(n, H, W, C)`, or anything NumPy can index by an array.
        labels: Array `(n,)` or `(n, num_classes)`.
        batch_size: Images a batch. The last batch may be smaller.
        augment: Callable from `(images, labels)` of one batch to the same,
            or `None`. Calls are made one at a time.
        shuffle: Whether to shuffle anew each epoch.
        seed: Integer of 0 or more.
        epoch: Number of the first epoch.
        **kwargs: Arguments of `keras.utils.PyDataset`: `workers`,
            `max_queue_size`. Worker threads are fine; with processes
            (`use_multiprocessing`) keep `augment` off.

    Raises:
        ValueError: If the arrays are empty or differ in length, or a number is
            outside its range.

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
        images,
        labels,
        batch_size: int,
        augment=None,
        shuffle: bool = True,
        seed: int = 0,
        epoch: int = 0,
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
        self._order = (None, None)
        # The state of random layers is shared by the worker threads.
        self._lock = threading.Lock()

    def __len__(self):
        return -(-len(self.images) // self.batch_size)

    def __getitem__(self, index):
        if not 0 <= index < len(self):
            raise IndexError(
                f"`index` must be in [0, {len(self)}). Received: index={index}"
            )
        epoch = self.epoch
        start = index * self.batch_size
        rows = self._permutation(epoch)[start : start + self.batch_size]
        images, labels = self.images[rows], self.labels[rows]
        if self.augment is None:
            return images, labels
        with self._lock:
            if hasattr(self.augment, "reseed"):
                self.augment.reseed(self.seed, epoch, index)
            return to_numpy(self.augment(images, labels))

    def on_epoch_end(self):
        self.epoch += 1

    def epoch_callback(self) -> keras.callbacks.Callback:
        """A callback that sets `epoch` to Keras' number of the epoch.

        Returns:
            A callback for `fit`.
        """

        def set_epoch(epoch, logs=None):
            self.epoch = epoch

        return keras.callbacks.LambdaCallback(on_epoch_begin=set_epoch)

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
