"""ResNets and hybrids as models."""

import re

import keras
import numpy as np
import pytest
from helpers import EAGER, randomize, to_numpy

import keras_vit

TINY = ((1, 2), 0.5)  # stages and width factor


@pytest.mark.parametrize("preactivation", [False, True])
def test_feature_maps_by_stage(preactivation):
    """At 1/4, 1/8, 1/16 and 1/32 of the image, in 128 to 1024 channels."""
    model = keras_vit.ResNet(
        ((1, 1, 1, 1), 0.5),
        image_size=(64, 96),
        preactivation=preactivation,
    )
    taps = [f"stage{stage}" for stage in range(1, 5)]
    shapes = keras_vit.feature_extractor(model, taps).output_shape
    assert shapes == [
        (None, 16, 24, 128),
        (None, 8, 12, 256),
        (None, 4, 6, 512),
        (None, 2, 3, 1024),
    ]


def test_a_published_resnet_has_the_official_number_of_weights():
    """The other sizes: by arithmetic, see `test_published_costs`."""
    assert keras_vit.ResNet("50x1").count_params() == 25_557_032


# The other two pairs differ in nothing that these two do not show: images are
# turned around in front of the first layer.
@pytest.mark.parametrize(
    "preactivation, data_format",
    [(False, "channels_last"), (True, "channels_first")],
)
def test_trains_saves_and_loads(preactivation, data_format, rng, tmp_path):
    first = data_format == "channels_first"
    model = keras_vit.ResNet(
        TINY,
        image_size=(33, 40),
        num_classes=3,
        preactivation=preactivation,
        data_format=data_format,
    )
    randomize(model, rng)
    images = rng.uniform(0, 255, (4, 33, 40, 3)).astype("float32")
    if first:
        images = images.transpose(0, 3, 1, 2)
    model.compile(keras.optimizers.SGD(1.0), "mse", **EAGER)
    before = [to_numpy(w).copy() for w in model.trainable_weights]
    model.fit(images, rng.normal(size=(4, 3)), verbose=0)
    for weight, old in zip(model.trainable_weights, before):
        assert not np.array_equal(to_numpy(weight), old), weight.path
    model.save(tmp_path / "model.keras")
    loaded = keras.models.load_model(tmp_path / "model.keras")
    np.testing.assert_array_equal(
        loaded.predict(images, verbose=0), model.predict(images, verbose=0)
    )


@pytest.mark.parametrize("policy", ["mixed_bfloat16", "mixed_float16"])
def test_mixed_precision_gives_float32_logits(policy, rng):
    model = keras_vit.ResNet(TINY, image_size=32, num_classes=3, dtype=policy)
    logits = model(rng.uniform(0, 255, (2, 32, 32, 3)))
    assert keras.backend.standardize_dtype(logits.dtype) == "float32"
    assert np.isfinite(to_numpy(logits)).all()


def test_options_of_a_new_head(rng):
    """Its kernel is zero, so that the bias alone speaks."""
    model = keras_vit.ResNet(
        TINY,
        image_size=32,
        num_classes=3,
        head_bias=-1.0,
        classifier_activation="sigmoid",
        preprocessing=None,
    )
    outputs = to_numpy(model(rng.uniform(-1, 1, (2, 32, 32, 3))))
    np.testing.assert_allclose(outputs, 1 / (1 + np.e), rtol=1e-5)
    assert "rescaling" not in {layer.name for layer in model.layers}


def test_images_of_any_size(rng):
    model = keras_vit.ResNet(TINY, image_size=None, num_classes=3)
    for size in [(32, 32), (40, 17)]:
        images = rng.uniform(0, 255, (2, *size, 3))
        assert model.predict(images, verbose=0).shape == (2, 3)


