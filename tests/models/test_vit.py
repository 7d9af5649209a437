"""`ViT` as a model: taps, options, errors."""

import json

import keras
import numpy as np
import pytest
from helpers import EAGER, to_numpy

import keras_vit


def test_taps_have_the_documented_names_and_shapes(tiny_vit):
    model = tiny_vit(representation_dim=6)
    shapes = {layer.name: layer.output.shape[1:] for layer in model.layers}
    assert shapes == {
        "images": (8, 12, 3),
        "rescaling": (8, 12, 3),
        "patches": (2, 3, 48),
        "patch_encoder": (7, 16),
        "block_00": (7, 16),
        "block_01": (7, 16),
        "encoder_norm": (7, 16),
        "pooling": (16,),
        "pre_logits": (6,),
        "head": (5,),
    }


def test_pre_logits_are_there_without_a_layer_of_their_own(tiny_vit):
    model = tiny_vit()
    taps = keras_vit.feature_extractor(model, ["pooling", "pre_logits"])
    outputs = taps.predict(np.ones((1, 8, 12, 3)), verbose=0)
    np.testing.assert_array_equal(outputs["pooling"], outputs["pre_logits"])


def test_feature_extractor_is_part_of_the_model(tiny_vit, rng):
    model = tiny_vit()
    images = rng.uniform(0, 255, (2, 8, 12, 3)).astype("float32")
    tokens = keras_vit.feature_extractor(model, "block_00")(images)
    for name in ("block_01", "encoder_norm", "pooling", "pre_logits", "head"):
        tokens = model.get_layer(name)(tokens)
    np.testing.assert_allclose(
        to_numpy(tokens), to_numpy(model(images)), atol=1e-6
    )
    with pytest.raises(ValueError, match="block_00, block_01.*'block_07'"):
        keras_vit.feature_extractor(model, "block_07")


def test_weight_paths_are_those_documented(tiny_vit):
    paths = {weight.path for weight in tiny_vit().weights}
    for path in (
        "patch_encoder/projection/kernel",
        "patch_encoder/cls_token",
        "patch_encoder/position_embedding/table",
        "block_00/attention_norm/gamma",
        "block_00/attention/query/kernel",
        "block_00/attention/output/bias",
        "block_01/mlp/hidden/kernel",
        "block_01/mlp/output/bias",
        "encoder_norm/beta",
        "head/kernel",
    ):
        assert path in paths


def test_a_new_head_is_zero_but_for_its_bias():
    variant = keras_vit.Variant(1, 8, 16, 2, 4)
    model = keras_vit.ViT(variant, image_size=8, num_classes=3, head_bias=-6.9)
    logits = model.predict(np.ones((2, 8, 8, 3)), verbose=0)
    np.testing.assert_allclose(logits, np.full((2, 3), -6.9), rtol=1e-6)


def test_no_head(tiny_vit):
    model = tiny_vit(num_classes=None)
    assert model.output_shape == (None, 16)
    assert model.layers[-1].name == "pre_logits"


def test_classifier_activation(tiny_vit, rng):
    model = tiny_vit(classifier_activation="softmax")
    probabilities = model.predict(rng.normal(size=(2, 8, 12, 3)), verbose=0)
    np.testing.assert_allclose(probabilities.sum(-1), 1, rtol=1e-6)


def test_rescaling_takes_pixels_to_minus_one_and_one(tiny_vit):
    model = tiny_vit()
    pixels = np.array([0, 127.5, 255]).reshape(1, 1, 1, 3)
    pixels = np.broadcast_to(pixels, (1, 8, 12, 3))
    scaled = keras_vit.feature_extractor(model, "rescaling")(pixels)
    np.testing.assert_allclose(to_numpy(scaled)[0, 0, 0], [-1, 0, 1], atol=1e-6)
    plain = tiny_vit(preprocessing=None)
    plain.set_weights(model.get_weights())
    np.testing.assert_allclose(
        plain.predict(pixels / 127.5 - 1, verbose=0),
        model.predict(pixels, verbose=0),
        atol=1e-6,
    )


