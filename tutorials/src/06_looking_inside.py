# %% [markdown]
# # 6. Looking inside: what does a trained transformer look at?
#
# The paper opens its networks in three figures: the filters and positions of the first layer (figure 7), how far the heads
# look (figures 7 and 11), and which parts of an image count for the answer (figures 6 and 14). Here the same figures are
# drawn from a network that you have: the small hybrid that comes with the library. What the paper saw at 300 million
# parameters is partly here at 1.6 million, and partly not. Both are worth seeing.

# %%
import os

os.environ.setdefault("KERAS_BACKEND", "jax")  # or "tensorflow", "torch"
for name, value in {
    "MPLBACKEND": "agg",  # draw to files; notebooks bring their own
    "TF_CPP_MIN_LOG_LEVEL": "3",
}.items():
    os.environ.setdefault(name, value)

# %%
import pathlib
import time

import keras
import matplotlib.pyplot as plt
import numpy as np

import keras_vit
from keras_vit import data, introspection

start = time.time()
print(f"Keras {keras.version()} on {keras.backend.backend()}")

# %%
num_images = 128  # for averages over images; the paper takes 128 as well
output = pathlib.Path("outputs") / "looking_inside"

output.mkdir(parents=True, exist_ok=True)
keras.utils.set_random_seed(0)

# %% [markdown]
# The images are those of CIFAR-10's test set, which the network was not trained on, nor on their classes. `load` downloads
# them once.

# %%
_, (images, labels) = data.load("cifar10")
images, labels = images[:num_images], labels[:num_images]
class_names = data.class_names("cifar10")
model = keras_vit.ViT("R20+Mi/4", weights="cifar100")
untrained = keras_vit.ViT("R20+Mi/4", image_size=32)

# %% [markdown]
# Everything below comes from a second walk over the blocks of the model. The model itself stays as it is: its forward
# pass uses the backend's fused attention, which never writes the scores down, and gives the same output.
#
# ## First layer: filters
#
# In a pure ViT the first layer cuts patches and multiplies each by one matrix; `keras_vit.plot.filter_components(model)`
# draws the principal components of its filters (figure 7, left). In a hybrid the first layer is a convolution: 64 filters
# of 7 x 7 pixels, which can be looked at as they are.

# %%
kernel = keras.ops.convert_to_numpy(
    model.get_layer("root_conv").standardized_kernel()
)
low, high = np.percentile(kernel, (1, 99))
figure, axes = plt.subplots(4, 16, figsize=(8, 2.3))
for axis, filter in zip(axes.flat, np.moveaxis(kernel, -1, 0)):
    axis.imshow(np.clip((filter - low) / (high - low), 0, 1))
    axis.axis("off")
figure.tight_layout(pad=0.2)
figure.savefig(output / "filters.png")

# %% [markdown]
# *The 64 filters of the first convolution, 7 x 7 pixels in three colours.* About a third are edges and bars
# in several directions, in black and white; others are blobs of one colour or two colours side by side, such as blue beside
# orange. Such filters are what first layers of trained convolutional networks look like. The rest is still close to the
# noise it started from: eleven epochs have not had a use for every filter.
#
# ## First layer: positions
#
# What the network learned about where a token is. Each little map belongs to one of the 8 x 8 places and shows how alike its
# vector is to those of all places (figure 7, centre). The network was never told that the places form a square.

# %%
figure = keras_vit.plot.position_similarity(model)
figure.savefig(output / "positions.png")
figure

# %%
similarity = introspection.position_similarity(model)
assert similarity.shape == (8, 8, 8, 8)
neighbours, distant = [], []
for row in range(8):
    for column in range(7):
        neighbours.append(similarity[row, column, row, column + 1])
        distant.append(similarity[row, column, 7 - row, 7 - column])
print(
    f"next to each other: {np.mean(neighbours):.2f}, opposite: {np.mean(distant):.2f}"
)

# %% [markdown]
# The network has found out that the places form a square: a place is like its neighbours (0.57 on average) and unlike
# those far off (-0.05 at the opposite place). In the middle the bright spot moves with the place, as in the paper's figure.
# There is something else that the paper's figure does not have: maps at the left edge are bright at the *right* edge as
# well, in the same row. In training every second image was mirrored, so left and right never had to be told apart, but above
# and below had to.
#
# ## How far do the heads look?
#
# For every head: the distance from a patch to what it attends to, weighted by how much, averaged over patches and images.
# It is to attention what the size of the receptive field is to a convolution (figures 7, right, and 11).

# %%
figure = keras_vit.plot.attention_distance(model, images)
figure.savefig(output / "distance.png")
figure

# %%
distance = introspection.attention_distance(model, images)
before = introspection.attention_distance(untrained, images)
for block, (trained_heads, random_heads) in enumerate(zip(distance, before)):
    print(
        f"block {block}: {np.round(trained_heads, 1)} pixels, untrained {np.round(random_heads, 1)}"
    )

# %% [markdown]
# *A dot a head, against the depth of its block; the line is the mean of a block, dashed what attention to all patches alike
# would give.* All heads look far: between 14 and 18
# pixels, where attention to all patches alike would give 16.5. Two heads of the first block stay a little below it, and
# hardly more. In the paper's pure ViT some heads of the lower blocks look near, and figure 11 shows that in its hybrids
# fewer do, since the convolutions have looked at the neighbourhood already. Six residual units stand in front of our first
# block. The untrained network, whose attention is nearly even, has 16.2 to 16.7.
#
# ## Where does one patch look?
#
# The scores themselves: take one patch of an image and colour all others by how much it attends to them. In a notebook
# `keras_vit.explore(model, image)` does this at a click.

