"""What a trained Vision Transformer looks at, and what it has learned.

Every function returns NumPy arrays; `keras_vit.plot` draws them. Read in this
order: `geometry` (which token stands where), `scores` (the attention of one
block after another), `attention` (what follows from scores), `embeddings`
(filters, positions, tokens). Change nothing here without `tests/introspection`,
which compares values with the formulas and measures the memory.
"""

from keras_vit.introspection.attention import (
    attention_distance,
    attention_from,
    attention_rollout,
    mean_distance,
    rollout,
)
from keras_vit.introspection.embeddings import (
    filter_components,
    position_similarity,
    token_components,
)
from keras_vit.introspection.scores import attention_scores

__all__ = [
    "attention_distance",
    "attention_from",
    "attention_rollout",
    "attention_scores",
    "filter_components",
    "mean_distance",
    "position_similarity",
    "rollout",
    "token_components",
]
