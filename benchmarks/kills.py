"""Kills trainings at random moments, and compares what they end with.

    KERAS_BACKEND=jax python benchmarks/kills.py --kills 60
    KERAS_BACKEND=tensorflow python benchmarks/kills.py --kills 60
    python benchmarks/kills.py --report

A training with `keras_vit.callbacks.Resume` is killed by SIGKILL up to three
times, half of them while a checkpoint is written, then left alone. Weights,
optimizer with moving averages, random states, history and number of steps are
compared bit for bit with those of a training that was never killed. Each
training adds a line to `--folder`, so a second call goes on where the first
one stopped; `--report` writes `benchmarks/kills.md` from the lines. Needs a
system with `fork`.
"""

import argparse
import hashlib
import json
import os
import pathlib
import random
import signal
import time
import traceback

import keras
import numpy as np

import keras_vit

EPOCHS, STEPS, BATCH = 3, 6, 8
KILLS_A_TRAINING = 3
# Of one step, so that the many processes spend their time in steps.
PAUSE = 0.02


class Pause(keras.callbacks.Callback):
    """Says that training has begun, and makes steps long enough to hit."""

    def __init__(self, folder):
        super().__init__()
        self.begun = folder / "begun"
        self.steps = 0

    def on_train_batch_begin(self, batch, logs=None):
        self.begun.touch()
        self.steps += 1
        time.sleep(PAUSE)


def train(folder):
    """Trains, going on from what is there, and writes what came out."""
    rng = np.random.default_rng(0)
    images = rng.uniform(0, 255, (STEPS * BATCH - 3, 16, 16, 3))
    labels = rng.integers(0, 5, len(images))
    keras.utils.set_random_seed(1)
    data = keras_vit.ArrayDataset(
        images.astype("float32"),
        labels,
        BATCH,
        augment=keras_vit.augmentation("none", num_classes=5, cutmix=True),
    )
    model = keras_vit.ViT(
        keras_vit.Variant(2, 32, 64, 2, patch_size=4),
        image_size=16,
        num_classes=5,
        dropout=0.1,
        stochastic_depth=0.1,
    )
    recipe = keras_vit.recipes.adamw(
        EPOCHS * STEPS,
        learning_rate=1e-2,
        warmup_steps=2,
        one_hot=True,
        polyak=0.9,
    )
    # XLA takes a minute for what the graph computes at once.
    jit = False if keras.backend.backend() == "tensorflow" else "auto"
    model.compile(**recipe, jit_compile=jit)
    resume = keras_vit.callbacks.Resume(folder / "state", save_freq=2)
    pause = Pause(folder)
    history = model.fit(
        data,
        epochs=EPOCHS,
        shuffle=False,
        verbose=0,
        callbacks=[pause, resume],
    )
    groups = {
        "weights": model.weights,
        "optimizer": model.optimizer.variables,
        "random states": [
            variable
            for variable in model.non_trainable_variables
            if "seed" in variable.path
        ],
    }
    found = {
        name: hashlib.sha256(
            b"".join(
                keras.ops.convert_to_numpy(variable).tobytes()
                for variable in variables
            )
        ).hexdigest()
        for name, variables in groups.items()
    }
    found["history"] = [history.epoch, history.history]
    found["steps"] = int(model.optimizer.iterations)
    (folder / "end.json").write_text(json.dumps(found), "utf-8")


def start(folder):
    """Starts a training in a process of its own; returns its number."""
    child = os.fork()
    if child:
        return child
    try:
        log = os.open(folder / "log", os.O_WRONLY | os.O_CREAT | os.O_APPEND)
        os.dup2(log, 1)
        os.dup2(log, 2)
        train(folder)
        os._exit(0)
    except BaseException:
        traceback.print_exc()
        os._exit(1)


def over(child):
    """Returns the exit code of a process that is over, else `None`."""
    number, status = os.waitpid(child, os.WNOHANG)
    return os.waitstatus_to_exitcode(status) if number else None


