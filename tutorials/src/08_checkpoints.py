# %% [markdown]
# # 8. Checkpoints: how do published weights come in, and how do yours go out?
#
# Four public networks open by their addresses. Then a small model of ours goes out in the four formats that others
# read, and comes back to the same bits; timm and transformers open the folders and compute. We break files to see what
# errors say, change the resolution, and end with a photograph. Only the first and the last part ask for a network, and
# say what they do without one.

# %% [markdown]
# ## The framework
#
# Files of weights belong to no framework. Any of the three will do.

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
import contextlib
import hashlib
import io
import pathlib
import platform
import re
import subprocess
import sys
import textwrap
import time
import warnings

import keras
import matplotlib.pyplot as plt
import numpy as np
import safetensors

import keras_vit
from keras_vit import data

print(f"Keras {keras.version()} on {keras.backend.backend()}")

# %% [markdown]
# The knobs. `online` opens the four networks by their addresses, 0.9 GB; `False` takes small copies. `download` is the
# preset that the last part asks for, 23 MB; `None` leaves that part out.

# %%
epochs = 15
fine_tuning_epochs = 3
sizes = (8, 12, 16)  # pixels, for the part about resolution
online = True
download = "augreg_i1k:Ti/16"
expected_accuracy = 0.9  # checked after training
seed = 0
output = pathlib.Path("outputs") / "checkpoints"

output.mkdir(parents=True, exist_ok=True)
keras.utils.set_random_seed(seed)
started = time.perf_counter()

# %% [markdown]
# ## What is published
#
# `keras_vit.presets()` lists the public checkpoints that have a name here; `print` shows them as a table with licence
# and address. A name is a family, which training it was, and a variant.

# %%
table = keras_vit.presets()
for family in dict.fromkeys(preset.family for preset in table):
    rows = keras_vit.presets(family)
    variants = " ".join(preset.variant for preset in rows)
    text = textwrap.wrap(variants, 50, subsequent_indent=" " * 30)
    print(f"{family:30}" + "\n".join(text))

print("\naccuracy on ImageNet as its authors state it:")
for preset in keras_vit.presets("augreg_i1k"):
    print(f"{preset.name:24}{preset.accuracy:.2f} %")

# %% [markdown]
# A name goes where a model is built, `keras_vit.ViT("B/16", image_size=384, weights="augreg_i1k")`. A path or an
# address does as well: `https://`, `gs://`, `hf://owner/name@revision`. Nothing is downloaded until then.

# %% [markdown]
# ## Four networks, by their addresses
#
# `from_checkpoint` takes an address alone: it reads names, shapes and the configuration beside them, and prints the
# call of `ViT` that makes the same by hand. The four differ: a class token with a head; LayerScale; a norm in front of
# the blocks with quick GELU; a pooling that attends.
#
# Without a network a copy stands for each: of the same kind, two blocks of random numbers, made by its own library.

# %%
addresses = {
    "hf://timm/vit_tiny_patch16_224.augreg_in21k_ft_in1k": "timm",
    "hf://facebook/dinov2-small": "transformers",
    "hf://timm/vit_base_patch32_clip_quickgelu_224.openai": "timm",
    "hf://google/siglip-base-patch16-224": "transformers",
}
copies = {}  # what a second process without Keras does, by library
copies["timm"] = """
import timm
from timm.models._hub import save_for_hf

name = name.partition(".")[0]
small = dict(embed_dim=64, depth=2, num_heads=4, img_size=64, patch_size=16)
model = timm.create_model(name, **small)
save_for_hf(model, folder, model_args=small, safe_serialization=True)
mean, std = (model.pretrained_cfg[key] for key in ("mean", "std"))
"""

