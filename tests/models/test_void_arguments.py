"""An argument of `ViT` that nothing would read is refused, by name."""

import keras
import pytest

import keras_vit
from keras_vit.layers import PatchEncoder, TransformerBlock

VARIANT = keras_vit.Variant(2, 16, 32, 4, patch_size=4)


def build(**arguments):
    return keras_vit.ViT(
        VARIANT, **{"image_size": 8, "num_classes": 3, **arguments}
    )


def block(index):
    return TransformerBlock(4, 32)


@pytest.mark.parametrize(
    "void, value, beside",
    [
        ("dropout", 0.3, {"block": block}),
        ("stochastic_depth", 0.5, {"block": block}),
        ("activation", "gelu", {"block": block}),
        ("position", "relative_1d", {"block": block}),
        ("position", "sincos_2d", {"patch_encoder": PatchEncoder(16)}),
        ("num_registers", 4, {"patch_encoder": PatchEncoder(16)}),
        ("position_injection", "every_layer", {"position": None}),
        ("position_injection", "every_layer", {"position": "relative_1d"}),
        ("head_bias", -2.0, {"num_classes": None}),
        ("classifier_activation", "softmax", {"num_classes": None}),
        ("drop_pre_logits", True, {}),
    ],
)
def test_refused(void, value, beside):
    with pytest.raises(ValueError, match=f"`{void}` must not.*: {void}="):
        build(**{**beside, void: value})


def test_what_is_read_after_all_is_taken():
    encoder = PatchEncoder(16, position=None)
    model = build(
        patch_encoder=encoder, position_injection="every_layer", dropout=0.1
    )
    assert model.get_layer("block_00_positions").kind == "learned_1d"
    assert model.get_layer("block_01").dropout == 0.1
    model = build(block=block, pooling="attention", activation="gelu")
    assert model.get_layer("pooling").mlp.activation == "gelu"


def test_a_patch_is_not_taken_for_the_class_token():
    with pytest.raises(ValueError, match="`pooling='token'`.*cls_token=True"):
        build(patch_encoder=PatchEncoder(16, cls_token=False))
    for pooling in ("average", keras.layers.GlobalAveragePooling1D()):
        encoder = PatchEncoder(16, cls_token=False)
        model = build(patch_encoder=encoder, pooling=pooling)
        assert model.output_shape == (None, 3)


def test_all_positions_are_named():
    with pytest.raises(ValueError, match="`position`.*'relative_1d'"):
        build(position="learned")
    with pytest.raises(ValueError, match="`position`.*'relative_1d'"):
        build(position="learned", position_injection="every_layer")
