"""Memory and time of a load are bounded by the model and the file's size."""

import json
import math
import struct
import tracemalloc
import warnings
import zipfile

import numpy as np
import pytest

import keras_vit
from keras_vit.checkpoints import description, guards, rules, tokens
from keras_vit.checkpoints.description import Description
from keras_vit.checkpoints.files import open_arrays
from keras_vit.checkpoints.formats.timm import TIMM

POSITIONS = "Transformer/posembed_input/pos_embedding.npy"
MEGABYTE = 2**20


@pytest.fixture
def official(tiny_vit, tmp_path):
    """A model and its file."""
    model = tiny_vit(image_size=8)
    return model, keras_vit.export_checkpoint(model, tmp_path / "good.npz")


def with_zeros(good, member, shape, declared=None):
    """The file, one array replaced by packed zeros."""
    path = good.with_name("bad.npz")
    header = repr(
        {"descr": "<f4", "fortran_order": False, "shape": declared or shape}
    ).encode()
    header = header.ljust(117) + b"\n"
    with zipfile.ZipFile(good) as source:
        with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
            for info in source.infolist():
                if info.filename != member:
                    archive.writestr(info.filename, source.read(info))
            with archive.open(member, "w") as stream:
                stream.write(b"\x93NUMPY\x01\x00" + struct.pack("<H", 118))
                stream.write(header)
                left = 4 * math.prod(shape)
                while left:
                    stream.write(bytes(min(left, MEGABYTE)))
                    left -= min(left, MEGABYTE)
    return path


def assert_refused(call, match, most=8 * MEGABYTE):
    """Before anything large is made."""
    tracemalloc.start()
    try:
        with pytest.raises(keras_vit.CheckpointError, match=match):
            call()
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < most


def test_a_table_of_positions_far_beyond_the_model(official):
    """17 MB of zeros in 20 kB, 650 times what the model has."""
    model, good = official
    path = with_zeros(good, POSITIONS, (1, 512 * 512 + 1, 16))
    assert_refused(
        lambda: keras_vit.load_checkpoint(
            model, path, resize_positions="bilinear"
        ),
        "262145 positions, more than the 16448",
    )


def test_tables_of_positions_within_the_bound(official):
    model, good = official
    path = with_zeros(good, POSITIONS, (1, 128 * 128 + 1, 16))
    keras_vit.load_checkpoint(model, path, resize_positions="bilinear")
    assert tokens.most_rows(10_000) == 160_000


def test_what_a_zip_unpacks_to(official):
    model, good = official
    path = with_zeros(good, POSITIONS, (1, 1024 * 1024 + 1, 16))
    match = "bad.npz' of .* bytes unpacks to 67,1.., more than 100 times"
    match = match.replace("67,1..", "67,[0-9,]*")
    assert_refused(lambda: keras_vit.load_checkpoint(model, path), match)
    assert_refused(lambda: keras_vit.from_checkpoint(path), match)


def test_an_array_that_unpacks_to_more_than_it_declares(official):
    """In the zip's directory as in the header: 16 MB behind 64 bytes."""
    model, good = official
    path = with_zeros(good, "cls.npy", (2**22,), (1, 1, 16))
    with zipfile.ZipFile(path) as archive:
        size = archive.getinfo("cls.npy").file_size
    small = 128 + 64
    content = path.read_bytes()
    path.write_bytes(
        content.replace(struct.pack("<I", size), struct.pack("<I", small))
    )
    assert_refused(
        lambda: keras_vit.load_checkpoint(model, path), "corrupt at 'cls'"
    )


def write_header(path, shapes):
    """A file of the shapes, its data a hole in the disk."""
    header, end = {}, 0
    for key, shape in shapes.items():
        start, end = end, end + 4 * math.prod(shape)
        header[key] = {
            "dtype": "F32", "shape": shape, "data_offsets": [start, end]
        }  # fmt: skip
    text = json.dumps(header).encode()
    with open(path, "wb") as file:
        file.write(struct.pack("<Q", len(text)) + text)
        file.truncate(8 + len(text) + end)
    return path


def test_more_arrays_than_any_network_has(official, tmp_path):
    model, good = official
    path = write_header(
        tmp_path / "many.safetensors", {f"q{i}": [0] for i in range(10_001)}
    )
    match = "10,001 arrays, where no network"
    # Of which the reader itself has the names.
    assert_refused(lambda: keras_vit.load_checkpoint(model, path), match)
    path = tmp_path / "many.npz"
    with zipfile.ZipFile(path, "w") as archive:
        for i in range(10_001):
            archive.writestr(f"{i}.npy", b"")
    assert_refused(lambda: open_arrays(path), match, 32 * MEGABYTE)
    index = tmp_path / "model.safetensors.index.json"
    where = dict.fromkeys(map(str, range(10_001)), "a.safetensors")
    index.write_text(json.dumps({"weight_map": where}), "utf-8")
    assert_refused(lambda: keras_vit.load_checkpoint(model, index), match)


