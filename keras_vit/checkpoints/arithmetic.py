"""What neither names nor shapes of weights tell, compared before a load.

The same arrays fit into networks that compute something else: another GELU or
epsilon, another number of heads, a norm behind the branch, rotary or sparse
attention, rotary positions of another convention, another border of a pool,
images of other statistics.
"""

import numpy as np

from keras_vit.anatomy import (
    ROOT_PADDINGS,
    find_layers,
    pooling_of,
    preprocessing_of,
    trunks_of,
)
from keras_vit.layers import (
    MLP,
    LayerNorm,
    RelativeBiasAttention,
    RelativeMLPAttention,
    RMSNorm,
    RotaryAttention,
    TransformerBlock,
)
from keras_vit.layers.residual_unit import trunk_arithmetic

# Arguments that decide by which angles queries and keys are turned.
ROTATION = (
    "base",
    "pairing",
    "coordinates",
    "indexing",
    "grid_offset",
    "reference_grid",
)


def arithmetic_problems(model, form, checkpoint, description, pooling=True):
    """Returns sentences about where a model computes something else.

    Args:
        model: the `keras.Model` that is to take the weights.
        form: the `Format` of the file.
        checkpoint: the `Checkpoint`.
        description: the network that the file is of, a `Description`, or
            `None` if nothing says so.
        pooling: whether the pooling counts.
    """
    expected = {
        "activation": checkpoint.activation or form.activation,
        "epsilon": checkpoint.epsilon or form.epsilon,
        "attention": "SelfAttention",
        "norm_after": False,
    }
    if form.root_padding is not None:
        expected["root_padding"] = form.root_padding
    stated = None
    if description is not None:
        expected |= {
            "activation": description.activation,
            "epsilon": description.epsilon,
            "attention": description.attention.get("layer", "SelfAttention"),
            "norm_after": description.block.get("norm_after", False),
            **description.stated,
        }
        stated = expected.pop("preprocessing", None)
    if not pooling:
        expected.pop("pooling", None)
    given = arithmetic_of(model)
    # A gated MLP has weights of its own, which tell by themselves.
    given["activation"].discard("swiglu")
    if expected["activation"] == "swiglu":
        given["activation"] = set()
    found = [
        (name, value, given[name])
        for name, value in expected.items()
        if given[name] - {value}
    ]
    if description is not None:
        found += _other_places(model, description)
    problems = [
        f"weights of {form.name} are made for {name}={value!r}, the model has "
        f"{', '.join(sorted(map(repr, others)))}. Build it with "
        f"`{name}={value!r}`, or pass `check_numerics=False`."
        for name, value, others in found
    ]
    if description is not None:
        problems += _problems_with_trunk(model, form, description)
    return problems + _problems_with_pixels(preprocessing_of(model), stated)


def _other_places(model, description):
    """Arguments of the attention with the right value and the model's."""
    found = {}
    for block in find_layers(model, TransformerBlock):
        attention = block.attention
        if type(attention).__name__ != description.attention.get("layer"):
            continue  # which is another complaint
        own, right = places_of(attention), _as_described(attention, description)
        for name, value in right.items():
            if own.get(name, value) != value:
                found.setdefault((name, value), set()).add(own[name])
    return [(name, value, others) for (name, value), others in found.items()]


def _as_described(attention, description):
    """What the attention of the file makes of places, on the model's grid."""
    own = dict(description.attention)
    own.pop("layer")
    # It goes with the heads, which may not be known.
    own.pop("num_kv_heads", None)
    if isinstance(attention, RotaryAttention):
        own["grid_size"] = attention.grid_size
    return places_of(type(attention)(description.variant.num_heads, **own))


def _problems_with_trunk(model, form, description):
    right = trunk_arithmetic(**description.trunk)
    return [
        f"weights of {form.name} are made for a ResNet of {right}, the model "
        f"has one of {given}. Build it with `trunk={description.trunk}`, or "
        "pass `check_numerics=False`."
        for given in trunks_of(model)
        if given != right
    ]


def _problems_with_pixels(own, stated):
    # A model without it takes images that are prepared already.
    if own is None or stated is None:
        return []
    for name in ("mean", "std"):
        given, right = getattr(own, name), getattr(stated, name)
        channels = max(len(given), len(right))
        if min(len(given), len(right)) not in (1, channels):
            continue  # of other channels, which is another complaint
        if not np.allclose(given, right, atol=1e-3):
            return [
                f"images of these weights had {name}={right}, the model is "
                f"made for {given}. Build it with `preprocessing="
                f"keras_vit.Preprocessing({stated.mean}, {stated.std})`, or "
                "pass `check_numerics=False`."
            ]
    return []


def arithmetic_of(model):
    """Returns what of a model neither paths nor shapes of its weights tell.

    Args:
        model: a `keras.Model`.

    Returns:
        A dict of sets: `activation` of its MLPs, `epsilon` of its norms, of
        its blocks the class of `attention`, `num_heads` and `norm_after`, its
        `pooling`, by the name that `ViT` has for it, and `root_padding` of a
        ResNet.
    """
    names = {layer.name for layer in model.layers}
    blocks = find_layers(model, TransformerBlock)
    return {
        "activation": {str(x.activation) for x in find_layers(model, MLP)},
        "epsilon": {
            x.epsilon for x in find_layers(model, (LayerNorm, RMSNorm))
        },
        "attention": {type(x.attention).__name__ for x in blocks},
        "num_heads": {getattr(x.attention, "num_heads", None) for x in blocks},
        "norm_after": {x.norm_after for x in blocks},
        "pooling": {pooling_of(model)},
        "root_padding": {ROOT_PADDINGS[x] for x in names & set(ROOT_PADDINGS)},
    }


def places_of(attention):
    """Returns what an attention makes of places that no weight tells.

    Args:
        attention: a layer.

    Returns:
        A dict from arguments of the layer to values: equal for two layers of
        one class that compute the same with the same weights.
    """
    if isinstance(attention, RotaryAttention):
        own = {name: getattr(attention, name) for name in ROTATION}
        # Without one, the grid is its own; normalized places need none.
        own["reference_grid"] = attention.reference_grid or attention.grid_size
        if attention.coordinates == "normalized":
            del own["reference_grid"]
        if attention.mixed:
            # Where its learned frequencies began is past.
            del own["base"]
        return own
    # Tables of 3 x 4 and of 4 x 3 cells have one shape.
    tables = isinstance(attention, RelativeBiasAttention)
    if tables and not isinstance(attention, RelativeMLPAttention):
        return {"grid_size": attention.grid_size}
    return {}