# %%
copies["transformers"] = """
import json, transformers

kind = "Dinov2" if "dino" in name else "SiglipVision"
config = getattr(transformers, f"{kind}Config")(
    hidden_size=64, num_hidden_layers=2, num_attention_heads=4,
    intermediate_size=256, image_size=64, patch_size=16,
)
model = getattr(transformers, f"{kind}Model")(config)
model.save_pretrained(folder)
mean = [0.485, 0.456, 0.406] if "dino" in name else [0.5] * 3
std = [0.229, 0.224, 0.225] if "dino" in name else [0.5] * 3
stated = {"image_mean": mean, "image_std": std, "resample": 3}
with open(f"{folder}/preprocessor_config.json", "w") as file:
    json.dump(stated, file)
"""

# %%
begin = """
import sys, numpy as np, torch
name, folder = sys.argv[1:]
torch.manual_seed(0)
"""
end = """
images = np.random.default_rng(0).integers(0, 256, (2, 64, 64, 3), "uint8")
x = (images / 255 - np.array(mean)) / np.array(std)
with torch.no_grad():
    y = model.eval()(torch.tensor(x.transpose(0, 3, 1, 2)).float())
y = y if torch.is_tensor(y) else y.pooler_output
np.savez(f"{folder}/expected.npz", images=images, outputs=y.numpy())
"""


def small_copy(address, package):
    """A folder with a small network of the kind, or None without the library."""
    name = address.rpartition("/")[2]
    folder = output / "copies" / name
    folder.mkdir(parents=True, exist_ok=True)
    code = begin + copies[package] + end
    command = [sys.executable, "-c", code, name, folder]
    done = subprocess.run(command, capture_output=True).returncode == 0
    return folder if done else None


# %%
models, reachable = {}, online
for address, package in addresses.items():
    try:
        if reachable:
            with contextlib.redirect_stderr(io.StringIO()):
                models[address] = keras_vit.from_checkpoint(address)
    except (OSError, ImportError) as error:
        print(f"not to be had from here: {type(error).__name__}")
        reachable = False
    if not reachable:
        folder = small_copy(address, package)
        print(
            f"\n{address}, {'a small copy by' if folder else 'no'} {package}:"
        )
        if folder:
            models[address] = keras_vit.from_checkpoint(folder)

# %%
for address, opened in models.items():
    file = output / "copies" / address.rpartition("/")[2] / "expected.npz"
    if not file.exists():
        continue
    expected = np.load(file)
    given = keras_vit.predict(opened, expected["images"], verbose=0)
    difference = abs(given - expected["outputs"]).max()
    difference /= abs(expected["outputs"]).max()
    print(f"{address:55}differs from its library by {difference:.1e}")

    assert difference < 1e-5

# %% [markdown]
# From the same `uint8` images the numbers are those of the libraries: mean and standard deviation were read too.
# Nothing in the four calls is an argument of ours. `benchmarks/checkpoints.md` compares every name of timm's Vision
# Transformers in this way.

# %% [markdown]
# ## A checkpoint of our own
#
# To look into files without a network we make one. The digits of the first tutorial, 15 epochs; the settings that
# matter later are the defaults of the paper, a class token and learned positions.

# %%
(x_train, y_train), (x_test, y_test) = data.load("digits")
variant = keras_vit.Variant(
    num_layers=3, hidden_dim=64, mlp_dim=128, num_heads=4, patch_size=2
)


def build(image_size=8, num_classes=10, variant=variant):
    return keras_vit.ViT(
        variant,
        image_size=image_size,
        num_channels=1,
        num_classes=num_classes,
        name="digits",
    )


def logits_of(model, images=x_test):
    return keras_vit.predict(model, images, verbose=0)


# %%
keras.utils.set_random_seed(seed)  # whatever was opened above
model = build()
train = keras_vit.ArrayDataset(x_train, y_train, batch_size=32, seed=seed)
steps = keras_vit.recipes.total_steps(len(x_train), 32, epochs)
model.compile(**keras_vit.recipes.adamw(steps, learning_rate=2e-3))
model.fit(train, epochs=epochs, shuffle=False, verbose=0)
logits = logits_of(model)
accuracy = np.mean(logits.argmax(1) == y_test)
print(f"{accuracy:.4f} of {len(y_test)} test images right")

