# %% [markdown]
# # 10. Segmentation: what do patch tokens know about places?
#
# A classifier reads one vector and throws away where things are. For a class for every pixel, the place is
# half of the answer. We train small Vision Transformers to find and name handwritten digits in a scene, with and
# without position embeddings, ask their tokens block by block where they are, and end with cats and dogs.

# %%
import os

os.environ.setdefault("KERAS_BACKEND", "jax")  # or "tensorflow", "torch"
for name, value in {
    "MPLBACKEND": "agg",  # draw to files; notebooks bring their own
    "TF_CPP_MIN_LOG_LEVEL": "3",
    # GPUs shorten the factors of a product to 10 bits unless told not to.
    "NVIDIA_TF32_OVERRIDE": "0",
    "JAX_DEFAULT_MATMUL_PRECISION": "highest",
}.items():
    os.environ.setdefault(name, value)

# %%
import pathlib
import time
import zipfile

import keras
import matplotlib.pyplot as plt
import numpy as np
from PIL import Image

import keras_vit
from keras_vit import datasets

print(f"Keras {keras.version()} on {keras.backend.backend()}")

# %% [markdown]
# The knobs.

# %%
digits = (0, 1, 4, 7)  # the classes; everything else is background
num_scenes, num_test_scenes = 4_000, 400
epochs = 16
pet_epochs = 20
learning_rate = 2e-3
seed = 0
output = pathlib.Path("outputs") / "segmentation"

output.mkdir(parents=True, exist_ok=True)
random = np.random.default_rng(seed)
start = time.perf_counter()

# %% [markdown]
# ## Scenes with masks, without a download
#
# Masks are drawn by hand, pixel by pixel, and data sets of them are large. So we make one from scans that come with
# scikit-learn: a scene has a digit somewhere in each of its four quarters, and the mask gives each pixel of ink the
# class of its digit. This is real handwriting with exact masks, but it is not a photograph: *where* there is ink
# is plain to see, and the whole difficulty is *whose* ink. Digits of test scenes are never seen in training.


# %%
def scenes(images, labels, count):
    """Canvases of 24 x 24 pixels with four digits each, and their masks."""
    chosen = np.flatnonzero(np.isin(labels, digits))
    canvas = np.zeros((count, 24, 24, 1), "uint8")
    masks = np.zeros((count, 24, 24), "int32")
    for scene, quarter in np.ndindex(count, 4):
        row = random.choice(chosen)
        top, left = 12 * np.array(divmod(quarter, 2)) + random.integers(
            5, size=2
        )
        place = np.s_[scene, top : top + 8, left : left + 8]
        canvas[place] = images[row]
        ink = images[row, ..., 0] >= 96
        masks[place] = np.where(ink, 1 + digits.index(labels[row]), 0)
    return canvas, masks


train_digits, test_digits = datasets.load("digits")
x_train, y_train = scenes(*train_digits, num_scenes)
x_test, y_test = scenes(*test_digits, num_test_scenes)
names = ["background", *map(str, digits)]
assert x_test.shape == (*y_test.shape, 1)
print("shares of pixels:", np.bincount(y_train.ravel()) / y_train.size)

# %% [markdown]
# ## The measure, and what costs nothing
#
# *Intersection over union* (IoU) of a class: the pixels where answer and mask both have it, divided by the pixels
# where at least one has it. The mean over classes makes rare classes count as much as the background. Two answers
# that know nothing: background everywhere; and all ink found, but always called by the commonest digit.


# %%
def ious(answers, masks, num_classes, ignored=255):
    """IoU of each class over all pixels that count."""
    counts = masks != ignored
    result = []
    for label in range(num_classes):
        ours, theirs = answers == label, masks == label
        union = ((ours | theirs) & counts).sum()
        result.append((ours & theirs & counts).sum() / max(union, 1))
    return np.array(result)


commonest = 1 + np.bincount(y_train.ravel())[1:].argmax()
results = {
    "background everywhere": ious(np.zeros_like(y_test), y_test, 5),
    "ink found, not named": ious(commonest * (y_test > 0), y_test, 5),
}
for name, result in results.items():
    print(f"{name:24}mean IoU {result.mean():.3f}")

