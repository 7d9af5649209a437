"""What KerasHub calls the weights of a Vision Transformer.

Source: keras_hub 0.32, `models/vit/vit_backbone.py`, `vit_layers.py` and
`vit_image_classifier.py`. Names in a `.weights.h5` are those of classes: the
first of a list has no number. A task stands in a file of its own.
"""

from keras_vit.checkpoints.description import Description
from keras_vit.checkpoints.evidence import Evidence
from keras_vit.checkpoints.formats.roles import CLS_TOKEN, POSITIONS
from keras_vit.checkpoints.guards import CheckpointError
from keras_vit.checkpoints.rules import PATCHES_HWIO, Format, Rule, dense, norm
from keras_vit.preprocessing import Preprocessing
from keras_vit.variants import Variant

EMBEDDING = "layers/vi_t_patching_and_embedding/"
BLOCKS = "layers/vi_t_encoder/encoder_layers/vi_t_encoder_block"
VARS = ("vars/0", "vars/1")


def describe(evidence: Evidence) -> Description:
    """Returns the `Description` of a `ViTBackbone` or `ViTImageClassifier`."""
    config, task = _configs(evidence)
    *patch, channels, hidden_dim = evidence.shape(
        f"{EMBEDDING}patch_embedding/vars/0"
    )
    numbered = Evidence(
        evidence.path,
        {
            key.replace(f"{BLOCKS}/", f"{BLOCKS}_0/"): shape
            for key, shape in evidence.shapes.items()
        },
    )
    depth = numbered.depth(f"{BLOCKS}_{{i}}/mha/query_dense/vars/0")
    _, heads, _ = evidence.shape(f"{BLOCKS}/mha/query_dense/vars/0")
    mlp_dim = evidence.shape(f"{BLOCKS}/mlp/dense_1/vars/0")[1]
    cls_token = f"{EMBEDDING}vars/0" in evidence
    rows, _ = evidence.shape(f"{EMBEDDING}position_embedding/vars/0")
    size = config.get("image_shape")
    if size is not None:
        size = size[:2] if size[-1] == channels else size[1:]
    grid, _ = evidence.grid(rows, (int(cls_token),), patch, size)

    patch_encoder = {"cls_token": cls_token}
    if f"{EMBEDDING}patch_embedding/vars/1" not in evidence:
        patch_encoder["use_bias"] = False
    biased = f"{BLOCKS}/mha/query_dense/vars/1" in evidence
    pooling = "token" if cls_token else "average"
    if task.get("pooling") == "gap" and cls_token:
        raise CheckpointError(
            f"'{evidence.path}' averages all tokens, the class token among "
            "them (`pooling='gap'` of KerasHub), which no `ViT` does."
        )
    if task.get("pooling") == "token" and not cls_token:
        raise CheckpointError(
            f"'{evidence.path}' has no class token, and its head takes the "
            "first patch (`pooling='token'` of KerasHub): no `ViT` does so."
        )
    if task.get("activation"):
        evidence.notes.append(
            f"The head of '{evidence.path}' ends in {task['activation']!r}: "
            "the model here returns the logits before it."
        )
    last, hidden = "task/layers/dense/vars/1", None
    if "task/layers/dense_1/vars/1" in evidence:
        (hidden,) = evidence.shape(last)
        last = "task/layers/dense_1/vars/1"
    return Description(
        format="KerasHub",
        variant=Variant(depth, hidden_dim, mlp_dim, heads, tuple(patch)),
        image_size=tuple(cells * edge for cells, edge in zip(grid, patch)),
        num_channels=channels,
        num_classes=evidence.shape(last)[0] if last in evidence else None,
        representation_dim=hidden,
        activation=evidence.given.get("activation") or "gelu",
        epsilon=evidence.given.get("epsilon")
        or config.get("layer_norm_epsilon")
        or 1e-6,
        pooling=pooling,
        patch_encoder=patch_encoder,
        attention={} if biased else {"use_bias": False},
        mlp={}
        if f"{BLOCKS}/mlp/dense_1/vars/1" in evidence
        else {"use_bias": False},
        preprocessing=_preprocessing(evidence),
    )


def _configs(evidence):
    """The configuration of the backbone, and that of the task or `{}`."""
    own = _inside(evidence.config)
    if "backbone" in own:
        return _inside(own["backbone"]), own
    return own, {}


def _inside(serialized):
    """The arguments in what Keras writes of an object."""
    config = serialized.get("config") if isinstance(serialized, dict) else None
    return config if isinstance(config, dict) else {}


def _preprocessing(evidence: Evidence) -> Preprocessing:
    """The statistics, of a converter that multiplies and adds."""
    own = _inside(evidence.preprocessor)
    scale, offset = own.get("scale"), own.get("offset")
    if scale is None:
        return evidence.preprocessing()
    scales = _three(scale)
    offsets = _three(offset or 0.0)
    std = [1 / (255 * each) for each in scales]
    mean = [-shift * each for shift, each in zip(offsets, std)]
    return evidence.preprocessing(mean, std)


def _three(value):
    return value if isinstance(value, (list, tuple)) else [value] * 3


def _block(key, block):
    return (
        *norm(f"{key}/layer_norm_1", f"{block}/attention_norm", VARS, "/"),
        *(
            rule
            for part in ("query", "key", "value", "output")
            for rule in dense(
                f"{key}/mha/{part}_dense/",
                f"{block}/attention/{part}",
                names=VARS,
            )
        ),
        *norm(f"{key}/layer_norm_2", f"{block}/mlp_norm", VARS, "/"),
        *dense(f"{key}/mlp/dense_1/", f"{block}/mlp/hidden", names=VARS),
        *dense(f"{key}/mlp/dense_2/", f"{block}/mlp/output", names=VARS),
    )


def _format(name, marker, head):
    return Format(
        name=name,
        describe=describe,
        marker=marker,
        activation="gelu",
        rules=(
            Rule(f"{EMBEDDING}vars/0", (CLS_TOKEN,)),
            Rule(f"{EMBEDDING}position_embedding/vars/0", (POSITIONS,)),
            *dense(
                f"{EMBEDDING}patch_embedding/",
                "patch_encoder/projection",
                PATCHES_HWIO,
                names=VARS,
            ),
            *_block(BLOCKS, "block_00"),
            *_block(f"{BLOCKS}_{{i}}", "block_{i:02d}"),
            *norm("layers/vi_t_encoder/layer_norm", "encoder_norm", VARS, "/"),
            *head,
        ),
    )


_MARKER = f"{BLOCKS}/mha/query_dense/vars/0"
_HEADS = ("task/layers/dense/", "task/layers/dense_1/")
# With a dense layer before the head, that comes first.
KERAS_HUB_HIDDEN = _format(
    "KerasHub with a hidden layer in its head",
    (_MARKER, f"{_HEADS[1]}vars/0"),
    (
        *dense(_HEADS[0], "pre_logits", names=VARS),
        *dense(_HEADS[1], "head", names=VARS),
    ),
)
KERAS_HUB = _format("KerasHub", _MARKER, dense(_HEADS[0], "head", names=VARS))
