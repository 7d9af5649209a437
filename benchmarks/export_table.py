"""Writes export.md: every architecture out to every format, and back.

    python benchmarks/export_table.py            all backends installed
    python benchmarks/export_table.py jax        these, printed only

Each cell is the largest difference between a tiny model and its exported file
run in its own runtime, relative to the largest output where that is above 1;
or why there is none.
"""

import importlib.metadata
import json
import os
import pathlib
import subprocess
import sys
import tempfile

BACKENDS = ("tensorflow", "jax", "torch")
FORMATS = ("saved_model", "onnx", "openvino", "litert", "torch")
PACKAGES = (
    "keras tensorflow-cpu jax torch onnx onnxruntime tf2onnx jax2onnx "
    "onnxscript openvino ai-edge-litert"
).split()
TABLE = pathlib.Path(__file__).with_name("export.md")
MARK = "export-table: "
NOTES = """\
- OpenVINO from JAX goes through ONNX and fails where that does.
- ONNX from JAX: `jax2onnx` writes a maximum pooling for ResNets that ONNX
  Runtime refuses, and has neither ranges of unknown size nor enlargements of
  a batch of unknown size.
- SavedModel from JAX: TensorFlow does not know JAX's operation for `top_k`,
  which sparse attention needs.
- ONNX of ResNet-V2 from TensorFlow and PyTorch: ONNX Runtime merges the zeros
  that are padded into the maximum that follows, which takes them for minus
  infinity; right with its optimisations off.
- PyTorch fixes image sizes; `export` refuses models for any size there.
- For any other pair of format and backend `export` says which backend to use.
"""


def architectures():
    """Functions that build tiny models, by name."""
    import keras_vit
    from keras_vit import layers

    grid = (2, 4)
    small = keras_vit.Variant(2, 16, 32, 4, patch_size=4)
    hybrid = keras_vit.Variant(
        2, 16, 32, 4, patch_size=1, stages=(1, 1), width_factor=0.5
    )

    def vit(variant=small, image_size=(8, 16), **more):
        return lambda: keras_vit.ViT(
            variant, image_size=image_size, num_classes=3, **more
        )

    def attention(make):
        return lambda index: layers.TransformerBlock(
            mlp_dim=32, attention=make()
        )

    def modern(index):
        return layers.TransformerBlock(
            attention=layers.SelfAttention(4, qk_norm=True),
            mlp=layers.MLP(32, activation="swiglu"),
            layer_scale=0.1,
        )

    def resnet(**more):
        size = {"image_size": (16, 32), "num_classes": 3}
        return lambda: keras_vit.ResNet(((1, 1), 0.5), **size, **more)

    def pixels(**more):
        return lambda: keras_vit.segmentation_model(vit()(), 3, **more)

    free = {"position": None}
    average = {"pooling": "average"}
    return {
        "ViT": vit(),
        "exact GELU": vit(activation="gelu"),
        "registers, qk norm, SwiGLU, layer scale": vit(
            num_registers=2, block=modern
        ),
        "average pooling": vit(**average),
        "attention pooling": vit(pooling="attention", representation_dim=8),
        "learned 2-D positions": vit(position="learned_2d"),
        "sine-cosine positions": vit(position="sincos_2d"),
        "any image size": vit(image_size=None),
        "padded images": vit(image_size=(7, 14), remainder="pad"),
        "channels first": vit(data_format="channels_first"),
        "axial blocks": vit(
            block=lambda index: layers.AxialBlock(4, 32, grid), **average
        ),
        "window attention": vit(
            block=attention(lambda: layers.WindowAttention(4, (2, 2), grid)),
            **average,
        ),
        "sparse attention": vit(
            block=attention(lambda: layers.SparseAttention(4, k=5))
        ),
        "relative attention": vit(
            block=attention(lambda: layers.RelativeAttention(4)), **free
        ),
        "rotary attention": vit(
            block=attention(lambda: layers.RotaryAttention(4, grid, 1)), **free
        ),
        "hybrid": vit(hybrid, (16, 32)),
        "ResNet": resnet(),
        "ResNet-V2": resnet(preactivation=True),
        "segmentation, linear": pixels(),
        "segmentation, conv": pixels(decoder="conv", decoder_dim=8),
    }


def measure():
    """Prints a line of JSON for each cell of the backend at hand."""
    import keras
    import numpy as np

    import keras_vit
    from keras_vit.serving.export import PAIRS, RUNTIMES, SUFFIXES

    backend = keras.backend.backend()
    rng = np.random.default_rng(0)
    for name, build in architectures().items():
        model = build()
        for weight in model.weights:
            weight.assign(
                rng.normal(0, 0.2, weight.shape) + (weight.name == "gamma")
            )
        shape = [edge or 16 for edge in model.input_shape[1:]]
        images = rng.uniform(0, 255, (3, *shape)).astype("float32")
        expected = keras_vit.predict(model, images, verbose=0)
        for format in FORMATS:
            if backend not in PAIRS[format]:
                continue
            with tempfile.TemporaryDirectory() as folder:
                path = pathlib.Path(folder, f"model{SUFFIXES[format]}")
                try:
                    keras_vit.export(
                        model, path, format, image_size=16, tolerance=None
                    )
                    run = RUNTIMES[format](path)
                    difference = max(
                        np.abs(run(images[:n]) - expected[:n]).max()
                        for n in (1, 3)
                    ) / max(1, np.abs(expected).max())
                    cell = f"{difference:.1e}"
                    cell = cell if difference <= 1e-5 else f"**{cell}**"
                except Exception as error:
                    error = error.__cause__ or error
                    cell = f"fails: {type(error).__name__}"
            print(MARK + json.dumps([name, format, cell]), flush=True)


def main(backends):
    cells, order = {}, []
    for backend in backends:
        done = subprocess.run(
            [sys.executable, __file__, "--measure"],
            env={**os.environ, "KERAS_BACKEND": backend},
            capture_output=True,
            text=True,
        )
        lines = [
            json.loads(line.removeprefix(MARK))
            for line in done.stdout.splitlines()
            if line.startswith(MARK)
        ]
        if not lines:
            sys.exit(done.stderr)
        for name, format, cell in lines:
            cells[name, format, backend] = cell
            order += [name] if name not in order else []
    columns = [
        (format, backend)
        for format in FORMATS
        for backend in backends
        if any(key[1:] == (format, backend) for key in cells)
    ]
    head = [f"{format}, {backend}" for format, backend in columns]
    rows = [["architecture", *head], ["---"] * (len(head) + 1)]
    for name in order:
        # A crash of the converter ends the process and leaves cells empty.
        rows.append([name, *(cells.get((name, *c), "-") for c in columns)])
    return "\n".join("| " + " | ".join(row) + " |" for row in rows)


def versions():
    for package in PACKAGES:
        try:
            yield f"{package} {importlib.metadata.version(package)}"
        except importlib.metadata.PackageNotFoundError:
            pass


if __name__ == "__main__":
    if "--measure" in sys.argv:
        measure()
    elif sys.argv[1:]:
        print(main(sys.argv[1:]))
    else:
        TABLE.write_text(
            "# Export\n\n"
            "    python benchmarks/export_table.py\n\n"
            "The largest difference between a tiny model and its file in its "
            "own runtime,\nrelative to the largest output where that is above "
            "1, on one image and on three.\n\n"
            f"{main(BACKENDS)}\n\n{NOTES}\n{', '.join(versions())}.\n",
            encoding="utf-8",
        )
