"""A file opened for images of another size: each library's own resampling."""

import numpy as np
import pytest
from helpers import outputs_of
from oracles import images, import_oracle, randomize, run

import keras_vit

SIZES = {"hidden_size": 32, "num_hidden_layers": 1, "num_attention_heads": 4}
SIZES |= {"image_size": 64, "patch_size": 8}
KINDS = {
    "ViT": {"intermediate_size": 48},
    "Dinov2": {},
    # Smoothed where the positions shrink, unlike the one above.
    "Dinov2WithRegisters": {"num_register_tokens": 2},
    "CLIPVision": {"intermediate_size": 48},
    "SiglipVision": {"intermediate_size": 48},
}


@pytest.mark.parametrize("edge", [40, 96])
@pytest.mark.parametrize("kind", KINDS)
def test_positions_are_resampled_as_transformers_does(
    kind, edge, rng, tmp_path
):
    transformers = import_oracle("transformers")
    config = getattr(transformers, f"{kind}Config")(**SIZES, **KINDS[kind])
    module = getattr(transformers, f"{kind}Model")(config)
    randomize(module, rng)
    module.save_pretrained(tmp_path)
    model = keras_vit.from_checkpoint(
        tmp_path,
        image_size=edge,
        num_classes=None,
        preprocessing="inception",
        verbose=0,
    )
    x = images(rng, edge, edge)
    options = {} if "Dino" in kind else {"interpolate_pos_encoding": True}
    expected = run(lambda x: module(x, **options).last_hidden_state, x)
    # Towers of CLIP norm the class token behind the sequence they return.
    name = "encoder_norm" if kind != "CLIPVision" else "block_00"
    tokens = keras_vit.feature_extractor(model, name)
    given = outputs_of(tokens, (x + 1) * 127.5)
    np.testing.assert_allclose(
        given, expected, atol=2e-5 * np.abs(expected).max()
    )