assert accuracy >= expected_accuracy

# %% [markdown]
# ## Out, in four formats
#
# `"official"` is the `.npz` file of google-research/vision_transformer, `"big_vision"` that of its successor. `"timm"`
# and `"huggingface"` are folders with `model.safetensors` and the `config.json` from which the other library builds
# the model.

# %%
places = {
    "official": output / "official.npz",
    "big_vision": output / "big_vision.npz",
    "timm": output / "timm",
    "huggingface": output / "huggingface",
}
files = {}
for format, place in places.items():
    files[format] = keras_vit.export_checkpoint(model, place, format=format)


def shapes_in(path):
    """Names and shapes of the arrays of a file, by the standard readers."""
    if path.suffix == ".npz":
        with np.load(path) as arrays:
            return {name: arrays[name].shape for name in arrays}
    with safetensors.safe_open(path, framework="np") as arrays:
        return {
            name: tuple(arrays.get_slice(name).get_shape())
            for name in arrays.keys()
        }


# %%
for format, path in files.items():
    shapes = shapes_in(path)
    numbers = sum(np.prod(shape, dtype=int) for shape in shapes.values())
    print(f"{format}: {len(shapes)} arrays, {numbers:,} numbers")
    for name, shape in shapes.items():
        block = "block_0/" in name or ".0." in name
        if block and re.search("(query|qkv).(kernel|weight)", name):
            print(f"    {name} {shape}")

    assert numbers == model.count_params()

# %% [markdown]
# Four dialects for one set of numbers: each file holds as many as the model has, 102,666. Printed are the first block's
# queries. The official code keeps a kernel as (width, heads, width of a head) and numbers its modules; big_vision
# counts them differently; Hugging Face stores every matrix turned over, as PyTorch does; timm joins queries, keys and
# values into one matrix three times as tall, and so has 44 arrays where the others have 56. Here is that one matrix, as
# it lies in three of the files:

# %%
with np.load(files["official"]) as arrays:
    name = "Transformer/encoderblock_0/MultiHeadDotProductAttention_1/query"
    queries = {"official": arrays[f"{name}/kernel"].reshape(64, 64)}
names = {
    "huggingface": "vit.encoder.layer.0.attention.attention.query.weight",
    "timm": "blocks.0.attn.qkv.weight",
}
for format, name in names.items():
    with safetensors.safe_open(files[format], framework="np") as arrays:
        queries[format] = arrays.get_tensor(name)

assert np.array_equal(queries["huggingface"], queries["official"].T)
assert np.array_equal(queries["timm"][:64], queries["huggingface"])

# %%
figure, axes = plt.subplots(1, 3, figsize=(9, 3.3), layout="constrained")
for axis, (format, matrix) in zip(axes, queries.items()):
    picture = axis.imshow(matrix[:8, :8], cmap="PuOr", vmin=-0.3, vmax=0.3)
    rows, columns = matrix.shape
    axis.set(title=f"{format}, {rows} x {columns}", xlabel="column")
    one_row = (8, 1) if format == "official" else (1, 8)
    frame = plt.Rectangle((-0.5, -0.5), *one_row, fill=False, linewidth=3)
    axis.add_patch(frame)
axes[0].set_ylabel("row")
figure.colorbar(picture, ax=axes, label="weight (no unit)")
figure.savefig(output / "dialects.png")

# %% [markdown]
# *The first eight rows and columns of each. Framed: what reads the first of the 64 inputs.* What is a row in the
# official file is a column in the other two, cell for cell. timm's matrix begins as Hugging Face's does; keys and
# values follow below. Whoever copies such a file by shape alone gets a square matrix wrongly turned, and no error: 64 x
# 64 fits both ways.

