# %% [markdown]
# # 2. Anatomy: what is inside a Vision Transformer?
#
# We take a Vision Transformer apart, equation by equation (1 to 4 of the paper), and rebuild each part in NumPy.
# At the end the parts, put together by hand, give the numbers of `keras_vit.ViT`, every parameter is accounted
# for, and we have seen what the network knows about places before and after training.
#
# Before each answer there is a question. Cover the next cell and guess: nothing teaches shapes faster.

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
from keras import ops
from sklearn.datasets import load_sample_image

import keras_vit
from keras_vit import data, layers

print(f"Keras {keras.version()} on {keras.backend.backend()}")

# %% [markdown]
# The knobs. Sizes are those of the smallest model with a name, ViT-Ti/16: 12 blocks, tokens of width 192, an MLP
# of width 768, 3 heads, patches of 16 x 16 pixels.

# %%
num_layers, hidden_dim, mlp_dim, num_heads = 12, 192, 768, 3
patch_size = 16
image_size = 224
num_classes = 1000
epochs = 30  # of the small training at the end
seed = 0
output = pathlib.Path("outputs") / "anatomy"

output.mkdir(parents=True, exist_ok=True)
keras.utils.set_random_seed(seed)
random = np.random.default_rng(seed)
start = time.perf_counter()


def close(ours, theirs, tolerance=1e-5):
    """The largest difference between two tensors, checked."""
    ours, theirs = (ops.convert_to_numpy(x) for x in (ours, theirs))
    assert ours.shape == theirs.shape
    difference = float(np.abs(ours - theirs).max())
    assert difference <= tolerance * max(1, np.abs(theirs).max())
    return f"largest difference {difference:.0e}"


# %% [markdown]
# ## Equation 1: an image becomes a sequence
#
# $$z_0 = [x_{class};\ x_p^1 E;\ x_p^2 E;\ \dots;\ x_p^N E] + E_{pos}$$
#
# The photograph comes with scikit-learn. Pixels are scaled to [-1, 1], as all official weights expect. **Guess:**
# what is the shape of a batch of one such image after `Patches(16)`, rows and columns kept?

