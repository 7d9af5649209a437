"""Times the network in the box: built with its weights, and weights alone.

    KERAS_BACKEND=jax python benchmarks/load_preset.py

Prints a row of the table in README.md: seconds, median and range of nine turns.
"""

import statistics
import time

import keras

import keras_vit

TURNS = 9
NAME = "R20+Mi/4"


def seconds(function):
    start = time.perf_counter()
    function()
    return time.perf_counter() - start


def cell(times):
    return (
        f"{statistics.median(times):.2f} ({min(times):.2f} to {max(times):.2f})"
    )


def main():
    model = keras_vit.ViT(NAME, image_size=32, num_classes=100)
    built, loaded = [], []
    for _ in range(TURNS):
        built.append(seconds(lambda: keras_vit.ViT(NAME, weights="cifar100")))
        loaded.append(
            seconds(
                lambda: keras_vit.load_checkpoint(model, f"cifar100:{NAME}")
            )
        )
    print(f"| {keras.backend.backend()} | {cell(built)} | {cell(loaded)} |")


if __name__ == "__main__":
    main()