def bit_arrays(stages, width, classes, rng):
    """A file as BiT's authors wrote them, with random weights."""
    arrays = {}

    def add(key, *shape):
        offset = 1.0 if key.endswith("gamma") else 0.0
        arrays[f"resnet/{key}"] = (rng.normal(0, 0.2, shape) + offset).astype(
            "float32"
        )

    add("root_block/standardized_conv2d/kernel", 7, 7, 3, width)
    channels = width
    for s, units in enumerate(stages, 1):
        inner = width * 2 ** (s - 1)
        for u in range(1, units + 1):
            unit = f"block{s}/unit{u:02d}/"
            for letter, size, into, out in [
                ("a", 1, channels, inner),
                ("b", 3, inner, inner),
                ("c", 1, inner, 4 * inner),
            ]:
                add(f"{unit}{letter}/group_norm/gamma", into)
                add(f"{unit}{letter}/group_norm/beta", into)
                add(
                    f"{unit}{letter}/standardized_conv2d/kernel",
                    size, size, into, out,
                )  # fmt: skip
            if u == 1:
                add(
                    f"{unit}a/proj/standardized_conv2d/kernel",
                    1, 1, channels, 4 * inner,
                )  # fmt: skip
            channels = 4 * inner
    add("group_norm/gamma", channels)
    add("group_norm/beta", channels)
    add("head/conv2d/kernel", 1, 1, channels, classes)
    add("head/conv2d/bias", classes)
    return arrays


def test_files_of_bit_load_as_timm_reads_them(rng, tmp_path):
    """Padding, norms and standardisation of the pre-activation form."""
    from checkpoints.oracles import images, import_oracle, run

    timm = import_oracle("timm")
    from functools import partial

    from timm.layers import StdConv2d

    arrays = bit_arrays((1, 2), 64, 5, rng)
    np.savez(tmp_path / "bit.npz", **arrays)
    module = timm.models.resnetv2.ResNetV2(
        layers=(1, 2),
        channels=(256, 512),
        num_classes=5,
        stem_type="fixed",
        conv_layer=partial(StdConv2d, eps=1e-10),
    ).eval()
    module.load_pretrained(str(tmp_path / "bit.npz"))
    model = keras_vit.ResNet(
        ((1, 2), 1.0),
        image_size=(40, 56),
        num_classes=5,
        preactivation=True,
        preprocessing=None,
        weights=tmp_path / "bit.npz",
    )
    x = images(rng, 40, 56)
    np.testing.assert_allclose(
        model.predict(x, verbose=0), run(module, x), atol=2e-3, rtol=1e-3
    )


def in_big_vision(arrays):
    """The same network under the names of `bit_paper.py`."""
    names = [
        (r"^resnet/", ""),
        (r"root_block/standardized_conv2d", "root_block/conv_root"),
        (r"a/proj/standardized_conv2d", "conv_proj"),
        (r"^group_norm", "norm-pre-head"),
        (r"head/conv2d", "head"),
        *(
            (f"/{letter}/{old}/", f"/{new}{part}/")
            for letter, part in (("a", 1), ("b", 2), ("c", 3))
            for old, new in (("standardized_conv2d", "conv"),
                             ("group_norm", "gn"))
        ),
        ("gamma", "scale"),
        ("beta", "bias"),
    ]  # fmt: skip
    renamed = {}
    for key, array in arrays.items():
        for pattern, name in names:
            key = re.sub(pattern, name, key)
        if "gn" in key or "norm" in key:
            array = array[None, None, None]
        if key == "head/kernel":
            array = array[0, 0]
        renamed[f"params/{key}"] = array
    return renamed