# %% [markdown]
# ## The model
#
# `segmentation_model` takes any Vision Transformer of this library without its head. The tokens of the last block
# return to the places of their patches, a map of 6 x 6 tokens; the decoder, two convolutions that enlarge the map
# twice, carves out the pixels. There is no class token.
#
# We build it twice. The second has `position=None`. Its decoder still knows the places of all tokens, but in the
# transformer they are a set: a patch with a stroke cannot tell which of the other 35 touch it.


# %%
def build(position):
    keras.utils.set_random_seed(seed)
    backbone = keras_vit.ViT(
        keras_vit.Variant(3, 64, 128, 4, patch_size=4),
        image_size=24,
        num_channels=1,
        num_classes=None,
        pooling=None,
        position=position,
    )
    return keras_vit.segmentation_model(
        backbone, num_classes=5, decoder="conv", decoder_dim=32
    )


models = {
    "with positions": build("sincos_2d"),
    "without positions": build(None),
}
model = models["with positions"]
assert model.get_layer("feature_map").output.shape == (None, 6, 6, 64)
assert model.output_shape == (None, 24, 24, 5)
print(f"{model.count_params():,} parameters")


# %%
def train(model, images, masks, epochs, batch_size, num_classes):
    batches = keras_vit.ArrayDataset(images, masks, batch_size, seed=seed)
    recipe = keras_vit.recipes.adamw(
        epochs * len(batches), learning_rate=learning_rate
    )
    # Its loss and its metric leave out pixels with the label 255.
    model.compile(**recipe | keras_vit.recipes.segmentation(num_classes))
    return model.fit(batches, epochs=epochs, shuffle=False, verbose=0).history


predictions = {}
for name, model in models.items():
    train(model, x_train, y_train, epochs, 50, num_classes=5)
    logits = keras_vit.predict(model, x_test, batch_size=50, verbose=0)
    predictions[name] = logits.argmax(axis=-1)
    results[name] = ious(predictions[name], y_test, 5)

# %%
print(f"{'IoU':24}{'mean':>6}", *(f"{name:>11}" for name in names))
for name, result in results.items():
    each = (f"{value:11.3f}" for value in result)
    print(f"{name:24}{result.mean():6.3f}", *each)

# %%
palette = np.array(  # Okabe-Ito, with white for the background
    [
        (255, 255, 255),
        (230, 159, 0),
        (86, 180, 233),
        (0, 158, 115),
        (213, 94, 0),
    ]
)
rows = {"scene": None, "mask": y_test} | predictions
figure, axes = plt.subplots(4, 6, figsize=(7.5, 5.2), layout="constrained")
for axis_row, (title, masks) in zip(axes, rows.items()):
    for axis, image in zip(axis_row, range(6)):
        axis.imshow(x_test[image, ..., 0], cmap="gray_r")
        if masks is not None:
            axis.imshow(palette[masks[image]])
        axis.set(xticks=[], yticks=[])
    axis_row[0].set_ylabel(title, fontsize=9)
handles = [
    plt.Rectangle((0, 0), 1, 1, color=palette[1 + index] / 255)
    for index in range(len(digits))
]
figure.legend(handles, names[1:], loc="outside lower center", ncols=4)
figure.savefig(output / "scenes.png")

# %% [markdown]
# @SCENES@

# %% [markdown]
# ## Asking the tokens
#
# What does a token know? A simple test is a *probe*: a linear map from the 64 numbers of a token to the question,
# fitted on half of the test scenes and scored on the other half. If the map is good, the answer lies open in the
# token; if not, it may still be there in another form. Two questions, at each stage of both models: *in
# which row and column are you?* ($R^2$, 1 is perfect, 0 is knowing nothing) and, of patches with ink, *whose ink
# is in you?* (accuracy).


# %%
def probe(tokens, targets, ridge=1.0):
    """Ridge regression, fitted on one half; its answers on the other."""
    half = len(tokens) // 2
    dim = tokens.shape[-1]
    fit, ask = tokens[:half].reshape(-1, dim), tokens[half:].reshape(-1, dim)
    mean, std = fit.mean(0), fit.std(0) + 1e-6
    fit, ask = (np.insert((x - mean) / std, 0, 1, axis=1) for x in (fit, ask))
    known = targets[:half].reshape(len(fit), -1)
    weights = np.linalg.solve(
        fit.T @ fit + ridge * np.eye(dim + 1), fit.T @ known
    )
    return ask @ weights, targets[half:].reshape(len(ask), -1)


