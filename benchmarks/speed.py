"""Times this library in turn with its peers: training, inference, memory.

    python benchmarks/speed.py                       # what is installed
    python benchmarks/speed.py --variants Ti/16 S/16 --backends jax
    python benchmarks/speed.py --gpu                 # bfloat16, large batches

Every library runs in a process of its own (`contenders.py`). All of a row are
built first and then run by turns, a few steps each, so that whatever else the
machine does meets them alike; what is compared is the ratio within a round.
With `--starts N` they are built N times, by turns as well, and the time to the
end of the first step is a median too. Prints a table, and writes all figures as
JSON.

Peers: KerasHub, the official Flax model, and on PyTorch Hugging Face and timm,
each where it is installed, or found in a folder given as
`--path keras_hub=/folder` (not put into the environment of the others). The
official model needs a checkout of google-research/vision_transformer, named by
the environment variable VISION_TRANSFORMER. An earlier state of this library is
a peer as well, where its folder is given:

    git worktree add /tmp/before v0.1.0
    python benchmarks/speed.py --path before=/tmp/before --peers before
"""

import argparse
import importlib.metadata
import importlib.util
import json
import os
import pathlib
import platform
import statistics
import subprocess
import sys

PEERS = {
    "jax": ["before", "keras_hub", "flax"],
    "tensorflow": ["before", "keras_hub"],
    "torch": ["before", "keras_hub", "huggingface", "timm"],
}
MODULES = {
    "flax": "flax",
    "huggingface": "transformers",
    "timm": "timm",
    "timm_compiled": "timm",
    "keras_hub": "keras_hub",
    "before": "keras_vit",
}
# Multiply-adds in bfloat16, dense, by the makers' data sheets.
PEAK_TFLOPS = {"H200": 989, "H100": 989, "A100": 312, "L4": 121, "T4": 65}


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--backends", nargs="+", default=list(PEERS))
    parser.add_argument("--variants", nargs="+", default=["Ti/16"])
    parser.add_argument("--sizes", nargs="+", type=int, default=[224])
    parser.add_argument("--dtypes", nargs="+", default=["float32"])
    parser.add_argument("--batch", type=int, default=16)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--steps", type=int, default=2)
    parser.add_argument("--starts", type=int, default=1)
    parser.add_argument("--peers", nargs="*", default=None)
    parser.add_argument("--path", nargs="*", default=[], metavar="PEER=DIR")
    parser.add_argument(
        "--arguments",
        type=json.loads,
        default={},
        metavar="JSON",
        help="more arguments for `keras_vit.ViT`, such as "
        """'{"activation": "gelu"}'""",
    )
    parser.add_argument("--gpu", action="store_true")
    parser.add_argument("--output", default="outputs/speed.json")
    options = parser.parse_args()
    if options.gpu:
        PEERS["torch"].append("timm_compiled")
    paths = dict(entry.split("=", 1) for entry in options.path)

    rows = []
    for backend in options.backends:
        if importlib.util.find_spec(backend) is None:
            print(f"{backend} is not installed")
            continue
        for variant in options.variants:
            for size in options.sizes:
                for dtype in options.dtypes:
                    job = {
                        "variant": variant,
                        "size": size,
                        "dtype": dtype,
                        "batch": options.batch,
                        "arguments": options.arguments,
                    }
                    peers = [
                        peer
                        for peer in PEERS[backend]
                        if options.peers is None or peer in options.peers
                    ]
                    rows += compare(backend, peers, job, options, paths)
                    write(rows, options.output)
    print(f"\n{machine()}\n")
    print(table(rows))


def compare(backend, peers, job, options, paths):
    """Runs one row: this library and its peers, by turns."""
    names = ["keras_vit"]
    for name in peers:
        if present(name, paths):
            names.append(name)
        else:
            print(f"{name} is not installed: left out")
    runners, starts = {}, {name: [] for name in names}
    for _ in range(options.starts):
        for runner in runners.values():
            runner.close()
        runners = {}
        for name in names:
            runner = start(name, backend, job, paths)
            if runner is not None:
                runners[name] = runner
                began = runner.began
                starts[name].append(began["build"] + began["first_step"])
    seconds = {
        (name, what): [] for name in runners for what in ("train", "infer")
    }
    for _ in range(options.rounds):
        for what in ("train", "infer"):
            for name, runner in runners.items():
                answer = runner.ask(f"{what} {options.steps}")
                seconds[name, what].append(answer["seconds"] / options.steps)
    for runner in runners.values():
        runner.close()

    rows = []
    for name, runner in runners.items():
        row = {
            "backend": backend,
            "library": name,
            **job,
            **runner.began,
            "starts": starts[name],
        }
        for what in ("train", "infer"):
            own = seconds["keras_vit", what]
            theirs = seconds[name, what]
            ratios = [b / a for a, b in zip(own, theirs)]
            row[what] = {
                "images_per_second": job["batch"] / statistics.median(theirs),
                "keras_vit_is_faster_by": statistics.median(ratios),
                "from": min(ratios),
                "to": max(ratios),
            }
        if options.gpu:
            row["utilisation"] = utilisation(row)
        rows.append(row)
        print(table([row]).splitlines()[-1], flush=True)
    return rows


