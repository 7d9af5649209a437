"""What vit-pytorch calls the weights of a Vision Transformer.

Source: vit-pytorch 1, `vit.py` and `simple_vit.py`.
"""

from keras_vit.checkpoints.formats.roles import CLS_TOKEN, POSITIONS
from keras_vit.checkpoints.rules import Format, Rule, linear, linear_out, norm


def _vit_pytorch(attention, mlp):
    layer = "transformer.layers.{i}."
    return (
        *norm(f"{layer}{attention[0]}", "block_{i:02d}/attention_norm"),
        *linear(
            f"{layer}{attention[1]}",
            "block_{i:02d}/attention/query",
            "block_{i:02d}/attention/key",
            "block_{i:02d}/attention/value",
        ),
        *linear_out(f"{layer}{attention[2]}", "block_{i:02d}/attention/output"),
        *norm(f"{layer}{mlp[0]}", "block_{i:02d}/mlp_norm"),
        *linear(f"{layer}{mlp[1]}", "block_{i:02d}/mlp/hidden"),
        *linear(f"{layer}{mlp[2]}", "block_{i:02d}/mlp/output"),
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
        *norm("to_patch_embedding.1", "patch_encoder/patch_norm"),
        *linear("to_patch_embedding.1", "patch_encoder/projection"),
        *linear("to_patch_embedding.2", "patch_encoder/projection"),
        *norm("to_patch_embedding.3", "patch_encoder/embedding_norm"),
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
        *norm("transformer.norm", "encoder_norm"),
        *linear("mlp_head", "head"),
        *linear("linear_head", "head"),
        *norm("mlp_head.0", "pooling_norm"),
        *linear("mlp_head.1", "head"),
    ),
)
