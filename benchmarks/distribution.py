"""Trains one model on several devices and processes of this machine.

    python benchmarks/distribution.py [file.json]

Virtual devices share the cores, so this shows that the numbers are right and
that memory is split, not speed: for each set-up the greatest difference of
the losses of twenty steps from those of a single device, and the bytes of
weights and optimizer on each device. The same in more detail goes to the JSON
file, `outputs/distribution.json` unless named.
"""

import json
import os
import pathlib
import signal
import socket
import subprocess
import sys
import tempfile

STEPS = 20
TIMEOUT = 600  # seconds, of a set-up
# Name, processes, devices of each, and what stands in `distribution_of`.
SETUPS = (
    ("one device", 1, 1, "none"),
    ("data parallel, 2 devices", 1, 2, "data"),
    ("data parallel, 4 devices", 1, 4, "data"),
    ("tensor parallel, 2 x 2 devices", 1, 4, "tensor"),
    ("tensor parallel, 1 x 4 devices", 1, 4, "tensor4"),
    ("FSDP, 4 devices", 1, 4, "fsdp"),
    ("tensor parallel and FSDP, 2 x 2 devices", 1, 4, "both"),
    ("data parallel, 2 processes x 2 devices", 2, 2, "data"),
    ("data parallel, 4 processes x 1 device", 4, 1, "data"),
    ("tensor parallel, 2 processes x 2 devices", 2, 2, "tensor"),
)


def work(kind, address, processes, index):
    """Trains in this process; prints losses and bytes as JSON."""
    import keras
    import numpy as np

    import keras_vit

    if processes > 1:
        keras.distribution.initialize(address, processes, index)
    variant = keras_vit.Variant(4, 64, 256, 4, patch_size=4)
    parallel = keras_vit.distribution
    distribution = {
        "none": lambda: None,
        "data": parallel.data_parallel,
        "tensor": lambda: parallel.model_parallel(variant, 2),
        "tensor4": lambda: parallel.model_parallel(variant, 4),
        "fsdp": lambda: parallel.model_parallel(variant, 1, fsdp=True),
        "both": lambda: parallel.model_parallel(variant, 2, fsdp=True),
    }[kind]()
    keras.distribution.set_distribution(distribution)

    keras.utils.set_random_seed(0)
    model = keras_vit.ViT(variant, image_size=16, num_classes=10, dropout=0.1)
    model.compile(
        **keras_vit.recipes.adamw(STEPS, warmup_steps=2, learning_rate=3e-3)
    )
    rng = np.random.default_rng(0)
    images = rng.uniform(0, 255, (32, 16, 16, 3)).astype("float32")
    shard = parallel.process_shard()
    data = keras_vit.ArrayDataset(images, np.arange(32) % 10, 32, shard=shard)
    # An epoch of one batch, so that Keras tells the loss of every step.
    history = model.fit(data, epochs=STEPS, shuffle=False, verbose=0)
    held = {}
    for variable in [*model.trainable_variables, *model.optimizer.variables]:
        for part in variable.value.addressable_shards:
            device = str(part.device)
            held[device] = held.get(device, 0) + part.data.nbytes
    print(json.dumps({"losses": history.history["loss"], "bytes": held}))


def run(kind, processes, devices):
    """Runs the processes of a set-up, and ends them whatever happens."""
    flags = os.environ.get("XLA_FLAGS", "")
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{probe.getsockname()[1]}"
    environment = {
        **os.environ,
        "KERAS_BACKEND": "jax",
        "JAX_PLATFORMS": "cpu",
        "TF_CPP_MIN_LOG_LEVEL": "3",
        "XLA_FLAGS": f"{flags} "
        f"--xla_force_host_platform_device_count={devices}",
    }
    with tempfile.TemporaryDirectory() as folder:
        logs = [
            open(pathlib.Path(folder) / str(i), "w+", encoding="utf-8")
            for i in range(processes)
        ]
        workers = [
            subprocess.Popen(
                [sys.executable, __file__, "--work"]
                + [kind, address, str(processes), str(index)],
                env=environment,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
            for index, log in enumerate(logs)
        ]
        try:
            results = []
            for worker, log in zip(workers, logs):
                status = worker.wait(TIMEOUT)
                log.seek(0)
                text = log.read()
                if status:
                    raise RuntimeError(f"{kind}: exit {status}\n{text}")
                # What processes say on their way out comes after it.
                lines = [x for x in text.splitlines() if x.startswith("{")]
                results.append(json.loads(lines[-1]))
        finally:
            for worker in workers:
                if worker.poll() is None:
                    os.killpg(worker.pid, signal.SIGKILL)
                worker.wait()
            for log in logs:
                log.close()
    losses = results[0]["losses"]
    if any(result["losses"] != losses for result in results):
        raise RuntimeError(f"{kind}: processes tell different losses")
    held = {}
    for result in results:
        held |= result["bytes"]
    return {"losses": losses, "bytes": held}


def main():
    # So that an order to stop ends the workers too.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))
    target = pathlib.Path((sys.argv[1:] or ["outputs/distribution.json"])[0])
    print("| set-up | difference | bytes on a device | of one device's |")
    print("|---|---:|---:|---:|")
    report = {}
    for name, processes, devices, kind in SETUPS:
        result = run(kind, processes, devices)
        first = report.setdefault("one device", result)
        result["difference"] = max(
            abs(a - b) for a, b in zip(result["losses"], first["losses"])
        )
        largest = max(result["bytes"].values())
        share = largest / max(first["bytes"].values())
        print(
            f"| {name} | {result['difference']:.1e} | {largest:,} "
            f"| {share:.3f} |",
            flush=True,
        )
        report[name] = result
    target.parent.mkdir(parents=True, exist_ok=True)
    part = target.with_name(f"{target.name}.{os.getpid()}.part")
    part.write_text(json.dumps(report, indent=2) + "\n", encoding="utf-8")
    part.replace(target)


if __name__ == "__main__":
    if sys.argv[1:2] == ["--work"]:
        kind, address, processes, index = sys.argv[2:]
        work(kind, address, int(processes), int(index))
    else:
        main()
