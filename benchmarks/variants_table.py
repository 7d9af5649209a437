"""Writes the table of variants in README.md: parameters and GMACs.

    python benchmarks/variants_table.py          writes it
    python benchmarks/variants_table.py --check  fails if it is out of date

Counted by `keras_vit.cost` with 1000 classes at 224 x 224 pixels, class token
and head included; a GMAC is 1e9 multiply-accumulates of matrix products.
"""

import pathlib
import sys

import keras_vit

README = pathlib.Path(__file__).parents[1] / "README.md"
START, END = "<!-- variants -->", "<!-- /variants -->"
# The paper's sizes and AugReg's, then those of "Scaling Vision Transformers"
# and So400m, each at the patch size it was published with.
NAMES = (
    "Ti/16 S/32 S/16 B/32 B/16 L/32 L/16 H/14 So400m/14 g/14 G/14 e/14"
).split()


def table():
    """Returns the table as Markdown."""
    rows = [
        "| Variant | Layers | Width | MLP | Heads | Parameters | GMACs |",
        "|---|---:|---:|---:|---:|---:|---:|",
    ]
    for name in NAMES:
        variant = keras_vit.variants.parse_variant(name)
        cost = keras_vit.cost(variant)
        rows.append(
            f"| `{name}` | {variant.num_layers} | {variant.hidden_dim} "
            f"| {variant.mlp_dim} | {variant.num_heads} "
            f"| {cost.parameters:,} | {cost.macs / 1e9:.2f} |"
        )
    return "\n".join(rows)


def main():
    text = README.read_text("utf-8")
    before, _, rest = text.partition(START)
    _, _, after = rest.partition(END)
    new = f"{before}{START}\n{table()}\n{END}{after}"
    if "--check" in sys.argv:
        sys.exit("README.md: table is out of date" if new != text else 0)
    README.write_text(new, encoding="utf-8")


if __name__ == "__main__":
    main()
