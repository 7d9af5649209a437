# %% [markdown]
# # 9. Without labels: what can be learnt from images alone?
#
# We hide parts of small photographs and train a Vision Transformer to fill them in, in two ways: the masked patch
# prediction of the paper (appendix B.1.2) and a masked autoencoder. Then we ask what the features are worth, with a few
# labelled images a class, beside a network that learnt nothing and beside the raw pixels.

# %% [markdown]
# ## The framework

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
import platform
import time

import keras
import matplotlib.pyplot as plt
import numpy as np

import keras_vit
from keras_vit import datasets

print(f"Keras {keras.version()} on {keras.backend.backend()}")

# %% [markdown]
# All the knobs. The settings are small enough for two processor cores; with a GPU, or an evening, take all images and a
# hundred epochs. `few_shot_seeds` draws of labelled images give the error bars at the end.

# %%
num_images = 2000  # to learn from, without their labels
num_test = 2000
epochs = 8
batch_size = 64
shots = (1, 5, 10, 25)
few_shot_seeds = range(5)
seed = 0
output = pathlib.Path("outputs") / "without_labels"

output.mkdir(parents=True, exist_ok=True)
started = time.perf_counter()

# %% [markdown]
# ## The images
#
# CIFAR-10: photographs of 32 x 32 pixels in ten classes. The first call downloads them; a folder with a copy may be named
# in the environment variable `KERAS_VIT_DATA`. The labels stay in the drawer until the last part.

# %%
(x_train, y_train), (x_test, y_test) = datasets.load("cifar10")
x_train, y_train = x_train[:num_images], y_train[:num_images]
x_test, y_test = x_test[:num_test], y_test[:num_test]
print(f"{len(x_train):,} images to learn from, {len(x_test):,} to test on")

assert x_train.shape[1:] == x_test.shape[1:] == (32, 32, 3)

# %% [markdown]
# ## The backbone
#
# 4 x 4 pixels a patch, so 8 x 8 = 64 tokens. It has no head. `pooling="average"` matters: both methods train the patch
# tokens and nobody asks the class token anything, so it would be a poor summary. The function sets the seed, so every
# backbone here starts from the same weights, and what differs at the end was learnt.

# %%
variant = keras_vit.Variant(
    num_layers=3, hidden_dim=64, mlp_dim=128, num_heads=4, patch_size=4
)


def untrained():
    keras.utils.set_random_seed(seed)
    return keras_vit.ViT(
        variant,
        image_size=32,
        num_classes=None,
        pooling="average",
        position="sincos_2d",
        name="backbone",
    )


print(keras_vit.cost(untrained()))

# %% [markdown]
# ## Masked patch prediction
#
# As in BERT: half of the patch embeddings are corrupted. 80 % of those become a learnt *mask* vector, 10 % the
# embedding of another patch, 10 % stay as they are. From each corrupted token the model predicts the mean colour of its
# patch in 3 bits a channel, one of 512 classes:
#
# $$\text{class} = 64\,\lfloor r/32 \rfloor + 8\,\lfloor g/32 \rfloor + \lfloor b/32 \rfloor$$

# %%
painter = untrained()
colours = keras_vit.masked_patch_model(painter, seed=seed)
guess = colours.predict(x_test[:64], verbose=0)
for name, array in guess.items():
    print(f"{name:12}{array.shape}")

assert guess["predictions"].shape == (64, 8, 8, 512)
assert np.all(guess["corrupted"].sum((1, 2)) == 32)  # half, in every image

# %% [markdown]
# `compile` takes an optimizer alone, since the model has its own loss: cross-entropy of the corrupted patches. The
# learning rate is above the paper's 2e-4, which is meant for a million steps; we take a few hundred.

# %%
steps = keras_vit.recipes.total_steps(len(x_train), batch_size, epochs)
colours.compile(**keras_vit.recipes.masked_patches(steps, learning_rate=1e-3))
history = colours.fit(
    x_train, batch_size=batch_size, epochs=epochs, verbose=0
).history
print(
    f"{steps} steps, loss {history['loss'][0]:.2f} to {history['loss'][-1]:.2f}"
)

# %% [markdown]
# An accuracy over 512 classes means little without something to compare. Two rivals that learn nothing: always the
# commonest colour, and the mean of the neighbours that are not corrupted, which uses that photographs are smooth.

