"""Bad files: one clear error each, nothing executed, nothing written.

Numbers are those of the faults that a loader of strangers' files must face.
"""

import io
import pathlib
import struct
import time
import zipfile

import keras
import numpy as np
import pytest
from helpers import peak_memory, to_numpy
from safetensors.numpy import save_file

import keras_vit


@pytest.fixture
def good(tiny_vit, tmp_path):
    """A whole file of the official format, as bytes."""
    path = keras_vit.export_checkpoint(tiny_vit(), tmp_path / "good.npz")
    return path.read_bytes()


@pytest.fixture
def refuse(tiny_vit, tmp_path):
    """Loads bytes that must be refused; returns the message."""
    model = tiny_vit()
    before = [to_numpy(weight).copy() for weight in model.weights]

    def load(content, name="bad.npz"):
        path = tmp_path / name
        path.write_bytes(content)
        present = sorted(tmp_path.rglob("*"))
        with pytest.raises(keras_vit.CheckpointError) as error:
            keras_vit.load_checkpoint(model, path)
        assert str(path) in str(error.value)
        assert sorted(tmp_path.rglob("*")) == present
        for weight, value in zip(model.weights, before):
            np.testing.assert_array_equal(to_numpy(weight), value)
        return str(error.value)

    return load


def npy(array):
    stream = io.BytesIO()
    np.lib.format.write_array(stream, array)
    return stream.getvalue()


def npy_header(shape, dtype="<f4"):
    stream = io.BytesIO()
    header = {"shape": shape, "fortran_order": False, "descr": dtype}
    np.lib.format.write_array_header_1_0(stream, header)
    return stream.getvalue()


def changed(content, member, data=None, name=None, compress=False):
    """The file with one more member, or another in its place."""
    source = zipfile.ZipFile(io.BytesIO(content))
    target = io.BytesIO()
    kind = zipfile.ZIP_DEFLATED if compress else zipfile.ZIP_STORED
    with zipfile.ZipFile(target, "w", kind) as archive:
        for info in source.infolist():
            if info.filename != member:
                archive.writestr(info.filename, source.read(info))
        info = zipfile.ZipInfo(member)
        info.compress_type = kind
        if name is not None:
            info.filename = name
        archive.writestr(info, data)
    return target.getvalue()


def test_a_good_file_and_a_compressed_one_load(good, tiny_vit, tmp_path):
    with np.load(io.BytesIO(good)) as arrays:
        arrays = dict(arrays)
    np.savez_compressed(tmp_path / "small.npz", **arrays)
    model = tiny_vit()
    keras_vit.load_checkpoint(model, tmp_path / "small.npz")
    kernel = to_numpy(model.get_layer("head").kernel)
    np.testing.assert_array_equal(kernel, arrays["head/kernel"])


def test_arrays_in_the_order_of_fortran(good, tiny_vit, tmp_path):
    with np.load(io.BytesIO(good)) as arrays:
        arrays = dict(arrays)
    fortran = {key: np.asfortranarray(x) for key, x in arrays.items()}
    np.savez(tmp_path / "fortran.npz", **fortran)
    model = tiny_vit()
    keras_vit.load_checkpoint(model, tmp_path / "fortran.npz")
    kernel = to_numpy(model.get_layer("head").kernel)
    np.testing.assert_array_equal(kernel, arrays["head/kernel"])


