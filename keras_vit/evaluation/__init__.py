"""What a model costs, and how well it does."""

from keras_vit.evaluation.cost import cost, exaflops
from keras_vit.evaluation.formulas import Cost

__all__ = ["Cost", "cost", "exaflops"]
