"""Damaged files and odd arguments, and what became of each.

An input is a kind and a seed: the same two make the same input. A load may
end in `CheckpointError` or `OSError`, an argument in `ValueError`; within a
second, within the memory that is stated, and with the model as it was.
"""

import contextlib
import dataclasses
import io
import json
import os
import pathlib
import random
import shutil
import time
import warnings

import keras
import mutations
import numpy as np

import keras_vit
from keras_vit.checkpoints.facts import FACTS
from keras_vit.checkpoints.guards import ALWAYS_UNPACKED, CheckpointError
from keras_vit.transfer_learning import few_shot, nearest_neighbors

MOST_SECONDS = 1.0
# What a file may unpack to, and once more for what a parser keeps meanwhile.
MOST_MEMORY = 2 * ALWAYS_UNPACKED
STATUS = pathlib.Path("/proc/self/status")
FILE_KINDS = ("npz", "safetensors", "torch", "config", "index")


@dataclasses.dataclass
class Outcome:
    """What became of an input.

    Args:
        error: name of the class of what was raised, or `"accepted"`.
        fault: what is wrong with that, or `None`.
        seconds: of the processor.
        memory: bytes by which the process grew at its largest.
    """

    error: str
    fault: str | None
    seconds: float
    memory: int


def _model(**arguments):
    variant = keras_vit.Variant(2, 16, 32, 4, patch_size=4)
    model = keras_vit.ViT(
        variant, **{"image_size": (8, 12), "num_classes": 5, **arguments}
    )
    rng = np.random.default_rng(0)
    for weight in model.weights:
        if "seed" not in weight.path:
            weight.assign(rng.normal(0, 0.2, weight.shape))
    return model


def _values(model):
    return [keras.ops.convert_to_numpy(x).copy() for x in model.weights]


