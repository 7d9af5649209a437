"""Files of weights, damaged by the byte and by the parts of their formats.

Every function takes a `random.Random` and returns bytes, the same for a seed.
"""

import copy
import io
import json
import struct
import warnings
import zipfile

import numpy as np

NUMBERS = [0, 1, -1, 2, 3, 7, 16, 255, 256, 65535, 65536, 2**31 - 1, 2**31]
NUMBERS += [2**32, 2**63 - 1, 2**63, 2**64, 10**30, True, None, 1.5, "x"]
DTYPES = ["<f4", ">f4", "<f2", "<f8", "|V2", "|O", "<i4", "<c8", "|b1", "<U4"]
DTYPES += ["|S2", "<M8[s]", "float32", "bfloat16", "<f16", ["a"], 7, None, ""]
DTYPES += [[("a", "<f2")], ("<f4", (2,)), "f4,f4", "|V4", "V", "O8", ">V2"]
EDGES = [0, 1, 2, 3, 5, 7, 8, 16, 32, 50, 300]
FACTORS = [float("nan"), float("inf"), 1e38, 1e5, 0, -1]
OF_SAFETENSORS = {
    "F16": "<f2", "F64": "<f8", "I32": "<i4", "BF16": "<u2", "I64": "<i8",
    "BOOL": "|b1", "F8_E4M3": "|u1", "U8": "|u1", "C64": "<c8",
}  # fmt: skip
SIGNATURES = [b"PK\x01\x02", b"PK\x03\x04", b"PK\x05\x06"]


def number(random, near=20):
    if random.random() < 0.6:
        return random.choice(NUMBERS)
    return random.randrange(-3, near + 3)


def shape_of(random):
    return tuple(random.choice(EDGES) for _ in range(random.randrange(5)))


def of_bytes(random, content):
    """Flips, cuts, repeats and overwrites bytes."""
    content = bytearray(content)
    for _ in range(random.choice([1, 1, 1, 2, 4, 16])):
        if not content:
            break
        at = random.randrange(len(content))
        size = random.choice([1, 2, 4, 16, 64, 1000])
        match random.randrange(8):
            case 0:
                content[at] ^= 1 << random.randrange(8)
            case 1:
                content[at] = random.choice([0, 255, 127, 128, 0x7B, 0x50])
            case 2:
                del content[at:]
            case 3:
                del content[at : at + size]
            case 4:
                content[at:at] = content[at : at + size]
            case 5:
                content[at:at] = random.randbytes(size % 65)
            case 6:
                edge = random.choice([0, 1, 2**16 - 1, 2**31 - 1, 2**32 - 1])
                content[at : at + 4] = struct.pack("<I", edge)
            case 7:
                start = random.randrange(len(content))
                content[at : at + size] = content[start : start + size]
    return bytes(content)


def of_name(random, name, names):
    return random.choice(
        [
            f"{name}x", name[:-1], f"../{name}", f"/{name}", "",
            name.replace("/", "\\"), random.choice(names), f"params/{name}",
            name.upper(), name.replace("0", "1"), name.replace("0", "\u0660"),
            name.replace("0", "9" * random.choice([3, 400, 5000])),
            f"module.{name}", f"\x1b[31m{name}\u202e", "x" * 3000,
        ]
    )  # fmt: skip


def of_array(random, array):
    match random.randrange(6):
        case 0:
            with np.errstate(all="ignore"):
                return array * np.float32(random.choice(FACTORS))
        case 1:
            return np.zeros(shape_of(random), "float32")
        case 2:
            return array.reshape(-1)
        case 3:
            return np.ascontiguousarray(array.T)
        case 4:
            return np.asfortranarray(array)
        case _:
            kind = random.choice(["<f2", "<f8", ">f4", "<i4", "<c8", "|b1"])
            with np.errstate(all="ignore"):
                return array.astype(kind)


