"""The sets by name, and folders of good, odd and broken image files."""

import os
import sys
import zipfile

import keras
import numpy as np
import pytest
from helpers import EAGER, SHARED

import keras_vit
from keras_vit import data
from keras_vit.data import ImageFolder

Image = pytest.importorskip("PIL.Image")
pytest.importorskip("sklearn")


# Sets by name

HELD_OUT_LABELS = [3, 5, 7, 3, 6, 9, 2, 6, 5, 0, 8, 7]


def test_digits_are_real_pixels_with_known_counts():
    (x_train, y_train), (x_test, y_test) = data.load("digits")
    assert x_train.shape == (1198, 8, 8, 1)
    assert x_test.shape == (599, 8, 8, 1)
    assert x_train.dtype == x_test.dtype == np.uint8
    assert (x_train.min(), x_train.max()) == (0, 255)
    assert y_train.dtype == y_test.dtype == np.int64
    assert data.class_names("digits") == list("0123456789")


def test_digits_are_split_by_class_without_overlap():
    (x_train, y_train), (x_test, y_test) = data.load("digits")
    total = np.bincount(y_train) + np.bincount(y_test)
    # The counts of the collection itself.
    assert total.tolist() == [
        178, 182, 177, 183, 181, 182, 181, 179, 174, 180,
    ]  # fmt: skip
    assert np.bincount(y_test).tolist() == [round(n / 3) for n in total]
    train = {image.tobytes() for image in x_train}
    assert len(train) == len(x_train)
    assert not any(image.tobytes() in train for image in x_test)


def test_digits_are_the_same_each_time():
    (_, first), (_, first_test) = data.load("digits")
    (_, again), (_, again_test) = data.load("digits")
    np.testing.assert_array_equal(first, again)
    np.testing.assert_array_equal(first_test, again_test)
    # Held-out labels as drawn by NumPy's frozen RandomState: a split that
    # moves would make old accuracies incomparable.
    assert first_test[:12].tolist() == HELD_OUT_LABELS


def test_unknown_set_lists_the_known_ones():
    with pytest.raises(ValueError, match="'digits'.*name='mnist'"):
        data.load("mnist")


@pytest.mark.parametrize(
    "module, call",
    [
        ("sklearn.datasets", lambda folder: data.load("digits")),
        ("PIL", lambda folder: ImageFolder(folder, 8)),
    ],
)
def test_absent_package_names_the_extra(monkeypatch, folder, module, call):
    monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(ImportError, match=r"pip install.*\[data\]"):
        call(folder)


# Folders


@pytest.fixture
def folder(tmp_path):
    """Two classes of plain images: cats are 10, 11, ..., dogs 200, 201, ..."""
    for name, first, count in (("cat", 10, 5), ("dog", 200, 4)):
        (tmp_path / name).mkdir()
        for number in range(count):
            color = (first + number,) * 3
            image = Image.new("RGB", (20, 12), color)
            image.save(tmp_path / name / f"{number}.png")
    return tmp_path


def corrupt(path):
    """Cuts a file short, as a broken download does."""
    path.write_bytes(path.read_bytes()[:-30])


def test_images_and_labels_come_in_order(folder):
    data = ImageFolder(folder, (6, 10), batch_size=4, shuffle=False)
    assert data.class_names == ["cat", "dog"]
    assert data.skipped == []
    assert len(data) == 3
    images, labels = zip(*(data[index] for index in range(3)))
    assert [len(batch) for batch in images] == [4, 4, 1]
    assert images[0].shape == (4, 6, 10, 3)
    assert images[0].dtype == np.float32
    expected = [10, 11, 12, 13, 14, 200, 201, 202, 203]
    np.testing.assert_array_equal(
        np.concatenate(images)[:, 0, 0, 0], np.array(expected, "float32")
    )
    assert np.concatenate(labels).tolist() == [0] * 5 + [1] * 4
    assert data.paths[5] == str(folder / "dog" / "0.png")


def test_order_depends_on_seed_and_epoch_alone(folder):
    def epochs(seed, count=2):
        data = ImageFolder(folder, 4, batch_size=9, seed=seed)
        result = []
        for _ in range(count):
            images, labels = data[0]
            # Labels stay with their images.
            np.testing.assert_array_equal(labels, images[:, 0, 0, 0] >= 200)
            result.append(images[:, 0, 0, 0].tolist())
            data.on_epoch_end()
        return result

    first, second = epochs(seed=3)
    assert sorted(first) == sorted(second) and first != second
    assert epochs(seed=3) == [first, second]
    assert epochs(seed=4)[0] != first
    resumed = ImageFolder(folder, 4, batch_size=9, seed=3, epoch=1)
    assert resumed[0][0][:, 0, 0, 0].tolist() == second


