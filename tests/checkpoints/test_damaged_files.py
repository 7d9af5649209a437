"""Damaged files of every kind: one class of error, with path and reason."""

import io
import pathlib
import struct
import zipfile

import numpy as np
import pytest
import safetensors.numpy
from helpers import to_numpy

import keras_vit
from keras_vit.checkpoints import guards
from keras_vit.checkpoints.guards import LONGEST_SHOWN, reading, shown

KERNEL = "head/kernel.npy"


def npy(header, data=bytes(320), length=None):
    """An array with a header of one's own."""
    header = header.encode("latin1") + b"\n"
    start = b"\x93NUMPY\x01\x00" + struct.pack("<H", length or len(header))
    return start + header + data


def array(value):
    stream = io.BytesIO()
    np.save(stream, np.asarray(value, "float32"))
    return stream.getvalue()


@pytest.fixture
def official(tiny_vit, tmp_path):
    """A model, and a function that writes its file with some members changed.

    A member of `None` is left out.
    """
    model = tiny_vit()
    good = keras_vit.export_checkpoint(model, tmp_path / "good.npz")

    def write(changes, compression=zipfile.ZIP_STORED):
        with zipfile.ZipFile(good) as archive:
            members = {
                name: archive.read(name) for name in archive.namelist()
            } | changes
        path = tmp_path / "bad.npz"
        with zipfile.ZipFile(path, "w", compression) as archive:
            for name, content in members.items():
                archive.writestr(name, content)
        return path

    return model, write


def assert_refused(path, model=None, match=None, named=None):
    """By a `CheckpointError` that names the file, the model as it was."""
    before = [to_numpy(x).copy() for x in model.weights] if model else []
    with pytest.raises(keras_vit.CheckpointError, match=match) as caught:
        if model:
            keras_vit.load_checkpoint(model, path)
        else:
            keras_vit.from_checkpoint(path, verbose=0)
    message = str(caught.value)
    assert str(named or path) in message
    assert all(c.isprintable() or c == "\n" for c in message)
    assert len(message) < 8000
    for weight, value in zip(model.weights if model else [], before):
        np.testing.assert_array_equal(to_numpy(weight), value)


HEADER = "{{'descr': '<f4', 'fortran_order': False, 'shape': {}}}"


@pytest.mark.parametrize(
    "header",
    [
        "{1: 2, 'descr': '<f4'}",
        "{[]: 1}",
        "-" * 9000 + "1",
        "[" * 300,
        "{'descr",
        "(" * 50 + "\\\n",
        HEADER.format("(True, 16, 5)"),
        HEADER.format("(1e9, 5)"),
        HEADER.format("16"),
    ],
    ids=str.split,
)
def test_headers_that_numpy_stumbles_over(header, official):
    model, write = official
    assert_refused(write({KERNEL: npy(header)}), model, "head/kernel")


def flipped(path, offset, mask=255):
    content = bytearray(path.read_bytes())
    content[offset] ^= mask
    path.write_bytes(content)
    return path


def test_damaged_compressed_arrays(official):
    model, write = official
    path = write({}, zipfile.ZIP_DEFLATED)
    with zipfile.ZipFile(path) as archive:
        start = archive.getinfo(KERNEL).header_offset + 30 + len(KERNEL)
    assert_refused(flipped(path, start + 12), model, "corrupt at 'head/kernel'")


@pytest.mark.parametrize("compression", ["LZMA", "BZIP2"])
def test_compressions_that_unpack_without_bounds(compression, official):
    """NumPy writes neither."""
    model, write = official
    path = write({}, getattr(zipfile, f"ZIP_{compression}"))
    assert_refused(path, model, "corrupt at .*unknown compression")


def test_a_zip_of_an_unknown_version(official):
    model, write = official
    path = write({})
    at = path.read_bytes().find(b"PK\x01\x02") + 6
    assert_refused(flipped(path, at, 99), model, "truncated or corrupt")


@pytest.mark.parametrize("key", [KERNEL, "pre_logits/kernel.npy", "cls.npy"])
def test_a_single_number_for_an_array(key, official):
    """A head that does not fit starts from zero, all else is an error."""
    model, write = official
    path = write({key: array(1.0)})
    if key == KERNEL:
        with pytest.warns(UserWarning, match="file's head"):
            keras_vit.load_checkpoint(model, path)
    else:
        assert_refused(path, model, key.removesuffix(".npy"))


