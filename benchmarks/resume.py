"""What saving for `keras_vit.callbacks.Resume` takes of training.

    KERAS_BACKEND=jax python benchmarks/resume.py

Times the saves within one training and prints their share of its time at the
default interval: the median time of a save over that of as many steps as lie
between two. Both come from the same run, so a slower machine slows both.
"""

import argparse
import inspect
import statistics
import tempfile
import time

import keras
import numpy as np

import keras_vit
from keras_vit.callbacks import Resume


class Timed(Resume):
    """Notes how long steps take, and how long each save."""

    def __init__(self, directory, save_freq):
        super().__init__(directory, save_freq)
        self.steps, self.saves = [], []
        self.last = None

    def on_train_batch_begin(self, batch, logs=None):
        now = time.perf_counter()
        if self.last is not None and batch:
            self.steps.append(now - self.last)
        before = len(self.saves)
        super().on_train_batch_begin(batch, logs)
        if len(self.saves) > before:
            self.saves[-1] = time.perf_counter() - now
        self.last = time.perf_counter()

    def on_train_batch_end(self, batch, logs=None):
        # Having this, Keras waits for each step: so that it can be timed.
        pass

    def _save(self, epoch, batch):
        super()._save(epoch, batch)
        if batch:
            self.saves.append(None)


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--variant", default="Ti/16")
    parser.add_argument("--image-size", type=int, default=224)
    parser.add_argument("--batch-size", type=int, default=8)
    parser.add_argument("--steps", type=int, default=12)
    options = parser.parse_args()
    count = options.steps * options.batch_size
    size = options.image_size
    images = np.zeros((count, size, size, 3), "float32")
    data = keras_vit.ArrayDataset(
        images, np.arange(count) % 10, options.batch_size
    )
    model = keras_vit.ViT(options.variant, image_size=size, num_classes=10)
    model.compile(**keras_vit.recipes.adamw(options.steps))
    with tempfile.TemporaryDirectory() as folder:
        timed = Timed(folder, save_freq=2)
        model.fit(data, shuffle=False, verbose=0, callbacks=[timed])
    # The first step is compiled.
    step, save = map(statistics.median, (timed.steps[1:], timed.saves))
    default = inspect.signature(Resume).parameters["save_freq"].default
    share = save / (default * step + save)
    print(
        f"| {keras.backend.backend()} | {options.variant} | {step:.2f} | "
        f"{save:.2f} | {100 * share:.2f} % |"
    )


if __name__ == "__main__":
    main()
