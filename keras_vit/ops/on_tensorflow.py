"""Elementwise operations in one pass over memory, on TensorFlow too.

JAX compiles a chain of elementwise operations to one kernel, and PyTorch has
hand-made kernels for the usual chains. TensorFlow runs each operation by
itself, and each reads and writes the whole tensor. On a GPU Keras compiles
whole models; on a CPU it does not.
"""

import functools
from collections.abc import Callable

import keras

from keras_vit.ops import plain


def fused(function: Callable) -> Callable:
    """Compiles a function with XLA where TensorFlow itself would not.

    That is in graphs, as `fit` makes them, on machines without an accelerator.
    Anywhere else, and on the other backends, the function is called unchanged.

    Args:
        function: elementwise, from one or more tensors to one.

    Returns:
        A function with the same arguments and result.
    """

    @functools.cache
    def compiled():
        import tensorflow as tf

        return tf.function(function, jit_compile=True, autograph=False)

    @functools.wraps(function)
    def call(*tensors):
        on_tensorflow = keras.backend.backend() == "tensorflow"
        if on_tensorflow and not plain.PLAIN_OPS and _in_graph():
            return compiled()(*tensors)
        return function(*tensors)

    return call


def _in_graph():
    import tensorflow as tf

    return tf.inside_function() and _can_compile()


@functools.cache
def _can_compile():
    """Whether there are only CPUs, and a compiler in this build."""
    import tensorflow as tf

    kinds = {device.device_type for device in tf.config.list_physical_devices()}
    if kinds != {"CPU"}:
        return False
    with tf.init_scope():
        try:
            tf.function(lambda x: x + x, jit_compile=True)(tf.zeros(()))
        except (tf.errors.OpError, ValueError):
            return False
    return True
