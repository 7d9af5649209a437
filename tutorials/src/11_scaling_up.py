# %% [markdown]
# # 11. Scaling up: what to do when it no longer fits?
#
# First plan: what a model costs is arithmetic. Then save memory: half precision, recomputation, smaller batches summed
# up, attention in blocks, each counted. Then several devices and several processes, tried on virtual ones, which any
# machine has. All of it runs on a processor. What that can show is that numbers and memory are right; what it cannot show
# is speed.

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
import importlib.util
import json
import pathlib
import socket
import subprocess
import sys
import time
from contextlib import nullcontext

import keras
import matplotlib.pyplot as plt
import numpy as np

import keras_vit
from keras_vit.ops.attention import attend
from keras_vit.ops.chunked_attention import chunked_attention

on_jax = keras.backend.backend() == "jax"
if on_jax:
    import jax
print(f"Keras {keras.version()} on {keras.backend.backend()}")

# %% [markdown]
# All the knobs: the two batches between which memory is counted, the numbers of tokens of the attention that is planned,
# the tokens of the attention that is run, and the steps of the training on several devices.

# %%
batches = (8, 40)
tokens = (512, 1024, 2048, 4096)
num_tokens = 4096
steps = 10
seconds_allowed = 600  # for each program that is started below
seed = 0
output = pathlib.Path("outputs") / "scaling_up"

output.mkdir(parents=True, exist_ok=True)
keras.utils.set_random_seed(seed)
started = time.perf_counter()

# %% [markdown]
# ## Plan first
#
# `keras_vit.cost` counts parameters, multiply-accumulates and activations without building anything. A training step in
# float32 keeps four numbers a parameter: the weight, its gradient and Adam's two moments. The activations wait for the
# backward pass, and grow with the batch:
#
# $$\text{bytes} \approx 4 \times (4 \times \text{parameters} + \text{batch} \times \text{activations})$$

# %%
print(keras_vit.cost("L/16", 384))


def gigabytes(variant, image_size, batch, fused_attention=True):
    cost = keras_vit.cost(variant, image_size, fused_attention=fused_attention)
    return 4 * np.array([4 * cost.parameters, batch * cost.activations]) / 1e9


print(f"\n{'':10}{'weights and Adam':>18}{'activations of 32 images':>26}")
for variant in ("S/16", "B/16", "L/16", "H/14"):
    fixed, growing = gigabytes(variant, 224, 32)
    print(f"{variant:10}{fixed:15.2f} GB{growing:23.2f} GB")

# %%
figure, axes = plt.subplots(1, 2, figsize=(9, 3.4), sharey=True)
edges = np.array([224, 384, 512, 768, 1024, 1536, 2048])
for axis, variant in zip(axes, ("B/16", "L/16")):
    for fused, look in ((True, "o-"), (False, "s--")):
        # Colours that colour-blind readers tell apart too (Okabe and Ito).
        color = "#0072B2" if fused else "#D55E00"
        memory = [gigabytes(variant, edge, 1, fused) for edge in edges]
        label = f"activations, scores {'not ' * fused}kept"
        axis.plot(edges, np.array(memory)[:, 1], look, color=color, label=label)
    axis.axhline(
        memory[0][0], color="gray", linestyle=":", label="weights and Adam"
    )
    axis.set(xscale="log", yscale="log", title=f"{variant}, one image")
    axis.set_xlabel("edge of the image, pixels")
    axis.set_xticks(edges[::2], edges[::2])
    axis.minorticks_off()
axes[0].set_ylabel("memory of a step, GB")
axes[0].legend(fontsize=8)
figure.tight_layout()
figure.savefig(output / "plan.png")

# %% [markdown]
# *Memory of a training step with one image against its size, by the formula; both axes logarithmic.* The table says when
# activations matter: at 224 pixels and 32 images they are already more than weights and Adam, for S/16 five times as much
# (1.90 GB against 0.35), for H/14 twice (21.66 against 10.11). The figure says why attention has to forget its scores: if
# they are kept, memory grows in the end with the fourth power of the edge, and at 2,048 pixels one image takes more than a hundred
# gigabytes. If they are not kept, it grows with the square only. This is arithmetic, not a measurement.

