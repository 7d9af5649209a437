"""How long the matrix products of a training step take by themselves.

    KERAS_BACKEND=tensorflow python benchmarks/matrix_products.py --variant S/16

No step is shorter than its products, however little is done between them: six
dense products a block forwards, and for each of them two of the same size
backwards. Those inside attention, of the patches and of the head are left out,
a tenth of the whole. Prints the rate of each kind and the sum.
"""

import argparse
import statistics
import time

import keras
from keras import ops

import keras_vit
from keras_vit.variants import parse_variant

TURNS = 9


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--variant", default="S/16")
    parser.add_argument("--size", type=int, default=224)
    parser.add_argument("--batch", type=int, default=16)
    options = parser.parse_args()
    variant = parse_variant(options.variant)
    tokens = keras_vit.cost(options.variant, options.size).tokens
    rows = options.batch * tokens
    hidden_dim, mlp_dim = variant.hidden_dim, variant.mlp_dim

    print("| product | GFLOP/s forwards | to the input | to the kernel |")
    print("|---|---:|---:|---:|")
    total = work = 0.0
    for inputs, outputs, count in (
        (hidden_dim, hidden_dim, 4),
        (hidden_dim, mlp_dim, 1),
        (mlp_dim, hidden_dim, 1),
    ):
        operations = 2 * rows * inputs * outputs
        seconds = products(rows, inputs, outputs)
        rates = [f"{operations / s / 1e9:.0f}" for s in seconds]
        name = f"{rows} x {inputs} by {inputs} x {outputs}"
        print(f"| {name} | {' | '.join(rates)} |")
        total += variant.num_layers * count * sum(seconds)
        work += variant.num_layers * count * 3 * operations
    print(
        f"\n{keras.backend.backend()}, {options.variant}, batch "
        f"{options.batch}: {work / 1e9:.0f} GFLOP in {total:.2f} s"
    )


def products(rows, inputs, outputs):
    """Returns the seconds that the product and its two gradients take."""
    x = keras.random.normal((rows, inputs))
    kernel = keras.random.normal((inputs, outputs))
    upstream = keras.random.normal((rows, outputs))
    return [
        median(function, *arguments)
        for function, *arguments in (
            (lambda x, k: ops.matmul(x, k), x, kernel),
            (lambda g, k: ops.matmul(g, ops.transpose(k)), upstream, kernel),
            (lambda x, g: ops.matmul(ops.transpose(x), g), x, upstream),
        )
    ]


def median(function, *arguments):
    function = compiled(function)
    seconds = []
    for _ in range(TURNS + 1):
        start = time.perf_counter()
        ops.convert_to_numpy(function(*arguments)[0, 0])  # waits for it
        seconds.append(time.perf_counter() - start)
    return statistics.median(seconds[1:])  # the first one compiles


def compiled(function):
    backend = keras.backend.backend()
    if backend == "jax":
        import jax

        return jax.jit(function)
    if backend == "tensorflow":
        import tensorflow as tf

        return tf.function(function)
    return function


if __name__ == "__main__":
    main()