# %% [markdown]
# ## And in again
#
# The format is not stated when a file is read: it is recognised from the names inside. We load each file into a model
# with other random weights and compare all of them, bit by bit.


# %%
def same_weights(one, another):
    pairs = zip(one.get_weights(), another.get_weights())
    return all(np.array_equal(*pair) for pair in pairs)


for format, path in files.items():
    keras.utils.set_random_seed(seed + 1)
    other = build()

    assert not same_weights(model, other)  # not yet

    keras_vit.load_checkpoint(other, path)
    print(f"{format:12}same bits: {same_weights(model, other)}")

    assert same_weights(model, other)

difference = abs(logits_of(other) - logits).max()
print(f"and the same logits: the difference is {difference}")

# %% [markdown]
# ## Opened by others
#
# What counts is that the *other* library reads the folder and computes the same. A second process without Keras does
# so; a library that cannot be imported is named and left out.

# %%
imports = {
    "timm": "import timm",
    "transformers": "from transformers import ViTForImageClassification",
}
opening = {
    "timm": 'timm.create_model(f"local-dir:{folder}/timm", pretrained=True)',
    "transformers": """
    ViTForImageClassification.from_pretrained(f"{folder}/huggingface")
""",
}
before = "import sys, numpy as np, torch\n"
after = """
folder, package = sys.argv[1:]
print("imported", sys.modules[package].__version__, flush=True)
check = np.load(f"{folder}/check.npz")
images = check["images"].transpose(0, 3, 1, 2) / 127.5 - 1
model = (OPENING).eval()
with torch.no_grad():
    answers = model(torch.tensor(images).float())
answers = getattr(answers, "logits", answers).numpy()
count = sum(parameter.numel() for parameter in model.parameters())
difference = abs(answers - check["logits"]).max()
print(type(model).__name__, count, difference, "keras" in sys.modules)
"""

# %%
np.savez(output / "check.npz", images=x_test, logits=logits)
for package, line in imports.items():
    code = before + line + after.replace("OPENING", opening[package])
    command = [sys.executable, "-c", code, output, package]
    result = subprocess.run(command, capture_output=True, text=True)
    if "imported" not in result.stdout:
        reason = result.stderr.splitlines()[-1]
        print(f"{package} cannot be imported, left out ({reason})")
        continue
    if result.returncode:
        raise RuntimeError(result.stderr)
    version, kind, count, difference, with_keras = result.stdout.split()[-5:]
    print(
        f"{package} {version}: {kind}, {int(count):,} weights; "
        f"logits differ by {float(difference):.1e}"
    )

    assert int(count) == model.count_params() and with_keras == "False"
    assert float(difference) < 1e-4

# %% [markdown]
# Each builds its own class with the 102,666 weights of ours, and its logits differ from ours by less than a
# hundred-thousandth, about what frameworks differ by (tutorial 7). That needs more than equal numbers: the same GELU,
# the same epsilon in the layer norms, the same order of pixels within a patch. The configuration says so.
#
# What a format has no words for is refused. The network in the box, `R20+Mi/4`, is a hybrid with a ResNet under its
# blocks: the official format has names for that, timm's hybrids have another epsilon in their norms, transformers has
# none.

# %%
box = keras_vit.ViT("R20+Mi/4", weights="cifar100")
for format in places:
    place = output / f"box_{places[format].name}"
    try:
        written = keras_vit.export_checkpoint(box, place, format=format)
    except ValueError as error:
        print(f"{format:12}refused: {str(error)[:74]} ...")
        continue
    other = keras_vit.ViT("R20+Mi/4", image_size=32, num_classes=100)
    keras_vit.load_checkpoint(other, written)
    print(f"{format:12}same bits: {same_weights(box, other)}")

    assert same_weights(box, other)

# %% [markdown]
# ## What errors say
#
# All of a file fits, or nothing is written. Here are six ways to get it wrong, and a check that the model is as it was
# after each.

