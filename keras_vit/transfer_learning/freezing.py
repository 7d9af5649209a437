"""Fine-tuning part of a model: lower rates for lower layers, frozen layers.

These are plain functions over a model whose layers have this library's names
(`patch_encoder`, `block_00`, ..., `head`), so your own models with such names
work too. The Vision Transformer paper (arXiv 2010.11929) fine-tunes all layers
at one rate; layer-wise rates are those of BEiT (arXiv 2106.08254).
Left out: schedules that unfreeze layers during training.
"""

from collections.abc import Sequence

import keras

from keras_vit.anatomy import block_layers, layer_names, listed
from keras_vit.arguments import check_above_zero


def layer_wise_learning_rates(
    model: keras.Model, decay: float = 0.75
) -> dict[str, float]:
    """Returns learning rates that fall from the head down to the patches.

    With `L` blocks the layer of depth `i` learns at

        decay ** (L + 1 - i)

    times the rate. Everything before the first block (patch encoder,
    convolutional trunk of a hybrid) has depth 0, block `i`, counted from 0,
    has depth `i + 1`, and everything after the last block (final norm, head)
    has depth `L + 1`, so its multiplier is 1.

    Args:
        model: a model with layers named `block_00`, `block_01`, ...
        decay: factor from one block to the block below it, in `(0, 1]`.

    Returns:
        A dict of layer path (here: name) to multiplier, for all layers with
        weights, in the order of the model.

    Raises:
        ValueError: if the model has no layer named like a block, or `decay`
            is outside its range.

    Example:

    ```python
    rates = layer_wise_learning_rates(model, decay=0.75)
    model.compile(
        **recipes.finetune(steps=500, learning_rate_multipliers=rates)
    )
    ```

    Reference:
        - [Bao et al., 2021](https://arxiv.org/abs/2106.08254), fine-tuning
          settings
    """
    decay = check_above_zero("decay", decay)
    if decay > 1:
        raise ValueError(f"`decay` must be in (0, 1]. Received: decay={decay}")
    blocks = [layer.name for layer in block_layers(model)]
    if not blocks:
        raise ValueError(
            "`model` must have layers named 'block_00', 'block_01', ... "
            f"Received: a model with layers {layer_names(model)}"
        )
    multipliers = {}
    depth = 0
    for layer in model.layers:
        if layer.name in blocks:
            depth = blocks.index(layer.name) + 1
        if layer.weights:
            # The path is the name; in a `Sequential` the path starts with the
            # name of the model.
            multipliers[layer.path] = decay ** (len(blocks) + 1 - depth)
        if layer.name == blocks[-1]:
            depth = len(blocks) + 1
    return multipliers


def freeze(
    model: keras.Model,
    taps: str | Sequence[str] | None = None,
    up_to: str | None = None,
) -> keras.Model:
    """Freezes layers of a model, in place.

    Sets `trainable = False` on the named layers. Compile the model afterwards,
    even if it was compiled before: Keras builds its training step and its
    optimizer for the variables that are trainable when `compile` is called.

    Args:
        model: a model with named layers.
        taps: name or names of the layers to freeze.
        up_to: name of a layer: freezes it and all layers before it, in the
            order of `model.layers`. Give either this or `taps`.

    Returns:
        The same model.

    Raises:
        ValueError: if a name is unknown, or unless exactly one of `taps` and
            `up_to` is given.

    Example:

    ```python
    model = freeze(model, up_to="block_05")  # train the upper half
    model.compile(**recipes.finetune(steps=500))
    ```
    """
    names = [layer.name for layer in model.layers]
    if (taps is None) == (up_to is None):
        raise ValueError(
            "Exactly one of `taps` and `up_to` must be given. Received: "
            f"taps={taps!r}, up_to={up_to!r}"
        )
    argument = "taps" if up_to is None else "up_to"
    wanted = taps if up_to is None else up_to
    wanted = [wanted] if isinstance(wanted, str) else list(wanted)
    unknown = [name for name in wanted if name not in names]
    if unknown:
        raise ValueError(
            f"`{argument}` must name layers of the model, which are "
            f"{listed(names)}. Received: {listed(unknown)}"
        )
    if up_to is not None:
        wanted = names[: names.index(up_to) + 1]
    for name in wanted:
        model.get_layer(name).trainable = False
    return model
