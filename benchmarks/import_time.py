"""Times `import keras_vit` on top of `import keras`, in fresh processes.

    python benchmarks/import_time.py [backend ...]

Prints, for each backend that is installed, the median and the range over
nine processes of the seconds that `import keras_vit` adds to `import keras`
within one process.
"""

import importlib.util
import os
import statistics
import subprocess
import sys

CODE = """
import time, keras
start = time.perf_counter()
import keras_vit
print(time.perf_counter() - start)
"""
RUNS = 9


def seconds(backend):
    """Seconds of one import in a process of its own."""
    output = subprocess.run(
        [sys.executable, "-c", CODE],
        env={**os.environ, "KERAS_BACKEND": backend},
        check=True,
        capture_output=True,
        text=True,
    ).stdout
    return float(output.split()[-1])


def main():
    for backend in sys.argv[1:] or ("jax", "tensorflow", "torch"):
        if importlib.util.find_spec(backend) is None:
            print(f"{backend:<10} not installed")
            continue
        seconds(backend)  # fills the caches of the file system
        times = [seconds(backend) for _ in range(RUNS)]
        print(
            f"{backend:<10} {statistics.median(times):.3f} s "
            f"({min(times):.3f} to {max(times):.3f}, {RUNS} runs)"
        )


if __name__ == "__main__":
    main()
