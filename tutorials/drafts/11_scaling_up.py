# %% [markdown]
# # 11. Scaling up: what to do when it no longer fits?
#
# First plan: what a model costs is arithmetic. Then save memory: half precision, recomputation, smaller batches summed
# up, attention in blocks, each measured. Then several devices and several processes, tried on virtual ones, which any
# machine has. Virtual devices show that numbers and memory are right; they do not show speed.

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
import importlib.util
import json
import pathlib
import platform
import socket
import subprocess
import sys
import time

import keras
import matplotlib.pyplot as plt
import numpy as np

import keras_vit

print(f"Keras {keras.version()} on {keras.backend.backend()}")

# %% [markdown]
# All the knobs: the batches between which memory is measured, the tokens of the attention that is measured, and the
# steps of the training on several devices.

# %%
batches = (8, 40)
num_tokens = 4096
steps = 10
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
    axis.axhline(memory[0][0], color="gray", label="weights and Adam")
    axis.set(xscale="log", yscale="log", title=f"{variant}, one image")
    axis.set_xlabel("edge of the image, pixels")
    axis.set_xticks(edges[::2], edges[::2])
    axis.minorticks_off()
axes[0].set_ylabel("memory of a step, GB")
axes[0].legend(fontsize=8)
figure.tight_layout()
figure.savefig(output / "plan.png")

# %% [markdown]
# @PLAN@

# %% [markdown]
# ## Three ways to save
#
# - **Mixed precision.** `dtype="mixed_bfloat16"` computes in 16 bits and keeps weights in 32. Activations halve.
# - **Recomputation.** `with keras.RematScope(mode="full"):` around the building of the model keeps the input of each
#   block alone and computes the rest again on the way back, for about a third more time.
# - **Accumulation.** Small batches whose gradients are summed up before the optimizer moves; see below.
#
# To measure the first two, a process of its own runs a step with 8 images and one with 40, and looks at the most memory
# that it ever held, which Linux notes for each process. The difference, over 32, is what an image takes. What frameworks
# and compilers need for themselves drops out.

# %%
peak = """
def peak():
    for line in open("/proc/self/status"):
        if line.startswith("VmHWM"):
            return 1024 * int(line.split()[1])
"""
has_peak = sys.platform == "linux"
if not has_peak:
    print("The peak memory of a process is read on Linux alone: left out.")

# %%
measuring = """
import contextlib, json, sys, time
import keras, keras_vit, numpy as np
dtype, remat, *batches = json.loads(sys.argv[1])
variant = keras_vit.Variant(6, 128, 512, 4, patch_size=8)
with keras.RematScope(mode="full") if remat else contextlib.nullcontext():
    model = keras_vit.ViT(variant, image_size=96, num_classes=10, dtype=dtype)
model.compile(**keras_vit.recipes.adamw(total_steps=100))
peaks = []
for batch in batches:
    images, labels = np.zeros((batch, 96, 96, 3)), np.zeros(batch, "int32")
    model.train_on_batch(images, labels)
    peaks.append(peak())
clock = time.process_time()
model.train_on_batch(images, labels)
print(json.dumps([*peaks, time.process_time() - clock]))
"""


# %%
def last_line(code, *arguments, **variables):
    """Runs a program, and reads the JSON in the last line it prints."""
    result = subprocess.run(
        [sys.executable, "-c", code, *map(str, arguments)],
        env={**os.environ, **variables},
        capture_output=True,
        text=True,
    )
    if result.returncode:
        raise RuntimeError(result.stderr)
    return json.loads(result.stdout.splitlines()[-1])


# %%
settings = {
    "float32": ("float32", False),
    "mixed_bfloat16": ("mixed_bfloat16", False),
    "float32, recomputed": ("float32", True),
}
measured = {}
if has_peak:
    for name, setting in settings.items():
        *peaks, seconds = last_line(
            peak + measuring, json.dumps([*setting, *batches])
        )
        image = (peaks[1] - peaks[0]) / (batches[1] - batches[0])
        measured[name] = image / 1e6, seconds
        print(
            f"{name:22}{image / 1e6:6.1f} MB an image, {seconds:5.2f} s a step"
        )
    model = keras_vit.Variant(6, 128, 512, 4, patch_size=8)
    kept = (
        4
        * keras_vit.cost(
            model, 96, num_classes=10, fused_attention=False
        ).activations
    )
    print(f"{'by keras_vit.cost':22}{kept / 1e6:6.1f} MB an image")

# %% [markdown]
# @MEMORY@

