"""What a model costs, and how well it does."""

from keras_vit.evaluation.cost import Cost, cost

__all__ = ["Cost", "cost"]