# %% [markdown]
# ## Three ways to save
#
# - **Mixed precision.** `dtype="mixed_bfloat16"` computes in 16 bits and keeps weights in 32. Activations should halve.
# - **Recomputation.** `with keras.RematScope(mode="full"):` around the building of the model keeps the input of each
#   block alone and computes the rest again on the way back: one more forward pass, about a third more work.
# - **Accumulation.** Small batches whose gradients are summed up before the optimizer moves; see below.
#
# How to see the first two? JAX can be asked twice without computing anything. `jax.vjp` splits a loss into a forward and a
# backward pass, and what the backward pass is handed is exactly what is kept: its shapes can be added up
# (*kept by autodiff*). And a compiled program says how much working memory it has planned on *this* machine (*planned by
# XLA*). We take both with 8 images and with 40; the difference, over 32, is what an image costs.

# %%
variant = keras_vit.Variant(4, 128, 512, 4, patch_size=8)


def loss_of(dtype, recompute):
    """A model, as a function from its weights and images to a number."""
    scope = keras.RematScope(mode="full") if recompute else nullcontext()
    with scope:
        model = keras_vit.ViT(
            variant, image_size=96, num_classes=10, dtype=dtype
        )
    fixed = [weight.value for weight in model.non_trainable_variables]

    def loss(weights, images):
        logits, _ = model.stateless_call(weights, fixed, images, training=True)
        return keras.ops.mean(keras.ops.cast(logits, "float32"))

    return loss, [weight.value for weight in model.trainable_variables]


# %%
def kept(loss, weights, images):
    """Bytes that the forward pass hands to the backward pass."""

    def backward(weights, images):
        return jax.vjp(lambda weights: loss(weights, images), weights)[1]

    leaves = jax.tree.leaves(jax.eval_shape(backward, weights, images))
    return sum(leaf.size * leaf.dtype.itemsize for leaf in leaves)


def planned(function, *arguments):
    """Bytes of working memory of the program that XLA makes of a function."""
    program = jax.jit(function).lower(*arguments).compile()
    return program.memory_analysis().temp_size_in_bytes


# %%
settings = {
    "float32": ("float32", False),
    "mixed_bfloat16": ("mixed_bfloat16", False),
    "recomputed": ("float32", True),
    "both": ("mixed_bfloat16", True),
}
by_cost = keras_vit.cost(
    variant, 96, num_classes=10, fused_attention=False
).activations
memory = {}
if on_jax:
    print(f"{'MB an image':18}{'kept by autodiff':>18}{'planned by XLA':>18}")
    for name, setting in settings.items():
        loss, weights = loss_of(*setting)
        images = [jax.ShapeDtypeStruct((n, 96, 96, 3), "f4") for n in batches]
        a, b = (kept(loss, weights, x) for x in images)
        c, d = (planned(jax.grad(loss), weights, x) for x in images)
        memory[name] = np.array([b - a, d - c]) / np.diff(batches) / 1e6
        print(f"{name:18}{memory[name][0]:18.2f}{memory[name][1]:18.2f}")
    print(f"{'keras_vit.cost':18}{4 * by_cost / 1e6:18.2f}")
else:
    print("This account of memory is JAX's: set KERAS_BACKEND=jax.")

# %% [markdown]
# *Kept by autodiff* behaves as in the textbook: 8.67 MB in float32; 4.97 in `mixed_bfloat16`, which is not quite half, since
# norms and softmax stay in 32 bits; 0.48 when blocks are recomputed; 0.24 with both. The formula says 6.36 for float32. It
# counts each tensor that a frugal backward pass needs once, and autodiff keeps more than that. So plan with a margin.
#
# *Planned by XLA* does not behave at all: between 9.17 and 9.99 MB whatever we do. This is the compiler for processors. It
# looks at the whole step, is free to merge what is computed twice, and may compute 16-bit numbers as 32-bit ones. **On this
# machine neither switch saves memory.** They are made for GPUs and TPUs, which were not at hand for this notebook. The
# lesson is to ask the compiler on the machine that you will use: `planned` works there as well. The figure below shows both columns.

# %% [markdown]
# ## Accumulation
#
# `gradient_accumulation_steps=4` waits for four batches of 8 and moves once, by the mean of their gradients. That is the
# update of a batch of 32 if nothing in the network looks across the batch. A Vision Transformer has layer norms, which
# look at one token each; a network with batch norms would differ.

# %%
small = keras_vit.Variant(2, 32, 64, 4, patch_size=4)
random = np.random.default_rng(seed)
images = random.uniform(0, 255, (96, 16, 16, 3)).astype("float32")
labels = random.integers(10, size=96)
trained = []
for accumulate, batch in ((None, 32), (4, 8)):
    keras.utils.set_random_seed(seed)
    model = keras_vit.ViT(small, image_size=16, num_classes=10)
    start = model.get_weights()
    # Plain descent: Adam divides by the size of the gradient, and so would
    # make differences of rounding large where gradients are almost zero.
    optimizer = keras.optimizers.SGD(
        0.5, gradient_accumulation_steps=accumulate
    )
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(optimizer, loss)
    model.fit(images, labels, batch_size=batch, shuffle=False, verbose=0)
    trained.append(model.get_weights())