@pytest.mark.parametrize(
    "pooling, shape",
    [
        ("token", (None, 5)),
        ("average", (None, 5)),
        ("attention", (None, 5)),
        ("flatten", (None, 5)),
        (None, (None, 6, 5)),
    ],
)
def test_poolings_train(pooling, shape, tiny_vit, rng):
    model = tiny_vit(pooling=pooling)
    assert model.output_shape == shape
    images = rng.uniform(0, 255, (4, 8, 12, 3))
    targets = rng.normal(size=(4, *shape[1:]))
    model.compile("sgd", "mse", **EAGER)
    assert np.isfinite(model.train_on_batch(images, targets))


@pytest.mark.parametrize(
    "arguments",
    [
        {"position": "learned_2d"},
        {"position": "sincos_2d", "pooling": "average"},
        {"position": None},
        {"num_registers": 3},
        {"num_registers": 3, "pooling": "average"},
        {"activation": "swiglu"},
        {"activation": "gelu", "epsilon": 1e-12},
        {"dropout": 0.1, "stochastic_depth": 0.2},
        {"num_channels": 1},
        {"remainder": "pad", "image_size": (7, 9)},
        {"remainder": "crop", "image_size": (11, 9)},
    ],
    ids=str,
)
def test_options_survive_saving(arguments, tiny_vit, rng, tmp_path):
    """Config to JSON and back, `.keras`, `.weights.h5`: faults case 25."""
    model = tiny_vit(**arguments)
    images = rng.uniform(0, 255, (2, *model.input_shape[1:])).astype("float32")
    expected = model.predict(images, verbose=0)

    model.save(tmp_path / "model.keras")
    loaded = keras.models.load_model(tmp_path / "model.keras")
    np.testing.assert_array_equal(loaded.predict(images, verbose=0), expected)

    config = json.loads(json.dumps(model.get_config()))
    twin = keras.Model.from_config(config)
    model.save_weights(tmp_path / "model.weights.h5")
    twin.load_weights(tmp_path / "model.weights.h5")
    np.testing.assert_array_equal(twin.predict(images, verbose=0), expected)


def test_every_trainable_weight_gets_a_gradient(tiny_vit, rng):
    """Faults case 36; the key bias is the known exception."""
    model = tiny_vit(num_registers=1, representation_dim=6)
    before = [to_numpy(w).copy() for w in model.trainable_weights]
    model.compile(keras.optimizers.SGD(1.0), "mse", **EAGER)
    images = rng.uniform(0, 255, (8, 8, 12, 3))
    model.train_on_batch(images, rng.normal(size=(8, 5)))
    for weight, old in zip(model.trainable_weights, before):
        if not weight.path.endswith("attention/key/bias"):
            assert (to_numpy(weight) != old).any(), weight.path


def test_stochastic_depth_rises_linearly():
    variant = keras_vit.Variant(5, 8, 16, 2, 4)
    model = keras_vit.ViT(variant, image_size=8, stochastic_depth=0.2)
    rates = [
        model.get_layer(f"block_{i:02d}").stochastic_depth for i in range(5)
    ]
    np.testing.assert_allclose(rates, [0, 0.05, 0.1, 0.15, 0.2])


def test_block_and_patch_encoder_come_in_by_composition(rng, tmp_path):
    variant = keras_vit.Variant(2, 16, 32, 4, patch_size=4)

    def block(index):
        return keras_vit.layers.TransformerBlock(
            attention=keras_vit.layers.SelfAttention(2, qk_norm=True),
            mlp=keras_vit.layers.MLP(8 * (index + 1), activation="swiglu"),
            layer_scale=0.1,
        )

    model = keras_vit.ViT(
        variant,
        image_size=8,
        num_classes=3,
        block=block,
        patch_encoder=keras_vit.layers.PatchEncoder(16, norm_after=True),
    )
    assert model.get_layer("block_01").mlp.mlp_dim == 16
    model.save(tmp_path / "model.keras")
    loaded = keras.models.load_model(tmp_path / "model.keras")
    assert [w.path for w in loaded.weights] == [w.path for w in model.weights]

    layer = block(0)
    with pytest.raises(ValueError, match="'block_01' must be new"):
        keras_vit.ViT(variant, image_size=8, block=lambda index: layer)


