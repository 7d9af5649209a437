"""The images of VTAB: resized, and read from data sets that TFDS wrote."""

import io
import subprocess
import sys

import keras
import numpy as np
import pytest
from helpers import environment

import keras_vit
from keras_vit.transfer_learning.vtab_data import (
    ResizedImages,
    load_tfds,
    resize,
)
from keras_vit.transfer_learning.vtab_tasks import TASKS

# Images


@pytest.mark.parametrize("old, new", [((9, 14), (6, 5)), ((5, 4), (8, 11))])
def test_resize_is_bilinear_without_antialiasing(rng, old, new):
    image = rng.integers(0, 256, (*old, 3), "uint8")
    expected = keras.ops.image.resize(
        image.astype("float32"),
        new,
        "bilinear",
        antialias=False,
        data_format="channels_last",
    )
    result = resize(image, new)
    assert result.dtype == np.uint8
    # Half a level is what rounding costs.
    np.testing.assert_allclose(
        result, keras.ops.convert_to_numpy(expected), atol=0.501
    )


def test_resize_by_hand():
    ramp = np.array([[[0], [100]]], "uint8")
    # New centres at 1/4, 3/4, 5/4, 7/4 of pixels with centres 1/2 and 3/2.
    np.testing.assert_array_equal(
        resize(ramp, (1, 4))[0], np.array([[0], [25], [75], [100]]) * [1, 1, 1]
    )
    with pytest.raises(ValueError, match="uint8.*float64"):
        resize(np.zeros((2, 2, 3)), (1, 4))


def test_images_follow_the_data_format(rng):
    images = [rng.integers(0, 256, (6, 9, 3), "uint8") for _ in range(3)]
    last = ResizedImages(images, (4, 5))[np.array([2, 0])]
    keras.config.set_image_data_format("channels_first")
    first = ResizedImages(images, (4, 5))[np.array([2, 0])]
    assert last.shape == (2, 4, 5, 3)
    np.testing.assert_array_equal(first, last.transpose(0, 3, 1, 2))


# Data sets in the format of TFDS


@pytest.fixture(scope="module")
def tfds():
    return pytest.importorskip(
        "tensorflow_datasets", reason="tensorflow-datasets is not installed"
    )


def png(pixels):
    Image = pytest.importorskip("PIL.Image")
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "PNG")
    return file.getvalue()


@pytest.fixture(scope="module")
def data_dir(tfds, tmp_path_factory):
    """CLEVR and smallNORB, tiny, written by TFDS under their names.

    The first pixel is the number of the example mod 250.
    """
    pngs = [png(np.full((6, 9, 3), n, "uint8")) for n in range(250)]
    gray = [png(np.full((8, 8), n, "uint8")) for n in range(250)]
    f = tfds.features

    with tfds.core.registered.skip_registration():

        class Clevr(tfds.core.GeneratorBasedBuilder):
            """Row n has 3 + n % 8 objects."""

            VERSION = tfds.core.Version("3.1.0")

            def _info(self):
                return tfds.core.DatasetInfo(
                    builder=self,
                    features=f.FeaturesDict(
                        {
                            "image": f.Image(shape=(None, None, 3)),
                            "objects": f.Sequence(
                                {
                                    "size": f.ClassLabel(num_classes=2),
                                    "pixel_coords": f.Tensor(
                                        shape=(3,), dtype=np.float32
                                    ),
                                }
                            ),
                        }
                    ),
                )

            def _split_generators(self, dl_manager):
                return {"train": self.rows(2000), "validation": self.rows(16)}

            def _generate_examples(self):
                raise NotImplementedError

            def rows(self, count):
                for n in range(count):
                    objects = {
                        "size": [0] * (3 + n % 8),
                        "pixel_coords": [[0.0, 0.0, 9.25]] * (3 + n % 8),
                    }
                    image = io.BytesIO(pngs[n % 250])
                    yield n, {"image": image, "objects": objects}

        class Smallnorb(tfds.core.GeneratorBasedBuilder):
            """Row n is seen from side n % 18."""

            VERSION = tfds.core.Version("2.0.0")

            def _info(self):
                return tfds.core.DatasetInfo(
                    builder=self,
                    features=f.FeaturesDict(
                        {
                            "image": f.Image(shape=(8, 8, 1)),
                            "label_azimuth": f.ClassLabel(num_classes=18),
                        }
                    ),
                )

            def _split_generators(self, dl_manager):
                return {"train": self.rows(900), "test": self.rows(500)}

            def _generate_examples(self):
                raise NotImplementedError

            def rows(self, count):
                for n in range(count):
                    image = io.BytesIO(gray[n % 250])
                    yield n, {"image": image, "label_azimuth": n % 18}

    folder = tmp_path_factory.mktemp("tfds")
    for builder in (Clevr, Smallnorb):
        builder(
            data_dir=folder, file_format="array_record"
        ).download_and_prepare()
    return folder