moved = max(abs(a - b).max() for a, b in zip(start, trained[0]))
apart = max(abs(a - b).max() for a, b in zip(*trained))
print(f"three updates move weights by up to {moved:.3f};")
print(f"3 batches of 32 and 12 of 8 end up to {apart:.1e} apart")

assert apart < 1e-3 * moved

# %% [markdown]
# The recipes take `gradient_accumulation_steps` too, and stretch their schedules, which then count small batches.

# %% [markdown]
# ## Attention in blocks
#
# Scores grow with the square of the tokens: at 16,384 tokens, a photograph of 2,048 pixels in patches of 16, four heads
# write 4.3 GB an image. On a GPU fused kernels never write them down. Where there is no such kernel the library takes
# the queries in blocks as soon as the scores of an image pass a gigabyte; each block forgets its scores and computes
# them again on the way back. Here we call both by name, on fewer tokens.


# %%
def whole(query, key, value):
    return attend(query, key, value, 32**-0.5)


def in_blocks(query, key, value):
    return chunked_attention(query, key, value, 32**-0.5, block_size=256)


def backward(function):
    def total(*arguments):
        return keras.ops.sum(function(*arguments))

    return jax.grad(total, argnums=(0, 1, 2))


# %%
ways = {"whole": whole, "in blocks of 256": in_blocks}
query, key, value = (
    keras.random.normal((1, num_tokens, 4, 32), seed=seed + index)
    for index in range(3)
)
one, other = (way(query, key, value) for way in ways.values())
apart = float(keras.ops.max(keras.ops.abs(one - other)))
print(f"{num_tokens:,} tokens: the results differ by at most {apart:.1e}")

assert apart < 1e-5

# %%
if on_jax:
    needed = {name: [] for name in ways}
    print(f"{'MB planned, with gradients':28}", *(f"{n:8,}" for n in tokens))
    for name, way in ways.items():
        for count in tokens:
            x = jax.ShapeDtypeStruct((1, count, 4, 32), "float32")
            needed[name].append(planned(backward(way), x, x, x) / 1e6)
        print(f"{name:28}", *(f"{mb:8.1f}" for mb in needed[name]))
    scores = [4 * 4 * count**2 / 1e6 for count in tokens]
    print(f"{'the scores alone':28}", *(f"{mb:8.1f}" for mb in scores))

# %%
figure, axes = plt.subplots(1, 2, figsize=(9, 3.6), layout="constrained")
if on_jax:
    where = np.arange(len(memory))
    looks = (("kept by autodiff", "#0072B2"), ("planned by XLA", "#E69F00"))
    for index, (label, color) in enumerate(looks):
        heights = [each[index] for each in memory.values()]
        bars = axes[0].bar(
            where + 0.4 * index - 0.2, heights, 0.38, color=color, label=label
        )
        axes[0].bar_label(bars, fmt="%.1f", fontsize=8)
    axes[0].set_xticks(where, memory, fontsize=8)
    axes[0].set(ylabel="MB an image", ylim=(0, 1.35 * max(heights)))
    axes[0].legend(fontsize=8, loc="upper center", ncols=2)
    looks = (("s--", "#D55E00"), ("o-", "#0072B2"))
    for (name, values), (style, color) in zip(needed.items(), looks):
        axes[1].plot(tokens, values, style, color=color, label=name)
    axes[1].set(xscale="log", yscale="log", xlabel="tokens")
    axes[1].set_xticks(tokens, tokens)
    axes[1].minorticks_off()
    axes[1].set_ylabel("MB planned for attention")
    axes[1].legend(fontsize=8)
figure.savefig(output / "memory.png")

# %% [markdown]
# *Left: the table above, MB an image. Right: memory planned for attention and its gradients on one image with four heads,
# both axes logarithmic.* Here the same compiler does save, because blocks are a loop, whose rounds it cannot merge. Whole,
# each doubling of the tokens takes four times the memory, up to 1,075.9 MB at 4,096 tokens, four times the scores
# alone. In blocks each doubling takes twice the memory, and 73.5 MB are enough. The results agree to 2.2e-07. At
# 512 tokens there is little to gain (9.3 against 17.0 MB), and blocks compute the scores once more, so the library uses
# them only where scores pass a gigabyte.

