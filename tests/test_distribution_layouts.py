"""Which weights are split how, what is refused, and a data set's shards.

One device is enough for all of it; several train in `test_distribution.py`.
"""

import keras
import numpy as np
import pytest
from helpers import jax_only

import keras_vit
from keras_vit.layers import MLP, SelfAttention

SIZE = {"image_size": 8, "num_classes": 3}

on_jax = jax_only("Keras splits models and batches there alone")


@pytest.fixture
def mesh():
    device = keras.distribution.list_devices()[:1]
    return keras.distribution.DeviceMesh((1, 1), ("batch", "model"), device)


@on_jax
@pytest.mark.parametrize(
    "variant, arguments",
    [
        (keras_vit.Variant(1, 16, 32, 4, 4), {"representation_dim": 8}),
        (
            keras_vit.Variant(1, 16, 32, 4, 4),
            {
                "pooling": "attention",
                "activation": "swiglu",
                "position": "relative_1d",
            },
        ),
        (keras_vit.Variant(1, 16, 32, 4, 1, (1,)), {"image_size": 32}),
    ],
)
def test_layouts_find_the_weights_by_their_layers(variant, arguments, mesh):
    """Columns of what goes in, rows of what comes out; in nested models too."""
    model = keras_vit.ViT(variant, **SIZE | arguments)
    images = keras.Input(model.input_shape[1:])
    model = keras.Sequential([images, model])
    expected = {}
    for layer in model._flatten_layers():
        if isinstance(layer, SelfAttention):
            for part in (layer.query, layer.key, layer.value):
                expected[part.kernel.path] = ("batch", "model", None)
                expected[part.bias.path] = ("model", None)
            kernel = layer.output_projection.kernel
            expected[kernel.path] = ("model", None, "batch")
        elif isinstance(layer, MLP):
            columns = [layer.hidden]
            columns += [layer.gate] if layer.activation == "swiglu" else []
            for part in columns:
                expected[part.kernel.path] = ("batch", "model")
                expected[part.bias.path] = ("model",)
            kernel = layer.output_projection.kernel
            expected[kernel.path] = ("model", "batch")
    tensor = keras_vit.distribution.layout_map(mesh)
    fsdp = keras_vit.distribution.layout_map(mesh, fsdp=True)
    for weight in model.weights:
        axes = expected.get(weight.path)
        layout = fsdp[weight.path]
        if axes is not None:
            assert layout.axes == axes
            axes = tuple(axis if axis == "model" else None for axis in axes)
            assert tensor[weight.path].axes == axes
            continue
        assert tensor[weight.path] is None
        # Of the rest FSDP splits what multiplies, along one axis.
        assert (layout is not None) == (weight.name == "kernel"), weight.path
        if layout is not None:
            assert sorted(filter(None, layout.axes)) == ["batch"]
            assert len(layout.axes) == len(weight.shape)


@on_jax
@pytest.mark.parametrize(
    "variant, split, options, message",
    [
        ("Ti/16", 2, {}, r"model_devices.* divide num_heads.*=2, num_heads=3"),
        ("B/16", 5, {}, "must divide devices.*model_devices=5, devices=8"),
        (
            keras_vit.Variant(1, 16, 33, 4, 4),
            4,
            {},
            "must divide mlp_dim.*mlp_dim=33",
        ),
        (
            keras_vit.Variant(1, 12, 32, 4, 4),
            1,
            {"fsdp": True},
            "must divide hidden_dim.*=8, hidden_dim=12",
        ),
        (
            keras_vit.Variant(1, 12, 36, 4, 1, (1,), width_factor=0.5),
            1,
            {"fsdp": True, "devices": ["cpu:0", "cpu:1", "cpu:2"]},
            "channels of the stem=32",
        ),
        ("B/16", 0, {}, "greater than 0"),
        ("B/16", 1, {"devices": []}, "at least one device"),
    ],
)
def test_what_does_not_divide_is_refused_before_it_is_built(
    variant, split, options, message
):
    """The devices are not even looked for."""
    options = {"devices": [f"cpu:{i}" for i in range(8)]} | options
    with pytest.raises(ValueError, match=message):
        keras_vit.distribution.model_parallel(variant, split, **options)


@on_jax
def test_mesh_must_have_both_axes():
    mesh = keras.distribution.DeviceMesh((1,), ("data",), ["cpu:0"])
    with pytest.raises(ValueError, match=r"axes 'batch' and 'model'.*data"):
        keras_vit.distribution.layout_map(mesh)


@pytest.mark.skipif(
    keras.backend.backend() == "jax", reason="of the other backends"
)
def test_other_backends_are_told_what_to_use():
    parallel = keras_vit.distribution
    for call in (
        parallel.data_parallel,
        lambda: parallel.model_parallel("B/16", 2),
        lambda: parallel.layout_map(None),
    ):
        with pytest.raises(RuntimeError, match="MirroredStrategy.*=jax"):
            call()
    assert parallel.process_shard() == (0, 1)


def test_shards_of_a_data_set_make_up_its_batches():
    """The order of all, dealt out batch by batch, the remainder dropped."""
    images, labels = np.arange(23), np.arange(23) * 2
    arguments = {"batch_size": 6, "drop_remainder": True, "seed": 3}
    whole = keras_vit.ArrayDataset(images, labels, **arguments)
    shards = [
        keras_vit.ArrayDataset(images, labels, shard=(i, 3), **arguments)
        for i in range(3)
    ]
    assert len(whole) == 3
    for index in range(3):
        batch = [shard[index] for shard in shards]
        assert {len(part[0]) for part in batch} == {2}
        for found, expected in zip(zip(*batch), whole[index]):
            np.testing.assert_array_equal(np.concatenate(found), expected)
    with pytest.raises(IndexError):
        whole[3]


@pytest.mark.parametrize(
    "arguments, message",
    [
        ({"shard": (2, 2)}, "index below count.*shard=\\(2, 2\\)"),
        ({"shard": (0, 4)}, "divide by the number of shards"),
        ({"shard": (-1, 2)}, "shard\\[0\\]"),
        ({"batch_size": 8, "drop_remainder": True}, "leaves nothing"),
    ],
)
def test_impossible_shards(arguments, message):
    images = np.zeros(7)
    with pytest.raises(ValueError, match=message):
        keras_vit.ArrayDataset(images, images, **{"batch_size": 6} | arguments)
