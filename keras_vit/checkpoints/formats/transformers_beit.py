"""The relative position biases of BEiT and Data2Vec in transformers.

The rest of the two is in `transformers` and `transformers_describe`. Source:
transformers 5, `models/beit/modeling_beit.py`.
"""

import dataclasses

from keras_vit.checkpoints.description import Description
from keras_vit.checkpoints.evidence import Evidence
from keras_vit.checkpoints.formats import relative_biases
from keras_vit.checkpoints.formats.transformers_describe import (
    LAYER,
    describe_beit,
)
from keras_vit.checkpoints.guards import CheckpointError
from keras_vit.checkpoints.rules import Rule, for_all_blocks

TABLE = "relative_position_bias.relative_position_bias_table"
OF_BLOCK = f"{LAYER}attention.attention.{TABLE}"
OF_ALL = f"encoder.{TABLE}"
_PATH = ("block_{i:02d}/attention/bias_table",)
RULES = (
    Rule(OF_BLOCK, _PATH),
    *for_all_blocks(Rule(OF_ALL, _PATH)),
)


def describe(evidence: Evidence) -> Description:
    """Returns the `Description` of BEiT and Data2Vec, with biases or not."""
    depth = evidence.depth(f"{LAYER}attention.output.dense.weight")
    key = relative_biases.find(evidence, depth, OF_BLOCK, OF_ALL)
    if key is None:
        return describe_beit(evidence)
    heads = evidence.shape(key)[1]
    description = describe_beit(
        dataclasses.replace(
            evidence, given={"num_heads": heads, **evidence.given}
        )
    )
    patch = description.variant.patch_size
    biases = relative_biases.of_table(
        evidence, key, 1, patch, description.image_size
    )
    rows, columns = grid = biases["grid_size"]
    if rows != columns:
        raise CheckpointError(
            f"'{evidence.path}' has relative biases of a grid of {grid}, whose "
            "rows and columns `BeitRelativePositionBias` of transformers "
            "exchanges: no attention here does. BEiT of timm is read."
        )
    return dataclasses.replace(
        description,
        image_size=tuple(cells * edge for cells, edge in zip(grid, patch)),
        attention=description.attention | biases,
    )
