"""What joins a tower of images to one of texts, in a file of both.

The projection to the embedding that is compared, and the scale and the bias of
the comparison. Sources: transformers 5, `CLIPModel`, `SiglipModel`; open_clip
2, `model.py`; big_vision, `models/proj/image_text/two_towers.py`.
"""

import dataclasses
import math

import numpy as np

from keras_vit.checkpoints.containers import open_weights
from keras_vit.checkpoints.guards import CheckpointError

# Key of the projection, and whether it is PyTorch's linear layer, `(out, in)`.
PROJECTIONS = {
    "visual_projection.weight": True,
    "visual.head.proj.weight": True,
    "visual.proj": False,
}
SCALES = ("logit_scale", "params/t")
BIASES = ("logit_bias", "params/b")
# The formats whose model returns what the projection takes.
FORMATS = (
    "CLIP of transformers",
    "SigLIP of transformers",
    "SigLIP2 of transformers",
    "open_clip",
    "open_clip with a tower of timm",
    "big_vision",
)


@dataclasses.dataclass(frozen=True)
class Joint:
    """How an image and a text are compared.

    Args:
        kernel: projection of the representation, an array of shape
            `(hidden_dim, dim)`, or `None` for none.
        scale: factor of the cosine, or `None` if the file does not say.
        bias: what is added.
    """

    kernel: np.ndarray | None
    scale: float | None
    bias: float = 0.0

    def __str__(self):
        found = []
        if self.kernel is not None:
            found.append(f"a projection to {self.kernel.shape[1]} numbers")
        if self.scale is not None:
            found.append(
                f"logits of {self.scale:.4g} * cosine + {self.bias:.4g}"
            )
        return f"# then {', '.join(found)}"


def read_joint(checkpoint) -> Joint:
    """Reads what joins the towers.

    Args:
        checkpoint: a `Checkpoint`.

    Raises:
        CheckpointError: if the file has nothing that joins two towers, or one
            of a kind that is not known here.
    """
    form = checkpoint.format().name
    with open_weights(checkpoint.path) as arrays:
        kernel = _find(arrays, PROJECTIONS)
        scale, bias = _find(arrays, SCALES), _find(arrays, BIASES)
        if kernel is None and scale is None:
            raise CheckpointError(
                f"'{checkpoint.path}' is of no network of images and texts: it "
                f"has none of {', '.join((*PROJECTIONS, *SCALES))}. Leave out "
                "`embedding=True`."
            )
        if form not in FORMATS or _find(
            arrays, ("visual.head.mlp.fc1.weight",)
        ):
            raise CheckpointError(
                f"'{checkpoint.path}' (format: {form}) has another way from "
                "the image to the embedding than a projection of what its "
                "model returns: not read here."
            )

        def array(key):
            arrays.check(key)
            return arrays.read(key).astype("float32")

        def number(key):
            values = np.ravel(array(key))
            if len(values) != 1:
                raise CheckpointError(
                    f"'{checkpoint.path}': {key} must be one number. Received: "
                    f"{len(values)}"
                )
            return float(values[0])

        if kernel is not None:
            of_torch = next(x for k, x in PROJECTIONS.items() if _is(kernel, k))
            kernel = array(kernel).T if of_torch else array(kernel)
        return Joint(
            kernel,
            None if scale is None else math.exp(number(scale)),
            0.0 if bias is None else number(bias),
        )


def _find(arrays, names):
    """The key of a file that is one of some names, or ends in it."""
    return next(
        (key for name in names for key in arrays.shapes if _is(key, name)), None
    )


def _is(key, name):
    return key == name or key.endswith(f".{name}")