# %%
short = output / "short.npz"
short.write_bytes(files["official"].read_bytes()[:50_000])
swapped = {**np.load(files["official"])}
swapped["head/kernel"] = np.full_like(swapped["head/kernel"], np.nan)
np.savez(output / "not_finite.npz", **swapped)
deeper = keras_vit.Variant(4, 64, 128, 4, patch_size=2)
narrower = keras_vit.Variant(3, 32, 128, 4, patch_size=2)
mistakes = {
    "a block too many": (build(variant=deeper), files["timm"], {}),
    "narrower": (build(variant=narrower), files["official"], {}),
    "larger images": (build(12), files["huggingface"], {}),
    "cut off": (build(), short, {}),
    "not a number": (build(), output / "not_finite.npz", {}),
    "wrong hash": (build(), files["official"], {"sha256": "0" * 64}),
}

# %%
for mistake, (target, path, options) in mistakes.items():
    weights = target.get_weights()
    try:
        keras_vit.load_checkpoint(target, path, **options)
    except ValueError as error:  # CheckpointError is one
        message = f"{type(error).__name__}: {error}"
    else:
        raise AssertionError(f"{mistake}: no error")
    lines = textwrap.wrap(
        message, 96, initial_indent="  ", subsequent_indent="  "
    )
    print(mistake, *lines[:5], *["  ..."] * (len(lines) > 5), sep="\n")

    assert all(map(np.array_equal, weights, target.get_weights()))

# %% [markdown]
# Each message names the file and what does not fit; one offers the way out, `resize_positions`. The last two files
# NumPy reads without a word, and the model would be wrong in silence.
#
# One mismatch is no error, since it is the usual case: your classes are not those of the file. The head then starts
# from zeros, with a warning:

# %%
with warnings.catch_warnings(record=True) as caught:
    warnings.simplefilter("always")
    pets = build(num_classes=37)
    keras_vit.load_checkpoint(pets, files["official"])
print(textwrap.fill(str(caught[0].message), 96))

assert not pets.layers[-1].get_weights()[0].any()  # it must be trained

# %% [markdown]
# ## Another resolution
#
# The position table has one row for each patch of an 8 x 8 image. For larger images `change_resolution` resamples the
# table as a picture, which is what the paper does before it fine-tunes, and leaves all else alone. We enlarge the
# digits to match, measure, and then fine-tune for three epochs.


# %%
def enlarged(images, size):
    resized = keras.ops.image.resize(images.astype("float32"), (size, size))
    return keras.ops.convert_to_numpy(resized)


published = build()
keras_vit.load_checkpoint(published, files["big_vision"])
as_it_is, tuned = [], []
for size in sizes:
    larger = keras_vit.change_resolution(published, size)
    images = enlarged(x_train, size), enlarged(x_test, size)
    as_it_is.append(np.mean(logits_of(larger, images[1]).argmax(1) == y_test))
    steps = keras_vit.recipes.total_steps(len(x_train), 32, fine_tuning_epochs)
    larger.compile(**keras_vit.recipes.adamw(steps, learning_rate=1e-3))
    again = keras_vit.ArrayDataset(images[0], y_train, 32, seed=seed)
    larger.fit(again, epochs=fine_tuning_epochs, shuffle=False, verbose=0)
    tuned.append(np.mean(logits_of(larger, images[1]).argmax(1) == y_test))
    print(f"{size:2} pixels: {as_it_is[-1]:.3f}, fine-tuned {tuned[-1]:.3f}")

chance = np.sqrt(tuned[0] * (1 - tuned[0]) / len(y_test))
print(f"chance moves an accuracy on {len(y_test)} images by about {chance:.3f}")

