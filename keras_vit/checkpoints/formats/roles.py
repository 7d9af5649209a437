"""The weights that libraries cut in different ways, by name.

A class token may have a row of the position table or not, and registers may
have rows: `tokens` brings these three into the form of a model, so rules give
them roles where all other weights have paths. A table may also be the sum of
two, one for rows and one for columns.
"""

CLS_TOKEN = "patch_encoder/cls_token"
REGISTERS = "patch_encoder/register_tokens"
POSITIONS = "patch_encoder/position_embedding/table"
ROWS = "rows of the position table"
COLUMNS = "columns of the position table"
ROLES = (CLS_TOKEN, REGISTERS, POSITIONS, ROWS, COLUMNS)