def of_arrays(random, arrays):
    """Leaves out, renames, repeats and changes arrays."""
    arrays = dict(arrays)
    names = list(arrays)
    for _ in range(random.choice([1, 1, 1, 2, 3])):
        if not arrays:
            break
        name = random.choice(list(arrays))
        match random.randrange(5):
            case 0:
                del arrays[name]
            case 1:
                arrays[of_name(random, name, names)] = arrays[name]
            case 2:
                arrays[of_name(random, name, names)] = arrays.pop(name)
            case 3:
                arrays[name] = arrays[random.choice(list(arrays))]
            case _:
                arrays[name] = of_array(random, arrays[name])
    return arrays


def npy(array):
    stream = io.BytesIO()
    np.lib.format.write_array(stream, array, allow_pickle=False)
    return stream.getvalue()


def _npy_with_a_lie(random, array):
    header = {"descr": "<f4", "fortran_order": False, "shape": array.shape}
    for _ in range(random.choice([1, 1, 2])):
        match random.randrange(6):
            case 0:
                header["shape"] = (*array.shape[:-1], number(random))
            case 1:
                ndim = random.randrange(6)
                header["shape"] = tuple(number(random) for _ in range(ndim))
            case 2:
                header["descr"] = random.choice(DTYPES)
            case 3:
                header["fortran_order"] = random.choice([True, 0, None, "x"])
            case 4:
                name = random.choice(["x", 1, b"descr", None])
                header[name] = random.choice(NUMBERS)
            case 5:
                header.pop(random.choice(list(header)), None)
    text = repr(header).encode()
    if random.random() < 0.4:
        text = of_bytes(random, text)
    text += b" " * (-(len(text) + 11) % 64) + b"\n"
    version = random.choice([(1, 0)] * 4 + [(2, 0), (3, 0), (9, 9)])
    size = struct.pack("<H" if version == (1, 0) else "<I", len(text))
    cut = random.choice([None, None, None, -4, 8])
    data = array.tobytes()[:cut]
    return b"\x93NUMPY" + bytes(version) + size + text + data


def _zip(members, compression):
    stream = io.BytesIO()
    with warnings.catch_warnings(), zipfile.ZipFile(stream, "w") as archive:
        warnings.simplefilter("ignore")  # two of one name
        for name, content in members:
            info = zipfile.ZipInfo(name or "_")
            info.compress_type = compression
            archive.writestr(info, content)
    return stream.getvalue()


def _of_zip(random, content):
    """Overwrites a field of one of the zip's own records."""
    content = bytearray(content)
    signature = random.choice(SIGNATURES)
    found = [
        at
        for at in range(len(content) - 50)
        if content[at : at + 4] == signature
    ]
    if found:
        at = random.choice(found) + random.randrange(4, 46)
        value = random.choice([0, 1, 8, 9, 12, 14, 99, 0xFFFF])
        kind = random.choice(["<H", "<I"])
        struct.pack_into(kind, content, min(at, len(content) - 4), value)
    return bytes(content)


def of_npz(random, content):
    if random.random() < 0.3:
        return of_bytes(random, content)
    with np.load(io.BytesIO(content)) as file:
        arrays = of_arrays(random, file)
    members = [(f"{key}.npy", npy(x)) for key, x in arrays.items()]
    if members and random.random() < 0.4:
        at = random.randrange(len(members))
        name, _ = members[at]
        array = arrays[name.removesuffix(".npy")]
        members[at] = name, _npy_with_a_lie(random, array)
    kinds = [zipfile.ZIP_STORED] * 4 + [zipfile.ZIP_DEFLATED] * 3
    kinds += [zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA]
    content = _zip(members, random.choice(kinds))
    if random.random() < 0.2:
        content = of_bytes(random, content)
    return _of_zip(random, content) if random.random() < 0.2 else content


def _split(content):
    (size,) = struct.unpack("<Q", content[:8])
    return json.loads(content[8 : 8 + size]), content[8 + size :]