def test_registers_without_their_axes(tiny_vit, tmp_path):
    """One register as a plain vector is what the file means."""
    model = tiny_vit(num_registers=1)
    path = keras_vit.export_checkpoint(model, tmp_path, format="timm")
    arrays = safetensors.numpy.load_file(path)
    arrays["reg_token"] = arrays["reg_token"].reshape(-1)
    safetensors.numpy.save_file(arrays, path)
    keras_vit.load_checkpoint(model, path, check_numerics=False)


@pytest.mark.parametrize(
    "key",
    [
        f"Transformer/encoderblock_{'1' * 5000}/LayerNorm_0/scale",
        "\x1b[31mred\x07" + "x" * 300,
        "\u202eecnahc",
        "\n" * 60,
    ],
    ids=["digits", "terminal", "direction", "lines"],
)
def test_names_fit_into_a_message(key, official):
    model, write = official
    assert_refused(write({f"{key}.npy": array(np.ones(16))}), model)
    path = model_of_safetensors(write)
    arrays = safetensors.numpy.load_file(path)
    safetensors.numpy.save_file(arrays | {key: np.ones(3)}, path)
    assert_refused(path, model)


def model_of_safetensors(write):
    with np.load(write({})) as arrays:
        path = write({}).with_suffix(".safetensors")
        safetensors.numpy.save_file(dict(arrays), path)
    return path


def test_what_is_shown_of_a_name():
    assert shown("blocks.0.attn.qkv.weight") == "blocks.0.attn.qkv.weight"
    assert shown("a\x1b[1m\n\u202eb") == r"a\x1b[1m\n\u202eb"
    for long in ("x" * 10**6, "\0" * 10**6):
        assert len(shown(long)) == LONGEST_SHOWN
        assert shown(long).endswith("...")


@pytest.mark.parametrize(
    "error",
    [MemoryError(), RecursionError("deep"), OSError(5, "bad disk"), KeyError(1)]
    + [NotImplementedError("new"), OverflowError("large"), SystemError("C")],
    ids=lambda error: type(error).__name__,
)
def test_whatever_a_parser_raises(error):
    kind = type(error).__name__
    with pytest.raises(keras_vit.CheckpointError, match=f"'a.npz'.*{kind}"):
        with reading("a.npz", "key"):
            raise error
    with pytest.raises(KeyboardInterrupt):
        with reading("a.npz"):
            raise KeyboardInterrupt


@pytest.fixture
def timm_folder(tiny_vit, tmp_path):
    model = tiny_vit(activation="gelu", image_size=8)
    keras_vit.export_checkpoint(model, tmp_path, format="timm")
    return tmp_path


@pytest.mark.parametrize(
    "text",
    [b"{", b"[" * 100_000, b"\xff\xfe{}", b'{"a": ' + b"1" * 5000 + b"}"],
    ids=["cut", "deep", "not UTF-8", "digits"],
)
@pytest.mark.parametrize(
    "name",
    [
        "config.json",
        "preprocessor_config.json",
        "model.safetensors.index.json",
    ],
)
def test_json_that_is_none(name, text, timm_folder):
    file = timm_folder / name
    file.write_bytes(text)
    source = timm_folder
    if name.endswith("index.json"):
        source = file
    assert_refused(source, match="truncated or corrupt", named=file)


def test_json_without_an_end(timm_folder):
    file = timm_folder / "config.json"
    file.write_bytes(b'{"a": "' + b"x" * 2**24 + b'"}')
    assert_refused(timm_folder, match="16,777,225 bytes", named=file)


def test_files_of_pytorch(timm_folder):
    torch = pytest.importorskip("torch")
    file = timm_folder / "model.safetensors"
    path = timm_folder / "model.pth"
    arrays = safetensors.numpy.load_file(file)
    state = {key: torch.from_numpy(x) for key, x in arrays.items()}
    good = {key: torch.nn.Parameter(x) for key, x in state.items()}
    torch.save(good, path)
    keras_vit.from_checkpoint(path, verbose=0)

    kernel = state["head.weight"]
    for bad in (
        kernel.to_sparse(),
        torch.zeros(kernel.shape, device="meta"),
        kernel.to(torch.float8_e5m2),
    ):
        torch.save(state | {"head.weight": bad}, path)
        assert_refused(path)
    torch.save(state | {"x" * 5000: kernel}, path)
    assert_refused(path, match="5,000 characters")
    content = file.read_bytes()
    path.write_bytes(b"PK\x03\x04" + content)
    assert_refused(path, match="truncated or corrupt")


def test_json_is_read_in_one_place():
    folder = pathlib.Path(guards.__file__).parent
    for file in folder.rglob("*.py"):
        if file.name != "guards.py":
            assert "json.load" not in file.read_text(encoding="utf-8"), file