# %% [markdown]
# ## Several devices
#
# `keras.distribution` places weights and batches on devices, and works on JAX alone. One line before the model is built
# decides how. JAX can pretend that a processor is four devices, so the code can be tried anywhere; the same program then
# runs on four GPUs. Two blocks of width 64, ten steps, the same seed in all:

# %%
several = """
import json, sys
import keras, keras_vit, numpy as np
kinds, steps, address, processes, index = sys.argv[1:]
parallel = keras_vit.distribution
if processes != "1":  # before anything else asks for devices
    keras.distribution.initialize(address, int(processes), int(index))
variant = keras_vit.Variant(2, 64, 256, 4, patch_size=4)
random = np.random.default_rng(0)
images = random.uniform(0, 255, (32, 16, 16, 3)).astype("float32")
answers = {}
for kind in kinds.split(","):
    make = {
        "one": lambda: None,
        "data": parallel.data_parallel,
        "fsdp": lambda: parallel.model_parallel(variant, 1, fsdp=True),
        "tensor": lambda: parallel.model_parallel(variant, 2),
    }
    keras.distribution.set_distribution(make[kind]())
    keras.utils.set_random_seed(0)
    model = keras_vit.ViT(variant, image_size=16, num_classes=10)
"""

# %%
several += """
    recipe = keras_vit.recipes.adamw(int(steps), learning_rate=3e-3)
    model.compile(**recipe)
    data = keras_vit.ArrayDataset(
        images, np.arange(32) % 10, 32, shard=parallel.process_shard())
    # An epoch of one batch, so that Keras tells the loss of every step.
    fit = model.fit(data, epochs=int(steps), shuffle=False, verbose=0)
    held = {}
    for variable in [*model.trainable_variables, *model.optimizer.variables]:
        for part in variable.value.addressable_shards:
            device = str(part.device)
            held[device] = held.get(device, 0) + part.data.nbytes
    answers[kind] = [fit.history["loss"], max(held.values())]
print(json.dumps(answers))
"""
has_jax = importlib.util.find_spec("jax") is not None
pretend = {
    "KERAS_BACKEND": "jax",
    "JAX_PLATFORMS": "cpu",
    "XLA_FLAGS": "--xla_force_host_platform_device_count=4",
}

# %% [markdown]
# The program runs in a process of its own, since the number of devices is settled when JAX starts. No process outlives the
# function that started it.


# %%
def together(programs):
    """Runs programs side by side; the JSON that each prints last."""
    workers, logs = [], []
    try:
        for index, (arguments, variables) in enumerate(programs):
            logs.append(open(output / f"errors_{index}.txt", "w+"))
            workers.append(
                subprocess.Popen(
                    [sys.executable, "-c", several, *map(str, arguments)],
                    env={**os.environ, **variables},
                    stdout=subprocess.PIPE,
                    stderr=logs[-1],
                    text=True,
                )
            )
        return [finished(*pair) for pair in zip(workers, logs)]
    finally:
        for worker in workers:
            worker.kill()  # nothing happens to one that has ended
            worker.communicate()
        for log in logs:
            log.close()


# %%
def finished(worker, log):
    text = worker.communicate(timeout=seconds_allowed)[0]
    if worker.returncode:
        log.seek(0)
        raise RuntimeError(log.read())
    lines = [line for line in text.splitlines() if line.startswith("{")]
    return json.loads(lines[-1])


# %%
titles = {
    "one": "one device",
    "data": "data parallel, 4",
    "tensor": "tensor parallel, 2 x 2",
    "fsdp": "FSDP, 4",
}
if has_jax:
    arguments = ",".join(titles), steps, "", 1, 0
    (answers,) = together([(arguments, pretend)])
    reference, whole = answers["one"]
    print(f"{'':24}{'last loss':>10}{'difference':>12}{'kB a device':>13}")
    for kind, (losses, held) in answers.items():
        apart = max(abs(a - b) for a, b in zip(losses, reference))
        print(
            f"{titles[kind]:24}{losses[-1]:10.6f}{apart:12.1e}"
            f"{held / 1e3:13,.0f} ({held / whole:.2f})"
        )

        assert apart < 1e-4
else:
    print('Several devices need JAX, which is missing: pip install "jax"')

# %% [markdown]
# *The last loss of ten steps, the largest difference of any step's loss from that on one device, and what a device holds
# of weights and Adam's moments, in kB and as a share.* All four are the same training: losses differ by 1.2e-07, which is
# rounding in float32. What differs is who holds what. With data parallelism every device holds everything: it brings speed
# and no memory. Tensor parallelism over pairs halves attention and MLP; the rest is whole everywhere, so 0.53 and not
# 0.50. FSDP on four splits nearly everything, 0.27 and not 0.25: biases, norms and positions stay whole. In a large model
# that rest is a smaller share. The price, sending weights around, is not seen on virtual devices.

