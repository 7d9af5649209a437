"""What JAX compiles inference to: arithmetic, traffic, matrix products.

    python benchmarks/compiled.py [keras_hub=/folder]

Counts do not drift as times do. For S/16 at 224 pixels and eight images, of
this library and, where it is installed or in the folder given, of KerasHub.
"""

import importlib.util
import os
import sys

os.environ["KERAS_BACKEND"] = "jax"
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import jax
import jax.numpy as jnp
from contenders import CLASSES, SIZES

import keras_vit

BATCH, SIZE, PATCH = 8, 224, 16


def models():
    yield "keras_vit", keras_vit.ViT(f"S/{PATCH}")
    if importlib.util.find_spec("keras_hub") is None:
        print("keras_hub is not installed: left out")
        return
    import keras_hub

    layers, dim, mlp_dim, heads = SIZES["S"]
    backbone = keras_hub.models.ViTBackbone(
        image_shape=(SIZE, SIZE, 3),
        patch_size=PATCH,
        num_layers=layers,
        num_heads=heads,
        hidden_dim=dim,
        mlp_dim=mlp_dim,
    )
    yield (
        "keras_hub",
        keras_hub.models.ViTImageClassifier(
            backbone, num_classes=CLASSES, preprocessor=None
        ),
    )


def compiled(model):
    def forward(trainable, state, images):
        return model.stateless_call(trainable, state, images, training=False)[0]

    weights = [
        [variable.value for variable in variables]
        for variables in (
            model.trainable_variables,
            model.non_trainable_variables,
        )
    ]
    images = jnp.zeros((BATCH, SIZE, SIZE, 3))
    return jax.jit(forward).lower(*weights, images).compile()


def main():
    sys.path += [entry.split("=", 1)[1] for entry in sys.argv[1:]]
    print("| library | matrix products | GFLOP | GB of traffic |")
    print("|---|---:|---:|---:|")
    for name, model in models():
        program = compiled(model)
        products = program.as_text().count(" dot(")
        costs = program.cost_analysis()
        print(
            f"| {name} | {products} | {costs['flops'] / 1e9:.1f} "
            f"| {costs['bytes accessed'] / 1e9:.2f} |"
        )


if __name__ == "__main__":
    main()
