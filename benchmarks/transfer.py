"""What is learnt from CIFAR-100 is worth on CIFAR-10, in real figures.

    export KERAS_BACKEND=torch KERAS_VIT_DATA=../shared/data
    python benchmarks/transfer.py --part all --report

The pre-trained network is the one in the box, `weights="cifar100"`, made by
`pretrain_preset.py`. The parts, of which each stands by itself:

    a   few-shot accuracy
    b   fine-tuning on 500 images against training from scratch
    c   pre-training on the images alone, by masked patch prediction
    d   fine-tuning at a higher resolution

Seeded and resumable: every part writes its result into `--folder` as JSON as
soon as it has it, pre-training its weights and every search of a learning rate
its table, and what is there is not computed again. `--report` writes
`benchmarks/transfer.md` from the JSON. Minutes are those of the processor, of
all cores together, so that they mean something on a machine that is shared.
"""

import argparse
import json
import pathlib
import time

import keras
import numpy as np
from transfer_page import write_page

import keras_vit
from keras_vit.transfer_learning.few_shot import nested_subsets

VARIANT = "R20+Mi/4"
SHOTS, SEEDS = (1, 5, 10, 25), (0, 1, 2)
IMAGES_A_CLASS = 50
BATCH, PRETRAINING_BATCH = 64, 128
SIZE, LARGER_SIZE = 32, 48


def build(num_classes=100, dtype=None):
    """Returns the network of all parts, untrained."""
    return keras_vit.ViT(
        VARIANT, image_size=SIZE, num_classes=num_classes, dtype=dtype
    )


def pretrained(dtype=None):
    """Returns the network with the weights that come with the library."""
    return keras_vit.ViT(VARIANT, weights="cifar100", dtype=dtype)


def masked(images, epochs, folder, dtype=None):
    """Returns the network trained on images alone, and the end of its log."""
    file = folder / "masked.weights.h5"
    backbone = build(dtype=dtype)
    log = made(folder / "masked") / "last_epoch.json"
    if file.is_file():
        backbone.load_weights(file)
        return backbone, json.loads(log.read_text("utf-8"))
    model = keras_vit.pretraining.masked_patch_model(backbone, seed=0)
    data = keras_vit.ArrayDataset(
        images,
        np.zeros(len(images), "int64"),  # not looked at
        PRETRAINING_BATCH,
        augment=keras_vit.data.CropAndFlip(padding=4),
    )
    model.compile(
        **keras_vit.recipes.masked_patches(
            len(data) * epochs, learning_rate=1e-3, weight_decay=0.05
        )
    )
    history = model.fit(
        data,
        epochs=epochs,
        shuffle=False,
        callbacks=[
            keras_vit.callbacks.Resume(folder / "masked" / "state"),
        ],
        verbose=2,
    ).history
    results = {name: values[-1] for name, values in history.items()}
    write_json(log, results)
    backbone.save_weights(file)
    return backbone, results


def accuracies(model, train, test, shots=SHOTS):
    """Few-shot accuracies, a list over the seeds for each number of shots."""
    result = keras_vit.few_shot(
        model, train, test, shots, SEEDS, batch_size=250, verbose=0
    )
    return {
        str(k): [float(x) for x in row]
        for k, row in zip(result.shots, result.accuracies)
    }


def finetuned(start, data, rates, steps, name, folder):
    """Test accuracies of fine-tuning, one for each seed.

    A seed draws the training images and orders them. The learning rate is
    chosen once, on a fifth of the images of the first seed.

    Args:
        start: a function that returns a new model for ten classes.
        data: `(images, labels)` to draw from and those to test on.
        rates: learning rates to choose from.
        steps: batches of 64 images.
        name: name of the arm, and of the table of its search.
        folder: where that table is written.

    Returns:
        A dict with `accuracies` and `learning_rate`.
    """
    (images, labels), test = data

    def compiled(learning_rate):
        model = start()
        model.compile(**keras_vit.recipes.adamw(steps, learning_rate))
        return model

    rate, scores = None, []
    for seed in SEEDS:
        (rows,) = nested_subsets(labels, (IMAGES_A_CLASS,), seed)

        def batches(images, labels, seed=seed):
            # One epoch of `steps` batches, each image as often as any other.
            turns = np.resize(np.arange(len(images)), steps * BATCH)
            return keras_vit.ArrayDataset(
                images[turns],
                labels[turns],
                BATCH,
                augment=keras_vit.data.CropAndFlip(padding=4),
                seed=seed,
            )

        if rate is None:
            found = keras_vit.transfer_learning.grid_search(
                compiled,
                (images[rows], labels[rows]),
                {"learning_rate": rates},
                validation_fraction=0.2,
                dataset=batches,
                seed=seed,
                file=folder / f"{name}_{steps}_steps.csv",
                shuffle=False,
            )
            rate = found.best["learning_rate"]
        keras.utils.set_random_seed(seed)
        model = compiled(rate)
        model.fit(batches(images[rows], labels[rows]), shuffle=False, verbose=0)
        scores.append(tested(model, *test))
        print(f"{name}, seed {seed}: {scores[-1]:.4f}", flush=True)
    return {"accuracies": scores, "learning_rate": rate}