# %%
photo = load_sample_image("china.jpg")
top, left = (edge - image_size for edge in photo.shape[:2])
photo = photo[top // 2 :, left // 2 :][:image_size, :image_size]
images = (photo[None] / 127.5 - 1).astype("float32")
assert images.shape == (1, 224, 224, 3)

patches = layers.Patches(patch_size)(images)

print(patches.shape)
assert patches.shape == (1, 14, 14, 768)  # 224 / 16 = 14; 16 * 16 * 3 = 768

# %%
figure, axes = plt.subplots(
    14, 15, figsize=(7.5, 7), gridspec_kw={"width_ratios": [0.6] + [1] * 14}
)
for row, column in np.ndindex(14, 14):
    pixels = ops.convert_to_numpy(patches)[0, row, column]
    tile = axes[row, column + 1]
    tile.imshow((pixels.reshape(16, 16, 3) + 1) / 2)
    tile.axis("off")
for row in range(14):
    axes[row, 0].axis("off")
    axes[row, 0].text(1, 0.5, 14 * row, ha="right", va="center", fontsize=8)
figure.supylabel("index of the first patch of each row", fontsize=9)
figure.subplots_adjust(0.06, 0.01, 0.99, 0.99, wspace=0.08, hspace=0.08)
figure.savefig(output / "patches.png")

# %% [markdown]
# *The photograph in 14 x 14 patches, counted row by row; the numbers are those of the first column.* A tile is about
# as much as one token gets to see: a bit of roof, two windows, or nothing but sky. Lines that run across the cuts,
# such as the edges of the roofs, have to be put together again later. Patch 14 lies right below patch 0, but in the
# sequence 13 others stand between them.
#
# A patch is one vector from here on: nothing in it says which numbers were neighbours.
#
# $E$ is a matrix: each patch, 768 numbers, times a kernel of shape (768, 192). The class token $x_{class}$ is a vector
# of weights that goes in front, and $E_{pos}$ a table of weights with one row for each place. **Guess:** how many
# rows?

# %%
encoder = layers.PatchEncoder(hidden_dim)
tokens = encoder(patches)

print(tokens.shape)
assert tokens.shape == (1, 197, 192)  # 14 * 14 patches and the class token

# %% [markdown]
# A new model has zeros in places, the class token for one, and zeros would hide mistakes from us. So all weights
# of this notebook are drawn anew. Then equation 1 in NumPy, against the layer:


# %%
def randomize(layer):
    """Draws all weights from a normal distribution, scales near 1."""
    for weight in layer.trainable_variables:
        values = random.normal(0, 0.05, weight.shape)
        weight.assign(values + 1 if weight.name == "gamma" else values)


randomize(encoder)
arrays = {
    weight.path.split("/", 1)[1]: ops.convert_to_numpy(weight)
    for weight in encoder.weights
}
print({name: array.shape for name, array in arrays.items()})

# %%
sequence = ops.convert_to_numpy(patches).reshape(1, 196, 768)
embedded = sequence @ arrays["projection/kernel"] + arrays["projection/bias"]
z = np.concatenate([arrays["cls_token"], embedded], axis=1)
z = z + arrays["position_embedding/table"]

close(z, encoder(patches))

# %% [markdown]
# ## The same as a convolution
#
# The official code cuts and multiplies in one step, with a convolution of stride 16. It is the same sum in the same
# order, so its kernel is ours under another shape. **Guess:** which?

# %%
kernel = arrays["projection/kernel"].reshape(16, 16, 3, hidden_dim)
convolved = ops.conv(images, kernel, strides=patch_size, padding="valid")
convolved = convolved + arrays["projection/bias"]

print(convolved.shape)
close(ops.reshape(convolved, (1, 196, hidden_dim)), embedded)

# %% [markdown]
# That is why checkpoints of the official code can be read without loss, and why a patch embedding is sometimes
# called a convolution. It shares its weights between places, as one; but strides do not overlap, and no second
# layer looks at neighbouring patches before attention does.

# %% [markdown]
# ## Equation 2: tokens exchange information
#
# $$z'_\ell = MSA(LN(z_{\ell-1})) + z_{\ell-1}$$
#
# *LN*, the layer norm, takes each token by itself: minus its mean, divided by its standard deviation, times a
# scale, plus an offset. *MSA* is attention with several heads (equations 5 to 8). In each head every token makes
# a query $q$, a key $k$ and a value $v$, three matrix products, and receives a mixture of values:
#
# $$A = softmax(q k^\top / \sqrt{D_h}), \qquad SA(z) = A v$$
#
# **Guess:** the shape of $A$ for all heads of our image?

# %%
block = layers.TransformerBlock(num_heads, mlp_dim)
block(z)  # makes the weights
randomize(block)
w = {
    weight.path.split("/", 1)[1]: ops.convert_to_numpy(weight)
    for weight in block.weights
}


def layer_norm(x, scale, offset):
    x = x - x.mean(axis=-1, keepdims=True)
    return x / np.sqrt((x**2).mean(-1, keepdims=True) + 1e-6) * scale + offset


def softmax(x):
    x = np.exp(x - x.max(axis=-1, keepdims=True))
    return x / x.sum(axis=-1, keepdims=True)


# %%
x = layer_norm(z, w["attention_norm/gamma"], w["attention_norm/beta"])
q, k, v = (
    np.einsum("btd,dhk->bhtk", x, w[f"attention/{part}/kernel"])
    + w[f"attention/{part}/bias"][None, :, None]
    for part in ("query", "key", "value")
)
head_dim = hidden_dim // num_heads
A = softmax(q @ k.transpose(0, 1, 3, 2) / np.sqrt(head_dim))

print("A", A.shape)
assert A.shape == (1, 3, 197, 197)  # each token looks at each token
np.testing.assert_allclose(A.sum(axis=-1), 1, rtol=1e-5)

msa = np.einsum("bhtk,hkd->btd", A @ v, w["attention/output/kernel"])
msa = msa + w["attention/output/bias"]
out, scores = block.attention(x, return_attention_scores=True)
print("scores:", close(scores, A))
print("output:", close(out, msa))

# %% [markdown]
# The residual sum, `+ z`, is done by the block. Note what the formula lacks: any trace of order. Attention treats its
# tokens as a set. If the patches are shuffled, each token's result is the same as before, only elsewhere in the
# sequence:

# %%
order = random.permutation(196) + 1  # the class token stays in front
shuffled = np.concatenate([z[:, :1], z[:, order]], axis=1)

print("class token:", close(block(shuffled)[:, 0], block(z)[:, 0]))

# %% [markdown]
# ## Equations 3 and 4: each token thinks for itself, one is read
#
# $$z_\ell = MLP(LN(z'_\ell)) + z'_\ell, \qquad y = LN(z_L^0)$$
#
# The MLP widens a token from 192 to 768 numbers, applies GELU (in the tanh form that the official code uses) and
# narrows it again. After the last block the class token, index 0, is normed; a dense layer, the *head*, makes
# logits of it.


# %%
def gelu(x):
    inner = np.sqrt(2 / np.pi) * (x + 0.044715 * x**3)
    return 0.5 * x * (1 + np.tanh(inner))


z1 = msa + z  # equation 2
x = layer_norm(z1, w["mlp_norm/gamma"], w["mlp_norm/beta"])
hidden = gelu(x @ w["mlp/hidden/kernel"] + w["mlp/hidden/bias"])
z2 = hidden @ w["mlp/output/kernel"] + w["mlp/output/bias"] + z1

print(hidden.shape, "to", z2.shape)
assert hidden.shape == (1, 197, 768) and z2.shape == z.shape
close(z2, block(z))

# %% [markdown]
# ## Put together
#
# Equations 1 to 4 as a Keras model. It reads like the figure in the paper; there is nothing else.

# %%
inputs = keras.Input((image_size, image_size, 3))
x = layers.Patches(patch_size)(inputs)
x = layers.PatchEncoder(hidden_dim)(x)  # equation 1
for _ in range(num_layers):
    x = layers.TransformerBlock(num_heads, mlp_dim)(x)  # equations 2, 3
x = layers.LayerNorm()(x)
y = layers.TokenPooling()(x)  # equation 4
by_hand = keras.Model(inputs, keras.layers.Dense(num_classes)(y))

model = keras_vit.ViT("Ti/16", preprocessing=None)
randomize(model)
by_hand.set_weights(model.get_weights())

ours, theirs = (m.predict(images, verbose=0) for m in (by_hand, model))
assert ours.shape == (1, num_classes) and ours.std() > 0.1
close(ours, theirs)

# %% [markdown]
# Copying in order works because both have the same weights in the same order; names would do as well. Without
# `randomize` the check would be worthless: a new head is zero, as in the paper, and so is every logit.

# %% [markdown]
# ## Count
#
# **Guess** where most parameters are before you run this. Each line is a sum of kernels and biases; $D$ is the width,
# $M$ the width of the MLP.


# %%
def count(layers, D, M, patch, size=224, channels=3, classes=1000):
    N = (size // patch) ** 2
    return {
        "patch projection": patch * patch * channels * D + D,
        "class token": D,
        "positions": (N + 1) * D,
        "attention": layers * 4 * (D * D + D),  # q, k, v, output
        "MLP": layers * (D * M + M + M * D + D),
        "layer norms": (2 * layers + 1) * 2 * D,
        "head": D * classes + classes,
    }


parts = count(num_layers, hidden_dim, mlp_dim, patch_size)
for part, parameters in parts.items():
    share = parameters / sum(parts.values())
    print(f"{part:18}{parameters:>10,}{share:>8.1%}")

assert sum(parts.values()) == model.count_params() == 5_717_416

# %% [markdown]
# The MLPs have 62.1 % and attention has 31.1 %: more than nine tenths are in the twelve blocks. The table of
# positions has only 0.7 %, so another resolution changes the count by little (and the computation by much). The same
# formula meets the published counts of the larger models:

# %%
paper = {
    "B/16": (12, 768, 3072, 16),
    "L/32": (24, 1024, 4096, 32),
    "H/14": (32, 1280, 5120, 14),
}
for name, sizes in paper.items():
    total = sum(count(*sizes).values())
    assert total == keras_vit.cost(name).parameters
    print(f"ViT-{name}{total:>14,}")

assert sum(count(*paper["B/16"]).values()) == 86_567_656

# %% [markdown]
# ## Where is a patch?
#
# Attention sees a set, so all that the network knows about places is in $E_{pos}$. The paper's table is learned: it
# starts as noise, and nobody tells it which places are neighbours. Does it find out? In the paper it does, after
# hundreds of millions of images (figure 7, centre). We ask a small model, of 4 x 4 places, with 1,198 digits: once
# as they are, all centred, and once moved by a pixel or left alone, anew each time.

# %%
(x_train, y_train), (x_test, y_test) = data.load("digits")
moves = np.array([(0, 0), (-1, 0), (1, 0), (0, -1), (0, 1)])


def shift(images, labels):
    padded = np.pad(images, ((0, 0), (1, 1), (1, 1), (0, 0)))
    starts = 1 + moves[random.integers(len(moves), size=len(images))]
    shifted = [
        image[row : row + 8, column : column + 8]
        for image, (row, column) in zip(padded, starts)
    ]
    return np.stack(shifted), labels


# %%
tables = {}
for name, augment in (("centred", None), ("shifted", shift)):
    keras.utils.set_random_seed(seed)
    small = keras_vit.ViT(
        keras_vit.Variant(2, 64, 128, 4, patch_size=2),
        image_size=8,
        num_channels=1,
        num_classes=10,
        pooling="average",
    )
    similarity = keras_vit.introspection.position_similarity
    tables.setdefault("before training", similarity(small))
    steps = keras_vit.recipes.total_steps(len(x_train), 32, epochs)
    small.compile(**keras_vit.recipes.adamw(steps, learning_rate=2e-3))
    train = keras_vit.ArrayDataset(x_train, y_train, 32, augment, seed=seed)
    small.fit(train, epochs=epochs, shuffle=False, verbose=0)
    tables[name] = similarity(small)
    accuracy = small.evaluate(x_test, y_test, verbose=0)[1]
    print(f"{name}: {accuracy:.3f} of {len(x_test)} held-out digits right")

# %%
rows, columns = np.indices((4, 4)).reshape(2, 16)
distance = np.hypot(rows[:, None] - rows, columns[:, None] - columns)
print("cosine similarity at distance:      1      2      3")
for name, table in tables.items():
    assert table.shape == (4, 4, 4, 4)
    table = table.reshape(16, 16)
    means = [table[distance == edges].mean() for edges in (1, 2, 3)]
    print(f"{name:32}", *(f"{mean:6.2f}" for mean in means))

# %%
figure, axes = plt.subplots(1, 3, figsize=(8, 3.2), layout="constrained")
for axis, (name, table) in zip(axes, tables.items()):
    # The tile of each place is its similarity to all places.
    tiles = np.pad(
        table, ((0, 0), (0, 0), (0, 1), (0, 1)), constant_values=np.nan
    )
    tiles = tiles.transpose(0, 2, 1, 3).reshape(20, 20)[:-1, :-1]
    shown = axis.imshow(tiles, vmin=-1, vmax=1, cmap="viridis")
    axis.set(title=name, xlabel="column of the place")
    axis.set_xticks(np.arange(1.5, 20, 5), range(4))
    axis.set_yticks(np.arange(1.5, 20, 5), range(4))
axes[0].set_ylabel("row of the place")
figure.colorbar(shown, ax=axes, label="cosine similarity", shrink=0.8)
figure.savefig(output / "positions.png")

# %% [markdown]
# *Each tile is one place; its pixels are the similarities of its position embedding to those of all 16 places, itself
# (1, yellow) included.* Before training there is noise. After training on centred digits neighbours are *not* alike:
# -0.12 on average, less than places at distance 3 (0.17). For this model a place is a feature, and two neighbouring
# features are as different as any. After training on shifted digits neighbours are alike (0.22), most of all left and
# right of each other, for example in the top and bottom rows: now the same stroke turns up on either place, and it
# pays to treat both in the same way.
#
# So the grid of the paper's figure is no property of the architecture. It comes from data in which things move, and
# 1,198 digits moved by a pixel show no more than the beginning of it. One seed a table: take the signs, not the
# second digit. Accuracy is lower with shifts (0.913 against 0.960), because the task is harder and 30 epochs are few.

# %%
minutes = (time.perf_counter() - start) / 60
print(f"{minutes:.1f} minutes on {os.cpu_count()} processor cores")

# %% [markdown]
# That was on a machine busy with other work; the two trainings, the only part that takes long, take about 15 seconds
# of a core's time each.
#
# ## Here and in the paper
#
# | | here | in the paper or its code |
# |---|---|---|
# | parameters of ViT-B/16, 1,000 classes | 86,567,656 | 86 M in table 1; this number in the official code's test |
# | parameters of ViT-L/32, ViT-H/14 | 306,535,400; 632,045,800 | 307 M, 632 M |
# | parameters of ViT-Ti/16 | 5,717,416 | not in the paper; the same number in that test |
# | equations 1 to 3 in NumPy against the layers | within 0.000005 | - |
# | patch projection against a convolution | within 0.000005 | the official code has the convolution |
# | similarity of neighbouring positions | 0.22 with shifts, -0.12 without | clearly above 0 (figure 7, centre) |
#
# What the small training cannot show is how tables look at scale, in rows and columns as in the paper. What it
# can show is that they are learned, and from what.
#
# ## Exercises
#
# 1. Cut patches of 32 x 32 pixels. Guess the shapes of `patches`, `tokens` and `A` first, then which lines of the
#    count change, and by how much.
# 2. Leave the division by $\sqrt{D_h}$ out of the NumPy attention. How far do the largest scores of a row move?
# 3. Train the small model with `position=None` and with `position="sincos_2d"`. How much are places worth on
#    digits, and is the difference larger than between two seeds?
#
# ## References
#
# - A. Dosovitskiy et al., [*An Image is Worth 16x16 Words*](https://arxiv.org/abs/2010.11929), ICLR 2021: equations
#   1 to 4 in section 3.1, attention in appendix A, position tables in figures 7 and 10.
# - A. Vaswani et al., [*Attention Is All You Need*](https://arxiv.org/abs/1706.03762), NeurIPS 2017.
# - J. L. Ba et al., [*Layer Normalization*](https://arxiv.org/abs/1607.06450), 2016.
# - D. Hendrycks and K. Gimpel, [*Gaussian Error Linear Units*](https://arxiv.org/abs/1606.08415), 2016.