# %%
figure, (left, *maps) = plt.subplots(
    1, 3, figsize=(9, 3), width_ratios=(2, 1, 1), layout="constrained"
)
left.plot(sizes, as_it_is, "o-", color="#D55E00", label="resampled")
left.plot(sizes, tuned, "s--", color="#0072B2", label="then fine-tuned")
left.axhline(0.1, color="gray", linewidth=0.8, linestyle=":", label="guessing")
left.set(xlabel="edge of the images, pixels", ylabel="test accuracy")
left.set(xticks=sizes, ylim=(0, 1))
left.legend(loc="upper right", bbox_to_anchor=(1, 0.87))
largest = keras_vit.change_resolution(published, sizes[-1])
limit = None  # of the colours, from the table that was learnt
for axis, which in zip(maps, (published, largest)):
    encoder = which.get_layer("patch_encoder").position_embedding
    rows, columns = encoder.grid_size
    positions = keras.ops.convert_to_numpy(encoder.table)
    channel = positions[-rows * columns :, 0].reshape(rows, columns)
    limit = limit or abs(channel).max()
    picture = axis.imshow(channel, cmap="PuOr", vmin=-limit, vmax=limit)
    axis.set(title=f"{rows} x {columns} patches", xlabel="column")
maps[0].set_ylabel("row")
figure.colorbar(picture, ax=maps, label="position, channel 0 (no unit)")
figure.savefig(output / "resolution.png")

# %% [markdown]
# *Left: accuracy on 599 test images without and with fine-tuning. Right: one channel of the position table, as it was
# learnt and as it was resampled for the largest images; the colours are its values.* The small picture is blown up, not
# learnt anew: corners stay corners.
#
# Without training accuracy falls from 0.948 to 0.419 and to 0.209. Here the patch has stayed 2 x 2 pixels while the
# digit grew, so every patch shows a smaller part of the stroke than any in training. Three epochs bring back 0.942 and
# 0.900. The fair comparison is what the same three epochs leave at 8 pixels, 0.938, which is no better than before
# them. Nothing was gained by enlarging: 12 pixels are as good as 8, and 16 are worse by four times what chance moves
# one accuracy (0.010). Enlarged digits show no more than small ones. Tutorial 4 has photographs, which do. So change the
# resolution in order to fine-tune, as the paper does, and where there is more to see.

# %% [markdown]
# ## Names of classes
#
# Published heads answer with 1,000 or 21,843 numbers. `decode_predictions` names them, as the functions of
# `keras.applications` do. The logits here are made up, to show the form:

# %%
made_up = np.zeros((1, 1000))
made_up[0, [340, 281, 282]] = 9.0, 5.0, 4.0
for identifier, name, score in keras_vit.decode_predictions(made_up, top=3)[0]:
    print(f"{identifier}  {name:12}{score:4.1f}")

# %% [markdown]
# ## A real download
#
# The photograph comes with scikit-learn. `classify` resizes and cuts it as the library of the weights does, and knows
# the names of the classes. The file arrives under a temporary name, is checked, and is kept in `$KERAS_VIT_HOME`; a
# second call needs no network.


# %%
def classify_photo(preset):
    """Names what a published model sees in a photograph."""
    from sklearn.datasets import load_sample_image

    with warnings.catch_warnings():
        # Nobody publishes a hash for this file; the first one is recorded.
        warnings.simplefilter("ignore")
        model = keras_vit.from_checkpoint(preset.name, verbose=0)
    return keras_vit.classify(model, load_sample_image("flower.jpg"), top=3)


# %%
wanted = [preset for preset in table if preset.name == download]
if not wanted:
    print("No download was asked for.")
for preset in wanted:
    progress = io.StringIO()  # kept from the page: it names local folders
    try:
        with contextlib.redirect_stdout(progress):
            named = classify_photo(preset)
    except OSError as error:  # without a network, say so and go on
        print(f"No download from here: {type(error.__cause__).__name__}.")
        print("Without a network, fetch this on another machine,")
        print(preset.address)
        print('and pass the path of the file: ViT(..., weights="file.npz").')
    else:
        print(named)

