"""Relative position biases in a file: tables, or the MLPs that make them.

Of each block, or one for all blocks: then every block of a model gets a copy.
timm's and transformers' files share what stands here.
"""

from keras_vit.checkpoints.evidence import Evidence
from keras_vit.checkpoints.guards import CheckpointError
from keras_vit.layers.relative_bias_attention import PREFIX_ROWS

# Where each pair of tokens finds its row: made of the grid, no weights.
INDEX = r".*relative_position_index"


def find(
    evidence: Evidence, depth: int, of_block: str, of_all: str
) -> str | None:
    """Returns the key of the biases of the first block, or of all.

    Args:
        evidence: the `Evidence`.
        depth: number of blocks.
        of_block: the key where each block has its own, with `{i}`.
        of_all: the key where all blocks share one array.

    Returns:
        One of the keys, or `None` if the file has neither.
    """
    has_own = evidence.in_blocks(of_block, depth)
    if not has_own and of_all not in evidence:
        return None
    if not has_own:
        evidence.notes.append(
            f"All blocks of '{evidence.path}' share '{of_all}': each block of "
            "the model has a copy, and training lets them differ."
        )
        return of_all
    if of_all in evidence:
        raise CheckpointError(
            f"'{evidence.path}' adds up '{of_all}' and '{of_block}': no "
            "attention here has two biases."
        )
    return of_block.format(i=0)


def of_table(
    evidence: Evidence,
    key: str,
    prefix: int,
    patch: tuple[int, int],
    image_size: tuple[int, int] | None,
) -> dict:
    """Returns what a table says of the attention.

    Args:
        evidence: the `Evidence`.
        key: what `find` returns.
        prefix: number of tokens before the grid.
        patch: height and width of a patch.
        image_size: height and width that somebody states, or `None`.
    """
    rows, _ = evidence.shape(key)
    extra = PREFIX_ROWS if prefix else 0
    grid = evidence.grid_of_offsets(rows - extra, patch, image_size)
    return {
        "layer": "RelativeBiasAttention",
        "grid_size": grid,
        "num_prefix_tokens": prefix,
    }
