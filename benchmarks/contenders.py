"""One library that trains a Vision Transformer, under the eye of `speed.py`.

Started by `speed.py` as a process of its own for each library, so that they
take turns on one machine without sharing memory or threads. It builds and
compiles the model, says how long that took, and then runs as many steps of
training or inference as it is told, one command a line.

All train alike: AdamW with decay 0.1 and learning rate 1e-3, gradients clipped
to a global norm of 1, cross-entropy over 1000 classes.
"""

import json
import os
import resource
import sys
import time

import numpy as np

CLASSES = 1000
RATE, DECAY, CLIP = 1e-3, 0.1, 1.0
# name    layers  dim  mlp_dim  heads
SIZES = {
    "Ti": (12, 192, 768, 3),
    "S": (12, 384, 1536, 6),
    "B": (12, 768, 3072, 12),
    "L": (24, 1024, 4096, 16),
}


def keras_vit(job, images, labels):

    import keras_vit

    model = keras_vit.ViT(
        job["variant"],
        image_size=job["size"],
        dtype=keras_policy(job),
        dropout=0.0,
        **job["arguments"],
    )
    model.compile(
        **keras_vit.recipes.adamw(
            10_000, learning_rate=RATE, weight_decay=DECAY, clip_norm=CLIP
        )
    )
    return with_keras(model, images, labels, job)


def before(job, images, labels):
    """An earlier state of this library, found first on the path."""
    return keras_vit(job, images, labels)


def keras_hub(job, images, labels):
    import keras
    import keras_hub

    layers, dim, mlp_dim, heads, patch = anatomy(job)
    model = keras_hub.models.ViTImageClassifier(
        keras_hub.models.ViTBackbone(
            image_shape=(job["size"], job["size"], 3),
            patch_size=patch,
            num_layers=layers,
            num_heads=heads,
            hidden_dim=dim,
            mlp_dim=mlp_dim,
            dtype=keras_policy(job),
        ),
        num_classes=CLASSES,
        preprocessor=None,
        dtype=keras_policy(job),
    )
    model.compile(
        optimizer=keras.optimizers.AdamW(
            RATE, weight_decay=DECAY, global_clipnorm=CLIP
        ),
        loss=keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        metrics=["accuracy"],
    )
    return with_keras(model, images, labels, job)


def keras_policy(job):
    return "mixed_bfloat16" if job["dtype"] == "bfloat16" else "float32"


def with_keras(model, images, labels, job):
    import keras

    class Clock(keras.callbacks.Callback):
        """From the first batch to the last result.

        What Keras does around it, starting and ending a data set, takes up to
        a second on TensorFlow, whoever's the model is.
        """

        def on_epoch_begin(self, epoch, logs=None):
            self.start = time.perf_counter()

        def on_predict_begin(self, logs=None):
            self.start = time.perf_counter()

        def on_epoch_end(self, epoch, logs=None):  # has read the metrics
            self.seconds = time.perf_counter() - self.start

        def on_predict_end(self, logs=None):
            self.seconds = time.perf_counter() - self.start

    batch = job["batch"]
    clock = Clock()

    def repeated(steps):
        return np.concatenate([images] * steps), np.concatenate(
            [labels] * steps
        )

    def train(steps):
        x, y = repeated(steps)
        model.fit(
            x,
            y,
            batch_size=batch,
            shuffle=False,
            verbose=0,
            callbacks=[clock],
        )
        return clock.seconds

    def infer(steps):
        x, _ = repeated(steps)
        model.predict(x, batch_size=batch, verbose=0, callbacks=[clock])
        return clock.seconds

    return train, infer


def flax(job, images, labels):
    """The official model, in a checkout named by VISION_TRANSFORMER."""
    sys.path.insert(0, os.environ["VISION_TRANSFORMER"])
    import jax
    import jax.numpy as jnp
    import ml_collections
    import optax
    from vit_jax import models_vit

    layers, dim, mlp_dim, heads, patch = anatomy(job)
    model = models_vit.VisionTransformer(
        num_classes=CLASSES,
        patches=ml_collections.ConfigDict({"size": (patch, patch)}),
        transformer={
            "num_layers": layers,
            "mlp_dim": mlp_dim,
            "num_heads": heads,
            "dropout_rate": 0.0,
            "attention_dropout_rate": 0.0,
        },
        hidden_size=dim,
    )
    low = jnp.bfloat16 if job["dtype"] == "bfloat16" else jnp.float32
    scale = lambda x: ((x - 127.5) / 127.5).astype(low)  # noqa: E731
    key = jax.random.PRNGKey(0)
    state = jax.jit(lambda: model.init(key, scale(images[:1]), train=False))()
    optimizer = optax.chain(
        optax.clip_by_global_norm(CLIP), optax.adamw(RATE, weight_decay=DECAY)
    )
    moments = jax.jit(optimizer.init)(state)

    def lowered(state):
        return jax.tree.map(lambda w: w.astype(low), state)

    def loss(state, x, y):
        logits = model.apply(
            lowered(state), scale(x), train=True, rngs={"dropout": key}
        )
        return optax.softmax_cross_entropy_with_integer_labels(
            logits.astype(jnp.float32), y
        ).mean()

    @jax.jit
    def forward(state, x):
        return model.apply(lowered(state), scale(x), train=False)

    def step(state, moments, x, y):
        value, gradient = jax.value_and_grad(loss)(state, x, y)
        update, moments = optimizer.update(gradient, moments, state)
        return optax.apply_updates(state, update), moments, value

    step = jax.jit(step, donate_argnums=(0, 1))

    def train(steps):
        nonlocal state, moments
        start = time.perf_counter()
        for _ in range(steps):
            state, moments, value = step(state, moments, images, labels)
        jax.block_until_ready(value)
        return time.perf_counter() - start

    def infer(steps):
        start = time.perf_counter()
        for _ in range(steps):
            np.asarray(forward(state, images))
        return time.perf_counter() - start

    return train, infer