# %% [markdown]
# A file that was fetched once is held to its hash ever after: to the one its owner publishes or, where there is none,
# as for Google's files, to that of the first download, about which a warning is given.

# %% [markdown]
# ## Sharing a folder
#
# What others need: the weights, the configuration, and a page that says what it is. The hash lets them make sure that
# they have what you sent.

# %%
shared = places["huggingface"]
digest = hashlib.sha256(files["huggingface"].read_bytes()).hexdigest()
(shared / "README.md").write_text(
    f"""---
license: apache-2.0
library_name: transformers
---
A Vision Transformer for digits of 8 x 8 pixels, {model.count_params():,} weights.
Trained on 1,198 digits (UCI, Alpaydin and Kaynak), {epochs} epochs;
accuracy {accuracy:.3f} on 599 others. sha256 of model.safetensors: {digest}
"""
)
for path in sorted(shared.iterdir()):
    print(f"{path.name:28}{path.stat().st_size:>9,} bytes")

friend = build()
keras_vit.load_checkpoint(friend, files["huggingface"], sha256=digest)

assert same_weights(friend, model)

# %% [markdown]
# To publish it, with an account at Hugging Face: `huggingface_hub.upload_folder(repo_id="you/digits",
# folder_path=...)`. Others then pass `"hf://you/digits@REVISION"` to `load_checkpoint`, or open it in transformers.
# State a revision, a commit and not a branch, and the file cannot change under them.
#
# These formats hold weights and sizes alone. To go on training in Keras, save a `.keras` file as well: it has the
# optimizer, the scaling of pixels and every argument of the model.

# %%
minutes = (time.perf_counter() - started) / 60
machine = f"{os.cpu_count()} {platform.machine()} cores"
print(f"{minutes:.1f} minutes in all, on {machine}")

# %% [markdown]
# ## Here and in the paper
#
# | | here | paper |
# |---|---|---|
# | out and in again | four formats, the same bits | one format, the `.npz` files of its authors |
# | opened by an address | four networks, one line each, within 1e-06 of their libraries | not its subject |
# | opened by timm and transformers | the same logits, within 7.2e-06 | not its subject |
# | positions at another size | resampled, corners onto corners | the same (section 3.2) |
# | twice the size, untrained | 0.209 instead of 0.948 | not reported |
# | twice the size, fine-tuned | 0.900, against 0.938 at 8 pixels | always done: 224 pixels, then 384 or more |
# | a published file | named, not downloaded here | `augreg_i1k:Ti/16`: 78.22 % on ImageNet (Steiner et al.) |
#
# What was shown is the way, from weights to a file to equal answers, for small models. That a published file brings
# its published accuracy along was *not* shown: it takes the download, and the images of ImageNet. The run that you see
# had no network, as the output under "A real download" says.
#
# ## Exercises
#
# 1. Build the model with `activation="gelu"`. Which formats refuse it, and why is refusing better than writing?
# 2. Give it `num_registers=2` and export to all four. Compare what is said with what each library can compute.
# 3. Load the `"huggingface"` file into `build(16)` with `resize_positions="bicubic"`. Is the accuracy without
#    fine-tuning better than with `"corner_aligned"`?
#
# ## References
#
# - A. Dosovitskiy et al., [*An Image is Worth 16x16 Words*](https://arxiv.org/abs/2010.11929), ICLR 2021: section 3.2
#   for the position table at a higher resolution; [the official
#   files](https://github.com/google-research/vision_transformer).
# - A. Steiner et al., [*How to train your ViT?*](https://arxiv.org/abs/2106.10270), TMLR 2022: the AugReg files.
# - R. Wightman, [*PyTorch Image Models*](https://github.com/huggingface/pytorch-image-models) (timm).
# - T. Wolf et al., [*Transformers*](https://arxiv.org/abs/1910.03771), EMNLP 2020.
# - [*safetensors*](https://huggingface.co/docs/safetensors): the format, and why it is not pickle.
