# %% [markdown]
# # 7. Three backends: does it matter which framework runs it?
#
# We train a small Vision Transformer for a moment under one framework, save it, and let fresh processes under
# TensorFlow, JAX and PyTorch go on from the same file with the same batches. We compare answers, losses and files to
# the last digits, then time all three, and end with what to choose when.

# %% [markdown]
# ## The framework
#
# As always the choice comes before Keras is imported; it is the framework of this process. The others run in processes
# of their own, because one process has one backend for life.

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
import importlib.metadata
import importlib.util
import json
import pathlib
import platform
import subprocess
import sys
import time

import keras
import matplotlib.pyplot as plt
import numpy as np

import keras_vit
from keras_vit import datasets

here = keras.backend.backend()
print(f"Keras {keras.version()} on {here}")

# %% [markdown]
# All the knobs. `epochs` is the training before the file is written, `steps` that of every framework after it. The
# time of a step is taken `repeats` times in each of `rounds` processes.

# %%
epochs = 1
steps = 120
batch_size = 32
rounds = 2
repeats = 8
seed = 0
output = pathlib.Path("outputs") / "three_backends"

output.mkdir(parents=True, exist_ok=True)
keras.utils.set_random_seed(seed)
started = time.perf_counter()

# %% [markdown]
# ## Who is here
#
# Keras needs one framework, not three. The ones that are missing are named and left out; everything below works with
# those that are there, even if it is a single one.

# %%
backends = []
for name, package in {
    "jax": "jax",
    "tensorflow": "tensorflow",
    "torch": "torch",
}.items():
    if importlib.util.find_spec(package):
        # The package of a module may have another name: tensorflow-cpu.
        owner = importlib.metadata.packages_distributions()[package][0]
        print(f"{name:11}{importlib.metadata.version(owner)}")
        backends.append(name)
    else:
        print(
            f'{name:11}not installed, left out: pip install "keras-vit[{name}]"'
        )

assert here in backends

# %% [markdown]
# ## One file to start from
#
# The digits of the first tutorial, a small model without dropout or stochastic depth, and one epoch. We stop in the
# middle on purpose: Adam's moments and the position in the learning-rate schedule are then in the file too, and a
# framework that lost them would betray itself in the next loss.

# %%
(x_train, y_train), (x_test, y_test) = datasets.load("digits")
variant = keras_vit.Variant(
    num_layers=3, hidden_dim=64, mlp_dim=128, num_heads=4, patch_size=2
)
model = keras_vit.ViT(
    variant, image_size=8, num_channels=1, num_classes=10, name="digits"
)
before = keras_vit.recipes.total_steps(len(x_train), batch_size, epochs)
model.compile(**keras_vit.recipes.adamw(before + steps, learning_rate=2e-3))
train = keras_vit.ArrayDataset(x_train, y_train, batch_size, seed=seed)
history = model.fit(train, epochs=epochs, shuffle=False, verbose=0).history
print(f"loss {history['loss'][-1]:.3f} after {before} steps")

model.save(output / "start.keras")  # architecture, weights, optimizer
model.save_weights(output / "start.weights.h5")  # weights alone

# %% [markdown]
# The batches are drawn once, with NumPy, and go into a file as well. This matters: random numbers are the one thing
# that no framework shares with another, as we shall see.

# %%
random = np.random.default_rng(seed)
rows = random.integers(len(x_train), size=(steps, batch_size))
images, labels = x_train[rows], y_train[rows]
np.savez(output / "data.npz", test=x_test, images=images, labels=labels)

# %% [markdown]
# ## The second and the third process
#
# Each process loads the `.keras` file and answers for the test images; loads the weights file into a model it builds
# itself and answers again; trains on the batches, noting every loss; and saves what it has become. `import keras_vit`
# is all that it needs to know about the model. Each framework gets such a process, this one's too.