def test_tensors_that_share_their_numbers(tmp_path):
    torch = pytest.importorskip("torch")
    path = tmp_path / "model.pth"
    wide = torch.zeros(1).expand(2**25)
    torch.save({"a": wide, "b": torch.zeros(3)}, path)
    with pytest.raises(keras_vit.CheckpointError, match="unpacks to 134,2"):
        keras_vit.from_checkpoint(path)


TIMM_SHAPES = {
    "cls_token": [1, 1, 16],
    "pos_embed": [1, 5, 16],
    "patch_embed.proj.weight": [16, 3, 4, 4],
    "patch_embed.proj.bias": [16],
    "blocks.0.norm1.weight": [16],
    "blocks.0.norm1.bias": [16],
    "blocks.0.attn.qkv.weight": [48, 16],
    "blocks.0.attn.qkv.bias": [48],
    "blocks.0.attn.proj.weight": [16, 16],
    "blocks.0.attn.proj.bias": [16],
    "blocks.0.norm2.weight": [16],
    "blocks.0.norm2.bias": [16],
    "blocks.0.mlp.fc1.weight": [32, 16],
    "blocks.0.mlp.fc1.bias": [32],
    "blocks.0.mlp.fc2.weight": [16, 32],
    "blocks.0.mlp.fc2.bias": [16],
    "norm.weight": [16],
    "norm.bias": [16],
    "head.weight": [5, 16],
    "head.bias": [5],
}


@pytest.mark.parametrize(
    "changes, match",
    [
        ({"head.weight": [2**40, 0]}, "nothing in 'head.weight'"),
        ({"head.weight": [10**6]}, "1,00.,... numbers.* lie"),
        ({"blocks.0.mlp.fc2.weight": [1, 10**6]}, "numbers.* lie"),
        ({"patch_embed.proj.weight": [16, 1, 0, 2**40]}, "nothing in"),
        ({"reg_token": [1, 10**6, 1]}, "numbers.* lie"),
        (
            {f"blocks.{i}.attn.proj.weight": [1] for i in range(300)},
            "300 blocks",
        ),
    ],
    ids=["no rows", "head", "MLP", "patch", "registers", "depth"],
)
def test_shapes_that_make_a_larger_network_than_the_file(
    changes, match, tmp_path
):
    """The arrays themselves are whole."""
    path = tmp_path / "model.safetensors"
    write_header(path, TIMM_SHAPES)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        keras_vit.from_checkpoint(path, num_heads=2, verbose=0)
    write_header(path, TIMM_SHAPES | changes)
    assert_refused(lambda: keras_vit.from_checkpoint(path, num_heads=2), match)


def test_residual_units_without_number(tiny_vit, tmp_path):
    """One name says that there are a million."""
    variant = keras_vit.Variant(1, 16, 32, 2, 1, stages=(1,))
    model = keras_vit.ViT(variant, image_size=8, num_classes=None)
    path = keras_vit.export_checkpoint(model, tmp_path / "good.npz")
    with np.load(path) as arrays:
        arrays = dict(arrays)
    arrays["block1/unit1000000/conv1/kernel"] = np.zeros(1, "float32")
    np.savez(path, **arrays)
    assert_refused(lambda: keras_vit.from_checkpoint(path), "numbers.* lie")


@pytest.mark.parametrize(
    "variant, has",
    [("Ti/16", 5_717_416), ("B/16", 86_567_656), ("L/16", 304_326_632)],
)
def test_fewest_weights(variant, has):
    """Below what timm counts, and not by much."""
    fewest = Description(
        format="official",
        variant=keras_vit.variants.parse_variant(variant),
        image_size=(224, 224),
        num_classes=1000,
    ).fewest_weights()
    assert has / 2 < fewest < has


def test_the_bounds_are_those_that_the_documentation_states():
    loads = keras_vit.load_checkpoint.__doc__
    for number in (
        f"{guards.MOST_ARRAYS:,}",
        f"{tokens.MOST_ROWS:,} rows",
        f"{tokens.MOST_TIMES} times",
        f"{guards.ALWAYS_UNPACKED // MEGABYTE} MiB",
        f"{guards.MOST_PACKED} times",
    ):
        assert number in loads
    blocks = f"{description.MOST_BLOCKS} blocks"
    assert blocks in keras_vit.from_checkpoint.__doc__


def test_patterns_are_compiled_once():
    rules._pattern.cache_clear()
    for index in range(20):
        for rule in TIMM.rules:
            rule.match(f"blocks.{index}.attn.qkv.weight")
    templates = {rule.key for rule in TIMM.rules}
    assert rules._pattern.cache_info().misses == len(templates)


def test_digits_are_those_of_ascii():
    assert rules.Rule("a.{i}", ("b_{i:02d}",)).match("a.7") == ("b_07",)
    assert rules.Rule("a.{i}", ("b_{i:02d}",)).match("a.\u0667") is None
