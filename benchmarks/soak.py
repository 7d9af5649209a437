"""Runs the library for an hour in one process and looks for leaks.

    python benchmarks/soak.py [--backends jax tensorflow torch]
        [--minutes 60] [--predictions 10000] [--models 1000]

Each backend is a process of its own. Round after round it builds a model, takes
it through a file of weights, predicts with it and drops it, and predicts with a
model that stays; every tenth model is also trained for a step and saved. It
ends when the time is over and the numbers are reached. Nobody calls
`clear_session`.

Resident memory, open files and threads are noted a hundred times, after a
garbage collection. The first fifth is warm-up. Writes
`outputs/soak/BACKEND.json`, and `soak.md` and `soak.svg` beside this file of
all that are there.
"""

import argparse
import gc
import json
import os
import pathlib
import platform
import subprocess
import sys
import tempfile
import threading
import time

import numpy as np

HERE = pathlib.Path(__file__).resolve().parent
NOTES = HERE.parent / "outputs" / "soak"
SAMPLES, WARM_UP, SAVED_EVERY = 100, 0.2, 10
SIZE, BATCH, CLASSES = 16, 4, 3
# Models of different parts, by turns.
OPTIONS = (
    {"dropout": 0.1},
    {"pooling": "average"},
    {"representation_dim": 24, "stochastic_depth": 0.1},
)


