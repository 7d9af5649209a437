"""Out of Keras: a model as a file that other runtimes serve.

`keras.Model.export` does the writing where it can. It says little about what
it cannot do, and some of what it writes is not a valid file or computes
something else (see benchmarks/export.md), so here every file is run in its own
runtime and compared with the model before it gets its name. Weights for other
libraries are another matter: see `keras_vit.export_checkpoint`.
"""

import importlib.util
import os
import pathlib
import tempfile

import keras
import numpy as np

from keras_vit.arguments import check_choice, check_pair
from keras_vit.extras import absent
from keras_vit.serving.metadata import write_metadata
from keras_vit.serving.running import predict

SUFFIXES = {
    "saved_model": "",
    "onnx": ".onnx",
    "openvino": ".xml",
    "litert": ".tflite",
    "torch": ".pt2",
}
# What writes the file and what runs it, as modules. A pair that is not here
# does not exist.
# fmt: off
PAIRS = {
    "saved_model": {"tensorflow": ("tensorflow",),
                    "jax": ("tensorflow",)},
    "onnx":        {"tensorflow": ("tf2onnx", "onnxruntime"),
                    "jax": ("jax2onnx", "onnxruntime"),
                    "torch": ("onnxscript", "onnxruntime")},
    "openvino":    {"tensorflow": ("openvino",),
                    "jax": ("jax2onnx", "openvino"),
                    "torch": ("openvino",)},
    "litert":      {"tensorflow": ("ai_edge_litert",)},
    "torch":       {"torch": ("torch",)},
}
# fmt: on


def export(
    model: keras.Model,
    path: str | os.PathLike,
    format: str | None = None,
    *,
    image_size: int | tuple[int, int] = 224,
    tolerance: float | None = 1e-4,
) -> pathlib.Path:
    """Writes a model as a file that serves without Keras, and checks it.

    | format | suffix | backends | runtime |
    |---|---|---|---|
    | `"saved_model"` | none: a folder | TensorFlow, JAX | TensorFlow |
    | `"onnx"` | .onnx | all | ONNX Runtime |
    | `"openvino"` | .xml, with a .bin | all | OpenVINO |
    | `"litert"` | .tflite | TensorFlow | LiteRT |
    | `"torch"` | .pt2 | PyTorch | PyTorch |

    The file takes batches of any number of images. It is run on one image and
    on three, of random pixels, and must compute what the model does; only
    then does it replace a file of that name. OpenVINO is asked for float32:
    by itself it may compute in bfloat16, which moves logits by a hundredth.

    Statistics of pixels are within: the file takes pixels in [0, 255], as the
    model does. Size, advice on resizing and names of classes are written as
    JSON where there is a place: into `metadata_props` of ONNX, and into
    `assets.extra/keras_vit.json` of a SavedModel.

    Args:
        model: a `keras.Model` from one input to one output.
        path: file to write, or folder for a SavedModel.
        format: a format of the table. Defaults to the one of the suffix.
        image_size: height and width, an int or a pair, of the images that the
            check runs on, of a model for any size.
        tolerance: largest difference of an output that passes, relative to
            the largest output where that is above 1; or `None` to write the
            file unchecked.

    Returns:
        The path.

    Raises:
        ValueError: if the backend at hand cannot write the format, if the
            converter fails, or if the file does not compute what the model
            does.
        ImportError: if the converter or the runtime is not installed.

    Example:

    ```python
    model = keras_vit.from_checkpoint("hf://google/vit-base-patch16-224")
    keras_vit.export(model, "vit.onnx")

    session = onnxruntime.InferenceSession("vit.onnx")
    logits = session.run(None, {"images": images})[0]
    metadata = session.get_modelmeta().custom_metadata_map
    class_names = json.loads(metadata["class_names"])
    ```
    """
    path = pathlib.Path(path)
    format = _check_format(format, path)
    backend = keras.backend.backend()
    _check_pair(format, backend)
    any_size = None in model.input_shape[1:]
    if any_size and backend == "torch":
        raise ValueError(
            "Under PyTorch only models for images of one size can be "
            "exported; see `keras_vit.change_resolution`. Received: "
            f"'{model.name}' for images of shape {model.input_shape}"
        )
    path.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=path.parent) as folder:
        file = pathlib.Path(folder) / "new" / path.name
        file.parent.mkdir()
        images, outputs = _images_and_outputs(model, image_size)
        what = f"'{model.name}' as {format} from {backend}"
        try:
            _write(model, file, format, backend)
            write_metadata(model, file, format)
        except Exception as error:
            # Converters raise anything, and from deep inside.
            raise ValueError(f"Cannot write {what}: {error}") from error
        if tolerance is not None:
            _check_outputs(what, format, file, images, outputs, tolerance)
        _move(file, path)
    return path


def _check_format(format, path):
    suffix = path.suffix.lower()
    if format is None:
        known = {suffix: name for name, suffix in SUFFIXES.items()}
        format = known.get(suffix, "saved_model")
    check_choice("format", format, SUFFIXES)
    if format != "saved_model" and suffix != SUFFIXES[format]:
        raise ValueError(
            f"A file of `format={format!r}` must end in {SUFFIXES[format]}. "
            f"Received: path={str(path)!r}"
        )
    return format


def _check_pair(format, backend):
    backends = PAIRS[format]
    if backend not in backends:
        others = " or ".join(f"KERAS_BACKEND={name}" for name in backends)
        raise ValueError(
            f"`format={format!r}` cannot be written by this backend. Save the "
            "model, `model.save('model.keras')`, and export it in a process "
            f"with {others}; its outputs are the same there. Received: "
            f"backend={backend!r}"
        )
    for module in backends[backend]:
        if importlib.util.find_spec(module) is None:
            needs = f"`format={format!r}` on {backend} needs {module}"
            raise absent(module, "export", needs)


