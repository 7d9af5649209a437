"""What the first layers have learned, and what the last ones tell apart.

Dosovitskiy et al. 2021, section 4.5, figures 7 (left and centre) and 10;
components of patch tokens as colours: Oquab et al. 2023, arXiv:2304.07193,
figure 1. The host computes in float64: the results are the same on every
backend.
"""

from typing import Any

import keras
import numpy as np

from keras_vit.anatomy import find_layers, only_layer
from keras_vit.arguments import check_positive
from keras_vit.introspection.geometry import batch_of
from keras_vit.layers import PatchEncoder, Patches, PositionEmbedding
from keras_vit.models.segmentation import feature_map
from keras_vit.serving.running import predict


def filter_components(
    model: keras.Model, n: int = 28
) -> tuple[np.ndarray, np.ndarray]:
    """Returns the principal components of the filters of the patches.

    Each of the `hidden_dim` columns of the patch projection is a filter over
    the pixels of a patch. The components are the directions in which the
    filters vary most about their mean.

    Args:
        model: a functional `keras.Model` with one `Patches` and one
            `PatchEncoder`. In a hybrid the filters are over the channels of a
            feature map.
        n: number of components, at most the smaller of `hidden_dim` and the
            numbers in a patch.

    Returns:
        A pair of NumPy arrays, float64: the components, of shape `(n,
        patch_height, patch_width, channels)`, orthonormal, with the largest
        entry of each above zero; and the share of the variance that each
        explains, of shape `(n,)`, in falling order, in [0, 1].

    Raises:
        ValueError: if an argument breaks its rule, or if the kernel is
            quantised.

    Example:

    >>> model = keras_vit.ViT("Ti/16")
    >>> components, explained = keras_vit.introspection.filter_components(model)
    >>> components.shape, explained.shape
    ((28, 16, 16, 3), (28,))

    Reference:
        - [Dosovitskiy et al., 2021](https://arxiv.org/abs/2010.11929),
          figure 7 (left)
    """
    check_positive("n", n)
    patch_size = only_layer(model, Patches).patch_size
    projection = only_layer(model, PatchEncoder).projection
    if projection.quantization_mode is not None:
        raise ValueError(
            "The patch projection must not be quantised: take the model from "
            f"before. Received: {projection.quantization_mode}"
        )
    kernel = keras.ops.convert_to_numpy(projection.kernel).astype("float64")
    if n > min(kernel.shape):
        raise ValueError(
            f"`n` must be at most {min(kernel.shape)}, the smaller of "
            f"hidden_dim and the numbers in a patch. Received: n={n}"
        )
    _, components, explained = principal_components(kernel.T)
    return components[:n].reshape(n, *patch_size, -1), explained[:n]


def position_similarity(model: keras.Model) -> np.ndarray:
    """Returns the cosine similarity of every two position embeddings.

    The embeddings are those of the model's first `PositionEmbedding`, on the
    grid of its tables, without the row of a class token.

    Args:
        model: a `keras.Model` with positions of any kind except relative and
            rotary, which give no vector to a token.

    Returns:
        A NumPy array of shape `(rows, columns, rows, columns)`, float64, in
        [-1, 1]: at `[i, j]` the similarity of the patch in row `i` and column
        `j` to all patches. To itself it is 1. The similarity of a position of
        zeros is 0, also to itself.

    Raises:
        ValueError: if the model has no position embedding.

    Example:

    >>> model = keras_vit.ViT("Ti/16", image_size=(32, 48))
    >>> keras_vit.introspection.position_similarity(model).shape
    (2, 3, 2, 3)

    Reference:
        - [Dosovitskiy et al., 2021](https://arxiv.org/abs/2010.11929),
          figures 7 (centre) and 10, appendix D.4
    """
    layers = find_layers(model, PositionEmbedding)
    if not layers:
        raise ValueError(
            "`model` must have a `PositionEmbedding` layer. "
            f"Received: '{model.name}', which has none"
        )
    rows, columns = layers[0].grid_size
    hidden_dim = only_layer(model, PatchEncoder).hidden_dim
    table = layers[0].positions(rows, columns, hidden_dim)
    table = keras.ops.convert_to_numpy(table).astype("float64")
    table = table[layers[0].num_prefix_tokens :]
    norms = np.linalg.norm(table, axis=-1, keepdims=True)
    table = np.divide(table, norms, out=np.zeros_like(table), where=norms > 0)
    return np.clip(table @ table.T, -1, 1).reshape(rows, columns, rows, columns)


def token_components(
    model: keras.Model,
    images: Any,
    tap: str = "encoder_norm",
    batch_size: int = 32,
) -> np.ndarray:
    """Returns the patch tokens of images as colours.

    Red, green and blue are the first three principal components of the tokens
    of all images together, each stretched to [0, 1]. Patches of the same
    colour, in one image or in several, are similar to the model.

    Args:
        model: a functional `keras.Model` with one `Patches` and one
            `PatchEncoder`.
        images: array of shape `(batch, height, width, channels)`, or one
            image without the first axis.
        tap: name of the layer whose output the tokens are.
        batch_size: images a step.

    Returns:
        A NumPy array of shape `(batch, rows, columns, 3)`, float64, in [0, 1].
        A component that does not exist (all tokens are equal) is 0.

    Raises:
        ValueError: if images have another shape than the model takes, or if
            the model does not have one `Patches` and one `PatchEncoder`.

    Example:

    >>> model = keras_vit.ViT("Ti/16", image_size=(32, 48))
    >>> images = np.random.default_rng(0).uniform(0, 255, (2, 32, 48, 3))
    >>> keras_vit.introspection.token_components(model, images).shape
    (2, 2, 3, 3)

    Reference:
        - [Oquab et al., 2023](https://arxiv.org/abs/2304.07193), figure 1
    """
    images = batch_of(model, images)
    for kind in (Patches, PatchEncoder):
        only_layer(model, kind)
    maps = predict(
        feature_map(model, tap), images, batch_size=batch_size, verbose=0
    )
    tokens = maps.reshape(-1, maps.shape[-1]).astype("float64")
    scores, _, _ = principal_components(tokens)
    colors = np.zeros((len(tokens), 3))
    for color, score in zip(colors.T, scores.T):
        low, high = score.min(), score.max()
        # A range of rounding errors counts as none.
        if high - low > 1e-6 * np.abs(tokens).max():
            color[:] = (score - low) / (high - low)
    return colors.reshape(*maps.shape[:3], 3)


def principal_components(
    x: np.ndarray,
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Returns the principal components of the rows of a matrix.

    Args:
        x: array of shape `(num_samples, num_features)`, float64.

    Returns:
        Three arrays: the scores of the samples, `(num_samples, k)`, with k the
        smaller of the two sizes; the components, `(k, num_features)`; and the
        share of the variance that each explains, `(k,)`. The largest entry of
        each component is above zero, which settles the signs.
    """
    centred = x - x.mean(axis=0)
    # R is square and has the singular values and right singular vectors of
    # the matrix, which has many more rows (tokens) than columns (features).
    triangle = np.linalg.qr(centred, mode="r")
    _, values, components = np.linalg.svd(triangle, full_matrices=False)
    largest = np.abs(components).argmax(axis=1)
    signs = np.sign(components[np.arange(len(components)), largest])
    components *= np.where(signs, signs, 1)[:, None]
    variances = values**2
    explained = variances / max(variances.sum(), np.finfo("float64").tiny)
    return centred @ components.T, components, explained