class Fuzzer:
    """Makes inputs and runs them.

    Args:
        folder: an empty folder for the files.
    """

    def __init__(self, folder):
        self.folder = pathlib.Path(folder)
        self.inputs = self.folder / "inputs"
        timm = {"activation": "gelu", "num_registers": 2}
        vit = {"activation": "gelu", "epsilon": 1e-12}
        self.models = {
            "npz": _model(),
            "safetensors": _model(**timm),
            "config": _model(**vit),
        }
        export = keras_vit.export_checkpoint
        npz = export(self.models["npz"], self.folder / "good.npz")
        timm = export(
            self.models["safetensors"], self.folder / "timm", format="timm"
        )
        vit = export(
            self.models["config"], self.folder / "vit", format="huggingface"
        )
        self.good = {
            "npz": npz.read_bytes(),
            "safetensors": timm.read_bytes(),
            "config": vit.read_bytes(),
        }
        self.json = {
            file.name: file.read_bytes() for file in vit.parent.glob("*.json")
        }
        self.models["torch"] = self.models["safetensors"]
        self.models["index"] = self.models["config"]
        self.kinds = [*FILE_KINDS, "arguments"]
        with contextlib.suppress(ImportError):
            self.good["torch"] = _of_torch(self.good["safetensors"])
        if "torch" not in self.good:
            self.kinds.remove("torch")
        self.before = {kind: _values(x) for kind, x in self.models.items()}

    def run(self, kind, seed):
        """Makes an input and runs it.

        Args:
            kind: one of `kinds`.
            seed: an integer.

        Returns:
            An `Outcome`.
        """
        rng = random.Random(f"{kind} {seed}")
        if kind == "arguments":
            call, model = self._arguments(rng), self.models["npz"]
            allowed = (ValueError, OSError)
            return self._judge(call, model, "npz", allowed, 0)
        self.write(kind, rng)
        return self.replay(kind, rng)

    def replay(self, kind, rng):
        """Runs the files that lie in `inputs`."""
        (source,) = self.inputs.glob("weights*")
        if kind == "index":
            source = self.inputs / "weights.safetensors.index.json"
        options = {
            "reset_head": rng.choice([None, None, True, False]),
            "resize_positions": rng.choice([None, "as_trained", "bicubic"]),
            "drop_pre_logits": rng.random() < 0.5,
            "check_numerics": rng.random() < 0.7,
            "read_config": rng.random() < 0.9,
        }
        if rng.random() < 0.1:
            options["file_grid"] = rng.choice([(2, 3), (1, 6), (7, 1)])
        model = self.models[kind]

        def call():
            # What a file is of, and then the load; a model is built for few.
            if rng.random() < 0.1:
                keras_vit.from_checkpoint(source, num_heads=4, verbose=0)
            keras_vit.load_checkpoint(model, source, **options)

        size = sum(x.stat().st_size for x in self.inputs.iterdir())
        allowed = (CheckpointError, OSError)
        return self._judge(call, model, kind, allowed, size)

    def write(self, kind, rng):
        """Writes the files of an input to `inputs`."""
        shutil.rmtree(self.inputs, ignore_errors=True)
        self.inputs.mkdir()
        if kind in ("npz", "safetensors", "torch"):
            content = getattr(mutations, f"of_{kind}")(rng, self.good[kind])
            suffix = "pth" if kind == "torch" else kind
            (self.inputs / f"weights.{suffix}").write_bytes(content)
            return
        if kind == "config":
            file = self.inputs / "weights.safetensors"
            file.write_bytes(self.good["config"])
            damaged = rng.choice([*self.json, "config.json"])
            for name, content in self.json.items():
                if name == damaged:
                    content = mutations.of_json(rng, content, list(FACTS))
                (self.inputs / name).write_bytes(content)
            return
        self._write_shards(rng)

    def _write_shards(self, rng):
        from safetensors.numpy import save

        arrays = mutations.arrays_of(self.good["config"])
        where, damaged = {}, rng.choice([None, None, 0, 1, 2])
        for part in range(3):
            own = {key: arrays[key] for key in sorted(arrays)[part::3]}
            name = f"part-{part}.safetensors"
            where |= dict.fromkeys(own, name)
            content = save(own)
            if part == damaged:
                content = mutations.of_safetensors(rng, content)
            (self.inputs / name).write_bytes(content)
        names = [*where.values(), "../a.safetensors", "", "x", 3, None]
        for _ in range(rng.randrange(3)):
            key = mutations.of_name(rng, rng.choice(list(where)), list(where))
            where[key] = rng.choice(names)
        content = json.dumps({"metadata": {}, "weight_map": where}).encode()
        if damaged is None and rng.random() < 0.7:
            names = ["weight_map", "metadata"]
            content = mutations.of_json(rng, content, names)
        file = self.inputs / "weights.safetensors.index.json"
        file.write_bytes(content)

    def _arguments(self, rng):
        """A call with one argument that is most likely wrong."""
        model, data = self.models["npz"], (np.eye(4), np.arange(4) % 2)
        values = [None, True, -1, 0, 2, 5, 2**31, 2**63, 10**30, 1.5]
        values += [float("nan"), float("inf"), "", "x", "\u0666", b"x", [], ()]
        values += [{}, [1], (2, 3), (1, 2, 3), (0, -1), ("a", "b"), [None]]
        value = rng.choice(values)
        text = rng.choice(["B/16", "R50+B/32", "Ti/16", "g-opt/14", "R+Ti/16"])
        text = mutations.of_bytes(rng, text.encode()).decode("latin1")
        good = self.folder / "good.npz"
        option = rng.choice(
            ["image_size", "num_classes", "num_heads", "file_grid", "epsilon"]
            + ["sha256", "preprocessing", "activation"]
        )
        loads = rng.choice(["file_grid", "resize_positions", "sha256"])
        probe = rng.choice([few_shot, nearest_neighbors])
        sizes = rng.choices([-1, 0, 1, 4, 2.5, None, "4", True], k=5)
        return rng.choice(
            [
                lambda: keras_vit.variants.parse_variant(text),
                lambda: keras_vit.variants.parse_variant(value),
                lambda: keras_vit.Variant(*sizes),
                lambda: keras_vit.predict(model, value, verbose=0),
                lambda: (
                    keras_vit.load_checkpoint(model, good, **{loads: value})
                    if value not in (None, [], ())
                    else None
                ),
                lambda: keras_vit.from_checkpoint(
                    good, verbose=0, **{option: value}
                ),
                lambda: keras_vit.load_checkpoint(model, value),
                lambda: probe(None, data, data, num_classes=value),
                lambda: keras_vit.data.check_labels(value, 5),
                lambda: keras_vit.preprocessing.get(value),
            ]
        )

    def _judge(self, call, model, kind, allowed, size):
        error = None
        reset = STATUS.exists() and os.access("/proc/self/clear_refs", os.W_OK)
        if reset:
            pathlib.Path("/proc/self/clear_refs").write_text("5", "utf-8")
            start = _status("VmRSS")
        clock = time.process_time()
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                call()
        except Exception as raised:  # which of them is the question
            error = raised
        seconds = time.process_time() - clock
        memory = max(_status("VmHWM") - start, 0) if reset else 0
        after, before = _values(model), self.before[kind]
        changed = any(a.tobytes() != b.tobytes() for a, b in zip(after, before))
        for weight, value in zip(model.weights, before if changed else ()):
            weight.assign(value)
        fault = None
        if error is not None and not isinstance(error, allowed):
            fault = f"raised {type(error).__name__}: {error}"
        elif error is not None and changed:
            fault = "changed the model"
        elif not all(np.isfinite(x).all() for x in after):
            fault = "let a number in that is not finite"
        elif seconds > MOST_SECONDS:
            fault = f"took {seconds:.1f} s"
        elif memory > MOST_MEMORY + size:
            fault = f"took {memory:,} bytes"
        name = "accepted" if error is None else type(error).__name__
        return Outcome(name, fault, seconds, memory)


def _status(name):
    for line in STATUS.read_text("utf-8").splitlines():
        if line.startswith(name):
            return 1024 * int(line.split()[1])
    return 0


def _of_torch(content):
    import torch

    stream = io.BytesIO()
    arrays = mutations.arrays_of(content)
    torch.save(
        {key: torch.from_numpy(x.copy()) for key, x in arrays.items()}, stream
    )
    return stream.getvalue()
