"""What a model costs: parameters, multiplications, memory, exaFLOPs.

`cost` is the door. `of_variants` computes the cost of a name, without building
anything; `of_models` counts a model layer by layer. Both use `formulas`. Change
none of them without `tests/costs`, which compares one with the other and both
with published numbers.
"""

from keras_vit.costs.cost import cost, exaflops
from keras_vit.costs.formulas import Cost

__all__ = ["Cost", "cost", "exaflops"]