def arrays_of(content):
    """The arrays in a whole `.safetensors` file of float32."""
    header, data = _split(content)
    return {
        key: np.frombuffer(data[slice(*about["data_offsets"])], "<f4").reshape(
            about["shape"]
        )
        for key, about in header.items()
        if key != "__metadata__"
    }


def of_safetensors(random, content):
    if random.random() < 0.3:
        return of_bytes(random, content)
    header, data = _split(content)
    if random.random() < 0.7:
        header, data = {}, b""
        for key, array in of_arrays(random, arrays_of(content)).items():
            kinds = {np.dtype(x): name for name, x in OF_SAFETENSORS.items()}
            header[key] = {
                "dtype": kinds.get(array.dtype, "F32"),
                "shape": list(array.shape),
                "data_offsets": [len(data), len(data) + array.nbytes],
            }
            data += array.tobytes()
    header = copy.deepcopy(header)
    if header and random.random() < 0.4:
        about = header[random.choice(list(header))]
        match random.randrange(5):
            case 0:
                ndim = random.randrange(5)
                about["shape"] = [number(random) for _ in range(ndim)]
            case 1:
                few = random.choice([0, 1, 2, 2, 2, 3])
                offsets = [number(random, len(data)) for _ in range(few)]
                about["data_offsets"] = offsets
            case 2:
                kinds = [*OF_SAFETENSORS, "F32", "x", None, 5]
                about["dtype"] = random.choice(kinds)
            case 3:
                about.pop(random.choice(list(about)))
            case 4:
                notes = random.choice([{"a": 1}, [1], None, "x", {"a": "b"}])
                header["__metadata__"] = notes
    text = json.dumps(header).encode()
    if random.random() < 0.15:
        text = of_bytes(random, text)
    text += b" " * (-len(text) % 8)
    size = len(text)
    if random.random() < 0.1:
        size = random.choice([0, 1, 8, 2**31, 2**60, size + 8, size - 8])
    return struct.pack("<Q", max(size, 0)) + text + data


def of_torch(random, content):
    """A zip of PyTorch: its pickle, its records, the zip itself."""
    if random.random() < 0.4:
        return of_bytes(random, content)
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        members = [(x.filename, archive.read(x)) for x in archive.infolist()]
    at = random.randrange(len(members))
    if random.random() < 0.6:
        at = next(
            i for i, (name, _) in enumerate(members) if "data.pkl" in name
        )
    name, own = members[at]
    match random.randrange(8):
        case 0:
            del members[at]
        case 1:
            members[at] = of_name(random, name, [x for x, _ in members]), own
        case _:
            members[at] = name, of_bytes(random, own)
    compression = random.choice([zipfile.ZIP_STORED] * 4 + [8])
    content = _zip(members, compression)
    return _of_zip(random, content) if random.random() < 0.2 else content


def _value(random, depth=2):
    plain = [None, True, 0, -1, 8, 2.5, 1e-6, 1e30, float("inf"), float("nan")]
    plain += [10**25, "gelu", "x", "silu", "", "vit", [8, 12], [1], [], {}]
    plain += [["a", 2], [[0.5]], [0.5, 0.5, 0.5], "x" * 500]
    if depth and random.random() < 0.3:
        return {
            random.choice(["image_size", "a", "height", "hidden_act"]): _value(
                random, depth - 1
            )
            for _ in range(random.randrange(3))
        }
    return random.choice(plain)


def of_json(random, content, names):
    """The text, or the values of some names."""
    if random.random() < 0.3:
        return of_bytes(random, content)
    if random.random() < 0.05:
        deep = random.choice([b"[", b'{"a":', b"9"])
        return deep * random.choice([3000, 100_000])
    stated = json.loads(content)
    for _ in range(random.choice([1, 1, 2, 4])):
        name = random.choice([*names, *stated])
        stated[name] = _value(random)
        if random.random() < 0.2:
            stated.pop(name)
    if random.random() < 0.05:
        stated = _value(random)
    return json.dumps(stated).encode()
