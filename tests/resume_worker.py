"""A training that kills itself, for tests: in a process of its own.

    python resume_worker.py FOLDER [step NUMBER | write NUMBER]

Dies by SIGKILL before a step, or in the middle of the writing of a checkpoint.
What it ends with is written to FOLDER/end.npz.
"""

import os
import pathlib
import signal
import sys

import keras
import numpy as np

import keras_vit

EPOCHS, STEPS, BATCH = 3, 4, 4
IMAGES = np.random.default_rng(0).uniform(0, 255, (14, 8, 8, 3))
LABELS = np.arange(14) % 3


def build():
    """A model with all kinds of state that a training can have."""
    keras.utils.set_random_seed(1)
    variant = keras_vit.Variant(1, 16, 32, 2, patch_size=4)
    model = keras_vit.ViT(
        variant, image_size=8, num_classes=3, dropout=0.1, stochastic_depth=0.1
    )
    model.compile(**recipe())
    model.optimizer.build(model.trainable_variables)
    return model


def recipe(**options):
    return keras_vit.recipes.adamw(
        EPOCHS * STEPS,
        **{"learning_rate": 1e-2, "warmup_steps": 2, "polyak": 0.9, **options},
    )


def data(**options):
    return keras_vit.ArrayDataset(
        IMAGES.astype("float32"),
        LABELS,
        BATCH,
        **{"augment": keras_vit.data.CropAndFlip(2), "seed": 1, **options},
    )


def end_of(model):
    """All variables that a step changes, by name."""
    groups = {
        "model": model.variables,
        "optimizer": model.optimizer.variables,
    }
    return {
        f"{group} {index} {variable.path}": np.array(
            keras.ops.convert_to_numpy(variable)
        )
        for group, variables in groups.items()
        for index, variable in enumerate(variables)
    }


def die():
    os.kill(os.getpid(), signal.SIGKILL)


class KillBeforeStep(keras.callbacks.Callback):
    def __init__(self, left):
        super().__init__()
        self.left = left

    def on_train_batch_begin(self, batch, logs=None):
        self.left -= 1
        if self.left == 0:
            die()


def kill_in_write(left):
    """Lets the process die before a file of a checkpoint gets its name."""
    replace = os.replace

    def replace_or_die(source, target):
        nonlocal left
        left -= 1
        if left == 0:
            size = os.path.getsize(source)
            os.truncate(source, size // 2)
            die()
        replace(source, target)

    os.replace = replace_or_die


def main(folder, what="nothing", number="0"):
    if what == "write":
        kill_in_write(int(number))
    folder = pathlib.Path(folder)
    model = build()
    resume = keras_vit.callbacks.Resume(folder / "state", save_freq=2)
    killer = KillBeforeStep(int(number) if what == "step" else -1)
    model.fit(
        data(),
        epochs=EPOCHS,
        shuffle=False,
        verbose=0,
        callbacks=[killer, resume],
    )
    np.savez(folder / "end.npz", **end_of(model))


if __name__ == "__main__":
    main(*sys.argv[1:])
