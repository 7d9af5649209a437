"""Figures of what is inside a Vision Transformer, and of its training.

Each function returns a `matplotlib.figure.Figure`, which a notebook shows when
it is the last line of a cell, and which `figure.savefig` writes to a file.
Colours are those of viridis and of Okabe and Ito, which everyone can tell
apart. `explore` is a figure to click on.
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