def tested(model, images, labels):
    """Accuracy of a compiled model."""
    return keras_vit.evaluate(
        model, images, labels, batch_size=250, verbose=0, return_dict=True
    )["accuracy"]


def accuracy_of(model, images, labels):
    """Accuracy of a model that is not compiled for these labels."""
    logits = keras_vit.predict(model, images, batch_size=250, verbose=0)
    return float(np.mean(logits.argmax(axis=-1) == labels))


def enlarged(images, size=LARGER_SIZE):
    """The images in another size, as `uint8`, by bilinear interpolation."""
    parts = [
        keras.ops.image.resize(
            images[start : start + 1000].astype("float32"),
            (size, size),
            interpolation="bilinear",
            data_format="channels_last",
        )
        for start in range(0, len(images), 1000)
    ]
    parts = [keras.ops.convert_to_numpy(part) for part in parts]
    return np.rint(np.concatenate(parts)).astype("uint8")


def few_shot_figures(dtype=None):
    """Few-shot accuracies on CIFAR-10 of the network, trained or not, and of
    raw pixels."""
    data = keras_vit.data.load("cifar10")
    keras.utils.set_random_seed(1)
    flat = [
        (images.reshape(len(images), -1) / 255, labels)
        for images, labels in data
    ]
    return {
        "pretrained": accuracies(pretrained(dtype), *data),
        "untrained": accuracies(build(dtype=dtype), *data),
        "pixels": accuracies(None, *flat),
    }


def part_a(options, folder):
    _, test = keras_vit.data.load("cifar100")
    model = pretrained(options.dtype)
    return {
        "parameters": model.count_params(),
        "cifar100_accuracy": accuracy_of(model, *test),
        **few_shot_figures(options.dtype),
    }


def part_b(options, folder):
    data = keras_vit.data.load("cifar10")
    trained = pretrained(options.dtype)
    arms = {
        "scratch": lambda: build(10, options.dtype),
        "finetuned": lambda: keras_vit.transfer(trained, 10),
    }
    return {
        "steps": options.steps,
        "rates": options.rates,
        **{
            name: finetuned(
                start, data, options.rates, options.steps, name, folder
            )
            for name, start in arms.items()
        },
    }


def part_c(options, folder):
    (images, _), _ = keras_vit.data.load("cifar100")
    keras.utils.set_random_seed(2)
    trained, log = masked(images, options.masked_epochs, folder, options.dtype)
    data = keras_vit.data.load("cifar10")
    return {
        "epochs": options.masked_epochs,
        "steps": options.steps,
        **log,
        "few_shot": accuracies(trained, *data),
        "finetuned": finetuned(
            lambda: keras_vit.transfer(trained, 10),
            data,
            options.rates,
            options.steps,
            "masked",
            folder,
        ),
    }


def part_d(options, folder):
    trained = pretrained(options.dtype)
    _, (x_test, y_test) = keras_vit.data.load("cifar100")
    larger = keras_vit.change_resolution(trained, LARGER_SIZE)
    train, test = keras_vit.data.load("cifar10")
    data = tuple((enlarged(images), labels) for images, labels in (train, test))
    return {
        "steps": options.steps,
        "size": LARGER_SIZE,
        "cifar100_accuracy": accuracy_of(larger, enlarged(x_test), y_test),
        "finetuned": finetuned(
            lambda: keras_vit.transfer(trained, 10, image_size=LARGER_SIZE),
            data,
            options.rates,
            options.steps,
            "larger",
            folder,
        ),
    }


PARTS = {"a": part_a, "b": part_b, "c": part_c, "d": part_d}


def made(folder):
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def write_json(path, values):
    """Writes to a temporary name and renames."""
    temporary = path.with_name(path.name + ".part")
    temporary.write_text(json.dumps(values, indent=2) + "\n", encoding="utf-8")
    temporary.replace(path)


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--part", choices=[*PARTS, "all"])
    parser.add_argument("--report", action="store_true")
    parser.add_argument("--masked-epochs", type=int, default=4)
    parser.add_argument("--steps", type=int, default=150)
    parser.add_argument(
        "--rates", type=float, nargs="+", default=[3e-4, 1e-3, 3e-3]
    )
    parser.add_argument("--dtype", default="mixed_bfloat16")
    parser.add_argument("--folder", default="outputs/transfer", type=str)
    options = parser.parse_args()
    folder = made(pathlib.Path(options.folder))
    for name in PARTS if options.part == "all" else options.part or "":
        file = folder / f"{name}.json"
        if file.is_file():
            print(f"{file} is there already")
            continue
        keras.utils.set_random_seed(0)
        start = time.process_time()
        results = PARTS[name](options, folder)
        results["minutes"] = (time.process_time() - start) / 60
        results["backend"] = keras.backend.backend()
        results["dtype"] = options.dtype
        write_json(file, results)
        print(json.dumps(results, indent=2), flush=True)
    if options.report:
        write_page(folder, pathlib.Path(__file__).with_name("transfer.md"))


if __name__ == "__main__":
    main()
