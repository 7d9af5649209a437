"""What an exported file says of itself, where its format has a place for it.

A file computes, and says neither what its classes are called nor how an image
becomes its input. Statistics of pixels need no place: `PixelNormalization` is
a layer, and so part of what the file computes.
"""

import dataclasses
import json

from keras_vit.anatomy import (
    class_names_of,
    image_data_format,
    last_activation,
    logit_scale_of,
    preprocessing_of,
)
from keras_vit.arguments import spatial
from keras_vit.layers import ClassNames, LogitScale

# Where TensorFlow leaves room for files of others beside a model.
EXTRA = "assets.extra"


def metadata_of(model) -> dict[str, str]:
    """Returns what is worth knowing of a model, each as JSON.

    Args:
        model: a `keras.Model` from images to one output.

    Returns:
        A dict with `image_size`, height and width, `null` where any will do;
        `data_format`; `output`, the activation of the output; and, as far as
        the model has them, `preprocessing`, which says what is done within
        (`mean`, `std`) and what is left to whoever reads an image; `pixels`,
        the range of the input; `class_names`; `logit_scale` and `logit_bias`.
    """
    data_format = image_data_format(model)
    found = {
        "image_size": list(model.input_shape[spatial(data_format)]),
        "data_format": data_format,
        "output": last_activation(model),
    }
    preprocessing = preprocessing_of(model)
    if preprocessing is not None:
        found["pixels"] = [0, 255]
        found["preprocessing"] = dataclasses.asdict(preprocessing)
    names, scale = class_names_of(model), logit_scale_of(model)
    if names is not None:
        found["class_names"] = list(names)
    if scale is not None:
        found |= {"logit_scale": scale.scale, "logit_bias": scale.bias}
    return {
        key: json.dumps(value, ensure_ascii=False)
        for key, value in found.items()
    }


def write_metadata(model, file, format):
    """Writes it into a file that was just exported, if it has a place.

    Args:
        model: the `keras.Model`.
        file: path of the file, or of the folder of a SavedModel.
        format: name of the format, as `export` takes it.
    """
    if format == "onnx":
        _into_onnx(model, file)
    elif format == "saved_model":
        (file / EXTRA).mkdir(exist_ok=True)
        text = json.dumps(metadata_of(model), indent=2, ensure_ascii=False)
        (file / EXTRA / "keras_vit.json").write_text(text, encoding="utf-8")


def _into_onnx(model, file):
    # Comes with each of the converters.
    import onnx

    # Weights beside the file stay where they are.
    proto = onnx.load(str(file), load_external_data=False)
    onnx.helper.set_model_props(proto, metadata_of(model))
    _name_output(proto.graph, _output_name(model))
    onnx.save(proto, str(file))


def _output_name(model):
    """Name of the last layer that computes: `head` rather than its names."""
    kept = (ClassNames, LogitScale)
    layers = [x for x in model.layers if not isinstance(x, kept)]
    return layers[-1].name


def _name_output(graph, name):
    """Calls the output of a graph as Keras does, not after an operation."""
    (output,) = graph.output
    taken = {x for node in graph.node for x in (*node.input, *node.output)}
    taken |= {value.name for value in (*graph.input, *graph.initializer)}
    if name in taken or any(x.name == output.name for x in graph.input):
        return
    for node in graph.node:
        for ends in (node.input, node.output):
            for index, end in enumerate(ends):
                if end == output.name:
                    ends[index] = name
    output.name = name