def first_pixels(images):
    return [images[row][0, 0, 0] for row in range(len(images))]


def test_tfds_is_read_by_the_rule_of_the_task(tfds, data_dir):
    everything = tfds.data_source("clevr:3.1.0", data_dir=data_dir)["train"]
    order = [int(row["image"][0, 0, 0]) for row in everything]
    counts = [len(row["objects"]["size"]) for row in everything]
    images, labels = load_tfds(TASKS["clevr-count"], "train800val200", data_dir)
    assert images[0].shape == (6, 9, 3)
    assert first_pixels(images) == order[:800] + order[1800:]
    assert labels.tolist() == [n - 3 for n in counts[:800] + counts[1800:]]
    _, labels = load_tfds(TASKS["clevr-dist"], "test", data_dir)
    assert labels.tolist() == [3] * 16


def test_tfds_gray_images_become_three_channels(tfds, data_dir):
    source = tfds.data_source("smallnorb:2.*.*", data_dir=data_dir)["test"]
    order = [int(row["image"][0, 0, 0]) for row in source]
    images, labels = load_tfds(TASKS["snorb-azim"], "test", data_dir)
    assert images[0].shape == (8, 8, 3)
    assert first_pixels(images) == order[250:]
    assert labels.tolist() == [
        row["label_azimuth"] for row in list(source)[250:]
    ]


def test_two_tasks_from_disk_to_table(tfds, data_dir, tiny_vit, tmp_path):
    def build(num_classes):
        return tiny_vit(image_size=8, num_classes=num_classes)

    scores = keras_vit.transfer_learning.vtab(
        keras_vit.transfer_learning.vtab_finetuning(
            build, steps=2, batch_size=32, verbose=0
        ),
        8,
        tasks=["clevr-count", "snorb-azim"],
        data_dir=data_dir,
        results=tmp_path / "scores.json",
        workers=2,
        verbose=0,
    )
    assert list(scores.accuracies) == ["clevr-count", "snorb-azim"]
    # Accuracies are counts of 16 and of 250 images.
    for accuracy, count in zip(scores.accuracies.values(), (16, 250)):
        assert accuracy * count == pytest.approx(round(accuracy * count))


def test_absent_data_set_tells_how_to_make_it(tfds, data_dir):
    with pytest.raises(
        FileNotFoundError, match=r"'dtd:3.\*.\*'.*array_record.*prepare"
    ):
        load_tfds(TASKS["dtd"], "test", data_dir)


def test_tfds_is_read_without_tensorflow(tfds, data_dir):
    code = f"""
from importlib.machinery import PathFinder
find_spec = PathFinder.find_spec
def find_the_rest(name, *rest):
    absent = name.split(".")[0] == "tensorflow"
    return None if absent else find_spec(name, *rest)
PathFinder.find_spec = find_the_rest
from keras_vit.transfer_learning.vtab_data import load_tfds
from keras_vit.transfer_learning.vtab_tasks import TASKS
images, labels = load_tfds(TASKS["clevr-count"], "val200", {str(data_dir)!r})
assert len(images) == len(labels) == 200 and images[0].shape == (6, 9, 3)
"""
    subprocess.run(
        [sys.executable, "-c", code],
        # No model is run, so the lightest backend will do.
        env=environment("numpy"),
        check=True,
        timeout=120,
    )
