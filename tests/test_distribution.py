"""Several devices and processes: the numbers of one device, on JAX's engine.

What needs several devices runs in processes of its own, for JAX counts its
devices once; see `distribution_workers.py`.
"""

import contextlib
import json
import os
import pathlib
import signal
import socket
import subprocess
import sys
import tempfile

import keras
import numpy as np
import pytest
from helpers import QUICK, XLA_FLAGS, environment, jax_only

WORKERS = pathlib.Path(__file__).with_name("distribution_workers.py")

on_jax = jax_only("Keras splits models and batches there alone")


@contextlib.contextmanager
def started(backend, devices, *arguments):
    """A worker, which does not outlive the block, whatever happens there."""
    flags = f"{XLA_FLAGS} --xla_force_host_platform_device_count={devices}"
    # Files, for a worker must not wait until somebody reads its pipe.
    with tempfile.TemporaryFile("w+") as log:
        worker = subprocess.Popen(
            [sys.executable, str(WORKERS), *map(str, arguments)],
            env=environment(backend, XLA_FLAGS=f"{flags} {QUICK}"),
            stdout=log,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
        worker.log = log
        try:
            yield worker
        finally:
            if worker.poll() is None:
                os.killpg(worker.pid, signal.SIGKILL)
            worker.wait()


def finish(worker, timeout=240):
    """Returns what the worker found, which is its one line of JSON."""
    status = worker.wait(timeout)
    worker.log.seek(0)
    text = worker.log.read()
    assert status == 0, text[-3000:]
    lines = [line for line in text.splitlines() if line.startswith("{")]
    return json.loads(lines[-1])


def address():
    """An address on this machine that nobody listens at."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return f"127.0.0.1:{probe.getsockname()[1]}"


def together(*jobs):
    """Runs workers side by side, each with two devices."""
    with contextlib.ExitStack() as stack:
        workers = [stack.enter_context(started("jax", 2, *j)) for j in jobs]
        return [finish(worker) for worker in workers]


@pytest.fixture(scope="module")
def four(tmp_path_factory):
    """What one process with four devices found."""
    folder = tmp_path_factory.mktemp("four_devices")
    kinds = ("single", "data", "tensor")
    with started("jax", 4, "four_devices", folder, *kinds) as worker:
        return finish(worker)


@on_jax
def test_every_distribution_trains_as_one_device(four):
    """Faults case 40: twenty steps, with dropout."""
    single = four["single"]["losses"]
    assert len(single) == 5 and single[-1] < 0.95 * single[0]
    for kind in ("data", "tensor"):
        assert four[kind]["losses"] == pytest.approx(single, abs=1e-5), kind


@on_jax
def test_weights_lie_where_they_should(four):
    """Half of the heads and units on each device of a pair."""
    whole = four["single"]["shapes"]
    assert four["data"]["shapes"] == whole
    assert four["tensor"]["shapes"] == whole | {
        "block_00/attention/query/kernel": [16, 2, 4],
        "block_00/attention/query/bias": [2, 4],
        "block_00/attention/key/kernel": [16, 2, 4],
        "block_00/attention/key/bias": [2, 4],
        "block_00/attention/value/kernel": [16, 2, 4],
        "block_00/attention/value/bias": [2, 4],
        "block_00/attention/output/kernel": [2, 4, 16],
        "block_00/mlp/hidden/kernel": [16, 16],
        "block_00/mlp/hidden/bias": [16],
        "block_00/mlp/output/kernel": [16, 16],
    }


def check_bytes(found):
    """Weights and both moments of AdamW are split alike, 4 bytes a number."""
    numbers = sum(map(np.prod, found["shapes"].values()))
    for number in found["bytes"]:
        # Step and learning rate are there besides.
        assert 0 <= number - 3 * 4 * numbers <= 16


@on_jax
def test_optimizers_are_split_like_the_weights(four):
    check_bytes(four["data"])
    check_bytes(four["tensor"])


@on_jax
def test_images_left_over_are_not_lost(four):
    """35 images, and 3, over 4 devices: each counts, and once."""
    logits = np.array(four["single"]["predict"])
    assert logits.shape == (35, 3)
    np.testing.assert_allclose(four["data"]["predict"], logits, atol=1e-5)
    labels = np.arange(35) % 3
    normalizers = np.log(np.exp(logits).sum(axis=1))
    losses = normalizers - logits[np.arange(35), labels]
    right = logits.argmax(axis=1) == labels
    for number in (35, 3):
        expected = losses[:number].mean(), right[:number].mean()
        found = four["data"][f"evaluate_{number}"]
        assert found == pytest.approx(expected, abs=1e-5)


@on_jax
def test_partial_batch_in_fit_says_what_to_do(four):
    """At the first batch, by name and number."""
    message = four["data"]["partial"]
    assert message.startswith("ValueError: A batch must divide by the 4 parts")
    assert "drop_remainder=True" in message and "a batch of 3" in message


@on_jax
def test_a_file_of_one_distribution_loads_under_another(four):
    """Weights and optimizer, of tensor parallel, bit for bit."""
    for kind in ("single", "data"):
        loaded = four["loaded"][kind]
        assert loaded["equal"]
        assert loaded["shapes"] == four["single"]["shapes"]


@on_jax
@pytest.mark.slow
def test_fsdp_splits_all_kernels_and_trains_as_one_device(four, tmp_path):
    """Over both axes of 2 x 2 devices: a quarter of each kernel of a block."""
    with started("jax", 4, "four_devices", tmp_path, "fsdp") as worker:
        report = finish(worker)
    fsdp, losses = report["fsdp"], four["single"]["losses"]
    assert fsdp["losses"] == pytest.approx(losses, abs=1e-5)
    assert fsdp["shapes"] == four["tensor"]["shapes"] | {
        "patch_encoder/projection/kernel": [48, 8],
        "block_00/attention/query/kernel": [8, 2, 4],
        "block_00/attention/key/kernel": [8, 2, 4],
        "block_00/attention/value/kernel": [8, 2, 4],
        "block_00/attention/output/kernel": [2, 4, 8],
        "block_00/mlp/hidden/kernel": [8, 16],
        "block_00/mlp/output/kernel": [16, 8],
        "head/kernel": [8, 3],
    }
    check_bytes(fsdp)
    assert report["loaded"]["single"]["equal"]


@on_jax
@pytest.mark.slow
def test_two_processes_equal_one():
    """Faults case 40, over a loopback socket; two devices in each."""
    where = address()
    first, second = together(
        *(("process", where, 2, index) for index in range(2))
    )
    assert (first["shard"], second["shard"]) == ([0, 2], [1, 2])
    assert first["losses"] == second["losses"]
    assert first["evaluate"] == second["evaluate"]
    assert first["weights"] == second["weights"]
    for name in ("predict", "arrays"):
        assert first[name].startswith("ValueError: `keras_vit.")
        assert "works in one process" in first[name]

    with started("jax", 1, "process", address(), 1, 0) as worker:
        one = finish(worker)
    assert one["shard"] == [0, 1]
    for name in ("losses", "evaluate"):
        assert first[name] == pytest.approx(one[name], abs=1e-5)


@on_jax
@pytest.mark.slow
def test_a_killed_process_ends_the_other_and_both_resume(tmp_path):
    """Faults case 41: killed in the third epoch, after two checkpoints."""
    pytest.importorskip("orbax.checkpoint")

    def run(folder, dies_at):
        where = address()
        return [
            ("resumable", tmp_path / folder, where, index, dies_at)
            for index in range(2)
        ]

    whole, _ = together(*run("whole", -1))
    with contextlib.ExitStack() as stack:
        survivor, victim = (
            stack.enter_context(started("jax", 2, *job))
            for job in run("killed", 10)
        )
        victim.wait(240)
        assert victim.returncode == -signal.SIGKILL
        survivor.wait(150)
        assert survivor.returncode != 0
    resumed, _ = together(*run("killed", -1))
    assert resumed["first"] == 2
    assert resumed["losses"] == whole["losses"][2:]


@pytest.mark.slow
@pytest.mark.skipif(
    keras.backend.backend() != "tensorflow", reason="TensorFlow's own engine"
)
def test_mirrored_strategy_equals_one_device():
    with started("tensorflow", 1, "mirrored") as worker:
        losses = finish(worker)
    assert losses["single"][-1] < losses["single"][0]
    assert losses["mirrored"] == pytest.approx(losses["single"], abs=1e-5)