def test_images_of_any_size(tiny_vit, rng):
    """Faults case 31: three sizes in `predict` and in `fit`."""
    model = tiny_vit(image_size=None)
    model.compile("sgd", "mse", **EAGER)
    assert model.input_shape == (None, None, None, 3)
    for height, width in [(8, 12), (16, 4), (40, 24)]:
        images = rng.uniform(0, 255, (2, height, width, 3))
        assert model.predict(images, verbose=0).shape == (2, 5)
        model.fit(images, np.zeros((2, 5)), verbose=0)


def test_any_size_equals_the_fixed_size_at_its_own_size(tiny_vit, rng):
    images = rng.uniform(0, 255, (1, 224, 224, 3))
    free = tiny_vit(image_size=None)
    fixed = tiny_vit(image_size=224)
    fixed.set_weights(free.get_weights())
    np.testing.assert_allclose(
        free.predict(images, verbose=0),
        fixed.predict(images, verbose=0),
        atol=1e-5,
    )


@pytest.mark.parametrize("policy", ["mixed_bfloat16", "mixed_float16"])
def test_mixed_precision_trains_and_gives_float32_logits(policy, tiny_vit, rng):
    """Faults case 35."""
    model = tiny_vit(dtype=policy)
    assert {w.dtype for w in model.trainable_weights} == {"float32"}
    images = rng.uniform(0, 255, (4, 8, 12, 3))
    logits = model(images)
    assert keras.backend.standardize_dtype(logits.dtype) == "float32"
    model.compile(**keras_vit.recipes.adamw(4, warmup_steps=0), **EAGER)
    history = model.fit(images, np.arange(4), epochs=4, verbose=0).history
    assert np.isfinite(history["loss"]).all()
    assert history["loss"][-1] < history["loss"][0]


@pytest.mark.parametrize("policy", ["bfloat16", "float16"])
def test_pure_half_precision_warns_but_predicts(policy, rng):
    variant = keras_vit.Variant(1, 8, 16, 2, 4)
    with pytest.warns(UserWarning, match=f"mixed_{policy}"):
        model = keras_vit.ViT(variant, image_size=8, dtype=policy)
    logits = model(rng.uniform(0, 255, (2, 8, 8, 3)))
    assert keras.backend.standardize_dtype(logits.dtype) == "float32"


def test_global_dtype_policy_is_honoured():
    keras.config.set_dtype_policy("mixed_bfloat16")
    model = keras_vit.ViT(keras_vit.Variant(1, 8, 16, 2, 4), image_size=8)
    assert model.get_layer("block_00").compute_dtype == "bfloat16"
    assert model.get_layer("head").compute_dtype == "float32"


@pytest.mark.parametrize("channels", [1, 3, 4])
@pytest.mark.parametrize("dtype", ["uint8", "float16", "float64", "bool"])
def test_channels_and_dtypes_of_images(channels, dtype, tiny_vit, rng):
    """Faults case 32: same pixels, same logits."""
    model = tiny_vit(num_channels=channels)
    pixels = rng.integers(0, 2, (2, 8, 12, channels))
    np.testing.assert_allclose(
        model.predict(pixels.astype(dtype), verbose=0),
        model.predict(pixels.astype("float32"), verbose=0),
        atol=1e-6,
    )


def test_channels_first_gives_the_same_logits(tiny_vit, rng):
    images = rng.uniform(0, 255, (2, 8, 12, 3)).astype("float32")
    model = tiny_vit()
    first = tiny_vit(data_format="channels_first")
    assert first.input_shape == (None, 3, 8, 12)
    first.set_weights(model.get_weights())
    np.testing.assert_allclose(
        first.predict(images.transpose(0, 3, 1, 2), verbose=0),
        model.predict(images, verbose=0),
        atol=1e-6,
    )


