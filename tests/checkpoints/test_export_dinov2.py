"""Models with LayerScale leave for transformers as what it calls DINOv2."""

import numpy as np
import pytest
from helpers import to_numpy
from oracles import images, import_oracle, run

import keras_vit
from keras_vit.anatomy import preprocessing_of
from keras_vit.layers import TransformerBlock


def build(width, activation="gelu", **arguments):
    return keras_vit.ViT(
        keras_vit.Variant(2, 24, width, 3, 7),
        **{
            "image_size": 28,
            "num_classes": None,
            "preprocessing": None,
            **arguments,
        },
        block=lambda index: TransformerBlock(
            3, width, activation=activation, layer_scale=1.0
        ),
    )


# transformers: two thirds of four times the width, rounded up to eights.
MLPS = {"gelu": 96, "swiglu": 64}


@pytest.mark.parametrize("registers", [0, 4])
@pytest.mark.parametrize("activation", MLPS)
def test_transformers_opens_an_export(
    activation, registers, rng, tmp_path, randomized
):
    transformers = import_oracle("transformers")
    model = randomized(
        build(MLPS[activation], activation, num_registers=registers)
    )
    keras_vit.export_checkpoint(
        model, tmp_path, format="huggingface", preprocessing="imagenet"
    )
    name = "Dinov2WithRegistersModel" if registers else "Dinov2Model"
    module, report = getattr(transformers, name).from_pretrained(
        tmp_path, output_loading_info=True
    )
    # Pre-training's alone.
    missing = set(report["missing_keys"]) - {"embeddings.mask_token"}
    assert not missing and not report["unexpected_keys"]
    x = images(rng, 28, 28)
    np.testing.assert_allclose(
        model.predict(x, verbose=0),
        run(lambda x: module.eval()(x).pooler_output, x),
        atol=2e-5,
    )
    again = keras_vit.from_checkpoint(tmp_path, verbose=0)
    own, stated = preprocessing_of(again), keras_vit.preprocessing.IMAGENET
    assert (own.mean, own.std) == (stated.mean, stated.std)
    for weight, expected in zip(again.weights, model.weights):
        np.testing.assert_array_equal(to_numpy(weight), to_numpy(expected))


REFUSED = {
    "head": ({"width": 96, "num_classes": 5}, "no place for: head/bias"),
    "pooler": ({"width": 96, "representation_dim": 24}, "pre_logits/bias"),
    "width": ({"width": 40}, "mlp_dim=40 for hidden_dim=24"),
    "gated width": (
        {"width": 60, "activation": "swiglu"}, "mlp_dim=60 for hidden_dim=24"
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", REFUSED)
def test_what_transformers_has_no_place_for_is_refused(case, tmp_path):
    arguments, message = REFUSED[case]
    with pytest.raises(ValueError, match=message):
        keras_vit.export_checkpoint(
            build(**arguments),
            tmp_path / "out",
            "huggingface",
            preprocessing="imagenet",
        )
    assert not list(tmp_path.iterdir())
