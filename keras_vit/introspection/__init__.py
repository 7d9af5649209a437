"""What a trained Vision Transformer looks at, and what it has learned."""

from keras_vit.introspection import plot
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
from keras_vit.introspection.explore import explore
from keras_vit.introspection.scores import attention_scores

__all__ = [
    "attention_distance",
    "attention_from",
    "attention_rollout",
    "attention_scores",
    "explore",
    "filter_components",
    "mean_distance",
    "plot",
    "position_similarity",
    "rollout",
    "token_components",
]