def pooled(maps, border):
    """Maxima of 3 x 3 at every second place, by their definition."""
    rows, columns = maps.shape[1:3]
    maps = np.pad(
        maps, [(0, 0), (1, 1), (1, 1), (0, 0)], constant_values=border
    )
    return np.stack(
        [
            np.stack(
                [
                    maps[:, 2 * i : 2 * i + 3, 2 * j : 2 * j + 3].max((1, 2))
                    for j in range((columns + 1) // 2)
                ],
                axis=1,
            )
            for i in range((rows + 1) // 2)
        ],
        axis=1,
    )


@pytest.mark.parametrize("size", [(32, 44), (34, 30)])
def test_the_root_pool_is_that_of_the_file(size, rng, tmp_path):
    """Zeros around the maps in BiT, minus infinity in big_vision."""
    arrays = bit_arrays((1,), 64, 5, rng)
    # All below zero, where the two differ.
    x = -rng.uniform(1, 2, (2, *size, 3)).astype("float32")
    outputs = {}
    for padding, file in [
        ("zeros", arrays),
        ("ignored", in_big_vision(arrays)),
    ]:
        np.savez(tmp_path / f"{padding}.npz", **file)
        options = {
            "image_size": size, "num_classes": 5, "preactivation": True,
            "preprocessing": None,
        }  # fmt: skip
        model = keras_vit.ResNet(
            ((1,), 1.0), weights=tmp_path / f"{padding}.npz", **options
        )
        taps = keras_vit.feature_extractor(model, ["root_conv", "root_pool"])
        found = taps.predict(x, verbose=0)
        border = 0.0 if padding == "zeros" else -np.inf
        np.testing.assert_array_equal(
            found["root_pool"], pooled(found["root_conv"], border)
        )
        outputs[padding] = model.predict(x, verbose=0)

        other = {"zeros": "ignored", "ignored": "zeros"}[padding]
        model = keras_vit.ResNet(((1,), 1.0), root_padding=other, **options)
        with pytest.raises(
            keras_vit.CheckpointError, match=f"root_padding='{padding}'"
        ):
            keras_vit.load_checkpoint(model, tmp_path / f"{padding}.npz")
    assert np.abs(outputs["zeros"] - outputs["ignored"]).max() > 1e-2


def test_root_padding_without_a_pool_that_reads_it():
    with pytest.raises(ValueError, match="root_padding='zeros'"):
        keras_vit.ResNet(TINY, root_padding="zeros")
    with pytest.raises(ValueError, match="root_padding='same'"):
        keras_vit.ResNet(TINY, preactivation=True, root_padding="same")


@pytest.mark.parametrize(
    "variant, stages, grid, patch",
    [
        ("R50+B/32", (3, 4, 6, 3), (7, 7), 1),
        ("R50+B/16", (3, 4, 9), (14, 14), 1),
        ("R50+L/32", (3, 4, 6, 3), (7, 7), 1),
        ("R50+L/16", (3, 4, 9), (14, 14), 1),
        ("R26+S/32", (2, 2, 2, 2), (7, 7), 1),
        ("R26+B/32", (2, 2, 2, 2), (7, 7), 1),
        ("R101+L/16", (3, 4, 26), (14, 14), 1),
        ("R+Ti/16", (), (7, 7), 8),
    ],
)
def test_hybrids_by_name(variant, stages, grid, patch):
    """One switch, the number behind the slash, moves stage 4 into stage 3."""
    variant = keras_vit.variants.parse_variant(variant)
    assert variant.stages == stages
    assert variant.patch_size == patch
    assert 224 // variant.stride // patch == grid[0]


@pytest.fixture
def hybrid():
    def build(**arguments):
        variant = keras_vit.Variant(
            2, 16, 32, 4, patch_size=1, stages=(1, 1), width_factor=0.5
        )
        return keras_vit.ViT(
            variant, **{"image_size": (32, 48), "num_classes": 3, **arguments}
        )

    return build


def test_a_hybrid_has_the_taps_of_both(hybrid):
    names = [layer.name for layer in hybrid().layers]
    assert names == [
        "images", "rescaling", "root_conv", "root_norm", "root_relu",
        "root_pool", "stage1_unit1", "stage1", "stage2_unit1", "stage2",
        "patches", "patch_encoder", "block_00", "block_01", "encoder_norm",
        "pooling", "pre_logits", "head",
    ]  # fmt: skip


def test_a_hybrid_trains_saves_loads_and_changes_resolution(
    hybrid, rng, tmp_path
):
    model = hybrid()
    randomize(model, rng)
    model.compile(**keras_vit.recipes.adamw(4, warmup_steps=1), **EAGER)
    images = rng.uniform(0, 255, (4, 32, 48, 3))
    model.fit(images, np.array([0, 1, 2, 0]), verbose=0)
    model.save(tmp_path / "model.keras")
    loaded = keras.models.load_model(tmp_path / "model.keras")
    np.testing.assert_array_equal(
        loaded.predict(images, verbose=0), model.predict(images, verbose=0)
    )
    with pytest.warns(UserWarning, match="starts anew"):
        larger = keras_vit.change_resolution(model, (65, 48))
    # 65 pixels: halved three times and rounded up, as SAME padding does.
    assert larger.get_layer("patches").output.shape == (None, 9, 6, 256)
    assert larger.predict(rng.uniform(0, 255, (1, 65, 48, 3))).shape == (1, 3)


@pytest.mark.parametrize("image_size", [(32, 48), (33, 47)])
def test_a_hybrid_goes_out_and_in_again(image_size, hybrid, rng, tmp_path):
    model, twin = hybrid(image_size=image_size), hybrid(image_size=image_size)
    randomize(model, rng)
    path = keras_vit.export_checkpoint(model, tmp_path / "hybrid.npz")
    keras_vit.load_checkpoint(twin, path)
    for weight, expected in zip(twin.weights, model.weights):
        np.testing.assert_array_equal(to_numpy(weight), to_numpy(expected))
    assert np.load(path)["block2/unit1/gn_proj/scale"].shape == (256,)


def test_a_hybrid_takes_channels_first(hybrid, rng):
    last, first = hybrid(), hybrid(data_format="channels_first")
    randomize(last, rng)
    first.set_weights(last.get_weights())
    images = rng.uniform(0, 255, (2, 32, 48, 3)).astype("float32")
    turned = images.transpose(0, 3, 1, 2)
    np.testing.assert_allclose(
        first.predict(turned, verbose=0),
        last.predict(images, verbose=0),
        atol=1e-5,
    )
    larger = keras_vit.change_resolution(first, (64, 48))
    assert larger.input_shape == (None, 3, 64, 48)
    segmenting = keras_vit.segmentation_model(first, 2)
    assert segmenting.output_shape == (None, 32, 48, 2)


def test_a_hybrid_for_images_of_any_size(hybrid, rng):
    model = hybrid(image_size=None)
    for size in [(32, 48), (41, 33)]:
        images = rng.uniform(0, 255, (2, *size, 3))
        assert model.predict(images, verbose=0).shape == (2, 3)


@pytest.mark.parametrize(
    "build, message",
    [
        (lambda: keras_vit.ResNet("51x1"), "variant='51x1'"),
        (lambda: keras_vit.ResNet("50"), "variant='50'"),
        (lambda: keras_vit.ResNet(((3, 4, 6, 3, 1), 1)), "at most four"),
        (lambda: keras_vit.ResNet(((3, 0), 1)), "stages=0"),
        (lambda: keras_vit.ResNet(((3,), 0.4)), "width_factor=0.4"),
        (lambda: keras_vit.ResNet(num_classes=0), "num_classes=0"),
        (lambda: keras_vit.ViT("R50+B/8"), "1/16 or 1/32.*R50.B/8"),
        (lambda: keras_vit.ViT("R51+B/16"), "Known ResNets: R, R26"),
        (
            lambda: keras_vit.Variant(1, 8, 8, 2, 1, stages=3),
            "stages=3",
        ),
        (
            lambda: keras_vit.Variant(
                1, 8, 8, 2, 1, stages=(1,), width_factor=0
            ),
            "width_factor=0",
        ),
    ],
)  # fmt: skip
def test_bad_arguments(build, message):
    with pytest.raises(ValueError, match=message):
        build()
