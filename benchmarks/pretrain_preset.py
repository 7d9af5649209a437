"""Trains the model in the box on CIFAR-100, from nothing to the shipped file.

    KERAS_BACKEND=jax KERAS_VIT_DATA=../shared/data python \
        benchmarks/pretrain_preset.py --epochs 300 --dtype mixed_bfloat16

One command, seeded, resumable: killed and started again, it goes on from the
end of the last epoch. Into `--folder` it writes the state to resume from, the
log of the epochs as CSV, the settings, and the weights in float16. The test set
is not looked at; `preset_card.py` does so, once, with what is shipped:

    python benchmarks/preset_card.py --folder outputs/cifar100
"""

import argparse
import json
import pathlib
import time

import keras
import numpy as np
from safetensors.numpy import save_file

import keras_vit

# Six residual units see to it that 8 x 8 tokens of 50,000 small images have
# neighbours; on so few a pure transformer learns that late.
VARIANT = "R20+Mi/4"
NUM_CLASSES = 100
# Held out of the training images, to look at while training.
NUM_VALIDATION = 1000


def build(**arguments):
    """Returns the architecture of the preset, untrained."""
    return keras_vit.ViT(
        VARIANT,
        image_size=32,
        num_classes=NUM_CLASSES,
        name="vit_cifar100",
        **arguments,
    )


def one_hot(labels):
    return np.eye(NUM_CLASSES, dtype="float32")[labels]


def write_float16(model, folder):
    """Writes the weights under the official names, two bytes each."""
    path = folder / "float32.npz"
    keras_vit.export_checkpoint(model, path)
    with np.load(path) as arrays:
        half = {name: arrays[name].astype("float16") for name in arrays}
    save_file(half, folder / "model.safetensors")


class Minutes(keras.callbacks.Callback):
    """Puts the minutes an epoch took into the logs."""

    def on_epoch_begin(self, epoch, logs=None):
        self.start = time.time()

    def on_epoch_end(self, epoch, logs=None):
        logs["minutes"] = (time.time() - self.start) / 60


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--epochs", type=int, default=300)
    parser.add_argument("--batch-size", type=int, default=128)
    parser.add_argument("--learning-rate", type=float, default=2e-3)
    parser.add_argument("--weight-decay", type=float, default=0.1)
    parser.add_argument("--dtype", default=None)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--folder", default="outputs/cifar100", type=str)
    options = parser.parse_args()
    folder = pathlib.Path(options.folder)
    folder.mkdir(parents=True, exist_ok=True)

    keras.utils.set_random_seed(options.seed)
    (images, labels), _ = keras_vit.data.load("cifar100")
    order = np.random.default_rng(options.seed).permutation(len(images))
    held_out, kept = order[:NUM_VALIDATION], order[NUM_VALIDATION:]
    train = keras_vit.ArrayDataset(
        images[kept],
        one_hot(labels[kept]),
        options.batch_size,
        augment=keras_vit.data.CropAndFlip(padding=4),
        seed=options.seed,
    )

    model = build(dtype=options.dtype)
    model.compile(
        **keras_vit.recipes.adamw(
            total_steps=len(train) * options.epochs,
            learning_rate=options.learning_rate,
            weight_decay=options.weight_decay,
            one_hot=True,
            label_smoothing=0.1,
        )
    )
    model.fit(
        train,
        epochs=options.epochs,
        shuffle=False,
        validation_data=(images[held_out], one_hot(labels[held_out])),
        callbacks=[
            Minutes(),
            keras.callbacks.CSVLogger(folder / "log.csv", append=True),
            keras_vit.callbacks.Resume(folder / "state"),
        ],
        verbose=2,
    )
    write_float16(model, folder)
    settings = {
        "images": len(kept),
        "parameters": model.count_params(),
        "backend": keras.backend.backend(),
        **vars(options),
    }
    del settings["folder"]
    (folder / "settings.json").write_text(
        json.dumps(settings, indent=2) + "\n", encoding="utf-8"
    )


if __name__ == "__main__":
    main()
