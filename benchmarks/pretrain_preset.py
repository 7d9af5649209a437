"""Trains the model in the box on CIFAR-100, from nothing to the shipped file.

    KERAS_BACKEND=jax KERAS_VIT_DATA=../shared/data python \
        benchmarks/pretrain_preset.py --epochs 300

One command, seeded, resumable: killed and started again, it goes on from the
end of the last epoch. It writes into `--folder`: the state to resume from, the
log of the epochs as CSV, the weights, and a summary with the accuracy on the
test set, which is looked at once, at the end.
"""

import argparse
import json
import pathlib
import time

import keras
import numpy as np

import keras_vit

# A stem and three residual units, 8 x 8 tokens: on 50,000 small images
# convolutions learn what a pure transformer lacks the data for.
VARIANT = keras_vit.Variant(
    num_layers=6,
    hidden_dim=192,
    mlp_dim=576,
    num_heads=3,
    patch_size=1,
    stages=(3,),
)
NUM_CLASSES = 100
# Held out of the training images, to look at while training.
NUM_VALIDATION = 1000


def build(dtype=None, **arguments):
    """Returns the architecture of the preset, untrained."""
    return keras_vit.ViT(
        VARIANT,
        image_size=32,
        num_classes=NUM_CLASSES,
        dtype=dtype,
        name="vit_cifar100",
        **arguments,
    )


def one_hot(labels):
    return np.eye(NUM_CLASSES, dtype="float32")[labels]


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--epochs", type=int, default=300)
    parser.add_argument("--batch-size", type=int, default=128)
    parser.add_argument("--learning-rate", type=float, default=1e-3)
    parser.add_argument("--weight-decay", type=float, default=0.1)
    parser.add_argument("--dtype", default=None)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--folder", default="outputs/cifar100", type=str)
    options = parser.parse_args()
    folder = pathlib.Path(options.folder)
    folder.mkdir(parents=True, exist_ok=True)

    keras.utils.set_random_seed(options.seed)
    (images, labels), (x_test, y_test) = keras_vit.datasets.load("cifar100")
    order = np.random.default_rng(options.seed).permutation(len(images))
    held_out, kept = order[:NUM_VALIDATION], order[NUM_VALIDATION:]
    train = keras_vit.ArrayDataset(
        images[kept],
        one_hot(labels[kept]),
        options.batch_size,
        augment=keras_vit.CropAndFlip(padding=4),
        seed=options.seed,
    )

    model = build(options.dtype)
    model.compile(
        **keras_vit.recipes.adamw(
            total_steps=len(train) * options.epochs,
            learning_rate=options.learning_rate,
            weight_decay=options.weight_decay,
            one_hot=True,
            label_smoothing=0.1,
        )
    )
    start = time.time()
    model.fit(
        train,
        epochs=options.epochs,
        shuffle=False,
        validation_data=(images[held_out], one_hot(labels[held_out])),
        callbacks=[
            keras.callbacks.BackupAndRestore(
                folder / "state", double_checkpoint=True
            ),
            train.epoch_callback(),
            keras.callbacks.CSVLogger(folder / "log.csv", append=True),
        ],
        verbose=2,
    )
    model.save_weights(folder / "model.weights.h5")

    results = keras_vit.evaluate(
        model, x_test, one_hot(y_test), verbose=0, return_dict=True
    )
    summary = {
        "accuracy": results["accuracy"],
        "images": len(kept),
        "parameters": model.count_params(),
        "minutes_of_the_last_run": (time.time() - start) / 60,
        "backend": keras.backend.backend(),
        **vars(options),
    }
    (folder / "summary.json").write_text(json.dumps(summary, indent=2) + "\n")
    print(json.dumps(summary, indent=2))


if __name__ == "__main__":
    main()
