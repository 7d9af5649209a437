"""Writes the page of figures of `transfer.py` from the results it left."""

import json
import textwrap

import numpy as np

PARTS = "abcd"
NOT_RUN = "Not measured yet."


def write_page(folder, path):
    """Writes the page.

    Args:
        folder: `pathlib.Path` with `a.json`, `b.json`, ...; what is missing
            is marked as such on the page.
        path: `pathlib.Path` of the page.
    """
    results = {}
    for name in PARTS:
        file = folder / f"{name}.json"
        results[name] = (
            json.loads(file.read_text("utf-8")) if file.is_file() else None
        )
    path.write_text(page(**results), encoding="utf-8")


def page(a, b, c, d):
    """Returns the page; a part without results is `None`."""
    first = a or b or c or d
    if first is None:
        raise ValueError("No part has left a result: run `--part all` first.")
    sections = [
        _setup(first, b, c),
        "## (a) Few-shot\n\n" + (_few_shot(a) if a else NOT_RUN),
        "## (b) Fine-tuning against training from scratch\n\n"
        + (_finetuning(b) if b else NOT_RUN),
        "## (c) Pre-training on the images alone\n\n"
        + (_masked(c, a, b) if c else NOT_RUN),
        "## (d) Fine-tuning at a higher resolution\n\n"
        + (_resolution(d, a, b) if d else NOT_RUN),
    ]
    return filled("\n\n".join(sections)) + "\n"


def filled(text):
    """The text with its lines of prose broken anew, after numbers went in."""
    paragraphs = text.split("\n\n")
    return "\n\n".join(
        paragraph
        if paragraph.startswith(("#", "|", "    "))
        else textwrap.fill(
            paragraph, 80, break_long_words=False, break_on_hyphens=False
        )
        for paragraph in paragraphs
    )


def spread(values):
    """Mean and population standard deviation, in percent."""
    values = 100 * np.asarray(values)
    return f"{values.mean():.1f} ± {values.std():.1f}"


def table(head, rows):
    lines = [head, ["---", *["---:"] * (len(head) - 1)], *rows]
    return "\n".join(f"| {' | '.join(map(str, line))} |" for line in lines)


def compared(ours, theirs):
    """Says in words which of two lists over the same seeds is higher.

    "Clearly" is when the means are further apart than the two standard
    deviations together.
    """
    ours, theirs = 100 * np.asarray(ours), 100 * np.asarray(theirs)
    gap = ours.mean() - theirs.mean()
    clear = abs(gap) > ours.std() + theirs.std()
    return (
        f"{abs(gap):.1f} points {'above' if gap >= 0 else 'below'}"
        f"{'' if clear else ', which is within the spread of the seeds'}"
    )


def _setup(first, b, c):
    flags = []
    if c:
        flags.append(f"--masked-epochs {c['epochs']}")
    if b:
        flags.append(f"--steps {b['steps']}")
        flags.append(f"--rates {' '.join(map(str, b['rates']))}")
    return f"""# Transfer on real images

    export KERAS_BACKEND={first["backend"]} OMP_NUM_THREADS=1
    export KERAS_VIT_DATA=../shared/data
    python benchmarks/transfer.py --part all --report \\
        {" ".join(flags)}

makes every figure of this page; `--part a` makes those of one part, and parts
may run side by side. The
network is `R20+Mi/4`, a hybrid of 1.6 million parameters, and the pre-trained
one is `keras_vit.ViT("R20+Mi/4", weights="cifar100")`, whose
[card](../keras_vit/checkpoints/cifar100/README.md) says how it was made. Images
have 32 x 32 pixels; the arithmetic is `{first["dtype"]}` on
{first["backend"]}. Minutes are of one
core of a shared x86 machine, without pauses; a part that was stopped counts its
last run. Accuracies are in percent, on all
10,000 test images, mean and standard deviation over three seeds. The copy of
CIFAR-10 has 5,000 of the 50,000 training images, from which the small training
sets are drawn. The trainings are short: the figures compare, and none is the
best that the network can do."""


def _few_shot(a):
    columns = ("pretrained", "untrained", "pixels")
    rows = [
        [shots, *(spread(a[name][shots]) for name in columns)]
        for shots in a["pretrained"]
    ]
    readings = [
        f"{compared(a['pretrained'][k], a['untrained'][k])} the untrained "
        f"network and {compared(a['pretrained'][k], a['pixels'][k])} pixels "
        f"at {k} {'shot' if k == '1' else 'shots'}"
        for k in ("1", "25")
    ]
    return f"""    python benchmarks/transfer.py --part a

`keras_vit.few_shot` on the ten classes of CIFAR-10, of which none is among
the hundred that the network was trained on and knows by
{100 * a["cifar100_accuracy"]:.1f} ({a["minutes"]:.1f} minutes).

{table(["shots", "pre-trained", "untrained", "raw pixels"], rows)}

Pre-trained features are {readings[0]}. They are {readings[1]}."""


