# %% [markdown]
# # 9. Without labels: what can be learnt from images alone?
#
# We hide parts of small photographs and train a Vision Transformer to fill them in, in two ways: the masked patch
# prediction of the paper (appendix B.1.2) and a masked autoencoder. Then we ask what the features are worth, with a few
# labelled images a class, beside a network that learnt nothing, the raw pixels, and a network that did have labels.

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
import time

import keras
import matplotlib.pyplot as plt
import numpy as np

import keras_vit
from keras_vit import data

print(f"Keras {keras.version()} on {keras.backend.backend()}")

# %% [markdown]
# All the knobs. The settings are small enough for two processor cores; with a GPU, or an evening, take all images and a
# hundred epochs. `few_shot_seeds` draws of labelled images give the error bars at the end.

# %%
num_images = 12_000  # to learn from, without labels
num_labelled = num_test = 2000  # to draw the labelled few from, and to test on
epochs = 2  # of masked patches; the autoencoder gets twice as many
batch_size = 32  # small, since steps are what is short here
shots = (1, 5, 25, 100)
few_shot_seeds = range(5)
seed = 0
output = pathlib.Path("outputs") / "without_labels"

output.mkdir(parents=True, exist_ok=True)
started = time.perf_counter()

# %% [markdown]
# ## The images
#
# Photographs of 32 x 32 pixels. We learn from CIFAR-100 and never look at its labels; we judge by the ten classes of
# CIFAR-10, of which it has none. That is the paper's way too: one set to learn from, another to be tested on. The first
# call downloads both (340 MB); a folder with copies may be named in the environment variable `KERAS_VIT_DATA`.

# %%
(images, _), _ = data.load("cifar100")
images = images[:num_images]
(x_train, y_train), (x_test, y_test) = data.load("cifar10")
x_train, y_train = x_train[:num_labelled], y_train[:num_labelled]
x_test, y_test = x_test[:num_test], y_test[:num_test]
print(f"{len(images):,} images to learn from,")
print(f"{len(x_train):,} labelled ones, {len(x_test):,} to test on")

assert images.shape[1:] == x_test.shape[1:] == (32, 32, 3)

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
colours = keras_vit.pretraining.masked_patch_model(painter, seed=seed)
guess = colours.predict(x_test[:64], verbose=0)
for name, array in guess.items():
    print(f"{name:12}{array.shape}")

assert guess["predictions"].shape == (64, 8, 8, 512)
assert np.all(guess["corrupted"].sum((1, 2)) == 32)  # half, in every image

# %% [markdown]
# `compile` takes an optimizer alone, since the model has its own loss: cross-entropy of the corrupted patches. The
# learning rate is above the paper's 2e-4, which is meant for a million steps; we take a few hundred.

# %%
steps = keras_vit.recipes.total_steps(len(images), batch_size, epochs)
colours.compile(**keras_vit.recipes.masked_patches(steps, learning_rate=1e-3))
busy = time.process_time()
history = colours.fit(
    images, batch_size=batch_size, epochs=epochs, verbose=0
).history
busy = time.process_time() - busy
print(f"{steps} steps, {busy:.0f} seconds of one core, compilation included")
print(f"loss {history['loss'][0]:.2f} to {history['loss'][-1]:.2f}")

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
# *Eight test images; what is not corrupted of them; the model's colours in the holes, the true ones elsewhere; the true
# colours.* The predictions look sensible: grass is filled with grass, and the yellow of the car goes on where it was hidden.
# But looking is cheap. The mean of the neighbours, which has learnt nothing, names the right one of 512 colours for 0.282
# of the corrupted patches, the model for 0.276. In 750 steps it has found out that photographs are smooth; there is no
# sign of more than that.

# %% [markdown]
# ## A masked autoencoder
#
# Hide more, three quarters, and predict all pixels of a hidden patch. The encoder is given the visible quarter alone,
# which makes a step cheap, so we take twice as many; a small decoder, thrown away afterwards, fills in the rest. Here it
# predicts plain pixels so that we can look at them; with `normalize_pixels=True`, the default, the authors found better
# features.

