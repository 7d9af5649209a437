"""What a model costs: parameters, multiply-accumulates, memory, training.

Computed on the host, by the formulas of `formulas.py`: profilers of the
backends disagree with one another by up to a third on the same model, because
some count element-wise work and some do not see fused attention. Papers and
libraries that print "GFLOPs" mean either MACs or twice as many.
"""

import keras

from keras_vit.arguments import check_pair
from keras_vit.costs.of_models import model_cost
from keras_vit.costs.of_variants import resnet_cost, vit_cost

DEFAULT_SIZE = 224


def cost(model_or_variant, image_size=224, *, fused_attention=True, **options):
    """Counts parameters, multiply-accumulates and activations.

    Of a variant this is arithmetic: no model is built, so a model of billions
    of parameters takes as little as a small one. Of a model the weights that
    are there are counted.

    Args:
        model_or_variant: a name, `"B/16"`, `"R50+B/16"` or, of a ResNet,
            `"50x1"`; a `keras_vit.Variant`; or a functional `keras.Model` made
            of this library's layers, dense layers, convolutions and layers
            without kernels, for images of one size.
        image_size: height and width in pixels, an int or a pair. A model has
            its own.
        fused_attention: whether attention runs in a fused kernel, which keeps
            no scores for the backward pass.
        **options: of a variant, by the names and with the defaults that they
            have in `ViT`: `num_channels`, `num_classes`, `pooling`,
            `position`, `position_injection`, `num_registers`,
            `representation_dim`, `remainder`, `activation` and
            `norm_after_pooling`; of a ResNet, as in `ResNet`, `num_channels`,
            `num_classes` and `preactivation`.

    Returns:
        A `Cost`, which prints as a table.

    Raises:
        ValueError: if an argument breaks its rule; if the patch does not
            divide the image; or if the model has kernels in a layer of a kind
            not known here, or takes images of any size.
        TypeError: if there is no such option, or any for a model.

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
        _check_size_of(model_or_variant, image_size)
        return model_cost(model_or_variant, fused_attention)
    image_size = check_pair("image_size", image_size)
    if _names_resnet(model_or_variant):
        return resnet_cost(model_or_variant, image_size, **options)
    return vit_cost(model_or_variant, image_size, fused_attention, **options)


def exaflops(variant, epochs, images=303e6, image_size=224, **options):
    """Returns the compute that a training takes, as in the paper's Table 6.

    The forward pass takes two operations for each multiply-accumulate, and
    the backward pass twice as many, for the gradients of the weights and of
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
        image_size: height and width in pixels, an int or a pair.
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


def _check_size_of(model, image_size):
    if image_size == DEFAULT_SIZE:  # nothing was asked for
        return
    size = check_pair("image_size", image_size)
    shape = model.inputs[0].shape[1:]
    if size not in (shape[:2], shape[1:]):
        raise ValueError(
            "A model has an image size of its own. Received: "
            f"image_size={image_size} for a model of inputs {shape}"
        )
