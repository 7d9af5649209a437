"""Scores come from a second walk that must be the model's own way."""

import weakref

import keras
import numpy as np
import pytest
from helpers import to_numpy

import keras_vit
from keras_vit.introspection import attention_scores, scores
from keras_vit.layers import (
    AxialBlock,
    RelativeBiasAttention,
    RotaryAttention,
    SelfAttention,
    SparseAttention,
    TransformerBlock,
    WindowAttention,
)

SIZE = (8, 12)  # of `tiny_vit`: a grid of 2 x 3


@pytest.fixture
def images(rng):
    return rng.uniform(0, 255, (2, *SIZE, 3))


def block_with(attention):
    return lambda index: TransformerBlock(attention=attention(), mlp_dim=32)


KINDS = {
    "token": {},
    "registers": {"num_registers": 2},
    "average": {"pooling": "average"},
    "registers alone": {"pooling": "average", "num_registers": 2},
    "map": {"pooling": "attention"},
    "any size": {"image_size": None},
    "mixed": {"dtype": "mixed_bfloat16"},
    "every layer": {"position_injection": "every_layer"},
    "shared": {"position_injection": "every_layer_shared"},
    "relative": {"position": "relative_1d"},
    "rotary": {
        "position": None,
        "block": block_with(lambda: RotaryAttention(4, (2, 3), 1)),
    },
    "bias": {
        "position": None,
        "block": block_with(lambda: RelativeBiasAttention(4, (2, 3), 1)),
    },
    "sparse": {"block": block_with(lambda: SparseAttention(4, k=3))},
    "qk_norm": {"block": block_with(lambda: SelfAttention(4, qk_norm=True))},
}


@pytest.mark.parametrize("kind", KINDS)
def test_walk_is_the_way_of_the_model(kind, tiny_vit, images):
    check_walk(tiny_vit(**KINDS[kind]), images)


def test_walk_under_rematerialization(tiny_vit, images):
    with keras.RematScope(mode="full"):
        model = tiny_vit()
    check_walk(model, images)


def test_walk_of_a_hybrid(randomized, rng):
    variant = keras_vit.Variant(
        2, 16, 32, 4, patch_size=1, stages=(1,), width_factor=0.5
    )
    model = keras_vit.ViT(variant, image_size=SIZE, num_classes=5)
    check_walk(randomized(model), rng.uniform(0, 255, (2, *SIZE, 3)))


def test_walk_channels_first(tiny_vit, images):
    model = tiny_vit(data_format="channels_first")
    check_walk(model, images.transpose(0, 3, 1, 2))


def check_walk(model, images):
    """The walk ends where the model does, and all rows of scores sum to 1."""
    blocks = scores._attention_blocks(model)
    assert [block.name for block in blocks] == ["block_00", "block_01"]
    _, tokens = list(scores.walk(model, blocks, images))[-1]
    at_end = False
    for layer in model.layers:
        at_end = at_end or layer is blocks[-1]
        if at_end:
            tokens = layer(tokens, training=False)
    # bfloat16 has eight bits.
    half = blocks[0].compute_dtype == "bfloat16"
    np.testing.assert_allclose(
        to_numpy(tokens),
        to_numpy(model(images, training=False)),
        atol=2e-2 if half else 1e-5,
    )
    count = model.get_layer("patch_encoder")(
        keras.Model(model.input, model.get_layer("patches").output)(images)
    ).shape[1]
    for _, array in attention_scores(model, images):
        assert array.shape == (2, 4, count, count)
        np.testing.assert_allclose(array.sum(axis=-1), 1, atol=1e-5)


def test_scores_are_the_softmax_of_the_paper(tiny_vit, images):
    """Appendix A, equations 5 and 6, in NumPy from weights and tokens."""
    model = tiny_vit()
    tokens = keras_vit.feature_extractor(model, "block_00")
    tokens = to_numpy(tokens(images, training=False)).astype("float64")
    weights = {
        weight.path.partition("block_01/")[2]: to_numpy(weight)
        for weight in model.get_layer("block_01").weights
    }
    mean = tokens.mean(axis=-1, keepdims=True)
    variance = tokens.var(axis=-1, keepdims=True)
    x = (tokens - mean) / np.sqrt(variance + 1e-6)
    x = x * weights["attention_norm/gamma"] + weights["attention_norm/beta"]
    query, key = (
        np.einsum("btd,dhk->bhtk", x, weights[f"attention/{name}/kernel"])
        + weights[f"attention/{name}/bias"][:, None]
        for name in ("query", "key")
    )
    logits = np.exp(query @ key.transpose(0, 1, 3, 2) / np.sqrt(16 / 4))
    expected = logits / logits.sum(axis=-1, keepdims=True)
    ((name, array),) = attention_scores(model, images, "block_01")
    assert name == "block_01"
    np.testing.assert_allclose(array, expected, atol=1e-5)