# %%
drawer = untrained()
autoencoder = keras_vit.pretraining.masked_autoencoder(
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
busy = time.process_time()
history = autoencoder.fit(
    images, batch_size=batch_size, epochs=2 * epochs, verbose=0
).history
busy = time.process_time() - busy
print(f"{2 * steps} steps, {busy:.0f} seconds of one core")
print(f"squared error {history['loss'][0]:.3f} to {history['loss'][-1]:.3f}")

# %% [markdown]
# Again two rivals that learn nothing: the mean colour of all visible patches of the image, and a mean that counts near
# ones more, by the inverse fourth power of their distance.

# %%
guess = autoencoder.predict(x_test[:500], verbose=0)
hidden = guess["corrupted"].astype(bool)
assert np.all(hidden.sum((1, 2)) == 48)  # three quarters of 64

patch_pixels = guess["targets"].reshape(-1, 64, 16, 3)
patch_colours = patch_pixels.mean(2)
visible = ~hidden.reshape(-1, 64)
places = np.stack(np.divmod(np.arange(64), 8), -1)
squares = ((places[:, None] - places) ** 2).sum(-1).clip(1)
print("squared error on hidden patches")
error = np.mean((guess["predictions"] - guess["targets"])[hidden] ** 2)
print(f"{'model':18}{error:.3f}")
for name, power in {"mean colour": 0, "near ones first": 2}.items():
    weights = visible[:, None] / squares**power
    weights /= weights.sum(-1, keepdims=True)
    flat = (weights @ patch_colours)[:, :, None]  # one colour a patch
    error = np.mean((flat - patch_pixels)[~visible] ** 2)
    print(f"{name:18}{error:.3f}")

# %%
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
# *Eight test images; the visible quarter; what the model makes of it, with the visible patches in place.* The hidden parts come
# out blurred: a squared error is least for the mean of all that might be there. Still this is more than smoothing. The model's
# error is 0.092, against 0.124 for the mean that counts near patches more and 0.186 for one colour an image.

# %% [markdown]
# ## What are the features worth?
#
# Now the labels come out of the drawer, a few a class. `keras_vit.few_shot` freezes the features and fits the paper's
# ridge classifier in closed form, for several draws of the labelled images; all five below are given the same draws.
# The pixels are a vector of 3,072 numbers, the features of a backbone 64. The fifth network comes with this library and
# did have labels: 49,000 images of CIFAR-100 with the names of their classes
# ([card](../keras_vit/checkpoints/cifar100/README.md)). It is a larger hybrid, trained for longer, with 192 features, so it
# is a mark on the scale and no rival on equal terms.


# %%
def pixels_of(images):
    return images.reshape(len(images), -1) / 255


contenders = {
    "pixels": None,
    "untrained": untrained(),
    "masked patches": painter,
    "autoencoder": drawer,
    "labels": keras_vit.ViT("R20+Mi/4", weights="cifar100"),
}
results = {}
for name, backbone in contenders.items():
    train, test = (x_train, y_train), (x_test, y_test)
    if backbone is None:
        train = pixels_of(x_train), y_train
        test = pixels_of(x_test), y_test
    results[name] = keras_vit.few_shot(
        backbone, train, test, shots, few_shot_seeds, batch_size=250, verbose=0
    )

# %%
# Colours that colour-blind readers tell apart too (Okabe and Ito).
looks = {
    "pixels": ("#000000", "s:"),
    "untrained": ("#E69F00", "^--"),
    "masked patches": ("#0072B2", "o-"),
    "autoencoder": ("#009E73", "D-."),
    "labels": ("#CC79A7", "v-"),
}
figure, axes = plt.subplots(1, 2, figsize=(8.3, 3.7), layout="constrained")
for axis, shown in zip(axes, (list(looks)[:4], list(looks))):
    for index, name in enumerate(shown):
        result, (color, form) = results[name], looks[name]
        places = np.array(shots) * (0.91 + 0.06 * index)  # side by side
        look = dict(fmt=form, color=color, capsize=3, label=name)
        axis.errorbar(places, result.mean, result.std, **look)
    axis.axhline(0.1, color="gray", linewidth=0.8, label="guessing")
    axis.set(xlabel="labelled images a class", xscale="log")
    axis.set_xticks(shots, [str(number) for number in shots])
    axis.minorticks_off()
axes[0].legend(fontsize=9, loc="upper left")
axes[0].set(ylabel="test accuracy", title="no labels before")
axes[1].set(title="the same beside 49,000 labels before")
axes[1].text(5, 0.38, "labels", color=looks["labels"][0])
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
for name in ("pixels", "masked patches", "autoencoder", "labels"):
    gaps = results[name].accuracies - results["untrained"].accuracies
    error = gaps.std(axis=1, ddof=1) / np.sqrt(gaps.shape[1])
    cells = [f"{m:+.3f} ± {e:.3f}" for m, e in zip(gaps.mean(axis=1), error)]
    print(f"{name:16}" + "".join(f"{cell:>16}" for cell in cells))

# %% [markdown]
# *Accuracy on the ten classes of CIFAR-10 against the number of labelled images of each; mean and standard deviation over
# five draws.* Left: what can be had without labels. Right: the same beside a network that had them.
#
# - **The autoencoder has learnt something.** It beats the untrained network with any number of labels, by 0.015 ± 0.005 at
#   five a class, 0.038 ± 0.007 at 25 and 0.057 ± 0.004 at 100.
# - **Masked patch prediction has not, as far as this can tell.** From five labels a class on it is level with the
#   untrained network: -0.002, -0.004 and -0.003, none beyond its error. With a single label a class it is ahead by 0.025,
#   but there the pixels are ahead by as much, and the draws scatter most.
# - **Pixels are a hard rival.** They beat the untrained network and the masked patches at 25 and 100 labels. The autoencoder,
#   with 64 numbers an image in place of 3,072, has 0.269 and 0.324 where they have 0.259 and 0.310.
# - **Labels are worth far more.** With one label a class the network that had labels before (0.313) is nearly where the autoencoder
#   gets with a hundred (0.324).
#
# The standard errors cover the draw of the labelled images and nothing else. Each network was trained once, from one seed.
# An earlier run with batches of 64, and so half as many steps, had the same order.

# %%
drawer.save(output / "pretrained.keras")
minutes = (time.perf_counter() - started) / 60
busy = time.process_time() / 60
print(f"{minutes:.1f} minutes on {os.cpu_count()} processor cores, shared;")
print(f"{busy:.1f} minutes of one core's time, imports included")

# %% [markdown]
# The saved backbone of the autoencoder goes on as any other: `keras_vit.transfer(backbone, num_classes=10)` gives it a
# head to fine-tune, which is how the paper judged.
#
# ## Here and in the paper
#
# | | here | paper |
# |---|---|---|
# | network | ViT, 103,680 parameters | ViT-B/16, 86 million |
# | masked patches: images | 12,000 of CIFAR-100 | JFT, 300 million |
# | masked patches: training | 750 steps of 32 | 1,000,000 steps of 4,096 |
# | judged by | few-shot accuracy of frozen features | ImageNet after fine-tuning all weights: 79.9 % |
# | against no pre-training | -0.004 ± 0.006 at 25 labels a class | +2 points |
# | against pre-training with labels | 0.227 and 0.558 | 4 points less |
# | masked autoencoder | +0.038 ± 0.007 at 25 labels a class | not in it; it came a year later |
#
# What can be learnt from images alone? Here a little, by the autoencoder, and nothing that shows by masked patches. That is
# no contradiction to the paper, whose gain is two points after a hundred and seventy thousand times as many images seen. Nor is it
# a fair contest of the two methods: the autoencoder saw twice as many images (in less time, 49 seconds against 67), and
# both learning rates are guesses. What carries over is the way to ask: beside an untrained network, beside pixels, and
# beside a rival that fills in holes without having learnt a thing. Without them every picture above looks like success.
#
# ## Exercises
#
# 1. Take `corruption=0.15`, as BERT does. The paper found 50 % slightly better. Can this scale tell?
# 2. Train the autoencoder with `normalize_pixels=True`. The pictures suffer; do the features?
# 3. Give each method four times the epochs, then four times the images. Which of the two does more for the last figure?
#    Do masked patches leave the mean of the neighbours behind?
#
# ## References
#
# - A. Dosovitskiy et al., [*An Image is Worth 16x16 Words*](https://arxiv.org/abs/2010.11929), ICLR 2021: section 4.6 and
#   appendix B.1.2 for masked patches, section 4.1 for few-shot accuracy.
# - K. He et al., [*Masked Autoencoders Are Scalable Vision Learners*](https://arxiv.org/abs/2111.06377), CVPR 2022.
# - J. Devlin et al., [*BERT*](https://arxiv.org/abs/1810.04805), NAACL 2019: where the corruption comes from.
# - A. Krizhevsky, [*Learning Multiple Layers of Features from Tiny
#   Images*](https://www.cs.toronto.edu/~kriz/learning-features-2009-TR.pdf), 2009.