# %%
guess = colours.predict(x_test[:500], verbose=0)
truth, corrupted = guess["targets"], guess["corrupted"].astype(bool)
patches = x_test[:500].reshape(-1, 8, 4, 8, 4, 3).mean((2, 4))


def neighbours(values):
    """Sums of the four neighbours of every patch."""
    padded = np.pad(values, ((0, 0), (1, 1), (1, 1), (0, 0)))
    rows = padded[:, :-2, 1:-1] + padded[:, 2:, 1:-1]
    return rows + padded[:, 1:-1, :-2] + padded[:, 1:-1, 2:]


seen = ~corrupted[..., None]
count = np.maximum(neighbours(seen.astype(float)), 1e-9)
means = (neighbours(patches * seen) / count).clip(0, 255)
rivals = {
    "model": guess["predictions"].argmax(-1),
    "neighbours": (means // 32).astype(int) @ [64, 8, 1],
    "commonest colour": np.bincount(truth.ravel()).argmax(),
}

# %%
right = {
    name: np.mean((answer == truth)[corrupted])
    for name, answer in rivals.items()
}
for name, accuracy in right.items():
    print(f"{name:18}{accuracy:.3f} of the corrupted patches")


# %%
def show(rows, path):
    """Rows of pictures, each with a name."""
    figure, axes = plt.subplots(
        len(rows), 8, figsize=(9, 1.15 * len(rows)), squeeze=False
    )
    for line, (name, pictures) in zip(axes, rows.items()):
        for axis, picture in zip(line, pictures):
            axis.imshow(np.asarray(picture).clip(0, 255).astype("uint8"))
            axis.set(xticks=[], yticks=[])
        line[0].set_ylabel(name, fontsize=9)
    figure.tight_layout(pad=0.4)
    figure.savefig(path)


def colour_of(classes):
    levels = np.stack([classes // 64, classes // 8 % 8, classes % 8], -1)
    return (32 * levels + 16).repeat(4, 1).repeat(4, 2)


def with_holes(images, holes):
    holes = holes.repeat(4, 1).repeat(4, 2)[..., None]
    return np.where(holes, 255, images)


# %%
some = slice(0, 8)
filled = np.where(corrupted, rivals["model"], truth)
rows = {
    "image": x_test[some],
    "not corrupted": with_holes(x_test[some], corrupted[some]),
    "predicted": colour_of(filled[some]),
    "true colours": colour_of(truth[some]),
}
show(rows, output / "colours.png")

# %% [markdown]
# @COLOURS@

# %% [markdown]
# ## A masked autoencoder
#
# Hide more, three quarters, and predict all pixels of a hidden patch. The encoder is given the visible quarter alone,
# which makes a step cheap; a small decoder, thrown away afterwards, fills in the rest. Here it predicts plain pixels so
# that we can look at them; with `normalize_pixels=True`, the default, the authors found better features.

# %%
drawer = untrained()
autoencoder = keras_vit.masked_autoencoder(
    drawer,
    decoder_dim=64,
    decoder_layers=1,
    decoder_heads=4,
    normalize_pixels=False,
    seed=seed,
)
autoencoder.compile(
    **keras_vit.recipes.masked_patches(
        2 * steps, learning_rate=2e-3, weight_decay=0.05
    )
)
history = autoencoder.fit(
    x_train, batch_size=batch_size, epochs=2 * epochs, verbose=0
).history
print(f"squared error {history['loss'][0]:.3f} to {history['loss'][-1]:.3f}")

# %%
guess = autoencoder.predict(x_test[:500], verbose=0)
hidden = guess["corrupted"].astype(bool)
errors = (guess["predictions"] - guess["targets"])[hidden]
average = guess["targets"][~hidden].mean(0)
plain = (average - guess["targets"])[hidden]
print(
    f"model {np.mean(errors**2):.3f}, average of all patches {np.mean(plain**2):.3f}"
)

assert np.all(hidden.sum((1, 2)) == 48)  # three quarters of 64

pixels = 127.5 * (guess["predictions"][some] + 1)
# Back from patches to images: (row, column, y, x, channel).
pixels = pixels.reshape(8, 8, 8, 4, 4, 3).transpose(0, 1, 3, 2, 4, 5)
pixels = pixels.reshape(8, 32, 32, 3)
holes = hidden[some].repeat(4, 1).repeat(4, 2)[..., None]
rows = {
    "image": x_test[some],
    "visible": with_holes(x_test[some], hidden[some]),
    "filled in": np.where(holes, pixels, x_test[some]),
}
show(rows, output / "autoencoder.png")

# %% [markdown]
# @AUTOENCODER@

# %% [markdown]
# ## What are the features worth?
#
# Now the labels come out of the drawer, a few a class. `keras_vit.few_shot` freezes the features and fits the paper's
# ridge classifier in closed form, for several draws of the labelled images; all four below are given the same draws.
# The pixels are a vector of 3,072 numbers, the features of a backbone 64.


# %%
def pixels_of(images):
    return images.reshape(len(images), -1) / 255


contenders = {
    "pixels": None,
    "untrained": untrained(),
    "masked patches": painter,
    "autoencoder": drawer,
}
results = {}
for name, backbone in contenders.items():
    train, test = (x_train, y_train), (x_test, y_test)
    if backbone is None:
        train = pixels_of(x_train), y_train
        test = pixels_of(x_test), y_test
    results[name] = keras_vit.few_shot(
        backbone, train, test, shots=shots, seeds=few_shot_seeds, verbose=0
    )

# %%
figure, axis = plt.subplots(figsize=(6, 3.6))
# Colours that colour-blind readers tell apart too (Okabe and Ito).
looks = {
    "pixels": ("#000000", "s:"),
    "untrained": ("#E69F00", "^--"),
    "masked patches": ("#0072B2", "o-"),
    "autoencoder": ("#009E73", "D-."),
}
for index, (name, (color, form)) in enumerate(looks.items()):
    result = results[name]
    places = np.array(shots) * (0.94 + 0.04 * index)  # side by side
    look = dict(fmt=form, color=color, capsize=3, markersize=5, label=name)
    axis.errorbar(places, result.mean, result.std, **look)
axis.axhline(result.chance, color="gray", linewidth=0.8, label="guessing")
axis.set(xlabel="labelled images a class", ylabel="test accuracy", xscale="log")
axis.set_xticks(shots, [str(number) for number in shots])
axis.legend(fontsize=8)
figure.tight_layout()
figure.savefig(output / "few_shot.png")

# %% [markdown]
# Since all share their draws, the draws can be compared one by one. The standard error of the mean difference to the
# untrained network says how much of it may be the luck of the draw.

# %%
print(f"{'shots':16}" + "".join(f"{number:>16}" for number in shots))
for name, result in results.items():
    cells = [f"{m:.3f} ± {s:.3f}" for m, s in zip(result.mean, result.std)]
    print(f"{name:16}" + "".join(f"{cell:>16}" for cell in cells))

print("\ndifference to untrained, mean ± standard error")
for name in ("pixels", "masked patches", "autoencoder"):
    gaps = results[name].accuracies - results["untrained"].accuracies
    error = gaps.std(axis=1, ddof=1) / np.sqrt(gaps.shape[1])
    cells = [f"{m:+.3f} ± {e:.3f}" for m, e in zip(gaps.mean(axis=1), error)]
    print(f"{name:16}" + "".join(f"{cell:>16}" for cell in cells))

# %% [markdown]
# @FEWSHOT@

# %%
painter.save(output / "pretrained.keras")
minutes = (time.perf_counter() - started) / 60
print(f"{minutes:.1f} minutes on {os.cpu_count()} {platform.machine()} cores")

# %% [markdown]
# The saved backbone goes on as any other: `keras_vit.transfer(backbone, num_classes=10)` gives it a head to fine-tune.
#
# @TABLE@
#
# ## Exercises
#
# 1. Take `corruption=0.15`, as BERT does. The paper found 50 % slightly better. Can this scale tell?
# 2. Train the autoencoder with `normalize_pixels=True`. The pictures suffer; do the features?
# 3. Give each method four times the epochs, then four times the images. Which of the two does more for the last figure?
#
# ## References
#
# - A. Dosovitskiy et al., [*An Image is Worth 16x16 Words*](https://arxiv.org/abs/2010.11929), ICLR 2021: section 4.6 and
#   appendix B.1.2 for masked patches, section 4.1 for few-shot accuracy.
# - K. He et al., [*Masked Autoencoders Are Scalable Vision Learners*](https://arxiv.org/abs/2111.06377), CVPR 2022.
# - J. Devlin et al., [*BERT*](https://arxiv.org/abs/1810.04805), NAACL 2019: where the corruption comes from.
# - A. Krizhevsky, [*Learning Multiple Layers of Features from Tiny
#   Images*](https://www.cs.toronto.edu/~kriz/learning-features-2009-TR.pdf), 2009.
