"""What a model costs: parameters, multiplications, memory, exaFLOPs.

`of_variants` computes it from a name, without building anything; `of_models`
counts it layer by layer. `formulas` is what both share, and tests hold one to
the other and both to published numbers.
"""

from keras_vit.costs.cost import cost, exaflops
from keras_vit.costs.formulas import Cost

__all__ = ["Cost", "cost", "exaflops"]
