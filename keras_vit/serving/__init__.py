"""A trained model at work: classify, compare, predict, evaluate, export.

`running` checks the input first and keeps a model usable when something raises;
everything of this library that runs a model over data goes through it.
`classifying` goes from an image file to the names of its likeliest classes,
`zero_shot` to its likeness to texts.
`export` writes what other runtimes read, with the `metadata` that the format
has a place for, and compares before it is done.
"""

from keras_vit.serving.classifying import Classification, classify
from keras_vit.serving.export import export
from keras_vit.serving.running import evaluate, predict
from keras_vit.serving.zero_shot import zero_shot

__all__ = [
    "Classification",
    "classify",
    "evaluate",
    "export",
    "predict",
    "zero_shot",
]
