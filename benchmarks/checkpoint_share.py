"""Which public networks open by `from_checkpoint` alone, and mean the same.

    export KERAS_BACKEND=jax
    python benchmarks/checkpoint_share.py            # writes checkpoints.md
    python benchmarks/checkpoint_share.py --only eva # prints, writes nothing

Every pretrained name of timm's ViT modules is of a kind: what its class is
given, sizes aside. Of each kind one small network with random weights is
made, written as timm writes it, opened by `from_checkpoint` with the folder
alone, and run on the same uint8 images as in timm. The same for every class of
transformers with a Vision Transformer in it. A name counts if all outputs
agree to 1e-5 of the largest value.
"""

import argparse
import collections
import functools
import importlib
import itertools
import json
import pathlib
import re
import tempfile
import warnings

import numpy as np
from checkpoint_share_transformers import modules as transformers_cases

TOLERANCE = 1e-5
MODULES = (
    "vision_transformer",
    "deit",
    "eva",
    "beit",
    "vision_transformer_hybrid",
    "naflexvit",
    "vision_transformer_relpos",
    "vision_transformer_sam",
)
# Arguments that are sizes: names that differ in these are of one kind.
SIZES = {
    "img_size", "patch_size", "embed_dim", "depth", "num_heads",
    "pretrained_strict", "ref_feat_shape", "drop_path_rate",
}  # fmt: skip
PAGE = pathlib.Path(__file__).with_name("checkpoints.md")


class Captured(Exception):
    """Carries what a network's entry point gives its class."""


def captured(name):
    """Returns the arguments that timm makes a network of this name with."""
    from timm.models import _registry

    module = importlib.import_module(
        f"timm.models.{_registry._model_to_module[name]}"
    )

    def build(cls, variant, pretrained, *rest, **arguments):
        raise Captured(cls, arguments)

    real, module.build_model_with_cfg = module.build_model_with_cfg, build
    try:
        _registry._model_entrypoints[name](pretrained=False)
    except Captured as found:
        return found.args
    finally:
        module.build_model_with_cfg = real


def kinds_of_timm():
    """Returns a dict from kind to the names that are of it."""
    import timm
    from timm.models import _registry

    kinds = collections.OrderedDict()
    for name in timm.list_pretrained():
        architecture = name.partition(".")[0]
        module = _registry._model_to_module[architecture]
        if module not in MODULES:
            continue
        cls, arguments = captured(architecture)
        own = {
            key: _plain(value)
            for key, value in arguments.items()
            if key not in SIZES | {"pretrained_filter_fn", "feature_cfg"}
        }
        if "mlp_ratio" in own:
            own["mlp_ratio"] = "some"
        if own.get("init_values"):
            own["init_values"] = "some"
        classes = timm.get_pretrained_cfg(name).num_classes
        key = (
            module, cls.__name__, json.dumps(own, sort_keys=True, default=str),
            "distilled" in name, bool(classes),
        )  # fmt: skip
        kinds.setdefault(key, []).append(name)
    return kinds


def _plain(value):
    if isinstance(value, functools.partial):
        return f"{value.func.__name__}({value.keywords})"
    return getattr(value, "__name__", None) or str(value)


def small_timm(name, num_classes):
    """Returns a small network of the kind of `name`, and its arguments."""
    import timm

    _, given = captured(name.partition(".")[0])
    patch = given.get("patch_size", 16)
    patch = patch if isinstance(patch, int) else patch[0]
    own = {"depth": 2, "embed_dim": 64, "num_heads": 4, "img_size": 4 * patch}
    own["num_classes"] = num_classes
    if "naflex" in name:
        # Positions are resampled from a table to the size that is stated.
        cfg = timm.get_pretrained_cfg(name)
        own["img_size"] = cfg.input_size[-1]
    if "Hybrid" in str(given.get("embed_layer")) or "hybrid" in name:
        own["img_size"] = 64
    if "ref_feat_shape" in given:
        own["ref_feat_shape"] = (4, 4)
    if "Glu" in str(given.get("mlp_layer")):
        own["mlp_ratio"] = 4.0
    if "samvit" in name:
        own |= {"global_attn_indexes": (1,), "window_size": 2}
    if "rel_pos_dim" in given:
        own["rel_pos_dim"] = 32
    if given.get("num_kv_heads") is not None:
        own["num_kv_heads"] = 2
    if "attn_pool_num_heads" in given:
        own["attn_pool_num_heads"] = 4
    return timm.create_model(name, **own), own


def randomize(module, seed=0):
    """Gives every parameter a value that tells in outputs."""
    import torch

    draws = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, parameter in module.named_parameters():
            value = torch.randn(parameter.shape, generator=draws)
            value *= 0.05 if parameter.ndim > 1 else 0.1
            if parameter.ndim == 1 and name.endswith("weight"):
                value += 1
            if "gamma" in name or "lambda" in name:
                value += 0.5
            if name.endswith("norm3.weight"):
                # Else the rounding of 16 residual units, which grows from one
                # to the next, is more than the tolerance in timm itself.
                value -= 0.7
            parameter.copy_(value)
    return module.eval()


def difference(given, expected):
    """Returns the largest difference over the largest value."""
    given, expected = np.asarray(given), np.asarray(expected)
    if given.shape != expected.shape:
        return f"shape {given.shape}, expected {expected.shape}"
    return float(np.abs(given - expected).max() / np.abs(expected).max())