# %%
example = images[1]
figure = keras_vit.plot.attention_from(model, example, patch=(4, 4), block=0)
figure.savefig(output / "attention_first.png")
figure

# %%
figure = keras_vit.plot.attention_from(model, example, patch=(4, 4), block=2)
figure.savefig(output / "attention_last.png")
figure

# %% [markdown]
# *What the marked patch attends to, head by head: in the first block (above) and in the last (below).* In the first block head 0 looks at
# the upper edge, head 1 along the car's own row, and head 2 at one patch below and left of it. In the last block heads 0
# and 2 pick out single patches on the car, head 1 is spread. So a mean distance of 16 pixels does not say that attention is even: it is peaked, on
# something far away. It is one patch of one image; look at others before you tell a story.
#
# The same numbers without a picture. Each row of a score matrix sums to one; 65 tokens are the class token and 64 patches.

# %%
for name, scores in introspection.attention_scores(model, example):
    entropy = -(scores * np.log(scores + 1e-12)).sum(axis=-1).mean()
    print(
        f"{name}: {scores.shape}, attends to {np.exp(entropy):.0f} tokens of 65 in effect"
    )
    np.testing.assert_allclose(scores.sum(axis=-1), 1, atol=1e-5)

# %% [markdown]
# ## What counts for the answer?
#
# *Attention rollout* follows the attention through all blocks, as a product of matrices with the residual connections put
# in, and reads off how much each patch arrives at the class token (figures 6 and 14).

# %%
chosen = [np.flatnonzero(labels == label)[0] for label in (1, 3, 4, 7, 8)]
figure = keras_vit.plot.attention_rollout(model, images[chosen])
figure.savefig(output / "rollout.png")
figure

# %%
rollout, matrix = introspection.attention_rollout(
    model, images[chosen], return_matrix=True
)
np.testing.assert_allclose(matrix.sum(axis=-1), 1, atol=1e-6)
share = rollout.reshape(len(chosen), -1).max(axis=1) / rollout.reshape(
    len(chosen), -1
).mean(axis=1)
print("strongest patch against the mean:", np.round(share, 1))

# %% [markdown]
# *Five images, and how much each place counts.* On the deer the map lies on the animal, on the car on
# its front wheel, on the ship at the foot of its mast. On the cat the strongest patch is a corner that has nothing to do
# with the class, and on the rider another corner competes with the rider. Rollout multiplies means over heads, so it cannot show one head that looks at the right
# place while another gathers elsewhere, and it knows nothing of what the values say.
#
# ## What do the tokens mean?
#
# The patch tokens of the last layer, projected onto the three directions in which they vary most and shown as red, green and
# blue. Patches of one colour mean the same to the network, in all images.

# %%
figure = keras_vit.plot.token_components(model, images[chosen])
figure.savefig(output / "tokens.png")
figure

# %% [markdown]
# *Five images, and their patch tokens as colours.* The five images have colours of their own:
# most of what varies between these tokens is *which image* they come from, since three blocks and a class token have mixed
# them. Within an image the deer stands out from its meadow, and the car hardly from the road. In networks with many more
# blocks and patches the parts of objects take colours of their own; this one has 64 tokens an image and 1.6 million
# parameters.

# %%
print(
    f"{(time.time() - start) / 60:.1f} minutes in all, on {os.cpu_count()} processor cores"
)

# %% [markdown]
# ## Here and in the paper
#
# | | here | paper |
# |---|---|---|
# | network | R20+Mi/4, 3 blocks of 3 heads | ViT-L/16, 24 blocks of 16 heads; R50x1+ViT-L/16 |
# | positions (figure 7, centre) | near places are alike (0.57), left and right edges too, by mirroring | near places are alike, rows and columns show |
# | distance (figures 7 and 11) | 14 to 18 pixels of 32 from the first block on; even attention gives 16.5 | some low heads look near; in hybrids fewer do |
# | rollout (figures 6 and 14) | on the object in three images of five | follows the object |
#
# Pictures of attention persuade quickly. They show where information *may* flow, not what is done with it, and a smooth map
# over an image of 8 x 8 tokens is easily taken for more than it is. The untrained network beside the trained one is the
# least one should ask for.
#
# ## Exercises
#
# 1. Draw the rollout of the *untrained* network. Which of the patterns above are its as well?
# 2. With a network connection, load `keras_vit.ViT("Ti/16", weights="augreg_i21k")` and draw all figures again, filters
#    included, for a photograph of your own at 224 pixels.
# 3. The class token is one way to read an answer. Build a model with `pooling="average"`, train it on the digits of
#    tutorial 1, and compare its rollout.
#
# ## References
#
# - A. Dosovitskiy et al., [*An Image is Worth 16x16 Words*](https://arxiv.org/abs/2010.11929), ICLR 2021: section 4.5,
#   figures 6, 7, 10, 11 and 14.
# - S. Abnar and W. Zuidema, [*Quantifying Attention Flow in Transformers*](https://arxiv.org/abs/2005.00928), ACL 2020:
#   attention rollout.
# - S. Jain and B. Wallace, [*Attention is not Explanation*](https://arxiv.org/abs/1902.10186), NAACL 2019.
# - M. Oquab et al., [*DINOv2*](https://arxiv.org/abs/2304.07193), 2023: patch tokens as colours.