def test_remat_scope_trains_to_the_same_weights(tiny_vit, rng):
    images = rng.uniform(0, 255, (4, 8, 12, 3))
    results = []
    for mode in (None, "full"):
        with keras.RematScope(mode=mode):
            model = tiny_vit(dropout=0.0)
        if results:
            model.set_weights(results[0][0])
        start = model.get_weights()
        model.compile(keras.optimizers.SGD(0.1), "mse")
        model.train_on_batch(images, np.ones((4, 5)))
        results.append((start, model.get_weights()))
    for expected, given in zip(results[0][1], results[1][1]):
        np.testing.assert_allclose(given, expected, atol=1e-5)


def test_without_remat_scope_layers_are_called_as_they_are(tiny_vit):
    """Also parts, which are made in a scope that says "not you"."""
    block = tiny_vit().get_layer("block_00")
    for layer in (block, block.attention, block.mlp):
        if layer._remat_mode is not None:
            call = layer.call
            assert layer.rematerialized_call(call) is call


BAD_ARGUMENTS = [
    ({"variant": "Q/16"}, "Known sizes: mu, Ti, S, M, B, L, So400m, H, g"),
    ({"variant": "B16"}, "variant='B16'"),
    ({"variant": "B/x"}, "variant='B/x'"),
    ({"variant": "B/0"}, "patch_size=0"),
    ({"image_size": 30}, "height=30; the nearest legal sizes are 16 and 32"),
    ({"image_size": (0, 16)}, "image_size=0"),
    ({"image_size": "big"}, "image_size='big'"),
    ({"num_channels": 0}, "num_channels=0"),
    ({"num_classes": -1}, "num_classes=-1"),
    ({"pooling": "gap"}, "pooling='gap'"),
    ({"position": "rope"}, "position='rope'"),
    ({"representation_dim": 0}, "representation_dim=0"),
    ({"dropout": 1.0}, "dropout=1.0"),
    ({"stochastic_depth": -0.1}, "stochastic_depth=-0.1"),
    ({"activation": "nonsense"}, "activation='nonsense'"),
    ({"epsilon": 0}, "epsilon=0"),
    ({"remainder": "drop"}, "remainder='drop'"),
    ({"data_format": "last"}, "data_format='last'"),
    ({"image_size": None, "pooling": "flatten"}, "image_size=None"),
]


@pytest.mark.parametrize("arguments, message", BAD_ARGUMENTS, ids=str)
def test_bad_arguments_are_refused_by_name(arguments, message):
    arguments = {"variant": "Ti/16", "image_size": 32, **arguments}
    with pytest.raises(ValueError) as error:
        keras_vit.ViT(**arguments)
    assert "Received: " in str(error.value)
    assert message in str(error.value)


def test_bad_variants_are_refused_by_name():
    with pytest.raises(ValueError, match="hidden_dim=10, num_heads=4"):
        keras_vit.Variant(1, 10, 16, 4, 8)
    with pytest.raises(ValueError, match="num_layers=0"):
        keras_vit.Variant(0, 8, 16, 4, 8)


def test_a_batch_of_another_size_is_refused(tiny_vit):
    model = tiny_vit()
    with pytest.raises(ValueError, match=r"8, 12, 3.*\n?.*8, 8, 3"):
        model(np.zeros((1, 8, 8, 3)))


def test_two_models_do_not_disturb_each_other(tiny_vit, rng):
    """Faults case 43, in one process, with a cleared session between."""
    images = rng.uniform(0, 255, (2, 8, 12, 3))
    first = tiny_vit()
    expected = first.predict(images, verbose=0)
    keras.utils.clear_session()
    second = tiny_vit()
    assert [w.path for w in first.weights] == [w.path for w in second.weights]
    second.predict(images, verbose=0)
    np.testing.assert_array_equal(first.predict(images, verbose=0), expected)