class Canary:
    """Leaves a file behind if it is ever unpickled."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return (pathlib.Path.touch, (self.path,))


def test_1_pickled_objects_are_named_and_never_read(good, refuse, tmp_path):
    canary = tmp_path / "canary"
    array = np.array([Canary(canary)], dtype=object)
    stream = io.BytesIO()
    np.lib.format.write_array(stream, array, allow_pickle=True)
    bad = changed(good, "head/bias.npy", stream.getvalue())
    message = refuse(bad)
    assert "'head/bias'" in message and "pickled" in message
    assert not canary.exists()


@pytest.mark.parametrize(
    "name",
    [
        "../../evil.npy",
        "/etc/evil.npy",
        "a/../../evil.npy",
        "..\\evil.npy",
        "C:evil.npy",
        "evil\0.npy",
    ],
)
def test_2_names_that_point_out_of_the_file(name, good, refuse):
    bad = changed(good, "evil.npy", npy(np.ones(1, "float32")), name=name)
    if "\0" in name:  # the library cuts names there when it writes
        bad = bad.replace(b"evil.npy", b"ev\0l.npy")
    message = refuse(bad)
    assert "points out of it" in message


def test_3_a_header_that_declares_more_than_there_is(good, refuse):
    bad = changed(good, "head/bias.npy", npy_header((2**30,)) + bytes(1000))
    before = peak_memory()
    message = refuse(bad)
    after = peak_memory()
    assert "4,294,967,296 bytes" in message and "1,000" in message
    assert after - before < 100 * 2**20


def test_a_header_with_a_shape_beyond_any_integer(good, refuse):
    header = npy_header((2**40, 2**40))
    message = refuse(changed(good, "head/bias.npy", header + bytes(8)))
    assert "lies about 'head/bias'" in message


def test_a_zip_bomb_is_not_unpacked(good, refuse):
    """300 MB of zeros in 300 kB."""
    packed = io.BytesIO()
    size = 300_000_000
    with zipfile.ZipFile(io.BytesIO(good)) as source:
        with zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as archive:
            for info in source.infolist():
                if info.filename != "embedding/bias.npy":
                    archive.writestr(info.filename, source.read(info))
            with archive.open("embedding/bias.npy", "w") as stream:
                stream.write(npy_header((size // 4,)))
                for _ in range(size // 10**7):
                    stream.write(bytes(10**7))
    before = peak_memory()
    start = time.process_time()
    message = refuse(packed.getvalue())
    assert time.process_time() - start < 5
    assert peak_memory() - before < 100 * 2**20
    assert "unpacks to 300,0" in message


@pytest.mark.parametrize("part", [0.02, 0.5, 0.97, 0.999])
def test_4_truncated_npz(part, good, refuse):
    message = refuse(good[: int(len(good) * part)])
    assert "truncated or corrupt" in message


@pytest.mark.parametrize("part", [0.0, 0.001, 0.02, 0.5, 0.999])
def test_4_truncated_safetensors(part, safetensors, refuse):
    message = refuse(safetensors[: int(len(safetensors) * part)])
    assert "truncated or corrupt" in message


@pytest.fixture
def safetensors(good, tmp_path):
    with np.load(io.BytesIO(good)) as arrays:
        save_file(dict(arrays), tmp_path / "good.safetensors")
    return (tmp_path / "good.safetensors").read_bytes()


@pytest.mark.parametrize("suffix", ["keras", "weights.h5"])
def test_4_files_of_keras_whole_and_truncated(
    suffix, refuse, tiny_vit, tmp_path
):
    model = tiny_vit()
    path = tmp_path / f"model.{suffix}"
    save = model.save if suffix == "keras" else model.save_weights
    save(path)
    content = path.read_bytes()
    for part in (0.3, 0.9):
        message = refuse(content[: int(len(content) * part)], path.name)
        assert "truncated or corrupt" in message
    message = refuse(content, path.name)
    assert "keras.models.load_model" in message or "load_weights" in message


def test_5_a_flipped_bit_in_npz_is_found_by_its_sum(good, refuse):
    with zipfile.ZipFile(io.BytesIO(good)) as archive:
        at = archive.getinfo("head/kernel.npy").header_offset + 300
    bad = bytearray(good)
    bad[at] ^= 1
    message = refuse(bytes(bad))
    assert "truncated or corrupt" in message


def test_5_a_known_sha256_is_held_to(good, tiny_vit, tmp_path):
    import hashlib

    path = tmp_path / "good.npz"
    sha256 = hashlib.sha256(good).hexdigest()
    keras_vit.load_checkpoint(tiny_vit(), path, sha256=sha256)
    bad = bytearray(good)
    bad[len(bad) // 2] ^= 1
    path.write_bytes(bytes(bad))
    with pytest.raises(ValueError, match=sha256):
        keras_vit.load_checkpoint(tiny_vit(), path, sha256=sha256)


@pytest.mark.parametrize(
    "value, word", [(np.nan, "NaN"), (-np.inf, "infinity"), (2e4, "20000")]
)
@pytest.mark.parametrize("suffix", ["npz", "safetensors"])
def test_6_impossible_weights_are_reported(
    value, word, suffix, good, refuse, tmp_path
):
    with np.load(io.BytesIO(good)) as arrays:
        arrays = dict(arrays)
    key = "Transformer/encoderblock_1/MlpBlock_3/Dense_0/kernel"
    arrays[key][3, 5] = value
    path = tmp_path / f"bad.{suffix}"
    np.savez(path, **arrays) if suffix == "npz" else save_file(arrays, path)
    message = refuse(path.read_bytes(), path.name)
    assert key in message and word in message


def test_6_nan_among_the_tokens_is_reported(good, refuse, tmp_path):
    with np.load(io.BytesIO(good)) as arrays:
        arrays = dict(arrays)
    arrays["cls"][0, 0, 2] = np.nan
    np.savez(tmp_path / "bad.npz", **arrays)
    assert "'cls'" in refuse((tmp_path / "bad.npz").read_bytes())


def header_of(content):
    (length,) = struct.unpack("<Q", content[:8])
    return content[8 : 8 + length]


@pytest.mark.parametrize(
    "lie",
    [
        lambda c: struct.pack("<Q", 2**60) + c[8:],
        lambda c: c.replace(b"[5]", b"[9]", 1),
        lambda c: c.replace(b'"data_offsets":[0,', b'"data_offsets":[4,', 1),
        lambda c: c + b"more",
    ],
    ids=["header of 2^60", "huge shape", "overlap", "trailing bytes"],
)
def test_7_safetensors_with_a_lying_header(lie, safetensors, refuse):
    assert lie(safetensors) != safetensors
    message = refuse(lie(safetensors), "bad.safetensors")
    assert "truncated or corrupt" in message


def test_7_safetensors_with_two_arrays_of_one_name(safetensors, refuse):
    header = header_of(safetensors)
    twice = header.replace(b'"head/kernel"', b'"head/bias"  ', 1)
    bad = safetensors[:8] + twice + safetensors[8 + len(header) :]
    message = refuse(bad, "bad.safetensors")
    assert "truncated or corrupt" in message


def test_8_hdf5_is_not_followed_anywhere(refuse, tmp_path):
    import h5py

    secret = tmp_path / "secret.h5"
    with h5py.File(secret, "w") as file:
        file["data"] = np.ones(4)
    with h5py.File(tmp_path / "links.h5", "w") as file:
        file["link"] = h5py.ExternalLink(str(secret), "/data")
        file["soft"] = h5py.SoftLink("/link")
        file.create_dataset("bomb", (2**50,), "f4")
        layout = h5py.VirtualLayout((4,), "f8")
        layout[:] = h5py.VirtualSource(str(secret), "data", (4,))
        file.create_virtual_dataset("virtual", layout)
    message = refuse((tmp_path / "links.h5").read_bytes())
    assert "HDF5" in message


@pytest.mark.parametrize("kind", ["Lambda", "TFSMLayer", "foreign module"])
def test_9_keras_files_with_code_are_refused(kind, tiny_vit, tmp_path):
    """By Keras, in its safe mode, which nothing here switches off."""
    import json

    model = tiny_vit()
    model.save(tmp_path / "model.keras")
    with zipfile.ZipFile(tmp_path / "model.keras") as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    config = json.loads(members["config.json"])
    layer = next(
        layer
        for layer in config["config"]["layers"]
        if layer["config"]["name"] == "pre_logits"
    )
    canary = tmp_path / "canary"
    if kind == "foreign module":
        (tmp_path / "foreign.py").write_text(
            f"import pathlib; pathlib.Path({str(canary)!r}).touch()\n"
            "class Layer: pass\n",
            encoding="utf-8",
        )
        layer.update(module="foreign", class_name="Layer", registered_name=None)
    else:
        layer.update(
            module="keras.layers", class_name=kind, registered_name=None
        )
        function = keras.layers.Lambda(lambda x: x).get_config()
        layer["config"] = (
            {**function, "name": "pre_logits"}
            if kind == "Lambda"
            else {"filepath": str(tmp_path), "name": "pre_logits"}
        )
    members["config.json"] = json.dumps(config)
    with zipfile.ZipFile(tmp_path / "bad.keras", "w") as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    with pytest.raises((ValueError, TypeError)):
        keras.models.load_model(tmp_path / "bad.keras")
    assert not canary.exists()


def test_safe_mode_and_pickles_are_never_switched_on():
    package = pathlib.Path(keras_vit.__file__).parent
    for file in package.rglob("*.py"):
        text = file.read_text("utf-8")
        assert "safe_mode" not in text, file
        assert "allow_pickle=True" not in text, file
        assert "pickle.load" not in text, file


@pytest.mark.parametrize("dtype", ["int32", "complex64", "bool", "U3"])
def test_wrong_dtypes_are_named(dtype, good, refuse):
    bad = changed(good, "head/bias.npy", npy(np.zeros(5, dtype)))
    message = refuse(bad)
    assert "'head/bias'" in message and "dtype=" in message


def test_duplicate_names(good, refuse):
    content = io.BytesIO(good)
    with pytest.warns(UserWarning, match="Duplicate name"):
        with zipfile.ZipFile(content, "a") as archive:
            archive.writestr("cls.npy", npy(np.ones((1, 1, 16), "float32")))
    assert "two arrays of one name: 'cls'" in refuse(content.getvalue())


def test_other_zips_and_other_files(refuse):
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w") as archive:
        archive.writestr("readme.txt", "no arrays here")
    assert "'readme.txt'" in refuse(content.getvalue())
    assert "PyTorch" in refuse(b"\x80\x02pickle", "model.pth")
    assert "nothing" in refuse(b"PK\x05\x06" + bytes(18))


def test_unknown_npy_version(good, refuse):
    array = bytearray(npy(np.zeros(5, "float32")))
    array[6] = 9
    message = refuse(changed(good, "head/bias.npy", bytes(array)))
    assert "'head/bias'" in message
