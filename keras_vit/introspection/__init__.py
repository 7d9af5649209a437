"""What a trained Vision Transformer looks at, and what it has learned.

Every function returns NumPy arrays; `keras_vit.plot` draws them. `scores` walks
over the blocks, `attention` and `embeddings` read what it finds, `geometry`
says which token stands where.
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
