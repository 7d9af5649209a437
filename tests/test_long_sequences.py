"""As many tokens as a large photograph has, in bounded memory."""

import subprocess
import sys

import keras
import pytest
from helpers import environment

# 2048 x 2048 pixels in patches of 16: 16,384 tokens. Their scores, for four
# heads, are 4.3 GB in float32, and softmax makes as many more.
CODE = """
import resource
import keras_vit
import numpy as np

variant = keras_vit.Variant(1, 16, 16, 4, patch_size=16)
model = keras_vit.ViT(variant, image_size=2048, num_classes=2)
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
images = np.zeros((1, 2048, 2048, 3), "float32")
logits = keras_vit.predict(model, images, verbose=0)
assert np.isfinite(logits).all()
after = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
print("megabytes", (after - before) // 1024)
"""


@pytest.mark.slow
def test_sixteen_thousand_tokens(tmp_path):
    """Faults case 37: it completes, far below the size of the scores."""
    pytest.importorskip("resource")  # Windows has none
    result = subprocess.run(
        [sys.executable, "-c", CODE],
        env=environment(keras.backend.backend()),
        capture_output=True,
        text=True,
        timeout=280,
    )
    assert result.returncode == 0, result.stderr[-2000:]
    assert int(result.stdout.split()[-1]) < 2000
