"""What a model costs: parameters, multiply-accumulates, memory, training.

The host computes it by the formulas of `formulas.py`. Profilers of the backends
disagree by up to a third on the same model, because some count element-wise
work and some do not see fused attention. Papers and libraries that print
"GFLOPs" mean either MACs or twice as many.
"""

from collections.abc import Sequence
from typing import Any

import keras

from keras_vit.anatomy import image_input
from keras_vit.arguments import check_pair
from keras_vit.costs.formulas import Cost
from keras_vit.costs.of_models import model_cost
from keras_vit.costs.of_variants import resnet_cost, vit_cost
from keras_vit.variants import Variant

DEFAULT_SIZE = 224


def cost(
    model_or_variant: Variant | str | keras.Model | tuple[Sequence[int], float],
    image_size: int | tuple[int, int] | None = None,
    *,
    fused_attention: bool = True,
    **options: Any,
) -> Cost:
    """Counts parameters, multiply-accumulates and activations.

    For a variant this is arithmetic: no model is built, so a model of billions
    of parameters takes as little as a small one. For a model the weights that
    it has are counted.

    Args:
        model_or_variant: a name, `"B/16"`, `"R50+B/16"` or, for a ResNet,
            `"50x1"`; a `keras_vit.Variant`; or a functional `keras.Model` made
            of this library's layers, dense layers, convolutions and layers
            without kernels.
        image_size: height and width in pixels, an int or a pair. Defaults to
            224 for a variant and to a model's own size. A model for images of
            any size has no default.
        fused_attention: whether attention runs in a fused kernel, which keeps
            no scores for the backward pass.
        **options: for a variant, by the names and with the defaults that they
            have in `ViT`: `num_channels`, `num_classes`, `pooling`,
            `position`, `position_injection`, `num_registers`,
            `representation_dim`, `remainder`, `activation` and
            `norm_after_pooling`; for a ResNet, as in `ResNet`,
            `num_channels`, `num_classes` and `preactivation`.

    Returns:
        A `Cost`, which prints as a table.

    Raises:
        ValueError: if an argument breaks its rule; if the patch does not
            divide the image; if the model is for images of another size, or
            for any size and none is given; or if a layer with kernels is of a
            class that is not known here.
        TypeError: if there is no such option, or if a model is given options.

    Example:

    >>> print(keras_vit.cost("L/16", 384))
    parameters            304,715,752    304.72 M    1.22 GB in float32
    MACs              191,066,300,416    191.07 G
      of attention     16,364,126,208     16.36 G    8.6 %
    tokens                        577
    activations           228,511,720    228.51 M    914.05 MB in float32
    >>> keras_vit.cost("e/14", pooling="attention").parameters
    3875135720
    """
    if isinstance(model_or_variant, keras.Model):
        if options:
            raise TypeError(
                "A model has its own options; only a variant takes them. "
                f"Received: {', '.join(options)}"
            )
        size = _free_size(model_or_variant, image_size)
        return model_cost(model_or_variant, fused_attention, size)
    if image_size is None:
        image_size = DEFAULT_SIZE
    image_size = check_pair("image_size", image_size)
    if _names_resnet(model_or_variant):
        return resnet_cost(model_or_variant, image_size, **options)
    return vit_cost(model_or_variant, image_size, fused_attention, **options)


def exaflops(
    variant: Variant | str | keras.Model | tuple[Sequence[int], float],
    epochs: float,
    images: float = 303e6,
    image_size: int | tuple[int, int] | None = None,
    **options: Any,
) -> float:
    """Returns the compute that a training takes, as in the paper's Table 6.

    The forward pass takes two operations for each multiply-accumulate. The
    backward pass takes twice as many, for the gradients of the weights and of
    their inputs:

        exaFLOPs = 2 * 3 * macs * images * epochs / 1e18

    With the 303 million images of JFT this meets Table 6 within 0.5 % for the
    Vision Transformers from B/16 on, within 2 % for the hybrids and, but for
    the rounding, B/32 (56.1, printed as 55), and within 4.5 % for the ResNets.
    One entry cannot be met: the 859 of R50+ViT-L/16 at 7 epochs are not half
    of its 1668 at 14.

    Args:
        variant: what `cost` takes: a name, a `keras_vit.Variant` or a model.
        epochs: passes over the images.
        images: images in a pass.
        image_size: height and width in pixels, an int or a pair. Defaults to
            that of `cost`.
        **options: as in `cost`.

    Returns:
        A float, in units of 1e18 operations.

    Example:

    >>> keras_vit.costs.exaflops("L/16", epochs=14)
    1566.6...

    Reference:
        - [Dosovitskiy et al., 2021](https://arxiv.org/abs/2010.11929),
          table 6
    """
    macs = cost(variant, image_size, **options).macs
    return 6 * macs * images * epochs / 1e18


def _names_resnet(variant):
    if isinstance(variant, str):
        return "/" not in variant and variant[:1].isdecimal()
    return isinstance(variant, (tuple, list))


def _free_size(model, image_size):
    """Returns the size at which to count a model for any size, else None."""
    if image_size is None:
        return None
    size = check_pair("image_size", image_size)
    own, _ = image_input(model)
    if any(known not in (None, edge) for known, edge in zip(own, size)):
        taken = " x ".join(str(edge or "any") for edge in own)
        raise ValueError(
            f"`model` is for images of {taken} pixels: for another size see "
            "`keras_vit.change_resolution`. Received: "
            f"image_size={image_size}"
        )
    return size if None in own else None