places = np.stack(np.indices((6, 6)), axis=-1).reshape(1, 36, 2) - 2.5
places = np.broadcast_to(places, (num_test_scenes, 36, 2))
pixels = y_test.reshape(-1, 6, 4, 6, 4).transpose(0, 1, 3, 2, 4)
pixels = pixels.reshape(num_test_scenes, 36, 16)  # of each patch
owners = np.stack([(pixels == 1 + d).sum(-1) for d in range(4)], axis=-1)
owners = np.eye(5)[np.where(owners.any(-1), owners.argmax(-1), 4)]

# %%
taps = ["patch_encoder", "block_00", "block_01", "block_02"]
where, whose = {}, {}
for name, model in models.items():
    stages = keras_vit.feature_extractor(model, taps)
    stages = stages.predict(x_test, batch_size=50, verbose=0)
    where[name], whose[name] = [], []
    for tap in taps:
        tokens = stages[tap].astype("float64")
        answers, truth = probe(tokens, places)
        where[name].append(
            1 - ((answers - truth) ** 2).sum() / (truth**2).sum()
        )
        answers, truth = probe(tokens, owners)
        inked = truth[:, 4] == 0
        right = answers[:, :4].argmax(-1) == truth.argmax(-1)
        whose[name].append(right[inked].mean())
    print(f"{name:18} where:", *(f"{value:5.2f}" for value in where[name]))
    print(f"{name:18} whose:", *(f"{value:5.2f}" for value in whose[name]))

# %%
figure, axes = plt.subplots(1, 2, figsize=(8, 3.2), layout="constrained")
for axis, scores, label in (
    (axes[0], where, "where am I? ($R^2$ of row and column)"),
    (axes[1], whose, "whose ink? (accuracy)"),
):
    for (name, values), style in zip(scores.items(), ("o-", "s--")):
        color = "#0072B2" if "with " in name else "#D55E00"
        axis.plot(values, style, color=color, label=name)
    axis.set_xticks(range(4), ["stem", "block 0", "block 1", "block 2"])
    axis.set(ylim=(-0.05, 1.05), xlabel="tokens taken after", ylabel=label)
axes[1].axhline(0.25, color="gray", linestyle=":", linewidth=1)
axes[0].legend(fontsize=8)
figure.savefig(output / "probes.png")

# %% [markdown]
# @PROBES@

# %% [markdown]
# ## Photographs
#
# The Oxford-IIIT Pet data set has 7,349 photographs of cats and dogs with masks drawn by people: pet, background,
# and a border that does not count. Unpack its two archives, [images and annotations](
# https://www.robots.ox.ac.uk/~vgg/data/pets/) (800 MB), into a folder `oxford-iiit-pet` and name the folder
# around it in `KERAS_VIT_DATA`. We use 220 photographs, so any part of the set will do; what you see below was run
# on such a part. Without any, the next cells say so and leave it at the digits.


# %%
def pet_folders():
    """Where photographs and masks are, or None. Folders or a zip file."""
    folder = pathlib.Path(os.environ.get("KERAS_VIT_DATA", ""))
    if (folder / "pets_seg.zip").is_file():
        root = zipfile.Path(folder / "pets_seg.zip", "pets/")
        return root / "images", root / "trimaps"
    root = folder / "oxford-iiit-pet"
    if (root / "annotations" / "trimaps").is_dir():
        return root / "images", root / "annotations" / "trimaps"
    return None


def read(path, resample):
    with path.open("rb") as file:
        image = Image.open(file)
        image = image if resample == Image.NEAREST else image.convert("RGB")
        return np.asarray(image.resize((64, 64), resample))


# %%
folders = pet_folders()
if folders is None:
    print("No photographs with masks: set KERAS_VIT_DATA, see above.")