# %%
worker = """
import sys
import keras, keras_vit, numpy as np
folder, backend = sys.argv[1], keras.backend.backend()
data = np.load(f"{folder}/data.npz")
model = keras.saving.load_model(f"{folder}/start.keras")
answers = keras_vit.predict(model, data["test"], verbose=0)
twin = keras.models.clone_model(model)
keras.utils.set_random_seed(0)
drawn = keras.ops.convert_to_numpy(keras.random.normal((3,)))
twin.load_weights(f"{folder}/start.weights.h5")
twins = keras_vit.predict(twin, data["test"], verbose=0)
losses = []
for images, labels in zip(data["images"], data["labels"]):
    model.reset_metrics()  # or the loss would be a mean over the steps
    losses.append(model.train_on_batch(images, labels, return_dict=True)["loss"])
model.save(f"{folder}/end_{backend}.keras")
ends = keras_vit.predict(model, data["test"], verbose=0)
np.savez(f"{folder}/{backend}.npz", answers=answers, twins=twins,
         losses=losses, ends=ends, drawn=drawn)
"""


# %%
def run(code, backend):
    """Runs a program under a backend and returns its last line."""
    result = subprocess.run(
        [sys.executable, "-c", code, output],
        env={**os.environ, "KERAS_BACKEND": backend},
        capture_output=True,
        text=True,
    )
    if result.returncode:
        raise RuntimeError(f"{backend}:\n{result.stderr}")
    return (result.stdout.splitlines() or [""])[-1]


found = {}
for backend in backends:
    run(worker, backend)
    found[backend] = dict(np.load(output / f"{backend}.npz"))

# %% [markdown]
# ## The same answers
#
# Logits of 599 test images, compared with those of this process. A float32 has 24 bits, so neighbours near 5 lie about
# 5e-7 apart. Sums of hundreds of products, added in another order, differ by a few of those.

# %%
answers = keras_vit.predict(model, x_test, verbose=0)
print(f"the largest logit is {abs(answers).max():.1f}\n")
print(f"{'':11}{'.keras':>10}{'weights':>10}{'classes that differ':>22}")
for backend, result in found.items():
    difference = abs(result["answers"] - answers).max()
    twins = abs(result["twins"] - answers).max()
    classes = np.sum(result["answers"].argmax(1) != answers.argmax(1))
    print(f"{backend:11}{difference:10.1e}{twins:10.1e}{classes:22}")

    assert max(difference, twins) < 1e-4 and classes == 0

# %% [markdown]
# A second process on the framework of this one finds the very same bits: saving and loading lose nothing. The other
# frameworks differ by a few millionths, where the largest logit is near 2, and no image changes its class. The two
# columns agree with one another: both files hold the same weights; `.keras` adds the architecture, so that no `clone_model`
# is needed, and the optimizer.

# %% [markdown]
# ## The same training?
#
# Now the losses. All frameworks start from the same weights and the same moments and see the same batches.

# %%
# Colours that colour-blind readers tell apart too (Okabe and Ito).
colors = {"jax": "#0072B2", "tensorflow": "#E69F00", "torch": "#009E73"}
styles = {"jax": "-", "tensorflow": "--", "torch": ":"}
markers = {"jax": "s", "tensorflow": "o", "torch": "x"}
reference = found[here]["losses"]
axis_of_steps = range(1, steps + 1)
figure, (left, right) = plt.subplots(1, 2, figsize=(9, 3.4))
for name, result in found.items():
    look = dict(label=name, color=colors[name])
    line = dict(linestyle=styles[name], linewidth=2)
    left.plot(axis_of_steps, result["losses"], **line, **look)
    if name != here:
        difference = 1e6 * (result["losses"] - reference)
        form = dict(marker=markers[name], linestyle="", markersize=4)
        right.plot(axis_of_steps, difference, **form, **look)
left.set(ylabel="loss (cross-entropy, nats)", ylim=(0, None))
right.set(ylabel=f"loss less that of {here}, millionths of a nat")
for axis in (left, right)[: len(found)]:
    axis.set_xlabel("step after the file")
    axis.legend()
figure.tight_layout()
figure.savefig(output / "losses.png")

# %%
for backend, result in found.items():
    difference = abs(result["losses"] - reference)
    first, last = result["losses"][[0, -1]]
    print(
        f"{backend:11}first loss {first:.6f}, last {last:.6f}, "
        f"largest difference {difference.max():.1e}"
    )

    assert difference[0] < 1e-5 and difference.max() < 0.05