class Runner:
    """A process of `contenders.py`."""

    def __init__(self, process):
        self.process = process
        self.began = self._answer()

    def ask(self, command):
        self.process.stdin.write(command + "\n")
        self.process.stdin.flush()
        return self._answer()

    def _answer(self):
        line = self.process.stdout.readline()
        if not line:
            raise RuntimeError(f"ended with code {self.process.wait()}")
        return json.loads(line)

    def close(self):
        self.process.kill()
        self.process.wait()


def start(name, backend, job, paths):
    job = {**job, "contender": name, "paths": []}
    if name in paths:
        job["paths"] = [paths[name]]
    process = subprocess.Popen(
        [
            sys.executable,
            pathlib.Path(__file__).with_name("contenders.py"),
            json.dumps(job),
        ],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=None if os.environ.get("DEBUG") else subprocess.DEVNULL,
        text=True,
        env={
            **os.environ,
            "KERAS_BACKEND": backend,
            "TF_CPP_MIN_LOG_LEVEL": "3",
            # Peak memory, not what was reserved in advance.
            "XLA_PYTHON_CLIENT_PREALLOCATE": "false",
        },
    )
    try:
        return Runner(process)
    except RuntimeError as error:
        print(f"{name} on {backend}, {job}: {error}")
        return None


def present(name, paths):
    if name == "flax" and "VISION_TRANSFORMER" not in os.environ:
        return False
    if name == "before" or name in paths:
        return name in paths
    return importlib.util.find_spec(MODULES[name]) is not None


def utilisation(row):
    """Share of the device's peak that training spends on the model itself."""
    peak = next(
        (t for name, t in PEAK_TFLOPS.items() if name in accelerator()), None
    )
    if peak is None:
        return None
    # Only here, and not for a backend that may not be installed.
    os.environ.setdefault("KERAS_BACKEND", row["backend"])
    import keras_vit

    macs = keras_vit.cost(row["variant"], row["size"]).macs
    return 6 * macs * row["train"]["images_per_second"] / (peak * 1e12)


def accelerator():
    try:
        return subprocess.run(
            ["nvidia-smi", "--query-gpu=name", "--format=csv,noheader"],
            capture_output=True,
            text=True,
        ).stdout.strip()
    except OSError:
        return ""


def machine():
    versions = [
        f"{name} {importlib.metadata.version(name)}"
        for name in ("keras", "jax", "tensorflow-cpu", "tensorflow", "torch")
        if installed(name)
    ]
    device = accelerator() or f"{os.cpu_count()} CPU cores"
    return f"{device}, Python {platform.python_version()}, " + ", ".join(
        versions
    )


def installed(name):
    try:
        return bool(importlib.metadata.version(name))
    except importlib.metadata.PackageNotFoundError:
        return False


def table(rows):
    lines = [
        "| backend | model | dtype, batch | library | train, img/s | keras_vit "
        "is | infer, img/s | keras_vit is | first step, s | peak, GB |",
        "|---|---|---|---|---:|---:|---:|---:|---:|---:|",
    ]
    for row in rows:
        cells = [
            row["backend"],
            f"{row['variant']} {row['size']}",
            f"{row['dtype']}, {row['batch']}",
            row["library"],
        ]
        for what in ("train", "infer"):
            cells.append(f"{row[what]['images_per_second']:.1f}")
            cells.append(
                ""
                if row["library"] == "keras_vit"
                else f"{row[what]['keras_vit_is_faster_by']:.2f} x "
                f"({row[what]['from']:.2f} to {row[what]['to']:.2f})"
            )
        starts = row["starts"]
        cells.append(f"{statistics.median(starts):.1f}")
        if len(starts) > 1:
            cells[-1] += f" ({min(starts):.1f} to {max(starts):.1f})"
        cells.append(f"{row['peak_memory'] / 1e9:.2f}")
        if row.get("utilisation"):
            cells[4] += f" ({row['utilisation']:.0%} of peak)"
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines)


def write(rows, path):
    path = pathlib.Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_suffix(".part")
    part.write_text(
        json.dumps({"machine": machine(), "rows": rows}, indent=2),
        encoding="utf-8",
    )
    part.replace(path)


if __name__ == "__main__":
    main()
