"""The table of public checkpoints, and the names of ImageNet's classes."""

import keras
import numpy as np
import pytest

import keras_vit


def test_names_are_unique_and_addresses_complete():
    table = keras_vit.presets()
    assert len({preset.name for preset in table}) == len(table) == 42
    assert len({preset.address for preset in table}) == len(table)
    for preset in table:
        assert preset.license == "Apache-2.0"
        assert preset.source.startswith("https://arxiv.org/abs/")
        if preset.address.startswith("gs://"):
            assert preset.address.endswith(".npz")
            assert (preset.activation, preset.epsilon) == ("gelu_tanh", 1e-6)
        elif preset.address.startswith("package://"):
            assert preset.location.is_file()
        else:  # pinned to a commit
            repository, _, commit = preset.address.partition("@")
            assert repository.startswith("hf://google/vit-")
            assert len(commit) == 40 and int(commit, 16)
            assert (preset.activation, preset.epsilon) == ("gelu", 1e-12)


@pytest.mark.parametrize(
    "name, address",
    [
        (
            "augreg_i21k:B/16",
            "gs://vit_models/augreg/B_16-i21k-300ep-lr_0.001-aug_medium1-"
            "wd_0.1-do_0.0-sd_0.0.npz",
        ),
        (
            "augreg_i1k:R50+L/32",
            "gs://vit_models/augreg/R50_L_32-i21k-300ep-lr_0.001-aug_medium1-"
            "wd_0.1-do_0.1-sd_0.1--imagenet2012-steps_20k-lr_0.01-res_384.npz",
        ),
        ("imagenet21k:H/14", "gs://vit_models/imagenet21k/ViT-H_14.npz"),
        (
            "imagenet21k:R50+B/16",
            "gs://vit_models/imagenet21k/R50+ViT-B_16.npz",
        ),
        (
            "imagenet21k+imagenet2012-224:L/16",
            "gs://vit_models/imagenet21k+imagenet2012/ViT-L_16-224.npz",
        ),
        ("sam:B/32", "gs://vit_models/sam/ViT-B_32.npz"),
    ],
)
def test_addresses(name, address):
    found = {preset.name: preset.address for preset in keras_vit.presets()}
    assert found[name] == address


def test_prints_as_a_table_a_person_can_read():
    text = str(keras_vit.presets("augreg_i1k"))
    head, *rows = text.splitlines()
    assert head.split() == [
        "name", "pixels", "classes", "accuracy", "license", "address",
    ]  # fmt: skip
    assert len(rows) == 9
    assert any("augreg_i1k:B/16" in row and "85.49 %" in row for row in rows)
    starts = {row.index("Apache-2.0") for row in rows}
    assert starts == {head.index("license")}


def test_unknown_families():
    with pytest.raises(ValueError, match="family='dino'"):
        keras_vit.presets("dino")


def test_classes_in_the_order_of_the_heads():
    """Known places: the first, the last, and the zebra between."""
    one_hot = np.eye(1000)[[0, 340, 999]]
    best = [row[0][:2] for row in keras_vit.decode_predictions(one_hot, top=1)]
    assert best == [
        ("n01440764", "tench"),
        ("n02391049", "zebra"),
        ("n15075141", "toilet_tissue"),
    ]
    one_hot = np.zeros((1, 21843))
    one_hot[0, 0] = 2.5
    assert keras_vit.decode_predictions(one_hot, top=1) == [
        [("n00004475", "organism", 2.5)]
    ]


def test_likeliest_first_from_arrays_and_tensors():
    scores = np.linspace(0, 1, 1000)[None]
    for predictions in (scores, keras.ops.convert_to_tensor(scores)):
        (row,) = keras_vit.decode_predictions(predictions)
        assert len(row) == 5
        values = [score for _, _, score in row]
        assert values == sorted(values, reverse=True)
        assert values[0] == 1.0


def test_both_lists_call_a_class_by_the_same_name():
    names = keras_vit.checkpoints.class_names._classes
    small, large = dict(names(1000)), dict(names(21843))
    assert len(small) == 1000 and len(large) == 21843
    # The teddy alone is not among the 21,843.
    assert set(small) - set(large) == {"n04399382"}
    assert all(large.get(key, name) == name for key, name in small.items())


@pytest.mark.parametrize(
    "shape, top, message",
    [
        ((1, 37), 5, r"shape=\(1, 37\)"),
        ((1000,), 5, r"shape=\(1000,\)"),
        ((1, 1000), 0, "top=0"),
        ((1, 1000), 1001, "top=1001"),
    ],
)
def test_bad_predictions(shape, top, message):
    with pytest.raises(ValueError, match=message):
        keras_vit.decode_predictions(np.zeros(shape), top=top)