def kill_once(folder, rng):
    """Starts a training and kills it; says where, or returns its exit code."""
    (folder / "begun").unlink(missing_ok=True)
    (folder / "state").mkdir(exist_ok=True)
    child = start(folder)
    in_a_write = rng.random() < 0.5
    # From a step on, so long or so many writes.
    until, writes = rng.uniform(0, EPOCHS * STEPS * PAUSE), rng.randint(1, 6)
    begun, seen = None, set()
    while (code := over(child)) is None:
        if begun is None and (folder / "begun").exists():
            begun = time.monotonic()
        if in_a_write:
            seen |= {
                name
                for name in os.listdir(folder / "state")
                if name.startswith(".state")
            }
            if len(seen) >= writes:
                time.sleep(rng.uniform(0, 0.003))
                break
        elif begun is not None and time.monotonic() - begun > until:
            break
        time.sleep(0.0002)
    if code is not None:
        return code
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    names = os.listdir(folder / "state")
    torn = any(name.startswith(".state") for name in names) or any(
        name.endswith(".safetensors")
        and name.replace(".safetensors", ".json") not in names
        for name in names
    )
    return "in a write" if torn else "elsewhere"


def killed_training(folder, rng):
    """Kills a training up to three times and lets it end.

    Returns where each kill hit and what the training ended with.
    """
    folder.mkdir(parents=True)
    where = []
    for _ in range(KILLS_A_TRAINING):
        place = kill_once(folder, rng)
        if not isinstance(place, str):
            break
        where.append(place)
    if not (folder / "end.json").exists():
        os.waitpid(start(folder), 0)
    if not (folder / "end.json").exists():
        return where, {}
    return where, json.loads((folder / "end.json").read_text("utf-8"))


def run(root, kills, seed):
    """Kills until there were so many; adds a line for each training."""
    backend = keras.backend.backend()
    root.mkdir(parents=True, exist_ok=True)
    lines = root / f"{backend}.jsonl"
    number = len(lines.read_text("utf-8").splitlines()) if lines.exists() else 0
    never = root / f"{backend}-never-killed"
    if not (never / "end.json").exists():
        never.mkdir(exist_ok=True)
        os.waitpid(start(never), 0)
    expected = json.loads((never / "end.json").read_text("utf-8"))
    done = 0
    while done < kills:
        rng = random.Random(f"{seed} {number}")
        folder = root / f"{backend}-{number:04d}-{os.getpid()}"
        where, found = killed_training(folder, rng)
        different = [key for key in expected if found.get(key) != expected[key]]
        line = {"kills": where, "different": different}
        with open(lines, "a", encoding="utf-8") as file:
            file.write(json.dumps(line) + "\n")
        print(number, line, flush=True)
        number, done = number + 1, done + max(len(where), 1)


def report(root):
    """Writes the page from the lines of all backends."""
    rows = []
    for file in sorted(root.glob("*.jsonl")):
        lines = [json.loads(x) for x in file.read_text("utf-8").splitlines()]
        places = [place for line in lines for place in line["kills"]]
        equal = sum(not line["different"] for line in lines)
        rows.append(
            f"| {file.stem} | {len(places)} | {places.count('in a write')} | "
            f"{len(lines)} | {equal} |"
        )
    text = f"""# Killed trainings

    KERAS_BACKEND=jax python benchmarks/kills.py --kills 60
    KERAS_BACKEND=tensorflow python benchmarks/kills.py --kills 60
    python benchmarks/kills.py --report

Trainings with `keras_vit.callbacks.Resume`, killed by SIGKILL up to
{KILLS_A_TRAINING} times each and then left alone: a network of two blocks with
dropout and stochastic depth 0.1, CutMix, AdamW with a schedule, clipping and
moving averages, {EPOCHS} epochs of {STEPS} steps, a checkpoint every 2 steps.
"In a write" are the kills that left a checkpoint half written. Equal means bit
for bit with a training that was never killed: weights, optimizer, random states
of the layers, history and number of steps. A further call adds to the table.

| backend | kills | in a write | trainings | equal |
|---|---:|---:|---:|---:|
{chr(10).join(rows)}
"""
    page = pathlib.Path(__file__).parent / "kills.md"
    page.write_text(text, encoding="utf-8")


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--kills", type=int, default=60)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--folder", default="outputs/kills", type=pathlib.Path)
    parser.add_argument("--report", action="store_true")
    options = parser.parse_args()
    if options.report:
        report(options.folder)
    else:
        run(options.folder, options.kills, options.seed)


if __name__ == "__main__":
    main()