# %% [markdown]
# *Left: the loss of each step, three curves of which only one can be seen. Right: how far each loss lies from the one of
# this process, in millionths.* The first loss already differs in the seventh digit, as the logits did. Training could
# make more of it, since every step starts from what the last one left. Over these 120 steps it does not make much of it:
# the largest gap is about one millionth of a nat. That is no law. In long trainings, with high learning rates or half
# precision, such gaps grow until two runs are as different as two seeds; what stays the same is where they end on
# average. So compare frameworks over their first steps, from one file, as here, and do not expect equal curves after a
# day.

# %% [markdown]
# ## And back
#
# Every process saved what it had become. This process loads those files and must find the answers that the other
# framework gave.

# %%
for backend, result in found.items():
    loaded = keras.saving.load_model(output / f"end_{backend}.keras")
    back = keras_vit.predict(loaded, x_test, verbose=0)
    difference = abs(back - result["ends"]).max()
    accuracy = np.mean(back.argmax(1) == y_test)
    count = int(loaded.optimizer.iterations)
    print(
        f"{backend:11}{difference:.1e}, accuracy {accuracy:.3f}, step {count}"
    )

    assert difference < 1e-4 and count == before + steps

# %% [markdown]
# ## What is not the same
#
# Three numbers from the normal distribution, after `keras.utils.set_random_seed(0)`:

# %%
for backend, result in found.items():
    print(f"{backend:11}{np.round(result['drawn'], 4)}")

# %% [markdown]
# One seed, three answers: each framework has a generator of its own. So first weights, dropout, stochastic depth and the
# corruption of tutorial 9 cannot be the same under two frameworks, however they are seeded. To repeat a training
# elsewhere, start from a file, as we did. What this library draws on the host (the order of `ArrayDataset`, the
# few-shot subsets) comes from NumPy and is the same everywhere.

# %% [markdown]
# ## How fast
#
# A step of a larger model: four blocks of the width of Ti/16, images of 96 x 96 pixels, batches of 16. Each framework
# gets `rounds` processes, in turn, each held to one core where the system allows it, so that none wins by taking more
# of them. We note what the imports take, what the first step takes, in which a framework traces and compiles, and what
# the steps after it take. The clock is that of the processor, which runs only while the process does: on a core with
# nothing else to do it is the time on the wall, and on a shared machine the neighbours do not count.

# %%
timing = """
import json, os, sys, time
if hasattr(os, "sched_setaffinity"):
    os.sched_setaffinity(0, {max(os.sched_getaffinity(0))})
clock, marks = time.process_time, [time.process_time()]
import keras, keras_vit, numpy as np
marks.append(clock())
variant = keras_vit.Variant(4, 192, 768, 3, patch_size=16)
model = keras_vit.ViT(variant, image_size=96, num_classes=10)
model.compile(**keras_vit.recipes.adamw(total_steps=100))
images = np.zeros((16, 96, 96, 3), "float32")
labels = np.zeros(16, "int32")
marks.append(clock())
for step in range(1 + REPEATS):
    model.train_on_batch(images, labels)  # returns when the loss is known
    marks.append(clock())
times = np.diff(marks)
print(json.dumps([times[0], times[2], *times[3:]]))
"""
timing = timing.replace("REPEATS", str(repeats))

# %%
imports, firsts, laters = (
    {backend: [] for backend in backends} for _ in range(3)
)
for _ in range(rounds):
    for backend in backends:
        at_import, first, *rest = json.loads(run(timing, backend))
        imports[backend].append(at_import)
        firsts[backend].append(first)
        laters[backend].extend(1000 * later for later in rest)

print(f"{'':11}{'import, s':>10}{'first, s':>10}{'later, ms (range)':>21}")
for backend in backends:
    later = np.array(laters[backend])
    spread = f"{np.median(later):.0f} ({later.min():.0f} to {later.max():.0f})"
    print(
        f"{backend:11}{np.mean(imports[backend]):10.1f}{np.mean(firsts[backend]):10.1f}{spread:>21}"
    )