def resident_megabytes():
    pages = int(pathlib.Path("/proc/self/statm").read_text("utf-8").split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 2**20


def open_files():
    return len(os.listdir("/proc/self/fd"))


def soak(minutes, predictions, models):
    """Returns samples: seconds, models, predictions, memory, files, threads."""
    import keras

    import keras_vit

    variant = keras_vit.Variant(2, 16, 32, 2, patch_size=4)
    rng = np.random.default_rng(0)
    images = rng.uniform(0, 255, (BATCH, SIZE, SIZE, 3)).astype("float32")
    labels = np.arange(BATCH) % CLASSES

    def build(number):
        options = OPTIONS[number % len(OPTIONS)]
        return keras_vit.ViT(
            variant, image_size=SIZE, num_classes=CLASSES, **options
        )

    def live(number, folder):
        """A model from its making to its end."""
        model = build(number)
        file = keras_vit.export_checkpoint(model, folder / "weights.npz")
        keras_vit.load_checkpoint(model, file)
        if number % SAVED_EVERY == 0:
            model.compile(**keras_vit.recipes.adamw(4, warmup_steps=1))
            model.fit(images, labels, verbose=0)
            model.save(folder / "model.keras")
            model = keras.saving.load_model(folder / "model.keras")
        keras_vit.predict(model, images, verbose=0)

    stays = build(0)
    samples, made, predicted = [], 0, 0
    start = time.monotonic()
    with tempfile.TemporaryDirectory() as folder:
        while True:
            passed = time.monotonic() - start
            done = min(
                passed / (60 * minutes) if minutes else 1,
                predicted / predictions,
                made / models,
            )
            if done * SAMPLES >= len(samples):
                gc.collect()
                row = passed, made, predicted, resident_megabytes()
                samples.append([*row, open_files(), threading.active_count()])
            if done >= 1:
                return samples
            if made < models or minutes:
                live(made, pathlib.Path(folder))
                made += 1
            for _ in range(-(-predictions // models)):
                keras_vit.predict(stays, images, verbose=0)
                predicted += 1


def summary(samples):
    """Returns what grew after the warm-up, from medians of its quarters."""
    samples = np.array(samples)
    rest = samples[int(WARM_UP * len(samples)) :]
    first, *_, last = np.array_split(rest, 4)
    before, after = np.median(first, axis=0), np.median(last, axis=0)
    models = after[1] - before[1]
    return {
        "minutes": samples[-1, 0] / 60,
        "models": int(samples[-1, 1]),
        "predictions": int(samples[-1, 2]),
        "before": before[3],
        "after": after[3],
        "a_model": 1024 * (after[3] - before[3]) / models,
        "files": (int(before[4]), int(after[4])),
        "threads": (int(before[5]), int(after[5])),
    }


def page(notes):
    """Returns soak.md."""
    lines = [
        "# An hour in one process",
        "",
        "    python benchmarks/soak.py",
        "",
        "Models are built, taken through files, used and dropped, and one that",
        "stays predicts; see the script. The first fifth of a run is warm-up.",
        "What is compared are medians of the first and the last quarter of the",
        "rest. Nobody calls `keras.utils.clear_session`.",
        "",
        "| backend | minutes | models | predictions | memory, MB | "
        "a model, kB | open files | threads |",
        "|---|---:|---:|---:|---:|---:|---:|---:|",
    ]
    for backend, note in notes.items():
        found = summary(note["samples"])
        files, threads = found["files"], found["threads"]
        lines.append(
            f"| {backend} | {found['minutes']:.0f} | {found['models']:,} | "
            f"{found['predictions']:,} | {found['before']:,.0f} to "
            f"{found['after']:,.0f} | {found['a_model']:+.0f} | {files[0]} to "
            f"{files[1]} | {threads[0]} to {threads[1]} |"
        )
    versions = {note["versions"] for note in notes.values()}
    lines += [
        "",
        "![Resident memory over the models that were made](soak.svg)",
        "",
        *(f"{line}." for line in sorted(versions)),
    ]
    return "\n".join(lines) + "\n"


def draw(notes, file):
    """Draws memory against models."""
    import matplotlib

    matplotlib.use("agg")
    import matplotlib.pyplot as plt

    with matplotlib.rc_context({"svg.hashsalt": "keras_vit"}):
        figure, axes = plt.subplots(figsize=(7, 3), layout="constrained")
        for backend, note in notes.items():
            samples = np.array(note["samples"])
            axes.plot(samples[:, 1], samples[:, 3], label=backend)
        axes.set(xlabel="models", ylabel="resident memory, MB")
        axes.set_ylim(bottom=0)
        axes.legend()
        figure.savefig(file, metadata={"Date": None})


def versions():
    import importlib.metadata

    import keras

    backend = keras.backend.backend()
    name = {"tensorflow": "TensorFlow", "torch": "PyTorch"}.get(backend, "JAX")
    number = sys.modules[backend].__version__
    return (
        f"{name} {number}, Keras {keras.version()}, NumPy "
        f"{importlib.metadata.version('numpy')}, Python "
        f"{platform.python_version()}, {platform.system()}"
    )


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    backends = ("jax", "tensorflow", "torch")
    parser.add_argument("--backends", nargs="+", default=backends)
    parser.add_argument("--worker", help="a backend: run it in this process")
    parser.add_argument("--minutes", type=float, default=60)
    parser.add_argument("--predictions", type=int, default=10_000)
    parser.add_argument("--models", type=int, default=1_000)
    given = parser.parse_args()
    NOTES.mkdir(parents=True, exist_ok=True)
    if given.worker:
        samples = soak(given.minutes, given.predictions, given.models)
        note = {"samples": samples, "versions": versions()}
        file = NOTES / f"{given.worker}.json"
        file.write_text(json.dumps(note) + "\n", encoding="utf-8")
        return
    for backend in given.backends:
        subprocess.run(
            [sys.executable, __file__, *sys.argv[1:], "--worker", backend],
            env={**os.environ, "KERAS_BACKEND": backend},
            check=True,
        )
    notes = {
        backend: json.loads((NOTES / f"{backend}.json").read_text("utf-8"))
        for backend in backends
        if (NOTES / f"{backend}.json").exists()
    }
    (HERE / "soak.md").write_text(page(notes), encoding="utf-8")
    draw(notes, HERE / "soak.svg")
    print(page(notes))


if __name__ == "__main__":
    main()