else:
    images, trimaps = folders
    files = [path.name for path in trimaps.iterdir() if path.name[0] != "."]
    files = random.permutation(sorted(files))[:220]
    x = [read(images / f"{name[:-4]}.jpg", Image.BICUBIC) for name in files]
    y = [read(trimaps / name, Image.NEAREST) for name in files]
    x = np.stack(x)
    y = np.array([255, 1, 0, 255], "int32")[
        np.stack(y)
    ]  # 1 pet, 2 not, 3 border
    x_pets, y_pets = x[:-90], y[:-90]
    # A mirrored pet is a pet.
    x_pets = np.concatenate([x_pets, x_pets[:, :, ::-1]])
    y_pets = np.concatenate([y_pets, y_pets[:, :, ::-1]])
    print(
        len(x_pets), "to train on with mirror images,", len(x[-90:]), "to test"
    )

# %%
if folders is not None:
    keras.utils.set_random_seed(seed)
    backbone = keras_vit.ViT(
        keras_vit.Variant(3, 96, 192, 4, patch_size=8),
        image_size=64,
        num_classes=None,
        pooling=None,
        position="sincos_2d",
    )
    pets = keras_vit.segmentation_model(
        backbone, num_classes=2, decoder="conv", decoder_dim=32
    )
    train(pets, x_pets, y_pets, pet_epochs, 20, num_classes=2)
    logits = keras_vit.predict(pets, x[-90:], batch_size=45, verbose=0)
    answers = logits.argmax(axis=-1)
    background = ious(np.zeros_like(answers), y[-90:], 2).mean()
    print(f"background everywhere   mean IoU {background:.3f}")
    print(
        f"Vision Transformer      mean IoU {ious(answers, y[-90:], 2).mean():.3f}"
    )

# %%
if folders is not None:
    each = [ious(a, m, 2).mean() for a, m in zip(answers, y[-90:])]
    order = np.argsort(each)[::-1]
    shown = order[np.linspace(0, 89, 6).astype(int)]  # from best to worst
    figure, axes = plt.subplots(2, 6, figsize=(8, 3.1), layout="constrained")
    for column, row in enumerate(shown):
        for axis, mask in zip(axes[:, column], (y[-90:][row], answers[row])):
            tint = np.where((mask == 1)[..., None], (230, 159, 0), x[-90:][row])
            axis.imshow((x[-90:][row] // 2 + tint // 2).astype("uint8"))
            axis.set(xticks=[], yticks=[])
        axes[0, column].set_title(f"IoU {each[row]:.2f}", fontsize=9)
    axes[0, 0].set_ylabel("mask", fontsize=9)
    axes[1, 0].set_ylabel("answer", fontsize=9)
    figure.savefig(output / "pets.png")

# %% [markdown]
# @PETS@

# %%
minutes = (time.perf_counter() - start) / 60
busy = time.process_time() / 60
print(f"{minutes:.1f} minutes on {os.cpu_count()} processor cores, shared;")
print(f"{busy:.1f} minutes of one core's time, imports included")

# %% [markdown]
# ## Here and elsewhere
#
# @TABLE@
#
# ## Exercises
#
# 1. `decoder="linear"` reads each token with one dense layer and blows the map up. Which part of the IoU is lost,
#    that of the ink or that of its name? Compare with "ink found, not named".
# 2. Add all ten digits to `digits`. Which are confused, and does the gap between the two models grow?
# 3. Put the ResNet's stem under the model without positions: `stages=(), width_factor=0.5` and `patch_size=1` in
#    the variant. Convolutions pad the edge with zeros. Do tokens now know where they are?
#
# ## References
#
# - R. Strudel et al., [*Segmenter*](https://arxiv.org/abs/2105.05633), ICCV 2021: patch tokens under a linear decoder.
# - S. Zheng et al., [*Rethinking Semantic Segmentation from a Sequence-to-Sequence
#   Perspective (SETR)*](https://arxiv.org/abs/2012.15840), CVPR 2021: the convolutional decoder, larger.
# - A. Dosovitskiy et al., [*An Image is Worth 16x16 Words*](https://arxiv.org/abs/2010.11929), ICLR 2021: what
#   positions are worth for classification, table 8.
# - O. M. Parkhi et al., [*Cats and Dogs*](https://doi.org/10.1109/CVPR.2012.6248092), CVPR 2012: the photographs.
