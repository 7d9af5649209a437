"""One switch that turns all fast paths off, to find out whether one errs.

With the environment variable `KERAS_VIT_PLAIN_OPS=1`, set before `keras_vit`
is imported, everything is computed by Keras' own operations and by the closed
forms of this room. Nothing calls a kernel of PyTorch (`on_torch`,
`torch_updates`), nothing is compiled for TensorFlow (`on_tensorflow`), no fused
attention runs, and dense layers are called themselves (`linear`). Results agree
to rounding. Say in a report of a fault whether it stays with this variable.
"""

import os

# Read once, when this file is imported.
PLAIN_OPS = os.environ.get("KERAS_VIT_PLAIN_OPS", "") not in ("", "0")
