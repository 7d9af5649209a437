"""What google-research/vision_transformer and big_vision call the weights.

Sources: `vit_jax/models_vit.py` and `models_resnet.py`; big_vision's
`models/vit.py`. Both are Flax: the older files count modules in the order in
which they were made, the newer ones by kind.
"""

from keras_vit.checkpoints.formats.official_describe import describe
from keras_vit.checkpoints.formats.roles import CLS_TOKEN, POSITIONS
from keras_vit.checkpoints.rules import PATCHES_HWIO, Format, Rule, dense, norm


def _flax_norm(key, path):
    return norm(key, path, names=("scale", "bias"), separator="/")


def _flax_attention(key, path):
    return (
        *dense(f"{key}/query/", f"{path}/query"),
        *dense(f"{key}/key/", f"{path}/key"),
        *dense(f"{key}/value/", f"{path}/value"),
        *dense(f"{key}/out/", f"{path}/output"),
    )


def _flax_mlp(key, path):
    return (
        *dense(f"{key}/Dense_0/", f"{path}/hidden"),
        *dense(f"{key}/Dense_1/", f"{path}/output"),
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
        *dense("embedding/", "patch_encoder/projection", PATCHES_HWIO),
        *_flax_norm(f"{block}/LayerNorm_0", "block_{i:02d}/attention_norm"),
        *_flax_attention(f"{block}/{attention}", "block_{i:02d}/attention"),
        *_flax_norm(f"{block}/{mlp_norm}", "block_{i:02d}/mlp_norm"),
        *_flax_mlp(f"{block}/{mlp}", "block_{i:02d}/mlp"),
        *_flax_norm("Transformer/encoder_norm", "encoder_norm"),
        *_flax_pooling("MAPHead_0/"),
        *_flax_pooling(""),  # as in early checkpoints of ViT-G
        *dense("pre_logits/", "pre_logits"),
        *dense("head/", "head"),
        *_FLAX_TRUNK,
    )


# The ResNet under a hybrid.
UNIT = ("block{s}/unit{u}/", "stage{s}_unit{u}/")
_FLAX_TRUNK = (
    Rule("conv_root/kernel", ("root_conv/kernel",)),
    *_flax_norm("gn_root", "root_norm"),
    *(
        rule
        for part in ("1", "2", "3", "_proj")
        for rule in (
            Rule(
                f"{UNIT[0]}conv{part}/kernel",
                (f"{UNIT[1]}conv{part}/kernel",),
            ),
            *_flax_norm(f"{UNIT[0]}gn{part}", f"{UNIT[1]}norm{part}"),
        )
    ),
)

# Modules counted in the order in which they were made, as Flax did before
# 2021: every file in gs://vit_models.
PRE_LINEN = Format(
    name="official",
    describe=describe,
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
    describe=describe,
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