def _write(model, file, format, backend):
    common = {"verbose": False}
    if format == "saved_model":
        format = "tf_saved_model"
    elif format == "onnx":
        if backend == "torch":
            return _write_onnx_by_torch(model, file)
        if backend == "tensorflow":
            _teach_tf2onnx()
        # What Keras finds by itself, but only of a model that was called.
        (images,) = model.inputs
        common["input_signature"] = [
            keras.InputSpec(
                shape=images.shape, dtype=images.dtype, name=images.name
            )
        ]
    elif format == "openvino" and backend == "jax":
        return _write_openvino_by_onnx(model, file)
    elif format == "torch":
        import torch

        common["dynamic_shapes"] = {0: torch.export.Dim("batch")}
    return model.export(str(file), format=format, **common)


def _write_onnx_by_torch(model, file):
    """Keras' own export fixes the batch, or fails at a layer norm."""
    import torch

    # A batch of one would be taken for a constant.
    images = torch.zeros(2, *model.input_shape[1:], device="cpu")
    program = torch.onnx.export(
        model,
        (images,),
        # Keras' modules take their arguments in a tuple.
        dynamic_shapes=(({0: torch.export.Dim("batch")},),),
        input_names=[model.inputs[0].name],
        dynamo=True,
        verbose=False,
    )
    program.save(str(file))


def _write_openvino_by_onnx(model, file):
    """OpenVINO does not read the graphs of JAX; ONNX lies between."""
    import openvino

    between = file.with_suffix(".onnx")
    _write(model, between, "onnx", "jax")
    openvino.save_model(
        openvino.convert_model(str(between)), str(file), compress_to_fp16=False
    )
    between.unlink()


def _teach_tf2onnx():
    """TensorFlow's exact GELU has an operation that ONNX lacks: `1 - erf`."""
    from tf2onnx.handler import tf_op

    @tf_op("Erfc")
    class Erfc:
        @classmethod
        def version_9(cls, graph, node, **kwargs):
            shapes, dtypes = node.output_shapes, node.output_dtypes
            one = graph.make_const(
                f"{node.name}_one", np.ones((), "float32")
            ).output[0]
            erf = graph.make_node("Erf", node.input).output[0]
            graph.remove_node(node.name)
            graph.make_node(
                "Sub",
                [one, erf],
                outputs=node.output,
                name=node.name,
                shapes=shapes,
                dtypes=dtypes,
            )


def _images_and_outputs(model, image_size):
    sizes = iter(check_pair("image_size", image_size))
    shape = [next(sizes) if n is None else n for n in model.input_shape[1:]]
    images = np.random.default_rng(0).uniform(0, 255, (3, *shape))
    images = images.astype("float32")
    return images, predict(model, images, verbose=0)


def _check_outputs(what, format, file, images, expected, tolerance):
    """Raises unless the file computes what the model does, in any batch."""
    scale = max(1, np.abs(expected).max())
    try:
        run = RUNTIMES[format](file)
        outputs = [run(images[:rows]) for rows in (1, 3)]
    except Exception as error:
        raise ValueError(f"Not kept, does not run: {what}: {error}") from error
    for x in outputs:
        error = np.inf
        if x.shape == expected[: len(x)].shape:
            error = np.abs(x - expected[: len(x)]).max() / scale
        # Not `error > tolerance`, which NaN would pass.
        if not error <= tolerance:
            raise ValueError(
                f"Not kept, computes something else: {what}: outputs of "
                f"{len(x)} images differ by {error:.1e}. "
                f"Received: tolerance={tolerance}"
            )


def _run_saved_model(path):
    import tensorflow as tf

    loaded = tf.saved_model.load(str(path))
    # In the closure, or its variables would go.
    return lambda images: loaded.serve(images).numpy()


def _run_onnx(path):
    import onnxruntime

    session = onnxruntime.InferenceSession(str(path))
    (images_input,) = session.get_inputs()
    return lambda images: session.run(None, {images_input.name: images})[0]


def _run_openvino(path):
    import openvino

    hints = {"INFERENCE_PRECISION_HINT": "f32"}
    compiled = openvino.Core().compile_model(str(path), "CPU", hints)
    return lambda images: compiled([images])[0]


def _run_litert(path):
    from ai_edge_litert.interpreter import Interpreter

    interpreter = Interpreter(model_path=str(path))
    (takes,), (gives,) = (
        interpreter.get_input_details(),
        interpreter.get_output_details(),
    )

    def run(images):
        interpreter.resize_tensor_input(takes["index"], images.shape)
        interpreter.allocate_tensors()
        interpreter.set_tensor(takes["index"], images)
        interpreter.invoke()
        return interpreter.get_tensor(gives["index"])

    return run


def _run_torch(path):
    import torch

    program = torch.export.load(str(path)).module()
    return lambda images: program(torch.tensor(images)).numpy(force=True)


# How to load a file, giving a function from images to outputs in NumPy.
RUNTIMES = {
    "saved_model": _run_saved_model,
    "onnx": _run_onnx,
    "openvino": _run_openvino,
    "litert": _run_litert,
    "torch": _run_torch,
}


def _move(file, path):
    """Gives a file, and what lies beside it, the place of an older one."""
    if path.is_dir():
        # A folder that is not empty cannot be replaced in one step.
        os.replace(path, file.parent.parent / "old")
    beside = [other for other in file.parent.iterdir() if other != file]
    for new in (*beside, file):  # weights before what refers to them
        os.replace(new, path.parent / new.name)
