"""Measures the weights of `pretrain_preset.py`, and writes their card.

    export KERAS_BACKEND=torch KERAS_VIT_DATA=../shared/data
    python benchmarks/preset_card.py --folder outputs/cifar100

Takes the weights, the log and the settings from `--folder` into
`keras_vit/checkpoints/cifar100`, loads the model as a user does, looks at the
test set and writes what it saw: `figures.json`, `curves.svg` and `README.md`,
the card. Without `--folder` it measures what is there, and only what
`figures.json` does not have yet.
"""

import argparse
import csv
import json
import pathlib
import shutil

import keras
import numpy as np
from pretrain_preset import one_hot
from transfer import accuracy_of, enlarged, few_shot_figures
from transfer_page import spread, table

import keras_vit

PACKAGED = pathlib.Path(keras_vit.__file__).parent / "checkpoints" / "cifar100"
CARRIED = ("model.safetensors", "log.csv", "settings.json")
# For other sizes: images of one epoch of fine-tuning, and the learning rate.
# Twice the edge is further from what the stem has learnt, and takes more.
FINE_TUNING = {48: (10_000, 1e-4), 64: (25_000, 3e-4)}


def fine_tuned(size, options):
    """Accuracies at a size before and after one epoch of fine-tuning."""
    (images, labels), (x_test, y_test) = keras_vit.data.load("cifar100")
    count, learning_rate = FINE_TUNING[size]
    rows = np.random.default_rng(0).permutation(len(images))[:count]
    keras.utils.set_random_seed(0)
    model = keras_vit.change_resolution(
        keras_vit.ViT("R20+Mi/4", weights="cifar100", dtype=options.dtype), size
    )
    test = enlarged(x_test, size), y_test
    before = accuracy_of(model, *test)
    train = keras_vit.ArrayDataset(
        enlarged(images[rows], size),
        one_hot(labels[rows]),
        batch_size=64,
        augment=keras_vit.data.CropAndFlip(padding=size // 8),
    )
    model.compile(
        **keras_vit.recipes.adamw(
            len(train),
            learning_rate=learning_rate,
            weight_decay=0.1,
            one_hot=True,
            label_smoothing=0.1,
        )
    )
    model.fit(train, epochs=1, shuffle=False, verbose=2)
    return {
        "before": before,
        "after": accuracy_of(model, *test),
        "images": count,
        "learning_rate": learning_rate,
    }


def measure(options):
    """Writes the figures, each as soon as it is there."""
    path = PACKAGED / "figures.json"
    figures = json.loads(path.read_text("utf-8")) if path.is_file() else {}

    def missing(name, function):
        if name not in figures:
            figures[name] = function()
            path.write_text(
                json.dumps(figures, indent=2) + "\n", encoding="utf-8"
            )

    def accuracy():
        _, test = keras_vit.data.load("cifar100")
        return accuracy_of(keras_vit.ViT("R20+Mi/4", weights="cifar100"), *test)

    missing("backend", keras.backend.backend)
    missing("dtype", lambda: options.dtype)
    missing("note", lambda: options.note)
    missing("accuracy", accuracy)
    missing("few_shot", few_shot_figures)
    for size in FINE_TUNING:
        missing(f"{size} pixels", lambda size=size: fine_tuned(size, options))


def draw_curves():
    """Accuracy and loss after each epoch, from the log."""
    import matplotlib

    matplotlib.use("agg")
    import matplotlib.pyplot as plt

    with (PACKAGED / "log.csv").open() as file:
        rows = list(csv.DictReader(file))
    epochs = [int(row["epoch"]) + 1 for row in rows]
    figure, axes = plt.subplots(1, 2, figsize=(7.5, 3))
    for axis, quantity in zip(axes, ("accuracy", "loss")):
        for name, label, style in (
            (quantity, "training, augmented", "-"),
            (f"val_{quantity}", "held out", "--"),
        ):
            values = [float(row[name]) for row in rows]
            axis.plot(epochs, values, style, label=label)
        axis.set(xlabel="epoch", ylabel=quantity)
        axis.legend()
    axes[1].set_ylabel("cross-entropy (nats)")
    figure.tight_layout()
    # No date: the same figures give the same file.
    figure.savefig(PACKAGED / "curves.svg", metadata={"Date": None})


def percent(accuracy):
    return f"{100 * accuracy:.1f}"


def card():
    """Returns the text of the card, from the figures."""
    figures = json.loads((PACKAGED / "figures.json").read_text("utf-8"))
    settings = json.loads((PACKAGED / "settings.json").read_text("utf-8"))
    with (PACKAGED / "log.csv").open() as file:
        minutes = [float(row["minutes"]) for row in csv.DictReader(file)]
    shots = figures["few_shot"]
    few = table(
        ["shots", "these weights", "untrained", "raw pixels"],
        [
            [count, *(spread(shots[arm][count]) for arm in shots)]
            for count in shots["pixels"]
        ],
    )
    rows = [["32", percent(figures["accuracy"]), "-", "-", "-"]]
    for size in FINE_TUNING:
        row = figures[f"{size} pixels"]
        rows.append(
            [
                size,
                percent(row["before"]),
                percent(row["after"]),
                f"{row['images']:,}",
                f"{row['learning_rate']:g}",
            ]
        )
    sizes = table(
        ["pixels", "as loaded", "fine-tuned", "images", "learning rate"], rows
    )
    size = (PACKAGED / "model.safetensors").stat().st_size / 1e6
    return f"""# `cifar100`: a small hybrid in the box

    model = keras_vit.ViT("R20+Mi/4", weights="cifar100")

A ResNet of six residual units under three Transformer blocks, for images of
32 x 32 pixels: 8 x 8 tokens and a class token, {settings["parameters"]:,}
parameters, {size:.1f} MB in float16. Made to have a pre-trained network at hand
where there is no network of the other kind: for lessons, tests and first
tries of `few_shot`, `transfer` and `change_resolution`.

| | |
|---|---|
| input | RGB, 32 x 32, pixels in [0, 255] |
| output | logits of the 100 fine classes, `datasets.class_names("cifar100")` |
| accuracy, CIFAR-100 test set | {100 * figures["accuracy"]:.2f} % |
| trained on | CIFAR-100, {settings["images"]:,} of its 50,000 training images |
| weights' licence | Apache-2.0, as the library |

All figures are in percent on 10,000 test images, made by

    python benchmarks/preset_card.py

on {figures["backend"]}; ± is the standard deviation over three seeds.

## Few-shot on classes it never saw

CIFAR-10, whose ten classes are none of CIFAR-100's, by `keras_vit.few_shot`:

{few}

## At other resolutions

CIFAR-100 enlarged bilinearly, `change_resolution`, then one pass over so many
of the training images, no full epoch, in `{figures["dtype"]}`:

{sizes}

## Training

    KERAS_BACKEND={settings["backend"]} python benchmarks/pretrain_preset.py \\
        --epochs {settings["epochs"]} --batch-size {settings["batch_size"]} \\
        --learning-rate {settings["learning_rate"]} --dtype {settings["dtype"]}

`recipes.adamw` (cosine, warm-up, weight decay {settings["weight_decay"]},
clipping), labels smoothed by 0.1, `CropAndFlip(padding=4)`, seed
{settings["seed"]}, batches of {settings["batch_size"]}, {settings["epochs"]}
epochs; {sum(minutes):.0f} minutes on two cores of a shared x86 machine, without
a GPU. {figures["note"]} The epochs are in [log.csv](log.csv):

![Accuracy and loss after each epoch](curves.svg)

The training was cut short by the machine, not by overfitting: longer training
on a GPU gives a better network, and the script is ready for it.

## What it is not good for

- As a classifier: about half of its answers are wrong.
- Anything that is not a small, centred, everyday object; no people to be
  recognised, no medical or other consequential use.
- Comparisons with published networks: those were trained for hundreds of
  epochs, or on millions of images.

## Data

CIFAR-100 (A. Krizhevsky, *Learning Multiple Layers of Features from Tiny
Images*, 2009) is a labelled part of the 80 Million Tiny Images, collected from
web searches. It states no licence and asks to be cited; no image is contained
in this package. The larger collection was withdrawn in 2020 for offensive
labels and images; CIFAR's own labels were checked by people and name plain
things, but the images came from the same searches.
"""


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--folder", type=pathlib.Path)
    parser.add_argument(
        "--dtype", default="mixed_bfloat16", help="of the fine-tuning"
    )
    parser.add_argument("--note", default="", help="on the training, a line")
    options = parser.parse_args()
    if options.folder:
        for name in CARRIED:
            shutil.copyfile(options.folder / name, PACKAGED / name)
        (PACKAGED / "figures.json").unlink(missing_ok=True)
    measure(options)
    draw_curves()
    (PACKAGED / "README.md").write_text(card(), encoding="utf-8")


if __name__ == "__main__":
    main()
