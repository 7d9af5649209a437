"""What each library calls the weights of a Vision Transformer: rule tables.

A rule is one row: a key in the file, the weight paths it belongs to, and how
the array is laid out. `{i}` stands for an index, here and there. The tables
read both ways: `checkpoints` loads and exports with them.

Sources: google-research/vision_transformer and big_vision (`models_vit.py`,
`models/vit.py`, `models/bit_paper.py`), timm 1.0 (`vision_transformer.py`),
transformers 5 (ViT, DeiT, DINOv2), vit-pytorch 1 (`vit.py`).
"""

import dataclasses
import re

import numpy as np

# These three stand for one another in many ways (see `tokens`): they have
# roles, where all other weights have paths.
CLS_TOKEN = "patch_encoder/cls_token"
REGISTERS = "patch_encoder/register_tokens"
POSITIONS = "patch_encoder/position_embedding/table"
ROLES = (CLS_TOKEN, REGISTERS, POSITIONS)


@dataclasses.dataclass(frozen=True)
class Layout:
    """How an array in a file holds one or several weights of a model.

    Args:
        shape: function `(shapes of the weights, patch_size) -> shape` of the
            array in the file.
        read: function `(array, shapes of the weights) -> weights`.
        write: function `(weights, patch_size) -> array`.
    """

    shape: object
    read: object
    write: object


def _split(size_of, join):
    """Several weights one after the other on the first axis of the array."""

    def read(array, shapes):
        ends = np.cumsum([size_of(shape) for shape in shapes])
        pieces = np.split(array, ends[:-1])
        return [join(piece, shape) for piece, shape in zip(pieces, shapes)]

    return read


def _kernel_rows(shape):
    return int(np.prod(shape[1:]))


# As it is.
SAME = Layout(
    shape=lambda shapes, patch: shapes[0],
    read=lambda array, shapes: [array.reshape(shapes[0])],
    write=lambda weights, patch: weights[0],
)
# Biases in a row.
FLAT = Layout(
    shape=lambda shapes, patch: (sum(map(_size, shapes)),),
    read=_split(lambda shape: _size(shape), lambda x, shape: x.reshape(shape)),
    write=lambda weights, patch: np.concatenate([w.ravel() for w in weights]),
)
# PyTorch's linear layers `(out, in)`, several on top of one another, from
# kernels `(in, out)` or `(in, heads, head_dim)`.
LINEAR = Layout(
    shape=lambda shapes, patch: (
        sum(map(_kernel_rows, shapes)),
        shapes[0][0],
    ),
    read=_split(_kernel_rows, lambda x, shape: x.T.reshape(shape)),
    write=lambda weights, patch: np.concatenate(
        [w.reshape(w.shape[0], -1).T for w in weights]
    ),
)
# The same for the one kernel with several input axes: `(heads, head_dim, out)`.
LINEAR_OUT = Layout(
    shape=lambda shapes, patch: (shapes[0][-1], _size(shapes[0][:-1])),
    read=lambda array, shapes: [array.T.reshape(shapes[0])],
    write=lambda weights, patch: weights[0].reshape(-1, weights[0].shape[-1]).T,
)
# Convolutions over patches: `(P, P, C, D)` in Flax, `(D, C, P, P)` in PyTorch,
# `(P P C, D)` here.
PATCHES_HWIO = Layout(
    shape=lambda shapes, patch: _hwio(shapes[0], patch),
    read=lambda array, shapes: [array.reshape(shapes[0])],
    write=lambda weights, patch: weights[0].reshape(
        _hwio(weights[0].shape, patch)
    ),
)
PATCHES_OIHW = Layout(
    shape=lambda shapes, patch: tuple(
        _hwio(shapes[0], patch)[axis] for axis in (3, 2, 0, 1)
    ),
    read=lambda array, shapes: [array.transpose(2, 3, 1, 0).reshape(shapes[0])],
    write=lambda weights, patch: (
        weights[0].reshape(_hwio(weights[0].shape, patch)).transpose(3, 2, 0, 1)
    ),
)


def _size(shape):
    return int(np.prod(shape))