def test_a_norm_behind_the_branch_is_not_in_front_of_it(tiny_vit, images):
    """What attention sees there are the tokens as they are."""
    model = tiny_vit(
        block=lambda index: TransformerBlock(4, 32, norm_after=True)
    )
    tokens = keras_vit.feature_extractor(model, "block_00")(images)
    attention = model.get_layer("block_01").attention
    _, expected = attention(tokens, return_attention_scores=True)
    ((_, array),) = attention_scores(model, images, "block_01")
    np.testing.assert_allclose(array, to_numpy(expected), atol=1e-5)


def test_scores_of_what_was_built_on_a_vit(tiny_vit, images):
    model = tiny_vit()
    expected = dict(attention_scores(model, images))
    segmentation = keras_vit.segmentation_model(model, 3)
    found = dict(attention_scores(segmentation, images))
    np.testing.assert_array_equal(found["block_01"], expected["block_01"])


def test_scores_of_layers_put_together_by_hand(images, randomized):
    """Attention that stands in the model itself, beside its residual."""
    inputs = keras.Input((*SIZE, 3))
    x = keras_vit.layers.Patches(4)(inputs)
    x = keras_vit.layers.PatchEncoder(16)(x)
    for index in range(2):
        normed = keras_vit.layers.LayerNorm()(x)
        x = x + SelfAttention(4, name=f"attention_{index}")(normed)
    model = randomized(keras.Model(inputs, x))
    found = dict(attention_scores(model, images))
    assert list(found) == ["attention_0", "attention_1"]
    layer = model.get_layer("attention_1")
    tokens = keras.Model(inputs, layer.input)(images)
    _, expected = layer(tokens, return_attention_scores=True)
    np.testing.assert_allclose(
        found["attention_1"], to_numpy(expected), atol=1e-6
    )


@pytest.mark.parametrize(
    "blocks, names",
    [
        (0, ["block_00"]),
        (-1, ["block_01"]),
        ("block_01", ["block_01"]),
        ([1, "block_00", -1], ["block_00", "block_01"]),
        (None, ["block_00", "block_01"]),
    ],
)
def test_choice_of_blocks(blocks, names, tiny_vit, images):
    found = attention_scores(tiny_vit(), images, blocks)
    assert [name for name, _ in found] == names


@pytest.mark.parametrize("blocks", [2, -3, "block_02", [], [0.5]])
def test_refuses_other_blocks(blocks, tiny_vit, images):
    with pytest.raises(ValueError, match="`blocks` must"):
        attention_scores(tiny_vit(), images, blocks)


@pytest.mark.parametrize(
    "block",
    [
        lambda index: AxialBlock(4, 32, (2, 3)),
        block_with(lambda: WindowAttention(4, (1, None), (2, 3))),
    ],
)
def test_names_the_layer_that_attends_in_windows(block, tiny_vit, images):
    def second(index):
        return block(index) if index else TransformerBlock(4, 32)

    model = tiny_vit(pooling="average", block=second)
    with pytest.raises(ValueError, match="'block_01' .*inside of windows"):
        attention_scores(model, images)
    # Those in front of it are there, and windows are no hindrance on the way.
    assert dict(attention_scores(model, images, 0))["block_00"].shape[1] == 4


def test_asks_for_the_inner_model(tiny_vit, images):
    outer = keras.Sequential([keras.Input((*SIZE, 3)), tiny_vit()])
    with pytest.raises(ValueError, match="pass it in place of the one around"):
        attention_scores(outer, images)
    with pytest.raises(ValueError, match="pass the inner one"):
        keras_vit.introspection.attention_rollout(outer, images)


@pytest.mark.parametrize("shape", [(0, 8, 12, 3), (2, 8, 8, 3), (8, 12)])
def test_refuses_other_images(shape, tiny_vit):
    """At the call, not when the first block is asked for."""
    model, looking = tiny_vit(), keras_vit.introspection
    for function in (
        attention_scores,
        looking.attention_rollout,
        looking.attention_distance,
        looking.attention_from,
        looking.token_components,
    ):
        with pytest.raises(ValueError, match="Received: shape="):
            function(model, np.zeros(shape))


@pytest.mark.parametrize(
    "function", ["attention_rollout", "attention_distance", "attention_from"]
)
def test_one_block_is_held_at_a_time(function, tiny_vit, images, monkeypatch):
    alive, most = weakref.WeakSet(), []

    class Scores(np.ndarray):
        """An array that a weak set can hold."""

        __hash__ = object.__hash__

    compute = scores._scores

    def counted(block, tokens):
        most.append(len(alive))
        array = compute(block, tokens).view(Scores)
        alive.add(array)
        return array

    monkeypatch.setattr(scores, "_scores", counted)
    getattr(keras_vit.introspection, function)(tiny_vit(), images[0])
    assert most == [0, 0]


def test_model_is_left_as_it_is(tiny_vit, images):
    model = tiny_vit(position_injection="every_layer")
    config = model.get_config()
    nodes = [len(layer._inbound_nodes) for layer in model.layers]
    dict(attention_scores(model, images))
    assert model.get_config() == config
    assert nodes == [len(layer._inbound_nodes) for layer in model.layers]
