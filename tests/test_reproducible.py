"""One seed, one backend, one device: one training, bit by bit."""

import hashlib
import os
import subprocess
import sys

import keras
import numpy as np
from helpers import environment, to_numpy

import keras_vit

CLASSES, SEED = 3, 7
HERE = os.path.dirname(__file__)


def trained():
    """The hash of all that a short training leaves behind."""
    keras.utils.set_random_seed(SEED)
    rng = np.random.default_rng(0)
    images = rng.uniform(0, 255, (12, 8, 8, 3)).astype("float32")
    data = keras_vit.ArrayDataset(
        images,
        np.arange(12) % CLASSES,
        batch_size=4,
        # Without RandAugment, which takes long to trace.
        augment=keras_vit.augmentation("none", CLASSES, cutmix=True),
        seed=SEED,
    )
    model = keras_vit.ViT(
        keras_vit.Variant(1, 16, 32, 2, patch_size=4),
        image_size=8,
        num_classes=CLASSES,
        dropout=0.1,
    )
    model.compile(
        **keras_vit.recipes.adamw(6, warmup_steps=1, polyak=0.9, one_hot=True),
        # Compiled by XLA as well, TensorFlow takes thrice as long.
        jit_compile=keras.backend.backend() == "jax",
    )
    history = model.fit(data, epochs=2, shuffle=False, verbose=0).history
    outputs = keras_vit.predict(model, images, verbose=0)
    state = hashlib.sha256(repr(history).encode())
    for values in (*model.variables, *model.optimizer.variables, outputs):
        state.update(to_numpy(values).tobytes())
    return state.hexdigest()


def test_one_seed_gives_one_training():
    first = trained()
    # In this process, where random numbers have been drawn meanwhile.
    np.random.random(3)
    keras.random.uniform((3,))
    assert trained() == first
    # In a process of its own. `helpers` gives both the same settings of XLA.
    variables = environment(keras.backend.backend())
    paths = [HERE, os.path.dirname(HERE), os.environ.get("PYTHONPATH", "")]
    variables["PYTHONPATH"] = os.pathsep.join(paths)
    code = "from test_reproducible import trained; print(trained())"
    run = subprocess.run(
        [sys.executable, "-c", code],
        env=variables,
        capture_output=True,
        text=True,
        timeout=240,
    )
    assert run.returncode == 0, run.stderr
    assert run.stdout.split()[-1] == first