def huggingface(job, images, labels):
    kept = bear_with_torchvision()
    from transformers import ViTConfig, ViTForImageClassification

    layers, dim, mlp_dim, heads, patch = anatomy(job)
    model = ViTForImageClassification(
        ViTConfig(
            num_hidden_layers=layers,
            hidden_size=dim,
            intermediate_size=mlp_dim,
            num_attention_heads=heads,
            image_size=job["size"],
            patch_size=patch,
            num_labels=CLASSES,
            hidden_dropout_prob=0.0,
            attention_probs_dropout_prob=0.0,
        )
    )
    return with_torch(
        model, lambda x: model(x).logits, images, labels, job, kept
    )


def timm(job, images, labels, compiled=False):
    kept = bear_with_torchvision()
    import timm
    import torch

    layers, dim, mlp_dim, heads, patch = anatomy(job)
    model = timm.models.VisionTransformer(
        img_size=job["size"],
        patch_size=patch,
        embed_dim=dim,
        depth=layers,
        num_heads=heads,
        mlp_ratio=mlp_dim / dim,
        num_classes=CLASSES,
    )
    forward = torch.compile(model) if compiled else model
    return with_torch(model, forward, images, labels, job, kept)


def timm_compiled(job, images, labels):
    return timm(job, images, labels, compiled=True)


def with_torch(model, forward, images, labels, job, kept):
    """Two closures that train and infer; they keep `kept` alive."""
    import torch

    device = "cuda" if torch.cuda.is_available() else "cpu"
    model.to(device)
    optimizer = torch.optim.AdamW(
        model.parameters(), lr=RATE, weight_decay=DECAY
    )
    low = job["dtype"] == "bfloat16"

    def batch():
        x = torch.as_tensor(images).to(device)
        x = (x.permute(0, 3, 1, 2).float() - 127.5) / 127.5
        return x, torch.as_tensor(labels).to(device)

    def autocast():
        return torch.autocast(device, torch.bfloat16, enabled=low)

    def wait():
        if device == "cuda":
            torch.cuda.synchronize()

    def train(steps):
        model.train()
        start = time.perf_counter()
        for _ in range(steps):
            x, y = batch()
            with autocast():
                loss = torch.nn.functional.cross_entropy(forward(x).float(), y)
            optimizer.zero_grad()
            loss.backward()
            torch.nn.utils.clip_grad_norm_(model.parameters(), CLIP)
            optimizer.step()
        wait()
        return time.perf_counter() - start

    def infer(steps):
        model.eval()
        start = time.perf_counter()
        with torch.no_grad(), autocast():
            for _ in range(steps):
                forward(batch()[0]).float().cpu().numpy()
        return time.perf_counter() - start

    return train, infer


def bear_with_torchvision():
    """Lets timm and transformers import torchvision beside a CPU build.

    Its wheels belong to CUDA builds and lack two operators there, which only
    have to be known by name.
    """
    import torch

    library = torch.library.Library("torchvision", "FRAGMENT")
    for name in ("nms", "qnms"):
        try:
            library.define(
                f"{name}(Tensor dets, Tensor scores, float threshold) -> Tensor"
            )
        except RuntimeError:
            pass  # a build that has it
    return library


def anatomy(job):
    size, patch = job["variant"].split("/")
    return *SIZES[size], int(patch)


def peak_memory():
    """Bytes on the device where there is one, else of the whole process."""
    if "jax" in sys.modules:
        stats = sys.modules["jax"].devices()[0].memory_stats()
        if stats:
            return stats["peak_bytes_in_use"]
    if "torch" in sys.modules and sys.modules["torch"].cuda.is_available():
        return sys.modules["torch"].cuda.max_memory_allocated()
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def main():
    job = json.loads(sys.argv[1])
    for path in job["paths"]:
        # An earlier state goes before the installed one; what a peer brings
        # along must not take the place of what is installed.
        place = 0 if job["contender"] == "before" else len(sys.path)
        sys.path.insert(place, path)
    rng = np.random.default_rng(0)
    shape = (job["batch"], job["size"], job["size"], 3)
    images = rng.integers(0, 256, shape).astype("float32")
    labels = rng.integers(0, CLASSES, job["batch"])
    out, sys.stdout = sys.stdout, sys.stderr  # libraries may print

    def say(**message):
        print(json.dumps(message), file=out, flush=True)

    start = time.perf_counter()
    contender = globals()[job["contender"]]
    train, infer = contender(job, images, labels)
    built = time.perf_counter() - start
    start = time.perf_counter()
    train(1)
    trained = time.perf_counter() - start
    memory = peak_memory()
    start = time.perf_counter()
    infer(1)
    say(
        build=built,
        first_step=trained,
        first_inference=time.perf_counter() - start,
        peak_memory=memory,
    )
    for line in sys.stdin:
        what, steps = line.split()
        say(seconds={"train": train, "infer": infer}[what](int(steps)))


if __name__ == "__main__":
    main()
