"""A user's script with three mistakes, for `check.py`. It is never run.

`# error: RULE` is the complaint that a type checker must have about a line,
and `# reveals: TYPE` the type that it must know there. Lines without either
must pass.
"""

from typing import reveal_type

import numpy as np

import keras_vit

images = np.zeros((8, 224, 224, 3), "uint8")
labels = np.zeros(8, "int32")

model = keras_vit.ViT("B/16", image_size=224, num_classes=10)
reveal_type(model)  # reveals: Model
keras_vit.ViT("B/16", image_size=(224, 160), num_classes=None)
keras_vit.ViT(keras_vit.Variant(2, 64, 128, 4, patch_size=16), image_size=None)

# A misspelt keyword.
keras_vit.ViT("B/16", image_sise=224)  # error: reportCallIssue

# A size as text.
keras_vit.ViT("B/16", image_size="224")  # error: reportArgumentType

loaded = keras_vit.load_checkpoint(model, "weights.npz")
reveal_type(loaded)  # reveals: None

smaller = keras_vit.transfer(model, 5, image_size=(160, 224))
reveal_type(smaller)  # reveals: Model

result = keras_vit.few_shot(model, (images, labels), (images, labels), shots=1)
reveal_type(result)  # reveals: FewShotResult

answers = keras_vit.predict(model, images)
reveal_type(answers)  # reveals: ndarray

# Answers where a model belongs.
keras_vit.transfer(answers, 5)  # error: reportArgumentType