# %%
figure, axes = plt.subplots(1, 3, figsize=(9, 2.4), sharey=True)
for axis, times, title in zip(
    axes,
    (imports, firsts, laters),
    ("import, s", "first step, s", "later steps, ms"),
):
    for row, backend in enumerate(backends):
        axis.barh(
            row, np.median(times[backend]), color=colors[backend], alpha=0.5
        )
        axis.plot(
            times[backend], [row] * len(times[backend]), "k|", markersize=12
        )
    axis.set(
        xlabel=title,
        yticks=range(len(backends)),
        yticklabels=backends,
        xlim=(0, None),
    )
axes[0].invert_yaxis()
figure.tight_layout()
figure.savefig(output / "speed.png")

# %% [markdown]
# *Bars are medians, strokes single measurements; shorter is better.* PyTorch's first step costs little more than the others,
# because Keras compiles nothing there. JAX and TensorFlow trace the step in Python and compile it first, which takes
# seconds for four blocks and grows with the depth: in a training of minutes you wait for it, in one of hours you do not
# notice. The later steps are nearer to each other than the strokes of one framework may be wide. Read the ranges before
# you read a ranking out of the medians; this is one small model, on one core, in float32.

# %% [markdown]
# ## What to choose when
#
# The answers are the same, so choose by what surrounds the model, and change your mind later: the file goes along.
#
# | you want | take | why |
# |---|---|---|
# | several GPUs, TPUs, or machines | JAX | `keras.distribution`, and so `keras_vit.distribution`, works there alone |
# | one machine with several GPUs, on TensorFlow | TensorFlow | its own `MirroredStrategy` |
# | SavedModel or LiteRT files | TensorFlow | the widest choice of formats in `keras_vit.export` |
# | a PyTorch program around it, a `DataLoader`, timm in the same process | PyTorch | a Keras model there is a `torch.nn.Module` |
# | to step through `call` with a debugger, short experiments | PyTorch | runs operation by operation; nothing is compiled first |
# | to run long on few shapes | measure | the ranking changes with model, batch and device |
#
# Most of the library never asks which backend it is. Where it must, it says so: `keras_vit.distribution` raises an
# error on TensorFlow and PyTorch, and `keras_vit.export` names the backend that can write a format.

# %%
minutes = (time.perf_counter() - started) / 60
elsewhere = {"jax": 13.2, "tensorflow": 20.0, "torch": 19.2}
print(f"{'images/s, training':22}{'here':>8}{'elsewhere':>12}")
for backend in backends:
    rate = 16 / (np.median(laters[backend]) / 1000)
    print(f"{backend:22}{rate:8.1f}{elsewhere[backend]:12.1f}")
machine = f"{os.cpu_count()} {platform.machine()} cores"
print(f"{minutes:.1f} minutes on {machine}, {', '.join(backends)}")

# %% [markdown]
# *Here* is the table above. *Elsewhere* are the two-core timings of
# [benchmarks/README.md](../benchmarks/README.md), taken in turn with other libraries: Ti/16 at 224 pixels, all twelve
# blocks. Rates of different models do not compare; the order of the backends does, and it need not be the same.
#
# ## Exercises
#
# 1. Give the model `stochastic_depth=0.2`. Which of the comparisons above still hold, and which cannot?
# 2. Set `KERAS_BACKEND` to another of your frameworks in the first cell. What moves in the tables?
# 3. In `timing`, double the batch until the step of the slowest framework takes twice as long. Is it the same batch for
#    all? What do you conclude about fixed costs?
#
# ## References
#
# - F. Chollet et al., [*Keras 3*](https://keras.io/keras_3/): one interface, three backends.
# - J. Bradbury et al., [*JAX: composable transformations of Python+NumPy programs*](https://github.com/jax-ml/jax), 2018.
# - M. Abadi et al., [*TensorFlow*](https://arxiv.org/abs/1605.08695), OSDI 2016.
# - A. Paszke et al., [*PyTorch*](https://arxiv.org/abs/1912.01703), NeurIPS 2019.
# - D. Goldberg, [*What every computer scientist should know about floating-point
#   arithmetic*](https://doi.org/10.1145/103162.103163), ACM Computing Surveys, 1991.
