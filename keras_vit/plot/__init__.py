"""Figures of what is inside a Vision Transformer, and of its training.

Each function returns a `matplotlib.figure.Figure`. A notebook shows it as the
last line of a cell, `figure.savefig` writes it to a file. `figures` has what
all share, with colours (viridis, Okabe and Ito) that everyone can tell apart.
`attention` and `embeddings` draw `keras_vit.introspection`, `training` draws
data and curves, and `explore` is a figure to click on. See `tests/plot` and
`tests/browser`.
"""

from keras_vit.plot.attention import (
    attention_distance,
    attention_from,
    attention_rollout,
    attention_scores,
)
from keras_vit.plot.embeddings import (
    filter_components,
    position_similarity,
    token_components,
)
from keras_vit.plot.explore import explore
from keras_vit.plot.training import history, images

__all__ = [
    "attention_distance",
    "attention_from",
    "attention_rollout",
    "attention_scores",
    "explore",
    "filter_components",
    "history",
    "images",
    "position_similarity",
    "token_components",
]
