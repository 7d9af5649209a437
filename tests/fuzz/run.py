"""Runs many damaged inputs, in pieces, and keeps count: `make fuzz`.

    python tests/fuzz/run.py --inputs 100000 --seed 0

Goes on where the last run of the seed ended, until it has so many inputs.
Counts are in outputs/fuzz/<seed>.json after every piece, the table of all of
them in benchmarks/trust.md. An input that fails stops nothing; its files are
kept in outputs/fuzz.
"""

import argparse
import collections
import faulthandler
import json
import os
import pathlib
import platform
import shutil
import sys
import tempfile
import time

ROOT = pathlib.Path(__file__).parents[2]
sys.path[:0] = [str(ROOT), str(pathlib.Path(__file__).parent)]

OUTPUTS = ROOT / "outputs" / "fuzz"
TABLE = ROOT / "benchmarks" / "trust.md"
PIECE = 1000
MOST_HANG = 60
KEPT = 50
CHANGED = "changed the model"


def parse():
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("--inputs", type=int, default=10_000)
    parser.add_argument("--seed", type=int, default=0)
    return parser.parse_args()


def new_counts():
    return {"done": 0, "seconds": 0.0, "backend": None, "kinds": {}}


def add(counts, kind, seed, outcome):
    """Adds an outcome to the counts of its kind."""
    own = counts["kinds"].setdefault(
        kind, {"inputs": 0, "errors": {}, "slowest": 0, "memory": 0, "bad": {}}
    )
    own["inputs"] += 1
    own["errors"][outcome.error] = own["errors"].get(outcome.error, 0) + 1
    own["slowest"] = max(own["slowest"], outcome.seconds)
    own["memory"] = max(own["memory"], outcome.memory)
    if outcome.fault and len(own["bad"]) < KEPT:
        own["bad"][str(seed)] = outcome.fault[:300]


def keep(fuzzer, kind, seed):
    target = OUTPUTS / "found" / f"{kind}-{seed}"
    shutil.rmtree(target, ignore_errors=True)
    if kind != "arguments":
        shutil.copytree(fuzzer.inputs, target)


def save(file, counts):
    temporary = file.with_suffix(".part")
    temporary.write_text(json.dumps(counts, indent=1), encoding="utf-8")
    os.replace(temporary, file)


def write_table():
    """Writes the counts of all seeds as a page."""
    total = collections.defaultdict(
        lambda: {
            "inputs": 0,
            "errors": {},
            "slowest": 0,
            "memory": 0,
            "changed": 0,
            "bad": 0,
        }
    )
    backends, seeds = set(), []
    for file in sorted(OUTPUTS.glob("*.json")):
        counts = json.loads(file.read_text(encoding="utf-8"))
        backends.add(counts["backend"])
        seeds.append(file.stem)
        for kind, own in counts["kinds"].items():
            sum_ = total[kind]
            sum_["inputs"] += own["inputs"]
            for name, count in own["errors"].items():
                before = sum_["errors"].get(name, 0)
                sum_["errors"][name] = before + count
            sum_["slowest"] = max(sum_["slowest"], own["slowest"])
            sum_["memory"] = max(sum_["memory"], own["memory"])
            sum_["bad"] += len(own["bad"])
            sum_["changed"] += list(own["bad"].values()).count(CHANGED)
    lines = [
        "# Damaged files and odd arguments",
        "",
        "`make fuzz` damages files of weights by the byte and by what their",
        "formats are made of, and gives public functions what they do not",
        "take. A file must end in `CheckpointError` or `OSError`, an argument",
        "in `ValueError`; within a second of the processor, within 128 MiB",
        "more than the file, and with the model, bit for bit, as it was.",
        "",
        "Made by `python tests/fuzz/run.py`, seeds "
        f"{', '.join(seeds)}, on {', '.join(sorted(backends))}, Python "
        f"{platform.python_version()}.",
        "",
        "| reader | inputs | ended in | slowest, s | largest memory, MB | "
        "models changed | other faults |",
        "|---|---|---|---|---|---|---|",
    ]
    for kind, own in sorted(total.items()):
        ended = ", ".join(
            f"{name} {count:,}"
            for name, count in sorted(
                own["errors"].items(), key=lambda x: -x[1]
            )
        )
        lines.append(
            f"| {kind} | {own['inputs']:,} | {ended} | {own['slowest']:.2f} | "
            f"{own['memory'] / 1e6:.1f} | {own['changed']} | "
            f"{own['bad'] - own['changed']} |"
        )
    inputs = sum(own["inputs"] for own in total.values())
    lines += [
        "",
        f"{inputs:,} inputs in all. `UndescribedError` is a `CheckpointError`.",
        "",
    ]
    TABLE.write_text("\n".join(lines), encoding="utf-8")


def main():
    arguments = parse()
    import fuzzer as fuzzers
    import keras

    OUTPUTS.mkdir(parents=True, exist_ok=True)
    file = OUTPUTS / f"{arguments.seed}.json"
    counts = new_counts()
    if file.exists():
        counts = json.loads(file.read_text(encoding="utf-8"))
    counts["backend"] = keras.backend.backend()
    start = time.time()
    with tempfile.TemporaryDirectory() as folder:
        fuzzer = fuzzers.Fuzzer(folder)
        for kind in fuzzer.kinds:  # imports, which are no input's fault
            fuzzer.run(kind, -1)
        while counts["done"] < arguments.inputs:
            begin = counts["done"]
            for index in range(begin, min(begin + PIECE, arguments.inputs)):
                kind = fuzzer.kinds[index % len(fuzzer.kinds)]
                seed = arguments.seed * 10**9 + index
                # Ends a process that hangs, and says where.
                faulthandler.dump_traceback_later(MOST_HANG, exit=True)
                outcome = fuzzer.run(kind, seed)
                add(counts, kind, seed, outcome)
                if outcome.fault:
                    print(f"{kind} {seed}: {outcome.fault}", flush=True)
                    keep(fuzzer, kind, seed)
                counts["done"] = index + 1
            faulthandler.cancel_dump_traceback_later()
            counts["seconds"] += time.time() - start
            start = time.time()
            save(file, counts)
            write_table()
            print(
                f"{counts['done']:,} inputs, {counts['seconds']:.0f} s",
                flush=True,
            )
    write_table()
    return any(own["bad"] for own in counts["kinds"].values())


if __name__ == "__main__":
    sys.exit(main())