def test_bilinear_resize_by_hand(tmp_path):
    (tmp_path / "ramp").mkdir()
    ramp = np.array([[0, 100]], "uint8")
    Image.fromarray(ramp).save(tmp_path / "ramp" / "ramp.png")
    data = ImageFolder(tmp_path, (1, 4), color_mode="grayscale")
    # New centres at 1/4, 3/4, 5/4, 7/4 of pixels with centres 1/2 and 3/2.
    assert data[0][0].ravel().tolist() == [0, 25, 75, 100]


@pytest.mark.parametrize(
    "mode, pixel, expected",
    [
        ("L", 7, (7, 7, 7)),
        ("RGBA", (1, 2, 3, 255), (1, 2, 3)),
        ("I;16", 200 * 256, (200, 200, 200)),
        ("1", 1, (255, 255, 255)),
    ],
)
def test_every_kind_of_png_becomes_rgb(tmp_path, mode, pixel, expected):
    (tmp_path / "a").mkdir()
    Image.new(mode, (4, 4), pixel).save(tmp_path / "a" / "a.PNG")
    images, _ = ImageFolder(tmp_path, 2)[0]
    assert images.shape == (1, 2, 2, 3)
    assert images[0, 0, 0].tolist() == list(expected)


def test_photos_stand_upright(tmp_path):
    (tmp_path / "a").mkdir()
    picture = Image.fromarray(np.array([[0, 250]], "uint8"))
    exif = Image.Exif()
    exif[0x0112] = 6  # to be turned by 90 degrees clockwise
    picture.save(tmp_path / "a" / "a.png", exif=exif)
    data = ImageFolder(tmp_path, (2, 1), color_mode="grayscale")
    assert data[0][0].ravel().tolist() == [0, 250]


def test_data_formats(folder):
    data = ImageFolder(folder, (6, 10), data_format="channels_first")
    assert data[0][0].shape == (9, 3, 6, 10)
    keras.config.set_image_data_format("channels_first")
    gray = ImageFolder(folder, (6, 10), color_mode="grayscale")
    assert gray[0][0].shape == (9, 1, 6, 10)


def test_other_files_are_passed_over(folder):
    (folder / "README.txt").write_text("no class", encoding="utf-8")
    (folder / "cat" / "notes.txt").write_text("no image", encoding="utf-8")
    (folder / "cat" / ".hidden.png").write_text("no image", encoding="utf-8")
    (folder / ".git").mkdir()
    (folder / "dog" / "young").mkdir()
    Image.new("L", (3, 3)).save(folder / "dog" / "young" / "puppy.jpg")
    data = ImageFolder(folder, 4, shuffle=False)
    assert data.class_names == ["cat", "dog"]
    assert data.labels.tolist() == [0] * 5 + [1] * 5


def test_a_class_without_an_image_is_named(folder):
    (folder / "bird").mkdir()
    with pytest.warns(UserWarning, match="hold no image.*'bird'"):
        data = ImageFolder(folder, 4)
    assert data.class_names == ["bird", "cat", "dog"]
    assert set(data.labels.tolist()) == {1, 2}


def test_a_class_that_cannot_be_read_is_an_error(folder, monkeypatch):
    scandir = os.scandir

    def refuse(path):
        if os.path.basename(path) == "dog":
            raise PermissionError(13, "Permission denied", str(path))
        return scandir(path)

    monkeypatch.setattr(os, "scandir", refuse)
    with pytest.raises(ValueError, match="dog' of `directory` cannot be read"):
        ImageFolder(folder, 4)


def test_no_name_is_no_folder():
    with pytest.raises(ValueError, match="directory=''"):
        ImageFolder("", 4)


def test_class_names_fix_the_labels(folder):
    names = ["dog", "bird", "cat"]
    data = ImageFolder(folder, 4, shuffle=False, class_names=names)
    assert data.class_names == names
    assert data.labels.tolist() == [0] * 4 + [2] * 5
    with pytest.raises(ValueError, match=r"class_names=\['dog'\]"):
        ImageFolder(folder, 4, class_names=["dog"])


def test_augmentation_sees_each_batch(folder):
    def invert(images, labels):
        return 255 - images, labels

    data = ImageFolder(folder, 4, shuffle=False, augment=invert)
    assert data[0][0][0, 0, 0, 0] == 245


@pytest.mark.parametrize(
    "arguments, words",
    [
        ({"image_size": 0}, "image_size"),
        ({"image_size": (4, 4, 3)}, "image_size"),
        ({"batch_size": 0}, "batch_size"),
        ({"on_error": "ignore"}, "on_error='ignore'"),
        ({"color_mode": "bgr"}, "color_mode='bgr'"),
        ({"directory": "no/such/folder"}, "no/such/folder"),
        ({"directory": ""}, "directory=''"),
    ],
)
def test_bad_arguments_are_named(folder, arguments, words):
    with pytest.raises(ValueError, match=words):
        ImageFolder(**{"directory": folder, "image_size": 4, **arguments})