def try_timm(name, num_classes, folder):
    """Returns the difference, or why there is none."""
    import torch
    from timm.models._hub import save_for_hf

    import keras_vit

    module, own = small_timm(name, num_classes)
    randomize(module)
    save_for_hf(module, folder, model_args=own, safe_serialization=True)
    stated = module.pretrained_cfg
    images = np.random.default_rng(0).integers(
        0, 256, (2, own["img_size"], own["img_size"], 3)
    )
    pixels = (images / 255 - np.array(stated["mean"])) / stated["std"]
    pixels = torch.from_numpy(pixels.transpose(0, 3, 1, 2).copy()).float()
    with torch.no_grad():
        expected = module(pixels)
    if isinstance(expected, tuple):
        expected = expected[0]
    try:
        model = keras_vit.from_checkpoint(folder, verbose=0)
    except Exception as error:  # whatever it is, it goes into the table
        return f"{type(error).__name__}: {' '.join(str(error).split())}"
    given = keras_vit.predict(model, images.astype("uint8"), verbose=0)
    if given.ndim == 2 and expected.ndim == 4:  # maps of SAM
        return "vector for a map"
    return difference(given, expected)


def table_of_timm(only=None):
    """Yields a row for each kind."""
    for (module, _, own, _, head), names in kinds_of_timm().items():
        if only and only not in module and only not in names[0]:
            continue
        with tempfile.TemporaryDirectory() as folder, warnings.catch_warnings():
            warnings.simplefilter("ignore")
            try:
                result = try_timm(names[0], 7 if head else 0, folder)
            except Exception as error:
                result = f"harness: {type(error).__name__}: {error}"
        yield module, names, own, result


def try_transformers(make, value, statistics, folder):
    """Returns the difference, or why there is none."""
    import torch

    import keras_vit

    module = randomize(make())
    module.save_pretrained(folder)
    images = np.random.default_rng(0).integers(0, 256, (2, 64, 64, 3))
    try:
        model = keras_vit.from_checkpoint(folder, verbose=0)
    except Exception as error:  # whatever it is, it goes into the table
        return f"{type(error).__name__}: {' '.join(str(error).split())}"
    if value is None:
        return "opened, with nothing to compare"
    known = keras_vit.preprocessing.get(statistics)
    pixels = (images / 255 - np.array(known.mean)) / np.array(known.std)
    pixels = torch.from_numpy(pixels.transpose(0, 3, 1, 2).copy()).float()
    with torch.no_grad():
        expected = value(module, pixels)
    given = keras_vit.predict(model, images.astype("uint8"), verbose=0)
    return difference(given, expected)


def table_of_transformers(only=None):
    """Yields a row for each class of transformers."""
    for name, make, value, statistics in transformers_cases():
        if only and only not in "transformers" and only not in name:
            continue
        with tempfile.TemporaryDirectory() as folder, warnings.catch_warnings():
            warnings.simplefilter("ignore")
            try:
                result = try_transformers(make, value, statistics, folder)
            except Exception as error:
                result = f"harness: {type(error).__name__}: {error}"
        yield "transformers", [name], statistics, result


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--only", help="part of a module's or network's name")
    arguments = parser.parse_args()
    import torch

    library = torch.library.Library("torchvision", "FRAGMENT")
    for name in ("nms", "qnms"):
        try:
            library.define(
                f"{name}(Tensor dets, Tensor scores, float threshold) -> Tensor"
            )
        except RuntimeError:
            pass
    good, of_all = collections.Counter(), collections.Counter()
    missing = []
    rows = itertools.chain(
        table_of_timm(arguments.only), table_of_transformers(arguments.only)
    )
    for module, names, own, result in rows:
        right = not isinstance(result, str) and result <= TOLERANCE
        good[module] += right * len(names)
        of_all[module] += len(names)
        shown = result if isinstance(result, str) else f"{result:.1e}"
        mark = "ok " if right else "NO "
        print(mark, len(names), module, names[0], shown[:300], flush=True)
        if not right:
            print("        ", own[:200], flush=True)
            reason = shown if isinstance(result, str) else f"differs by {shown}"
            missing.append((len(names), module, names[0], reason))
    for module in of_all:
        print(f"{module}: {good[module]} of {of_all[module]}")
    print(f"all: {good.total()} of {of_all.total()}")
    if arguments.only is None:
        PAGE.write_text(page(good, of_all, missing), encoding="utf-8")


def page(good, of_all, missing):
    """Returns the text of `checkpoints.md`."""
    import keras
    import timm
    import transformers

    timm_names = of_all.total() - of_all["transformers"]
    timm_good = good.total() - good["transformers"]
    rows = "\n".join(
        f"| `{module}` | {good[module]} | {of_all[module]} |"
        for module in of_all
        if module != "transformers"
    )
    left = "\n".join(
        f"| {count} | `{module}` | `{name}` | {_short(reason)} |"
        for count, module, name, reason in sorted(missing, reverse=True)
    )
    return f"""# Which public networks open by one call

`keras_vit.from_checkpoint(folder)`, nothing else given, on small networks of
every kind with random weights, against the library that the file is of; a name
counts if all outputs agree to 1e-5 of the largest value from the same uint8
images. Made by

    python benchmarks/checkpoint_share.py

with timm {timm.__version__}, transformers {transformers.__version__}, Keras
{keras.version()} on {keras.backend.backend()}.

**timm: {timm_good} of {timm_names} pretrained names
({100 * timm_good / timm_names:.1f} %). transformers: {good["transformers"]} of
{of_all["transformers"]} classes with a Vision Transformer in them.**

| module of timm | names that open and agree | names |
|---|---:|---:|
{rows}

## What does not

| names | module | for example | why |
|---:|---|---|---|
{left}
"""


def _short(reason):
    text = reason.replace("|", "/").replace("<", "").replace(">", "")
    text = re.sub(r"'/[^']*/([^/']+)'", r"'\1'", text)
    return text if len(text) < 160 else f"{text[:157]}..."


if __name__ == "__main__":
    main()
