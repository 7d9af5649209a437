"""Attention of B/16 at 384 pixels is in memory one block at a time."""

import subprocess
import sys

import keras
import pytest
from helpers import environment

# Twelve heads of 577 tokens: 16 MB of scores an image and block.
BATCH = 4
SCORES = BATCH * 12 * 577**2 * 4 / 2**20

WALK = f"""
import resource, sys
import numpy as np
import keras_vit

def peak():
    unit = 2**20 if sys.platform == "darwin" else 2**10
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / unit

model = keras_vit.ViT("B/16", image_size=384, num_classes=None)
images = np.zeros(({BATCH}, 384, 384, 3), "float32")
walk = keras_vit.introspection.attention_scores(model, images)
for _ in range(2):
    name, scores = next(walk)
    assert scores.shape == ({BATCH}, 12, 577, 577)
after_two = peak()
for name, scores in walk:
    pass
assert name == "block_11"
after_all = peak()
kept = dict(keras_vit.introspection.attention_scores(model, images))
assert len(kept) == 12
print(after_two, after_all, peak())
"""


@pytest.mark.slow
def test_scores_are_forgotten_unless_they_are_kept():
    pytest.importorskip("resource")  # Windows has none
    output = subprocess.run(
        [sys.executable, "-c", WALK],
        env=environment(keras.backend.backend()),
        check=True,
        capture_output=True,
        text=True,
        timeout=280,
    ).stdout
    after_two, after_all, keeping = map(float, output.split()[-3:])
    # Softmax and the copy on the host are up to four arrays of that size, which
    # an allocator may or may not use again; keeping all costs nearly ten more.
    assert after_all - after_two < 4 * SCORES
    assert keeping - after_all > 8 * SCORES
