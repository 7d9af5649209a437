"""The table of `reference/checkpoints.md`, from the presets themselves."""

import re

import keras_vit

BLOCK = re.compile(r"^```\{presets\}\n```$", re.MULTILINE)
# What an accuracy is of, in the words of the page.
MEASURES = {"head": "", "linear": " (linear)", "zero-shot": " (zero-shot)"}


def list_presets(app, docname, source):
    """Puts the table in the place of its block."""
    if docname == "reference/checkpoints":
        source[0] = BLOCK.sub(lambda _: table(), source[0])


def table():
    """Returns a row for each preset, as Markdown."""
    lines = [
        "| Name | Pixels | Classes | ImageNet top-1 | Opened by | License "
        "| Source |",
        "|---|---:|---:|---:|---|---|---|",
    ]
    for preset in keras_vit.presets():
        accuracy = "-"
        if preset.accuracy is not None:
            accuracy = f"{preset.accuracy} %{MEASURES[preset.measure]}"
        if preset.family == "cifar100":
            accuracy += " (CIFAR-100)"
        opener = "`ViT`" if preset.plain else "`from_checkpoint`"
        lines.append(
            f"| `{preset.name}` | {preset.image_size} "
            f"| {preset.num_classes or '-'} | {accuracy} | {opener} "
            f"| {preset.license} | {preset.source} |"
        )
    return "\n".join(lines)
