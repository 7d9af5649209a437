"""Outputs of the original implementations, from their own files."""

import dataclasses
import json
import re

import numpy as np
import pytest
from helpers import to_numpy

import keras_vit
from keras_vit.layers import PatchEncoder, TransformerBlock

pytestmark = pytest.mark.reference


@pytest.fixture
def read_case(reference_cases):
    def read(name):
        folder = reference_cases / name
        case = json.loads((folder / "case.json").read_text("utf-8"))
        file = folder / case["files"]["weights"]["file"]
        inputs = np.load(folder / "inputs.npz")["images"]
        return case, file, inputs, dict(np.load(folder / "expected.npz"))

    return read


def check(case, expected, **given):
    for name, output in given.items():
        tolerance = case["expected"][name]
        np.testing.assert_allclose(
            output,
            expected[name],
            atol=tolerance["atol"],
            rtol=tolerance["rtol"],
            err_msg=name,
        )


def variant_of(config):
    transformer = config["transformer"]
    return keras_vit.Variant(
        num_layers=transformer["num_layers"],
        hidden_dim=config["hidden_size"],
        mlp_dim=transformer["mlp_dim"],
        num_heads=transformer["num_heads"],
        patch_size=tuple(config["patches"]["size"]),
    )


def official_model(config, **arguments):
    return keras_vit.ViT(
        variant_of(config),
        image_size=tuple(config["image_hw"]),
        representation_dim=config["representation_size"],
        preprocessing=None,
        **{"num_classes": config["num_classes"], **arguments},
    )


def outputs(model, images, *taps):
    extractor = keras_vit.feature_extractor(model, list(taps))
    return extractor.predict(images, verbose=0)


def test_official_class_token_and_pre_logits(read_case):
    case, file, images, expected = read_case("vit_token_pre_logits")
    model = official_model(case["config"], weights=file)
    taps = outputs(model, images, "encoder_norm", "pre_logits", "head")
    check(
        case,
        expected,
        encoded=taps["encoder_norm"],
        pre_logits=taps["pre_logits"],
        logits=taps["head"],
    )


def test_official_hybrid(read_case):
    """Its ResNet as well; the file has group norms of shape (1, 1, 1, C)."""
    case, file, images, expected = read_case("vit_hybrid")
    config = case["config"]
    model = keras_vit.ViT(
        dataclasses.replace(
            variant_of(config),
            stages=config["resnet"]["num_layers"],
            width_factor=config["resnet"]["width_factor"],
        ),
        image_size=tuple(config["image_hw"]),
        num_classes=config["num_classes"],
        preprocessing=None,
        weights=file,
    )
    names = ["stage1", "stage2", "encoder_norm", "pre_logits", "head"]
    taps = outputs(model, images, *names)
    check(
        case,
        expected,
        stage1=taps["stage1"],
        stage2=taps["stage2"],
        encoded=taps["encoder_norm"],
        pre_logits=taps["pre_logits"],
        logits=taps["head"],
    )


def test_official_checkpoint_at_another_resolution(read_case, reference_cases):
    """A table of 3x3 positions, resampled for 5x5, under a new head."""
    case, file, images, expected = read_case("vit_resize")
    config = case["config"]["model"]
    with pytest.warns(UserWarning, match="starts from zero"):
        model = official_model(config, weights=file)
    head = dict(np.load(reference_cases / "vit_resize" / "new_head.npz"))
    model.get_layer("head").set_weights(
        [head[name] for name in sorted(head, reverse=True)]
    )
    taps = outputs(model, images, "encoder_norm", "pre_logits", "head")
    positions = model.get_layer("patch_encoder").position_embedding
    check(
        case,
        expected,
        encoded=taps["encoder_norm"],
        pre_logits_new=taps["pre_logits"],
        logits_new_head=taps["head"],
        pos_embedding=to_numpy(positions.table)[None],
    )


def resized_on_load(config, file, images):
    return official_model(
        {**config, "image_hw": images.shape[1:3]}, weights=file
    )


