"""How time and memory grow with the batch, the tokens and the depth.

    KERAS_BACKEND=jax python benchmarks/scaling.py

Every row is a process of its own, so that its peak memory is its own. Each
table comes with the growth from row to row: 2.0 where the size doubles is
linear. Over devices and processes: `benchmarks/distribution.py`.
"""

import json
import os
import resource
import subprocess
import sys
import time

SIZE, BATCH = 224, 8
TABLES = {
    # what grows: (rows, settings of a row)
    "batch": [(n, {"batch": n}) for n in (1, 2, 4, 8, 16, 32)],
    # Two blocks: what grows is the sequence. 196 to 16,384 patches.
    "tokens": [
        ((size // 16) ** 2, {"size": size, "batch": 1, "layers": 2})
        for size in (224, 448, 896, 1792, 2048)
    ],
    "depth": [(n, {"layers": n, "batch": 2}) for n in (12, 24, 48)],
}


def measure(size=SIZE, batch=BATCH, layers=12, train=True):
    """Builds a model of the width of Ti/16 and times its steps."""
    import keras
    import numpy as np

    import keras_vit

    variant = keras_vit.Variant(layers, 192, 768, 3, patch_size=16)
    model = keras_vit.ViT(variant, image_size=size)
    model.compile(**keras_vit.recipes.adamw(1000))
    images = np.zeros((batch, size, size, 3), "float32")
    labels = np.zeros(batch, "int32")
    before = peak_memory()

    def step():
        start = time.perf_counter()
        model.train_on_batch(images, labels)
        return time.perf_counter() - start

    first = step()
    steps = sorted(step() for _ in range(3))
    return {
        "backend": keras.backend.backend(),
        "first_step": first,
        "step": steps[1],
        "from": steps[0],
        "to": steps[-1],
        "memory": peak_memory() - before,
    }


def peak_memory():
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def main():
    for what, rows in TABLES.items():
        print(
            f"\n| {what} | first step, s | step, s | growth | memory above the "
            "model, MB | growth |\n|---:|---:|---:|---:|---:|---:|"
        )
        last = None
        for value, settings in rows:
            answer = subprocess.run(
                [sys.executable, __file__, json.dumps(settings)],
                stdout=subprocess.PIPE,
                stderr=None if os.environ.get("DEBUG") else subprocess.DEVNULL,
                text=True,
            ).stdout
            if not answer.strip():
                print(f"| {value:,} | did not finish |", flush=True)
                continue
            row = json.loads(answer.splitlines()[-1])
            grown = ["", ""]
            if last is not None:
                grown = [
                    f"{row[key] / last[key]:.1f}" for key in ("step", "memory")
                ]
            print(
                f"| {value:,} | {row['first_step']:.1f} | {row['step']:.2f} "
                f"({row['from']:.2f} to {row['to']:.2f}) | {grown[0]} | "
                f"{row['memory'] / 1e6:,.0f} | {grown[1]} |",
                flush=True,
            )
            last = row


if __name__ == "__main__":
    if len(sys.argv) > 1:
        print(json.dumps(measure(**json.loads(sys.argv[1]))))
    else:
        main()
