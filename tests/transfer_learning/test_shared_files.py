"""Two processes with one file of results: no row of either is lost."""

import json
import os
import subprocess
import sys

import keras
from helpers import environment

from keras_vit.checkpoints.writers import alone, write_text
from keras_vit.transfer_learning.grid_search import _Table
from keras_vit.transfer_learning.vtab_scores import read_accuracies

ROWS = 20
SETTINGS = {"image_size": [8, 8]}
RUNS = [{"learning_rate": rate} for rate in range(2 * ROWS)]
# Writes every second row, as fast as it can, once both processes are ready.
WORKER = """
import sys
from test_shared_files import ROWS, RUNS, SETTINGS, _Table
from keras_vit.transfer_learning.vtab_scores import add_accuracies

folder, half = sys.argv[1], int(sys.argv[2])
table = _Table(f"{folder}/runs.csv", RUNS, {"seed": 0})
print("ready", flush=True)
sys.stdin.readline()
for row in range(half, 2 * ROWS, 2):
    table.add(RUNS[row], {"accuracy": row / 100})
    add_accuracies(f"{folder}/vtab.json", SETTINGS, {f"task{row}": row / 100})
"""


def workers(folder):
    """Two processes that have looked at the files and found none."""
    here = os.path.dirname(__file__)
    variables = environment(keras.backend.backend())
    paths = [here, os.path.dirname(here), os.environ.get("PYTHONPATH", "")]
    variables["PYTHONPATH"] = os.pathsep.join(paths)
    processes = [
        subprocess.Popen(
            [sys.executable, "-c", WORKER, str(folder), str(half)],
            env=variables,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        for half in range(2)
    ]
    for process in processes:
        while process.stdout.readline().strip() != "ready":
            assert process.poll() is None
    return processes


def test_no_row_of_two_processes_is_lost(tmp_path):
    processes = workers(tmp_path)
    for process in processes:
        process.stdin.write("go\n")
        process.stdin.flush()
    for process in processes:
        process.communicate(timeout=120)
        assert process.returncode == 0
    table = _Table(tmp_path / "runs.csv", RUNS, {"seed": 0})
    for row, run in enumerate(RUNS):
        assert table.results(run) == {"accuracy": row / 100}
    assert read_accuracies(tmp_path / "vtab.json", SETTINGS) == {
        f"task{row}": row / 100 for row in range(2 * ROWS)
    }
    # The locks are gone.
    assert {path.name for path in tmp_path.iterdir()} == {
        "runs.csv",
        "vtab.json",
    }


def test_a_search_sees_what_another_has_finished(tmp_path):
    first, second = (
        _Table(tmp_path / "runs.csv", RUNS, {"seed": 0}) for _ in range(2)
    )
    first.add(RUNS[0], {"loss": 0.5, "accuracy": 0.25})
    second.add(RUNS[1], {"accuracy": 0.75, "loss": 1.5})
    assert second.results(RUNS[0]) == {"loss": 0.5, "accuracy": 0.25}
    header, *rows = (tmp_path / "runs.csv").read_text("utf-8").splitlines()
    assert header == "learning_rate,seed,loss,accuracy"
    assert rows == ["0,0,0.5,0.25", "1,0,1.5,0.75"]


def test_a_lock_that_was_left_behind_holds_nobody_up(tmp_path):
    """The system frees the lock of a process that was killed, not the file."""
    file = tmp_path / "vtab.json"
    (tmp_path / ".vtab.json.lock").touch()
    with alone(file):
        write_text(file, json.dumps({"done": 1}))
    assert list(tmp_path.iterdir()) == [file]