def resized_in_the_graph(config, file, images):
    model = official_model(
        {**config, "image_hw": images.shape[1:3]},
        patch_encoder=PatchEncoder(config["hidden_size"], grid_size=3),
    )
    keras_vit.load_checkpoint(model, file)
    return model


def resized_afterwards(config, file, images):
    model = official_model(config, weights=file)
    return keras_vit.change_resolution(model, images.shape[1:3])


@pytest.mark.parametrize(
    "build", [resized_on_load, resized_in_the_graph, resized_afterwards]
)
def test_three_ways_to_another_resolution(build, read_case):
    case, file, images, expected = read_case("vit_resize")
    model = build(case["config"]["checkpoint"], file, images)
    logits = outputs(model, images, "head")["head"]
    check(case, expected, logits_file_head=logits)


def test_timm_with_registers_and_layer_scale(read_case):
    case, file, images, expected = read_case("timm_registers_layerscale")
    config = case["config"]
    dim, heads = config["embed_dim"], config["num_heads"]
    mlp_dim = int(dim * config["mlp_ratio"])

    def block(index):
        return TransformerBlock(
            heads,
            mlp_dim,
            activation="gelu",
            layer_scale=config["init_values"],
        )

    model = keras_vit.ViT(
        keras_vit.Variant(
            config["depth"], dim, mlp_dim, heads, config["patch_size"]
        ),
        image_size=config["img_size"],
        num_classes=config["num_classes"],
        preprocessing=None,
        patch_encoder=PatchEncoder(
            dim,
            num_registers=config["reg_tokens"],
            position_of_cls_token=False,
        ),
        block=block,
        weights=file,
    )
    taps = outputs(model, images, "encoder_norm", "pre_logits", "head")
    check(
        case,
        expected,
        features=taps["encoder_norm"],
        pre_logits=taps["pre_logits"],
        logits=taps["head"],
    )


def test_hugging_face_classifier(read_case):
    """Exact GELU and an epsilon of 1e-12: the second image tells."""
    case, file, images, expected = read_case("transformers_classifier")
    config = case["config"]
    model = keras_vit.ViT(
        keras_vit.Variant(
            config["num_hidden_layers"],
            config["hidden_size"],
            config["intermediate_size"],
            config["num_attention_heads"],
            config["patch_size"],
        ),
        image_size=config["image_size"],
        num_classes=config["num_labels"],
        preprocessing=None,
        weights=file,
    )
    taps = outputs(model, images, "encoder_norm", "head")
    check(
        case,
        expected,
        last_hidden_state=taps["encoder_norm"],
        logits=taps["head"],
    )


COUNTED = [
    "ViT-Ti_16",
    "ViT-S_16",
    "ViT-S_32",
    "ViT-B_16",
    "ViT-B_32",
    "ViT-L_16",
    "ViT-L_32",
    "ViT-H_14",
    "R+ViT-Ti_16",
    "R26+ViT-S_32",
    "R26+ViT-B_32",
    "R50+ViT-B_16",
    "R50+ViT-L_32",
]


@pytest.mark.parametrize("name", COUNTED)
def test_cost_equals_the_official_one(name, reference_cases):
    table = json.loads(
        (reference_cases / "param_counts.json").read_text("utf-8")
    )
    assert sorted(table["models"]) == sorted(COUNTED)
    official = table["models"][name]
    variant = name.replace("ViT-", "").replace("_", "/")
    for image_size, forward in official["forward"].items():
        # 14 does not divide 384: the official convolution crops.
        options = {"image_size": int(image_size), "remainder": "crop"}
        cost = keras_vit.cost(variant, **options)
        assert cost.macs == forward["macs"]
        assert cost.tokens == forward["tokens"]
    for given, counts in official["params"].items():
        # As "224/classes1000" or "224/classes1000/pre_logits768".
        image_size, num_classes, *dim = re.findall(r"\d+", given)
        cost = keras_vit.cost(
            variant,
            int(image_size),
            num_classes=int(num_classes),
            representation_dim=int(dim[0]) if dim else None,
            remainder="crop",
        )
        assert cost.parameters == counts["total"], given