# %% [markdown]
# ## Accumulation
#
# `gradient_accumulation_steps=4` waits for four batches of 8 and moves once, by the mean of their gradients. That is the
# update of a batch of 32 if nothing in the network looks across the batch. A Vision Transformer has layer norms, which
# look at one token each; a network with batch norms would differ.

# %%
variant = keras_vit.Variant(2, 32, 64, 4, patch_size=4)
random = np.random.default_rng(seed)
images = random.uniform(0, 255, (96, 16, 16, 3)).astype("float32")
labels = random.integers(10, size=96)
trained = []
for accumulate, batch in ((None, 32), (4, 8)):
    keras.utils.set_random_seed(seed)
    model = keras_vit.ViT(variant, image_size=16, num_classes=10)
    start = model.get_weights()
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
# them again on the way back. Here both, on fewer tokens.

# %%
attending = """
import json, sys
import keras, numpy as np
from keras_vit.layers.attention_core import attend
from keras_vit.layers.chunked_attention import chunked_attention
name, tokens = sys.argv[1], int(sys.argv[2])
random = np.random.default_rng(0)
q, k, v = random.normal(size=(3, 1, tokens, 4, 32)).astype("float32")
q, k, v = map(keras.ops.convert_to_tensor, (q, k, v))
small = [x[:, :64] for x in (q, k, v)]  # whatever is loaded at first use
peaks = []
for queries, keys, values in (small, (q, k, v)):
    if name == "blocks":
        result = chunked_attention(queries, keys, values, 32**-0.5, 256)
    else:
        result = attend(queries, keys, values, 32**-0.5)
    result = keras.ops.convert_to_numpy(result)
    peaks.append(peak())
np.save(sys.argv[3], result)
print(json.dumps(peaks[1] - peaks[0]))
"""

# %%
if has_peak:
    scores = 4 * 4 * num_tokens**2
    print(f"{num_tokens:,} tokens, all scores: {scores / 1e6:.0f} MB")
    answers = []
    for name in ("whole", "blocks"):
        path = output / f"{name}.npy"
        grown = last_line(peak + attending, name, num_tokens, path)
        answers.append(np.load(path))
        print(f"{name:8}{grown / 1e6:8.0f} MB more at the peak")
    apart = abs(answers[0] - answers[1]).max()
    print(f"the results differ by at most {apart:.1e}")

    assert apart < 1e-5

# %% [markdown]
# @BLOCKS@

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

# %%
titles = {
    "one": "one device",
    "data": "data parallel, 4",
    "tensor": "tensor parallel, 2 x 2",
    "fsdp": "FSDP, 4",
}
if has_jax:
    answers = last_line(several, ",".join(titles), steps, "", 1, 0, **pretend)
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
# @DEVICES@

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
    workers = [
        subprocess.Popen(
            [sys.executable, "-c", several, "data", str(steps), address]
            + ["2", str(index)],
            env={**os.environ, **pretend, "XLA_FLAGS": flags},
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
        )
        for index in range(2)
    ]

# %%
if has_jax:
    for index, worker in enumerate(workers):
        text = worker.communicate(timeout=900)[0]
        lines = [line for line in text.splitlines() if line.startswith("{")]
        losses, held = json.loads(lines[-1])["data"]
        apart = max(abs(a - b) for a, b in zip(losses, reference))
        print(f"process {index}: last loss {losses[-1]:.6f}, {apart:.1e} apart")

        assert worker.returncode == 0 and apart < 1e-4

# %% [markdown]
# ## What runs where
#
# | | JAX | TensorFlow | PyTorch |
# |---|---|---|---|
# | mixed precision, recomputation, accumulation | yes | yes | yes |
# | attention that never writes all scores | fused on GPUs in 16 bits, else in blocks | in blocks | fused |
# | several devices of one machine | `keras_vit.distribution` | `tf.distribute.MirroredStrategy`, with `clip_norm=None` | nothing in Keras |
# | weights split over devices | `model_parallel(..., fsdp=True)` | no | nothing in Keras |
# | several machines | `keras.distribution.initialize` | not tried here | nothing in Keras |
#
# In which order? If it does not fit: half precision where the device has it, then recomputation, then smaller batches
# with accumulation. If it fits but takes too long: data parallelism. If weights and optimizer alone do not fit:
# `fsdp=True`, and tensor parallelism within a machine of fast links.

# %%
minutes = (time.perf_counter() - started) / 60
print(f"{minutes:.1f} minutes on {os.cpu_count()} {platform.machine()} cores")

# %% [markdown]
# @TABLE@
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
