"""`masked_patch_model` and `masked_autoencoder`: learning from images alone."""

import keras
import numpy as np
import pytest
from helpers import EAGER, outputs_of, randomize, to_numpy

import keras_vit

SIZE = (8, 12)  # 2 x 3 patches of 4 pixels
DECODER = {"decoder_dim": 8, "decoder_layers": 1, "decoder_heads": 2}


def autoencoder(backbone, **arguments):
    return keras_vit.pretraining.masked_autoencoder(
        backbone, 0.5, **{**DECODER, **arguments}
    )


@pytest.fixture
def images(rng):
    return rng.integers(0, 256, (4, *SIZE, 3)).astype("float32")


def with_given_sources(model):
    """The same model with the corruption as further inputs."""
    sources, corrupted = model.get_layer("patch_corruption").output
    outputs = {k: v for k, v in model.output.items() if k != "corrupted"}
    return keras.Model([model.input, sources, corrupted], outputs)


def softmax_loss(logits, labels):
    logits = logits - logits.max(axis=-1, keepdims=True)
    log_norm = np.log(np.exp(logits).sum(axis=-1))
    return log_norm - np.take_along_axis(logits, labels[..., None], -1)[..., 0]


def test_loss_by_the_formulas_of_the_paper(images, rng):
    """Weights, images and corruption given: one number on every backend.

    A block is a factor here, so that all of the rest fits into a few lines.
    """
    backbone = keras_vit.ViT(
        keras_vit.Variant(1, 16, 32, 4, patch_size=4),
        image_size=SIZE,
        num_classes=None,
        pooling="average",
        block=lambda index: keras_vit.layers.LayerScale(),
    )
    model = keras_vit.pretraining.masked_patch_model(backbone)
    randomize(model, rng)
    # 6 is the mask token; places 1 and 4 of image 0 are not to be predicted.
    sources = np.array([[6, 1, 6, 0, 4, 5]] * 3 + [[6, 6, 6, 3, 3, 0]])
    corrupted = np.array([[1, 0, 1, 1, 0, 1]] * 3 + [[1, 1, 1, 0, 1, 1]], bool)
    maps = (4, 2, 3)
    given = with_given_sources(model).predict(
        [images, sources.reshape(maps), corrupted.reshape(maps)], verbose=0
    )
    given["corrupted"] = corrupted.reshape(maps)
    loss = model.compute_loss(y_pred=given)

    weights = {weight.path: to_numpy(weight) for weight in model.weights}
    patches = images.reshape(4, 2, 4, 3, 4, 3).transpose(0, 1, 3, 2, 4, 5)
    patches = patches.reshape(4, 6, 16, 3).astype("float64")
    x = (patches / 127.5 - 1).reshape(4, 6, 48)
    x = x @ weights["patch_encoder/projection/kernel"]
    x = x + weights["patch_encoder/projection/bias"]
    mask_token = np.broadcast_to(weights["mask_token/mask_token"], (4, 1, 16))
    x = np.concatenate([x, mask_token], axis=1)
    x = np.take_along_axis(x, sources[..., None], axis=1)
    x = x + weights["patch_encoder/position_embedding/table"].reshape(1, 6, 16)
    x = x * weights["block_00/scale"]
    x = x - x.mean(axis=-1, keepdims=True)
    x = x / np.sqrt((x**2).mean(axis=-1, keepdims=True) + 1e-6)
    x = x * weights["encoder_norm/gamma"] + weights["encoder_norm/beta"]
    logits = x @ weights["predictions/kernel"] + weights["predictions/bias"]
    levels = (patches.mean(axis=2) // 32).astype(int)
    losses = softmax_loss(logits, levels @ [64, 8, 1])
    assert float(loss) == pytest.approx(losses[corrupted].mean(), rel=1e-5)


@pytest.mark.parametrize("target", ["mean_color", "thumbnail", "pixels"])
def test_untouched_patches_carry_no_loss(target, tiny_vit, images, rng):
    model = keras_vit.pretraining.masked_patch_model(
        tiny_vit(num_classes=None), target
    )
    outputs = outputs_of(model, images)
    corrupted = outputs["corrupted"]
    assert (corrupted.sum(axis=(1, 2)) == 3).all()
    shape = outputs["predictions"].shape
    outputs["predictions"] = rng.normal(size=shape).astype("float32")
    loss = float(model.compute_loss(y_pred=outputs))

    elsewhere = {**outputs, "predictions": outputs["predictions"].copy()}
    elsewhere["predictions"][~corrupted] += rng.normal()
    elsewhere["predictions"][~corrupted] *= 3
    elsewhere["targets"] = outputs["targets"].copy()
    elsewhere["targets"][~corrupted] = 1
    assert float(model.compute_loss(y_pred=elsewhere)) == loss
    there = {**outputs, "predictions": outputs["predictions"].copy()}
    there["predictions"][corrupted] *= 3
    assert float(model.compute_loss(y_pred=there)) != loss

    predictions, targets = outputs["predictions"], outputs["targets"]
    if target == "pixels":
        losses = (predictions - targets) ** 2
    else:
        losses = softmax_loss(predictions, targets)
    expected = losses[corrupted].mean()
    assert loss == pytest.approx(expected, rel=1e-5)
    weights = np.array([1, 0, 0, 0], "float32")
    loss = model.compute_loss(y_pred=outputs, sample_weight=weights)
    expected = losses[:1][corrupted[:1]].mean()
    assert float(loss) == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize(
    "build, arguments, expected",
    [
        (keras_vit.pretraining.masked_patch_model, {}, np.log(512)),
        (
            keras_vit.pretraining.masked_patch_model,
            {"target": "thumbnail"},
            np.log(512),
        ),
        # The sample variance of 48 numbers is 1; their mean square is less.
        (autoencoder, {}, 47 / 48),
    ],
)
def test_before_training_the_loss_is_that_of_knowing_nothing(
    build, arguments, expected, tiny_vit, images
):
    model = build(tiny_vit(num_classes=None), **arguments)
    loss = float(model.compute_loss(y_pred=outputs_of(model, images)))
    assert loss == pytest.approx(expected, rel=1e-4)


def test_accuracy_is_that_of_corrupted_patches(tiny_vit, images):
    model = keras_vit.pretraining.masked_patch_model(tiny_vit(num_classes=None))
    outputs = outputs_of(model, images)
    right = np.eye(512, dtype="float32")[outputs["targets"]]
    # Right in two of the four images and everywhere untouched.
    wrong = outputs["corrupted"] & (np.arange(4) < 2)[:, None, None]
    right[wrong] = np.roll(right[wrong], 1, axis=-1)
    model.compile("sgd", **EAGER)
    outputs["predictions"] = right
    logs = model.compute_metrics(None, None, outputs)
    assert float(logs["accuracy"]) == pytest.approx(0.5)


@pytest.mark.parametrize(
    "build", [keras_vit.pretraining.masked_patch_model, autoencoder]
)
def test_training_moves_the_weights_of_the_backbone(build, tiny_vit, images):
    backbone = tiny_vit(num_classes=None, num_registers=1)
    model = build(backbone)
    randomize(model, np.random.default_rng(1))
    taken = [w for w in backbone.trainable_weights]
    assert {id(w) for w in taken} <= {id(w) for w in model.trainable_weights}
    before = {id(w): to_numpy(w).copy() for w in model.trainable_weights}
    model.compile(keras.optimizers.SGD(0.1), **EAGER)
    model.fit(images, verbose=0, shuffle=False)
    for weight in model.trainable_weights:
        # Its gradient is zero: softmax drops what all scores share.
        if not weight.path.endswith("attention/key/bias"):
            assert (to_numpy(weight) != before[id(weight)]).any(), weight.path
    # The backbone answers with what was learned, by itself.
    assert backbone.predict(images, verbose=0).shape == (4, 16)


@pytest.mark.parametrize("target", ["mean_color", "mae"])
def test_a_few_images_are_learned(target):
    """Images of one colour each: any patch that is left gives it away."""
    colors = np.array([[255, 0, 0], [0, 255, 0], [0, 0, 255], [255, 255, 255]])
    images = np.broadcast_to(colors[:, None, None], (4, *SIZE, 3))
    backbone = keras_vit.ViT(
        keras_vit.Variant(1, 16, 32, 2, patch_size=4),
        image_size=SIZE,
        num_classes=None,
    )
    if target == "mae":
        model = autoencoder(backbone, normalize_pixels=False, seed=0)
    else:
        model = keras_vit.pretraining.masked_patch_model(
            backbone, target, seed=0
        )
    recipe = keras_vit.recipes.masked_patches(40, learning_rate=1e-2)
    model.compile(**recipe)
    # Forty steps in one epoch.
    images = np.tile(images, (40, 1, 1, 1))
    history = model.fit(
        images, batch_size=4, verbose=0, validation_data=(images[:4],)
    ).history
    # All pixels are -1 or 1, which a model that knows nothing takes for 0.
    first = np.log(512) if target == "mean_color" else 1.0
    assert history["val_loss"][-1] < 0.5 * first


@pytest.mark.parametrize(
    "build", [keras_vit.pretraining.masked_patch_model, autoencoder]
)
def test_saved_model_loads_and_goes_on(build, tiny_vit, images, tmp_path):
    model = build(tiny_vit(num_classes=None), seed=3)
    randomize(model, np.random.default_rng(1))
    model.compile(**keras_vit.recipes.masked_patches(10), **EAGER)
    model.fit(images, verbose=0)
    model.save(tmp_path / "model.keras")
    loaded = keras.models.load_model(tmp_path / "model.keras", safe_mode=True)
    assert type(loaded) is type(model)
    assert [w.path for w in loaded.weights] == [w.path for w in model.weights]
    # Keras does not store what a random generator has drawn so far.
    for one, other in zip(model.layers, loaded.layers):
        if hasattr(one, "seed_generator"):
            state = to_numpy(one.seed_generator.state)
            other.seed_generator.state.assign(state)
    expected, given = outputs_of(model, images), outputs_of(loaded, images)
    for name, value in expected.items():
        np.testing.assert_array_equal(given[name], value)
    # Compiled as it was, with the optimizer where it stopped.
    assert int(to_numpy(loaded.optimizer.iterations)) == 1


@pytest.mark.parametrize(
    "build", [keras_vit.pretraining.masked_patch_model, autoencoder]
)
@pytest.mark.parametrize(
    "arguments",
    [
        {"data_format": "channels_first", "dtype": "mixed_bfloat16"},
        {"preprocessing": None, "dtype": "mixed_float16"},
        {"num_channels": 1, "pooling": "average"},
        {"image_size": (10, 13), "remainder": "crop"},
    ],
    ids=str,
)
def test_backbones_of_every_kind(build, arguments, tiny_vit, images):
    """Against the targets that the plain backbone has for the same images."""
    model = build(tiny_vit(num_classes=None, **arguments))
    randomize(model, np.random.default_rng(1))
    given = images
    if "data_format" in arguments:
        given = images.transpose(0, 3, 1, 2)
    if "preprocessing" in arguments:
        given = images / 127.5 - 1
    if "image_size" in arguments:
        given = np.pad(images, ((0, 0), (0, 2), (0, 1), (0, 0)))
    if "num_channels" in arguments:
        given = images[..., :1]
    outputs = outputs_of(model, given)
    assert outputs["predictions"].dtype == np.float32
    assert np.isfinite(outputs["predictions"]).all()
    if "num_channels" not in arguments:
        plain = build(tiny_vit(num_classes=None))
        targets = keras.Model(plain.input, plain.output["targets"])
        np.testing.assert_allclose(
            outputs["targets"], outputs_of(targets, images), atol=1e-4
        )
    loss = model.compute_loss(y_pred=outputs)
    assert keras.backend.standardize_dtype(loss.dtype) == "float32"
    assert np.isfinite(float(loss))


def test_float16_trains(tiny_vit, images):
    model = keras_vit.pretraining.masked_patch_model(
        tiny_vit(num_classes=None, dtype="mixed_float16")
    )
    model.compile(keras.optimizers.Adam(1e-3), **EAGER)
    history = model.fit(images, epochs=2, verbose=0).history
    assert np.isfinite(history["loss"]).all()
    assert all(np.isfinite(to_numpy(w)).all() for w in model.weights)


def test_images_of_any_size(tiny_vit, images):
    model = keras_vit.pretraining.masked_patch_model(
        tiny_vit(num_classes=None, image_size=None), target="thumbnail"
    )
    outputs = outputs_of(model, images[:, :4, :8])
    assert outputs["predictions"].shape == (4, 1, 2, 16, 512)
    assert (outputs["corrupted"].sum(axis=(1, 2)) == 1).all()


def test_the_parts_of_a_hybrid_are_those_of_its_tokens(rng):
    variant = keras_vit.Variant(
        1, 16, 32, 4, patch_size=1, stages=(1, 1), width_factor=0.5
    )
    backbone = keras_vit.ViT(variant, image_size=(16, 24), num_classes=None)
    model = keras_vit.pretraining.masked_patch_model(backbone)
    images = rng.uniform(0, 255, (2, 16, 24, 3))
    targets = outputs_of(model, images.astype("float32"))["targets"]
    means = images.reshape(2, 2, 8, 3, 8, 3).mean(axis=(2, 4))
    np.testing.assert_array_equal(targets, means // 32 @ [64, 8, 1])


def test_labels_beside_the_images_are_not_looked_at(tiny_vit, images):
    dataset = keras_vit.ArrayDataset(images, np.arange(4), batch_size=2)
    model = keras_vit.pretraining.masked_patch_model(tiny_vit(num_classes=None))
    model.compile("sgd", **EAGER)
    assert sorted(model.fit(dataset, verbose=0).history) == ["accuracy", "loss"]


def test_an_autoencoder_sees_the_kept_patches_alone(tiny_vit, images, rng):
    model = autoencoder(tiny_vit(num_classes=None, num_registers=1))
    randomize(model, rng)
    kept, sources, masked = model.get_layer("patch_masking").output
    part = keras.Model(
        [model.input, kept, sources, masked],
        [
            model.get_layer("kept_tokens").output,
            model.get_layer("decoder_embedding").output,
            model.output["predictions"],
        ],
    )
    indices = np.array([[5, 0, 3]] * 4)
    places = np.array([[[1, 3, 3], [2, 3, 0]]] * 4)
    hidden = places == 3
    tokens, seen, predictions = part.predict(
        [images, indices, places, hidden], verbose=0
    )
    # A class token, a register and three of six patches.
    assert tokens.shape == (4, 2 + 3, 16) and seen.shape[:2] == (4, 5)

    others = images.reshape(4, 2, 4, 3, 4, 3).transpose(0, 1, 3, 2, 4, 5).copy()
    others[hidden] = 255 - others[hidden]
    others = others.transpose(0, 1, 3, 2, 4, 5).reshape(images.shape)
    again = part.predict([others, indices, places, hidden], verbose=0)
    for given, expected in zip(again, (tokens, seen, predictions)):
        np.testing.assert_array_equal(given, expected)

    # The order in which patches are kept is no matter to where they end up.
    shuffled = part.predict(
        [
            images,
            np.array([[0, 3, 5]] * 4),
            np.array([[[0, 3, 3], [1, 3, 2]]] * 4),
            hidden,
        ],
        verbose=0,
    )
    np.testing.assert_allclose(shuffled[2], predictions, atol=1e-4)
    # Masked patches are told apart by their places alone.
    assert np.abs(predictions[:, 0, 1] - predictions[:, 0, 2]).max() > 1e-3


@pytest.mark.parametrize(
    "make, message",
    [
        (
            lambda vit: keras_vit.pretraining.masked_patch_model(
                vit(), "colour"
            ),
            "colour",
        ),
        (
            lambda vit: keras_vit.pretraining.masked_patch_model(
                vit(), corruption=1
            ),
            "=1",
        ),
        (
            lambda vit: keras_vit.pretraining.masked_patch_model(
                vit(image_size=(8, 13), remainder="pad")
            ),
            "width",
        ),
        (
            lambda vit: keras_vit.pretraining.masked_patch_model(
                keras_vit.ResNet(((1,), 0.5))
            ),
            "PatchEncoder. Received: 0",
        ),
        (lambda vit: autoencoder(vit(image_size=None)), "one size"),
        (
            lambda vit: autoencoder(vit(position_injection="every_layer")),
            "block_00_positions",
        ),
        (lambda vit: autoencoder(vit(position="relative_1d")), "places"),
        (lambda vit: autoencoder(vit(), decoder_dim=0), "decoder_dim=0"),
        (lambda vit: autoencoder(vit(), decoder_layers=-1), "=-1"),
    ],
)
def test_bad_arguments(make, message, tiny_vit):
    with pytest.raises(ValueError, match=message):
        make(tiny_vit)


def test_recipes_for_labels_are_refused(tiny_vit):
    model = keras_vit.pretraining.masked_patch_model(tiny_vit())
    with pytest.raises(ValueError, match="recipes.masked_patches"):
        model.compile(**keras_vit.recipes.adamw(10), **EAGER)


def test_recipe_of_appendix_b_1_2():
    recipe = keras_vit.recipes.masked_patches(1_000_000)
    config = recipe["optimizer"].get_config()
    assert config["weight_decay"] == 0 and config["global_clipnorm"] is None
    rate = keras.optimizers.schedules.deserialize(config["learning_rate"])
    assert float(rate(5_000)) == pytest.approx(1e-4, rel=1e-3)
    assert float(rate(10_000)) == pytest.approx(2e-4, rel=1e-3)
    # Half way down the cosine.
    assert float(rate(505_000)) == pytest.approx(1e-4, rel=1e-3)
    assert float(rate(1_000_000)) == pytest.approx(0, abs=1e-9)
