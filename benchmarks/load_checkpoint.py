"""Times `load_checkpoint` on a ViT-L/16 file against NumPy reading it.

    KERAS_BACKEND=jax python benchmarks/load_checkpoint.py [file.npz]

Makes an official `.npz` of 304 million random weights unless one is given,
then takes turns, each in a process of its own: NumPy reads all arrays of the
file, and keeps them, or drops each before the next; `load_checkpoint` loads
the file into a model that stands. Prints the rates, ours over each of NumPy's,
and the peak resident memory of the process that loads, model and backend
included, over the size of the file.
"""

import os
import pathlib
import statistics
import subprocess
import sys
import tempfile

MAKE = """
import sys, numpy as np, keras_vit
model = keras_vit.ViT("L/16")
model.get_layer("head").kernel.assign(np.ones((1024, 1000)))
keras_vit.export_checkpoint(model, sys.argv[1])
"""
KEEP = """
import sys, time, numpy as np
start = time.perf_counter()
with np.load(sys.argv[1]) as arrays:
    arrays = dict(arrays)
print(time.perf_counter() - start, 0)
"""
DROP = """
import sys, time, numpy as np
start = time.perf_counter()
with np.load(sys.argv[1]) as arrays:
    for key in arrays.files:
        arrays[key]
print(time.perf_counter() - start, 0)
"""
LOAD = """
import resource, sys, time, keras_vit
model = keras_vit.ViT("L/16")
start = time.perf_counter()
keras_vit.load_checkpoint(model, sys.argv[1])
print(
    time.perf_counter() - start,
    resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024,
)
"""
RUNS = 5


def run(code, path):
    output = subprocess.run(
        [sys.executable, "-c", code, str(path)],
        check=True,
        capture_output=True,
        text=True,
        env={**os.environ, "TF_CPP_MIN_LOG_LEVEL": "3"},
    ).stdout
    return tuple(map(float, output.split()[-2:]))


def main():
    with tempfile.TemporaryDirectory() as folder:
        path = pathlib.Path(folder) / "L_16.npz"
        if sys.argv[1:]:
            path = pathlib.Path(sys.argv[1])
        else:
            subprocess.run([sys.executable, "-c", MAKE, str(path)], check=True)
        size = path.stat().st_size
        run(DROP, path)  # the file is in memory from now on, for all
        rates = {"numpy, kept": [], "numpy, dropped": [], "ours": []}
        peaks = []
        for _ in range(RUNS):
            for found, code in zip(rates.values(), (KEEP, DROP, LOAD)):
                seconds, peak = run(code, path)
                found.append(size / seconds / 1e9)
            peaks.append(peak / size)
    print(f"backend              {os.environ.get('KERAS_BACKEND', 'default')}")
    print(f"file                 {size / 1e9:.3f} GB")
    for name, found in rates.items():
        print(f"{name:<20} {_spread(found)} GB/s")
    for name in list(rates)[:2]:
        ratios = [a / b for a, b in zip(rates["ours"], rates[name])]
        print(f"ours / {name:<13} {_spread(ratios)}")
    print(f"{'peak / file':<20} {max(peaks):.2f}")


def _spread(values):
    low, high = min(values), max(values)
    return f"{statistics.median(values):.2f} ({low:.2f} to {high:.2f})"


if __name__ == "__main__":
    main()
