"""Images against texts: classes that no head was trained for."""

from typing import Any

import keras
import numpy as np

from keras_vit.anatomy import check_functional, logit_scale_of
from keras_vit.arguments import check_above_zero
from keras_vit.serving.classifying import read_batch
from keras_vit.serving.running import predict


def zero_shot(
    model: keras.Model,
    images: Any,
    text_embeddings: Any,
    *,
    scale: float | None = None,
    bias: float | None = None,
    batch_size: int = 32,
) -> np.ndarray:
    """Compares images with texts, as a network trained on both does.

    The logit of an image and a text is

        scale * cosine(embedding of the image, embedding of the text) + bias

    It is `logits_per_image` of transformers. Of CLIP take the softmax over the
    texts, of SigLIP the sigmoid of each logit. Texts are embedded elsewhere:
    by the tower of texts that belongs to the model.

    Args:
        model: a `keras.Model` from images to embeddings, such as
            `from_checkpoint(source, embedding=True)` returns.
        images: what `classify` takes: a path, a PIL image, an array, a list of
            them, or a batch of `load_images`.
        text_embeddings: array of shape `(num_texts, dim)`, of any length.
        scale: factor of the cosine. Defaults to that of the model.
        bias: what is added. Defaults to that of the model.
        batch_size: images a step.

    Returns:
        Array of logits, `float32` of shape `(num_images, num_texts)`.

    Raises:
        ValueError: if shapes do not fit, a number is not finite, or neither
            the model nor the caller says what the scale is.

    Example:

    ```python
    model = keras_vit.from_checkpoint(
        "hf://openai/clip-vit-base-patch32", embedding=True
    )
    logits = keras_vit.zero_shot(model, ["zebra.jpg"], text_embeddings)
    ```

    Reference:
        - [Radford et al., 2021](https://arxiv.org/abs/2103.00020), section 3.1
    """
    check_functional(model)
    texts = np.asarray(text_embeddings, "float64")
    dim = model.output_shape[-1]
    if texts.ndim != 2 or texts.shape[1] != dim or not len(texts):
        raise ValueError(
            f"`text_embeddings` must be of shape (num_texts, {dim}), as "
            f"'{model.name}' embeds images. Received: shape={texts.shape}"
        )
    own = logit_scale_of(model)
    if scale is None and own is None:
        raise ValueError(
            f"'{model.name}' does not say by what the cosine is multiplied. "
            "Pass `scale`, or open the file of both towers with "
            "`from_checkpoint(source, embedding=True)`."
        )
    scale = own.scale if scale is None else check_above_zero("scale", scale)
    if bias is None:
        bias = 0.0 if own is None else own.bias
    batch, _ = read_batch(model, images)
    embeddings = predict(model, batch, batch_size=batch_size, verbose=0)
    embeddings = _unit("The embeddings of the images", embeddings)
    texts = _unit("`text_embeddings`", texts)
    return (scale * embeddings @ texts.T + bias).astype("float32")


def _unit(name, vectors):
    """Vectors of length 1."""
    vectors = vectors.astype("float64")
    lengths = np.linalg.norm(vectors, axis=1, keepdims=True)
    # Not `lengths <= 0`, which NaN would pass.
    if not (np.isfinite(lengths) & (lengths > 0)).all():
        raise ValueError(f"{name} must be finite, and none of them zero.")
    return vectors / lengths
