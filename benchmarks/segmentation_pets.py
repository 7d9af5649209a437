"""Trains `segmentation_model` on real masks, against the majority class.

    KERAS_BACKEND=jax python benchmarks/segmentation_pets.py [pets_seg.zip]

220 photographs of cats and dogs with trimaps (Oxford-IIIT Pet): 130 or so to
train on, the rest to test; pet against background, the border ignored. A small
Vision Transformer from scratch, 96 x 96 pixels, mirrored at random. Prints the
mean IoU on the test images, and that of calling every pixel the commoner
class.
"""

import csv
import io
import os
import pathlib
import sys
import zipfile

import keras
import numpy as np
from PIL import Image

import keras_vit

ARCHIVE = pathlib.Path(__file__).parents[2] / "shared/data/pets_seg.zip"
SIZE = 96
IGNORED = 255
# Trimaps: 1 pet, 2 background, 3 border.
LABEL_OF = np.array([IGNORED, 1, 0, IGNORED], "uint8")
EPOCHS = int(os.environ.get("EPOCHS", 60))


def read(archive, split):
    """Returns the images of a split and their labels."""
    with zipfile.ZipFile(archive) as files:
        table = files.read("pets/index.csv").decode()
        names = [
            row["name"]
            for row in csv.DictReader(io.StringIO(table))
            if row["split"] == split
        ]

        def picture(path, method):
            image = Image.open(io.BytesIO(files.read(path)))
            return np.asarray(image.resize((SIZE, SIZE), method))

        images = [
            picture(f"pets/images/{name}.jpg", Image.BICUBIC) for name in names
        ]
        masks = [
            picture(f"pets/trimaps/{name}.png", Image.NEAREST) for name in names
        ]
    return np.stack(images), LABEL_OF[np.stack(masks)]


class Mirrored(keras.utils.PyDataset):
    """Batches in random order, each picture mirrored or not with its mask."""

    def __init__(self, images, labels, batch_size, seed):
        super().__init__()
        self.images, self.labels = images, labels
        self.batch_size = batch_size
        self.rng = np.random.default_rng(seed)
        self.on_epoch_end()

    def __len__(self):
        return len(self.images) // self.batch_size

    def __getitem__(self, index):
        chosen = self.order[index * self.batch_size :][: self.batch_size]
        images, labels = self.images[chosen], self.labels[chosen]
        mirror = self.rng.random(len(chosen)) < 0.5
        images = np.where(
            mirror[:, None, None, None], images[:, :, ::-1], images
        )
        labels = np.where(mirror[:, None, None], labels[:, :, ::-1], labels)
        return images, labels

    def on_epoch_end(self):
        self.order = self.rng.permutation(len(self.images))


def mean_iou(predicted, labels):
    counted = labels != IGNORED
    scores = []
    for label in (0, 1):
        ours, theirs = predicted == label, labels == label
        union = (ours | theirs) & counted
        scores.append((ours & theirs & counted).sum() / max(union.sum(), 1))
    return np.mean(scores)


def main():
    archive = sys.argv[1] if sys.argv[1:] else ARCHIVE
    keras.utils.set_random_seed(0)
    (x, y), (x_test, y_test) = read(archive, "train"), read(archive, "test")
    variant = keras_vit.Variant(4, 128, 256, 4, patch_size=8)
    backbone = keras_vit.ViT(variant, image_size=SIZE, num_classes=None)
    model = keras_vit.segmentation_model(
        backbone, num_classes=2, decoder="conv", decoder_dim=64
    )
    train = Mirrored(x, y, batch_size=16, seed=0)
    recipe = keras_vit.recipes.adamw(len(train) * EPOCHS, learning_rate=1e-3)
    model.compile(**recipe | keras_vit.recipes.segmentation(2))
    model.fit(train, epochs=EPOCHS, verbose=2 if sys.stdout.isatty() else 0)
    scores = model.evaluate(x_test, y_test, verbose=0, return_dict=True)
    commoner = np.bincount(y[y != IGNORED]).argmax()
    predicted = model.predict(x_test, verbose=0).argmax(axis=-1)
    print(f"{len(x)} images to train on, {len(x_test)} to test")
    print(f"mean IoU             {mean_iou(predicted, y_test):.3f}")
    print(f"  keras.metrics      {scores['mean_iou']:.3f}")
    baseline = mean_iou(np.full_like(y_test, commoner), y_test)
    print(f"majority class       {baseline:.3f}")


if __name__ == "__main__":
    main()