# %% [markdown]
# ## Several processes
#
# Several machines are several processes, each with devices of its own. Each calls `keras.distribution.initialize` with
# the address of the first, and gives `ArrayDataset` its `shard`, so that it reads only its part of every batch. Two
# processes on this machine, two virtual devices each, the very same program:

# %%
if has_jax:
    with socket.socket() as probe:  # a port that is free
        probe.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{probe.getsockname()[1]}"
    flags = pretend["XLA_FLAGS"].replace("=4", "=2")
    variables = pretend | {"XLA_FLAGS": flags}
    results = together(
        [(("data", steps, address, 2, index), variables) for index in range(2)]
    )
    for index, result in enumerate(results):
        losses, _ = result["data"]
        apart = max(abs(a - b) for a, b in zip(losses, reference))
        print(f"process {index}: last loss {losses[-1]:.6f}, {apart:.1e} apart")

        assert apart < 1e-4

# %% [markdown]
# Both processes report the same loss, since they train one model, and it is that of one device to 2.4e-07. On
# machines of your own nothing changes but the address; on Cloud TPUs even that may be left out.
#
# ## What runs where
#
# | | JAX | TensorFlow | PyTorch |
# |---|---|---|---|
# | mixed precision, recomputation, accumulation | yes | yes | yes |
# | attention without all scores | fused on GPUs in 16 bits; else in blocks from a gigabyte on | in blocks from a gigabyte on | fused; in 16 bits on a CPU in blocks from a gigabyte on |
# | several devices of one machine | `keras_vit.distribution` | `tf.distribute.MirroredStrategy`, with `clip_norm=None` | nothing in Keras |
# | weights split over devices | `model_parallel(..., fsdp=True)` | no | nothing in Keras |
# | several machines | `keras.distribution.initialize` | not tried here | nothing in Keras |
#
# In which order? If it does not fit: half precision where the device has it, then recomputation, then smaller batches
# with accumulation. If it fits but takes too long: data parallelism. If weights and optimizer alone do not fit:
# `fsdp=True`, and tensor parallelism within a machine of fast links.

# %%
minutes = (time.perf_counter() - started) / 60
print(f"{minutes:.1f} minutes on {os.cpu_count()} processor cores, shared")

# %% [markdown]
# ## Here and in the paper
#
# | | here | paper |
# |---|---|---|
# | largest model | planned: H/14, 10.11 GB of weights and Adam; trained: two blocks of width 64 | H/14, 632 million parameters |
# | devices | 4 virtual ones on a processor, one and two processes | TPUv3; H/14 on JFT took 2,500 core-days |
# | batch | 32 | 4,096 |
# | largest images | planned to 2,048 pixels | 384 to 518 pixels in fine-tuning |
# | attention at 4,096 tokens | 73.5 MB in blocks, 1,075.9 MB whole | not reported |
#
# What this notebook shows: accumulation, blocks, devices and processes change the numbers by rounding only; blocks
# and split weights save what they promise; recomputation and half precision save what autodiff keeps. What it does not
# show: that any of this is fast, or that a GPU's compiler keeps to the plan. We could not test that here.
#
# ## Exercises
#
# 1. How large a batch of H/14 at 224 pixels fits into 80 GB, by `gigabytes`? And with activations in 16 bits?
# 2. Add `"both"`: `model_parallel(variant, 2, fsdp=True)`. How many bytes a device do you expect? Measure.
# 3. Give the model of the accumulation part `dropout=0.1`. Why can the two runs no longer agree?
#
# ## References
#
# - P. Micikevicius et al., [*Mixed Precision Training*](https://arxiv.org/abs/1710.03740), ICLR 2018.
# - T. Chen et al., [*Training Deep Nets with Sublinear Memory Cost*](https://arxiv.org/abs/1604.06174), 2016.
# - M. Rabe and C. Staats, [*Self-attention Does Not Need O(n²) Memory*](https://arxiv.org/abs/2112.05682), 2021.
# - T. Dao et al., [*FlashAttention*](https://arxiv.org/abs/2205.14135), NeurIPS 2022.
# - M. Shoeybi et al., [*Megatron-LM*](https://arxiv.org/abs/1909.08053), 2019: tensor parallelism.
# - S. Rajbhandari et al., [*ZeRO*](https://arxiv.org/abs/1910.02054), SC 2020: splitting weights and optimizer.