def _hwio(shape, patch_size):
    height, width = patch_size
    return (height, width, shape[0] // (height * width), shape[1])


@dataclasses.dataclass(frozen=True)
class Rule:
    """One array of a file and the weights it holds.

    Args:
        key: key in the file, with `{name}` for numbers.
        paths: weight paths, with `{name}` or `{name:02d}` for the same.
        layout: how the array holds the weights.
    """

    key: str
    paths: tuple
    layout: Layout = SAME

    def match(self, key):
        """Returns the weight paths for a key, or `None`."""
        match = re.fullmatch(_pattern(self.key), key)
        if match is None:
            return None
        numbers = {name: int(text) for name, text in match.groupdict().items()}
        return tuple(path.format(**numbers) for path in self.paths)

    def key_for(self, path):
        """Returns the key for the first of the weight paths, or `None`."""
        match = re.fullmatch(_pattern(self.paths[0]), path)
        if match is None:
            return None
        numbers = {name: int(text) for name, text in match.groupdict().items()}
        return self.key.format(**numbers)


def _pattern(template):
    pieces = re.split(r"{(\w+)(?::02d)?}", template)
    pieces[::2] = map(re.escape, pieces[::2])
    pieces[1::2] = [rf"(?P<{name}>\d+)" for name in pieces[1::2]]
    return "".join(pieces)


@dataclasses.dataclass(frozen=True)
class Format:
    """The names of one library.

    Args:
        name: name for messages.
        marker: pattern of a key that this format alone has.
        rules: its rules; of several for one key, the first counts whose
            weights the model has.
        prefixes: what may stand before all keys, the longest first.
        activation: of the MLPs that the library runs these weights with.
        epsilon: of its layer norms.
        unused: pattern of keys that hold nothing a model needs after it was
            trained.
    """

    name: str
    marker: str
    rules: tuple
    prefixes: tuple = ("",)
    activation: str = "gelu_tanh"
    epsilon: float = 1e-6
    unused: str = r"(?!)"


def _dense(key, path, kernel=SAME, bias=SAME, names=("kernel", "bias")):
    """The rules of a dense layer, or of one that holds several of ours."""
    paths = (path,) if isinstance(path, str) else path
    return (
        Rule(f"{key}{names[0]}", tuple(f"{p}/kernel" for p in paths), kernel),
        Rule(f"{key}{names[1]}", tuple(f"{p}/bias" for p in paths), bias),
    )


def _linear(key, *paths):
    return _dense(f"{key}.", paths, LINEAR, FLAT, ("weight", "bias"))


def _linear_out(key, path):
    return _dense(f"{key}.", path, LINEAR_OUT, SAME, ("weight", "bias"))


def _norm(key, path, names=("weight", "bias"), separator="."):
    return (
        Rule(f"{key}{separator}{names[0]}", (f"{path}/gamma",)),
        Rule(f"{key}{separator}{names[1]}", (f"{path}/beta",)),
    )


def _flax_norm(key, path):
    return _norm(key, path, names=("scale", "bias"), separator="/")


def _flax_attention(key, path):
    return (
        *_dense(f"{key}/query/", f"{path}/query"),
        *_dense(f"{key}/key/", f"{path}/key"),
        *_dense(f"{key}/value/", f"{path}/value"),
        *_dense(f"{key}/out/", f"{path}/output"),
    )


def _flax_mlp(key, path):
    return (
        *_dense(f"{key}/Dense_0/", f"{path}/hidden"),
        *_dense(f"{key}/Dense_1/", f"{path}/output"),
    )


def _flax_pooling(key):
    return (
        Rule(f"{key}probe", ("pooling/probe",)),
        *_flax_attention(
            f"{key}MultiHeadDotProductAttention_0", "pooling/attention"
        ),
        *_flax_norm(f"{key}LayerNorm_0", "pooling/norm"),
        *_flax_mlp(f"{key}MlpBlock_0", "pooling/mlp"),
    )


def _flax(attention, mlp_norm, mlp, positions):
    block = "Transformer/encoderblock_{i}"
    return (
        Rule("cls", (CLS_TOKEN,)),
        *(Rule(key, (POSITIONS,)) for key in positions),
        *_dense("embedding/", "patch_encoder/projection", PATCHES_HWIO),
        *_flax_norm(f"{block}/LayerNorm_0", "block_{i:02d}/attention_norm"),
        *_flax_attention(f"{block}/{attention}", "block_{i:02d}/attention"),
        *_flax_norm(f"{block}/{mlp_norm}", "block_{i:02d}/mlp_norm"),
        *_flax_mlp(f"{block}/{mlp}", "block_{i:02d}/mlp"),
        *_flax_norm("Transformer/encoder_norm", "encoder_norm"),
        *_flax_pooling("MAPHead_0/"),
        *_flax_pooling(""),  # as ViT-G had it while it was made
        *_dense("pre_logits/", "pre_logits"),
        *_dense("head/", "head"),
        *_FLAX_TRUNK,
    )


# The ResNet under a hybrid.
_UNIT = ("block{s}/unit{u}/", "stage{s}_unit{u}/")
_FLAX_TRUNK = (
    Rule("conv_root/kernel", ("root_conv/kernel",)),
    *_flax_norm("gn_root", "root_norm"),
    *(
        rule
        for part in ("1", "2", "3", "_proj")
        for rule in (
            Rule(
                f"{_UNIT[0]}conv{part}/kernel",
                (f"{_UNIT[1]}conv{part}/kernel",),
            ),
            *_flax_norm(f"{_UNIT[0]}gn{part}", f"{_UNIT[1]}norm{part}"),
        )
    ),
)

# Modules counted in the order in which they were made, as Flax did before
# 2021: every file in gs://vit_models.
PRE_LINEN = Format(
    name="official",
    marker=r"Transformer/encoderblock(_0)?/LayerNorm_2/scale",
    prefixes=("opt/target/", "params/", ""),
    rules=_flax(
        attention="MultiHeadDotProductAttention_1",
        mlp_norm="LayerNorm_2",
        mlp="MlpBlock_3",
        positions=("Transformer/posembed_input/pos_embedding",),
    ),
)
# Modules counted by kind: the official code and big_vision today.
LINEN = Format(
    name="big_vision",
    marker=r"Transformer/encoderblock(_0)?/LayerNorm_1/scale",
    prefixes=("params/img/", "opt/target/", "params/", ""),
    rules=_flax(
        attention="MultiHeadDotProductAttention_0",
        mlp_norm="LayerNorm_1",
        mlp="MlpBlock_0",
        positions=(
            "pos_embedding",
            "Transformer/posembed_input/pos_embedding",
            "Transformer/pos_embedding",
        ),
    ),
)

# BiT's own `.npz`, with the names of its TensorFlow modules.
_BIT_UNIT = "block{s}/unit{u:02d}/"
BIT = Format(
    name="BiT",
    marker="root_block/standardized_conv2d/kernel",
    prefixes=("resnet/", ""),
    rules=(
        Rule("root_block/standardized_conv2d/kernel", ("root_conv/kernel",)),
        *(
            rule
            for letter, part in (("a", "1"), ("b", "2"), ("c", "3"))
            for rule in (
                Rule(
                    f"{_BIT_UNIT}{letter}/standardized_conv2d/kernel",
                    (f"{_UNIT[1]}conv{part}/kernel",),
                ),
                *_norm(
                    f"{_BIT_UNIT}{letter}/group_norm",
                    f"{_UNIT[1]}norm{part}",
                    names=("gamma", "beta"),
                    separator="/",
                ),
            )
        ),
        Rule(
            f"{_BIT_UNIT}a/proj/standardized_conv2d/kernel",
            (f"{_UNIT[1]}conv_proj/kernel",),
        ),
        *_norm("group_norm", "final_norm", ("gamma", "beta"), "/"),
        *_dense("head/conv2d/", "head"),
    ),
)

TIMM = Format(
    name="timm",
    marker=r"patch_embed\.proj\.weight",
    activation="gelu",
    rules=(
        Rule("cls_token", (CLS_TOKEN,)),
        Rule("reg_token", (REGISTERS,)),
        Rule("dist_token", (REGISTERS,)),
        Rule("pos_embed", (POSITIONS,)),
        *_dense(
            "patch_embed.proj.",
            "patch_encoder/projection",
            PATCHES_OIHW,
            SAME,
            ("weight", "bias"),
        ),
        *_norm("blocks.{i}.norm1", "block_{i:02d}/attention_norm"),
        *_linear(
            "blocks.{i}.attn.qkv",
            "block_{i:02d}/attention/query",
            "block_{i:02d}/attention/key",
            "block_{i:02d}/attention/value",
        ),
        *_norm("blocks.{i}.attn.q_norm", "block_{i:02d}/attention/query_norm"),
        *_norm("blocks.{i}.attn.k_norm", "block_{i:02d}/attention/key_norm"),
        *_linear_out("blocks.{i}.attn.proj", "block_{i:02d}/attention/output"),
        Rule("blocks.{i}.ls1.gamma", ("block_{i:02d}/attention_scale/scale",)),
        *_norm("blocks.{i}.norm2", "block_{i:02d}/mlp_norm"),
        # SwiGLU in one matrix, its gate first; plain; SwiGLU in two.
        *_linear(
            "blocks.{i}.mlp.fc1",
            "block_{i:02d}/mlp/gate",
            "block_{i:02d}/mlp/hidden",
        ),
        *_linear("blocks.{i}.mlp.fc1", "block_{i:02d}/mlp/hidden"),
        *_linear("blocks.{i}.mlp.fc1_g", "block_{i:02d}/mlp/gate"),
        *_linear("blocks.{i}.mlp.fc1_x", "block_{i:02d}/mlp/hidden"),
        *_linear("blocks.{i}.mlp.fc2", "block_{i:02d}/mlp/output"),
        Rule("blocks.{i}.ls2.gamma", ("block_{i:02d}/mlp_scale/scale",)),
        *_norm("norm", "encoder_norm"),
        *_norm("fc_norm", "pooling_norm"),
        Rule("attn_pool.latent", ("pooling/probe",)),
        *_linear("attn_pool.q", "pooling/attention/query"),
        *_linear(
            "attn_pool.kv", "pooling/attention/key", "pooling/attention/value"
        ),
        *_linear_out("attn_pool.proj", "pooling/attention/output"),
        *_norm("attn_pool.norm", "pooling/norm"),
        *_linear("attn_pool.mlp.fc1", "pooling/mlp/hidden"),
        *_linear("attn_pool.mlp.fc2", "pooling/mlp/output"),
        *_linear("head", "head"),
        *_linear("head_dist", "distillation_head"),
    ),
)

_HF_LAYER = "encoder.layer.{i}."
_HF_COMMON = (
    Rule("embeddings.cls_token", (CLS_TOKEN,)),
    Rule("embeddings.distillation_token", (REGISTERS,)),
    Rule("embeddings.register_tokens", (REGISTERS,)),
    Rule("embeddings.position_embeddings", (POSITIONS,)),
    *_dense(
        "embeddings.patch_embeddings.projection.",
        "patch_encoder/projection",
        PATCHES_OIHW,
        SAME,
        ("weight", "bias"),
    ),
    *(
        rule
        for part in ("query", "key", "value")
        for rule in _linear(
            f"{_HF_LAYER}attention.attention.{part}",
            f"block_{{i:02d}}/attention/{part}",
        )
    ),
    *_linear_out(
        f"{_HF_LAYER}attention.output.dense", "block_{i:02d}/attention/output"
    ),
    *_norm("layernorm", "encoder_norm"),
    *_linear("pooler.dense", "pre_logits"),
    *_linear("classifier", "head"),
    *_linear("cls_classifier", "head"),
    *_linear("distillation_classifier", "distillation_head"),
)
HUGGING_FACE = Format(
    name="huggingface",
    marker=r"encoder\.layer\.0\.layernorm_before\.weight",
    prefixes=("vit.", "deit.", ""),
    activation="gelu",
    epsilon=1e-12,
    # What the pre-training by masked images has and nothing else needs.
    unused=r"embeddings\.mask_token",
    rules=(
        *_HF_COMMON,
        *_norm(f"{_HF_LAYER}layernorm_before", "block_{i:02d}/attention_norm"),
        *_norm(f"{_HF_LAYER}layernorm_after", "block_{i:02d}/mlp_norm"),
        *_linear(f"{_HF_LAYER}intermediate.dense", "block_{i:02d}/mlp/hidden"),
        *_linear(f"{_HF_LAYER}output.dense", "block_{i:02d}/mlp/output"),
    ),
)
DINOV2 = Format(
    name="DINOv2",
    marker=r"encoder\.layer\.0\.layer_scale1\.lambda1",
    prefixes=("dinov2_with_registers.", "dinov2.", ""),
    activation="gelu",
    unused=r"embeddings\.mask_token",
    rules=(
        *_HF_COMMON,
        *_norm(f"{_HF_LAYER}norm1", "block_{i:02d}/attention_norm"),
        Rule(
            f"{_HF_LAYER}layer_scale1.lambda1",
            ("block_{i:02d}/attention_scale/scale",),
        ),
        *_norm(f"{_HF_LAYER}norm2", "block_{i:02d}/mlp_norm"),
        *_linear(
            f"{_HF_LAYER}mlp.weights_in",
            "block_{i:02d}/mlp/gate",
            "block_{i:02d}/mlp/hidden",
        ),
        *_linear(f"{_HF_LAYER}mlp.weights_out", "block_{i:02d}/mlp/output"),
        *_linear(f"{_HF_LAYER}mlp.fc1", "block_{i:02d}/mlp/hidden"),
        *_linear(f"{_HF_LAYER}mlp.fc2", "block_{i:02d}/mlp/output"),
        Rule(
            f"{_HF_LAYER}layer_scale2.lambda1",
            ("block_{i:02d}/mlp_scale/scale",),
        ),
    ),
)


def _vit_pytorch(attention, mlp):
    layer = "transformer.layers.{i}."
    return (
        *_norm(f"{layer}{attention[0]}", "block_{i:02d}/attention_norm"),
        *_linear(
            f"{layer}{attention[1]}",
            "block_{i:02d}/attention/query",
            "block_{i:02d}/attention/key",
            "block_{i:02d}/attention/value",
        ),
        *_linear_out(
            f"{layer}{attention[2]}", "block_{i:02d}/attention/output"
        ),
        *_norm(f"{layer}{mlp[0]}", "block_{i:02d}/mlp_norm"),
        *_linear(f"{layer}{mlp[1]}", "block_{i:02d}/mlp/hidden"),
        *_linear(f"{layer}{mlp[2]}", "block_{i:02d}/mlp/output"),
    )


VIT_PYTORCH = Format(
    name="vit-pytorch",
    marker=r"to_patch_embedding\.1\.weight",
    activation="gelu",
    epsilon=1e-5,  # PyTorch's own
    rules=(
        Rule("cls_token", (CLS_TOKEN,)),
        Rule("pos_embedding", (POSITIONS,)),
        # Norm, projection, norm; before 2023 the projection alone.
        *_norm("to_patch_embedding.1", "patch_encoder/patch_norm"),
        *_linear("to_patch_embedding.1", "patch_encoder/projection"),
        *_linear("to_patch_embedding.2", "patch_encoder/projection"),
        *_norm("to_patch_embedding.3", "patch_encoder/embedding_norm"),
        *_vit_pytorch(
            ("0.norm", "0.to_qkv", "0.to_out.0"),
            ("1.net.0", "1.net.1", "1.net.4"),
        ),
        *_vit_pytorch(  # SimpleViT, without dropout
            ("0.norm", "0.to_qkv", "0.to_out"),
            ("1.net.0", "1.net.1", "1.net.3"),
        ),
        *_vit_pytorch(  # until 2023
            ("0.norm", "0.fn.to_qkv", "0.fn.to_out.0"),
            ("1.norm", "1.fn.net.0", "1.fn.net.3"),
        ),
        *_norm("transformer.norm", "encoder_norm"),
        *_linear("mlp_head", "head"),
        *_linear("linear_head", "head"),
        *_norm("mlp_head.0", "pooling_norm"),
        *_linear("mlp_head.1", "head"),
    ),
)

FORMATS = (PRE_LINEN, LINEN, BIT, TIMM, DINOV2, HUGGING_FACE, VIT_PYTORCH)


def recognise(keys):
    """Returns the format and the prefix of a file, from its keys alone.

    Args:
        keys: the keys in the file.

    Returns:
        A `Format` and a string, or `None` if the keys are of none.
    """
    for known in FORMATS:
        for prefix in known.prefixes:
            pattern = re.compile(re.escape(prefix) + known.marker)
            if any(pattern.fullmatch(key) for key in keys):
                return known, prefix
    return None
