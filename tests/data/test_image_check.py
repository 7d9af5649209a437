"""`check_images`: each kind of wrong image among good ones, and the list."""

import csv
import io
import warnings
import zlib

import keras
import numpy as np
import pytest

import keras_vit
from keras_vit.data import ImageFolder, check_images

Image = pytest.importorskip("PIL.Image")


def encoded(size=(20, 12), format="PNG"):
    """The bytes of a picture that no codec makes small."""
    pixels = np.random.default_rng(0).integers(0, 256, (*size[::-1], 3))
    stream = io.BytesIO()
    Image.fromarray(pixels.astype("uint8")).save(stream, format)
    return stream.getvalue()


def bomb(width=200_000, height=100_000):
    """A header that promises 20 gigapixels, as a real bomb does."""
    data = bytearray(encoded())
    data[16:24] = width.to_bytes(4, "big") + height.to_bytes(4, "big")
    data[29:33] = zlib.crc32(data[12:29]).to_bytes(4, "big")
    return bytes(data)


WRONG = {
    "empty.png": (b"", "unreadable"),
    "page.jpg": (b"<html>404</html>", "unreadable"),
    "cut.png": (encoded()[:-60], "damaged"),
    "cut.jpg": (encoded(format="JPEG")[:-60], "damaged"),
    "cut.webp": (encoded(format="WEBP")[:-100], "unreadable"),
    "photo.png": (encoded(format="JPEG"), "mistyped"),
    "bomb.png": (bomb(), "oversized"),
    "large.png": (encoded((40, 30)), "oversized"),
    "narrow.png": (encoded((12, 20)), "shape"),
}


@pytest.fixture
def folder(tmp_path):
    """Six good images in two classes, one of them further down."""
    for name in ("cat", "dog", "dog/young"):
        (tmp_path / name).mkdir()
        for suffix, format in ((".PNG", "PNG"), (".jpeg", "JPEG")):
            file = tmp_path / name / f"good{suffix}"
            file.write_bytes(encoded(format=format))
    (tmp_path / "cat" / "notes.txt").write_text("no image", encoding="utf-8")
    (tmp_path / "cat" / ".hidden.png").write_bytes(b"no image")
    return tmp_path


def test_good_images(folder):
    found = check_images(folder, image_size=(12, 20), verbose=False)
    assert found == (6, []) and str(found) == "6 images, none wrong"
    assert check_images(ImageFolder(folder, 4), verbose=False) == (6, [])
    assert check_images(str(folder / "dog" / "young"), verbose=False) == (2, [])


@pytest.mark.parametrize("name", WRONG)
def test_each_kind_is_found(folder, name):
    content, kind = WRONG[name]
    path = folder / "dog" / "young" / name
    path.write_bytes(content)
    options = {"image_size": (12, 20), "max_pixels": 1000, "verbose": False}
    count, problems = check_images(folder, **options)
    assert count == 7
    assert [(p.image, p.kind) for p in problems] == [(str(path), kind)]


def test_pillow_has_a_limit_of_its_own(folder, monkeypatch):
    """Between its limit and twice of it Pillow warns, once, and decodes."""
    (folder / "cat" / "large.png").write_bytes(encoded((40, 30)))
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 1000)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        (problem,) = check_images(folder, verbose=False).problems
    assert problem.kind == "oversized" and "1,200 pixels" in problem.reason
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", None)
    assert not check_images(folder, verbose=False).problems


def test_files_that_a_folder_skips_are_in_the_list(folder):
    (folder / "cat" / "cut.png").write_bytes(WRONG["cut.png"][0])
    data = ImageFolder(folder, 4, on_error="skip")
    found = check_images(data, verbose=False)
    assert [p.image for p in found.problems] == data.skipped
    assert found.num_images == 7


def test_a_file_of_the_list_may_have_two_faults(folder, tmp_path, capsys):
    (folder / "cat" / "a, b.png").write_bytes(WRONG["cut.jpg"][0])
    found = check_images(folder)
    out = capsys.readouterr().out
    assert "7/7" in out and "image" in out
    assert [p.kind for p in found.problems] == ["mistyped", "damaged"]
    first, *lines = str(found).splitlines()
    assert first == "7 images, 1 wrong: 1 mistyped, 1 damaged"
    assert lines[0].endswith("a, b.png: named as PNG, holds JPEG")
    found.write_csv(tmp_path / "wrong.csv")
    with open(tmp_path / "wrong.csv", newline="", encoding="utf-8") as file:
        header, *rows = csv.reader(file)
    assert header == ["image", "kind", "reason"]
    assert rows == [list(problem) for problem in found.problems]


def test_long_lists_are_cut():
    problem = keras_vit.data.ImageProblem("a.png", "shape", "")
    lines = str(keras_vit.data.ImageCheck(100, [problem] * 50)).splitlines()
    assert len(lines) == 22 and lines[-1] == "... and 30 more"


class Batches(keras.utils.PyDataset):
    """Six batches of two images; some go wrong."""

    def __len__(self):
        return 6

    def __getitem__(self, index):
        if index == 2:
            raise OSError("no such disk")
        images = np.zeros((2, 8, 12, 3), "float32")
        if index == 3:
            images = images[:, :, :6]
        if index == 5:
            images[1, 0, 0, 0] = np.inf
        return images if index == 4 else (images, np.zeros(2))


@pytest.mark.parametrize("workers", [1, 3])
def test_data_sets(workers):
    found = check_images(Batches(workers=workers), verbose=False)
    assert found.num_images == 10
    assert [(p.image, p.kind) for p in found.problems] == [
        ("batch 2", "unreadable"),
        ("batch 3", "shape"),
        ("batch 5, image 1", "pixels"),
    ]
    assert found.problems[0].reason == "OSError: no such disk"
    assert "(8, 6, 3), not (8, 12, 3)" in found.problems[1].reason
    first = np.zeros((4, 3, 8, 12), "uint8")
    data = keras_vit.ArrayDataset(first, np.zeros(4), batch_size=2)
    assert check_images(data, (8, 12), verbose=False) == (4, [])
    problems = check_images(data, 8, verbose=False).problems
    assert [p.kind for p in problems] == ["shape"] * 2


@pytest.mark.parametrize(
    "source, options, words",
    [
        ("no/such/folder", {}, "`source` must be a folder"),
        (None, {}, "`source` must be a folder, an `ImageFolder`"),
        ("{folder}", {"image_size": 0}, "`image_size`"),
        ("{folder}", {"max_pixels": 0}, "`max_pixels`"),
        ("{folder}/empty", {}, "`source` must hold images"),
    ],
)
def test_bad_arguments(folder, source, options, words):
    (folder / "empty").mkdir()
    if source is not None:
        source = source.format(folder=folder)
    with pytest.raises(ValueError, match=words):
        check_images(source, **options)