def test_folder_without_classes_or_images(tmp_path):
    with pytest.raises(ValueError, match="a folder for each class"):
        ImageFolder(tmp_path, 4)
    (tmp_path / "empty").mkdir()
    with pytest.raises(ValueError, match=r"\['empty'\]"):
        ImageFolder(tmp_path, 4)


# Broken files


@pytest.mark.parametrize("content", [b"", b"<html>404</html>", None])
def test_corrupt_file_is_named(folder, content):
    path = folder / "cat" / "2.png"
    path.write_bytes(path.read_bytes()[:40] if content is None else content)
    with pytest.raises(ValueError, match=r"cat.2\.png.*on_error='skip'"):
        ImageFolder(folder, 4)


def test_corrupt_files_are_skipped_and_counted(folder):
    bad = [folder / "cat" / "0.png", folder / "dog" / "1.png"]
    for path in bad:
        corrupt(path)
    with pytest.raises(ValueError, match=r"0\.png.*and 1 more"):
        ImageFolder(folder, 4)
    data = ImageFolder(folder, 4, shuffle=False, on_error="skip")
    assert data.skipped == [str(path) for path in bad]
    images, labels = data[0]
    assert images[:, 0, 0, 0].tolist() == [11, 12, 13, 14, 200, 202, 203]
    assert labels.tolist() == [0] * 4 + [1] * 3
    assert len(data.paths) == 7


def test_nothing_left_after_skipping(folder):
    for path in folder.rglob("*.png"):
        corrupt(path)
    with pytest.raises(ValueError, match="of which none can"):
        ImageFolder(folder, 4, on_error="skip")


@pytest.mark.parametrize("method", ["predict", "evaluate", "fit"])
def test_file_that_goes_bad_leaves_the_model_alive(folder, tiny_vit, method):
    model = tiny_vit(image_size=8)
    model.compile(
        "sgd", keras.losses.SparseCategoricalCrossentropy(True), **EAGER
    )
    data = ImageFolder(folder, 8, batch_size=2, shuffle=False)
    good = ImageFolder(folder, 8, batch_size=2, shuffle=False)[0][0]
    before = keras_vit.predict(model, good, verbose=0)
    corrupt(folder / "dog" / "3.png")
    run = {
        "predict": keras_vit.predict,
        "evaluate": keras_vit.evaluate,
        "fit": lambda model, data, verbose: model.fit(data, verbose=verbose),
    }[method]
    with pytest.raises(Exception, match=r"dog.3\.png"):
        run(model, data, verbose=0)
    after = keras_vit.predict(model, good, verbose=0)
    assert np.isfinite(after).all()
    if method != "fit":
        np.testing.assert_array_equal(before, after)


def test_threads_give_the_same_batches(folder, tiny_vit):
    model = tiny_vit(image_size=8)
    one = ImageFolder(folder, 8, batch_size=2, shuffle=False)
    four = ImageFolder(folder, 8, batch_size=2, shuffle=False, workers=4)
    np.testing.assert_array_equal(
        keras_vit.predict(model, one, verbose=0),
        keras_vit.predict(model, four, verbose=0),
    )


# Photographs


@pytest.fixture(scope="module")
def flowers(tmp_path_factory):
    """Six photographs of each of five classes."""
    archive = SHARED / "data" / "flowers.zip"
    if not archive.is_file():
        pytest.skip("no ../shared/data/flowers.zip beside this clone")
    folder = tmp_path_factory.mktemp("photographs")
    with zipfile.ZipFile(archive) as file:
        names = sorted(n for n in file.namelist() if "/train/" in n)
        for name in names[::8]:
            file.extract(name, folder)
    return folder / "flowers" / "train"


def test_photographs(flowers):
    data = ImageFolder(flowers, 64, batch_size=8)
    assert data.class_names == [
        "daisy",
        "dandelion",
        "roses",
        "sunflowers",
        "tulips",
    ]
    images, labels = data[0]
    assert images.shape == (8, 64, 64, 3)
    assert 0 <= images.min() < 60 and 180 < images.max() <= 255
    for path, label in zip(data.paths, data.labels):
        assert (
            os.path.basename(os.path.dirname(path)) == (data.class_names[label])
        )


def test_fit_and_predict_on_photographs(flowers, tiny_vit):
    path = flowers / "roses" / sorted(os.listdir(flowers / "roses"))[0]
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) // 2])
    try:
        with pytest.raises(ValueError, match=path.name):
            ImageFolder(flowers, 8)
        data = ImageFolder(flowers, 8, batch_size=8, on_error="skip")
    finally:
        path.write_bytes(whole)
    assert data.skipped == [str(path)]
    model = tiny_vit(image_size=8)
    model.compile(**keras_vit.recipes.adamw(total_steps=8), **EAGER)
    history = model.fit(data, epochs=2, verbose=0, shuffle=False)
    assert np.isfinite(history.history["loss"]).all()
    assert keras_vit.predict(model, data, verbose=0).shape == (
        len(data.paths),
        5,
    )