def _finetuning(b):
    names = {"scratch": "from scratch", "finetuned": "pre-trained"}
    rows = [
        [label, f"{b[name]['learning_rate']:g}", spread(_scores(b[name]))]
        for name, label in names.items()
    ]
    verdict = compared(_scores(b["finetuned"]), _scores(b["scratch"]))
    rates = ", ".join(f"{rate:g}" for rate in b["rates"])
    return f"""    python benchmarks/transfer.py --part b {_settings(b)}

500 images of CIFAR-10, 50 of each class, {b["steps"]} steps of 64, AdamW. The
learning rate is one of {rates}, chosen for each row by
`transfer_learning.grid_search` on a fifth of the first seed's training images
({b["minutes"]:.1f} minutes).

{table(["start", "rate", "accuracy"], rows)}

Fine-tuning comes out {verdict} training from scratch. Both had
the same images, steps and choice of rates; the time of pre-training is not
counted."""


def _masked(c, a, b):
    few = [["masked patches", spread(c["few_shot"]["5"])]]
    readings = []
    if a:
        few += [
            ["untrained", spread(a["untrained"]["5"])],
            ["supervised", spread(a["pretrained"]["5"])],
        ]
        verdict = compared(c["few_shot"]["5"], a["untrained"]["5"])
        readings.append(
            f"At 5 shots its features are {verdict} the untrained network."
        )
        if np.mean(c["few_shot"]["5"]) <= np.mean(a["untrained"]["5"]):
            readings.append(
                "So at this scale the features by themselves are not worth "
                "the pre-training."
            )
    tuned = [["masked patches", spread(_scores(c["finetuned"]))]]
    if b:
        tuned += [
            ["from scratch", spread(_scores(b["scratch"]))],
            ["supervised", spread(_scores(b["finetuned"]))],
        ]
        verdict = compared(_scores(c["finetuned"]), _scores(b["scratch"]))
        readings.append(f"Fine-tuned it is {verdict} training from scratch.")
    accuracy = f"{100 * c['accuracy']:.1f}"
    return f"""    python benchmarks/transfer.py --part c \\
        --masked-epochs {c["epochs"]} {_settings(b or c)}

`pretraining.masked_patch_model` on the images of CIFAR-100 without their labels
for {c["epochs"]} epochs. In the last it names the mean colour, one of 512, of
{accuracy} % of the corrupted patches ({c["minutes"]:.1f} minutes).

{table(["5 shots a class", "accuracy"], few)}

{table(["fine-tuned on 500 images", "accuracy"], tuned)}

{" ".join(readings)} The stem's convolutions see across patches, so some of
a corrupted patch shows in its neighbours, which a pure transformer would not
have."""


def _resolution(d, a, b):
    rows = [[d["size"], spread(_scores(d["finetuned"]))]]
    reading, zero_shot = "", f"{100 * d['cifar100_accuracy']:.1f}"
    if b:
        rows.insert(0, [32, spread(_scores(b["finetuned"]))])
        verdict = compared(_scores(d["finetuned"]), _scores(b["finetuned"]))
        reading = f"Fine-tuning at {d['size']} pixels is {verdict} that at 32. "
    before = f", against {100 * a['cifar100_accuracy']:.1f} at 32" if a else ""
    return f"""    python benchmarks/transfer.py --part d {_settings(b or d)}

The fine-tuning of (b) with images enlarged bilinearly, for as many steps; its
rate is chosen anew ({d["minutes"]:.1f} minutes).

{table(["pixels", "accuracy"], rows)}

{reading}Without fine-tuning, `change_resolution` to {d["size"]} pixels leaves
the pre-trained model with {zero_shot} on the test set of CIFAR-100{before}. The
enlarged images hold no more detail, only more tokens."""


def _settings(part):
    """The flags of fine-tuning; the rates stand in the result of part b."""
    rates = " ".join(map(str, part.get("rates", ())))
    return f"--steps {part['steps']}" + (f" --rates {rates}" if rates else "")


def _scores(arm):
    return arm["accuracies"]
