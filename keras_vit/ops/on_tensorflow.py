"""Elementwise work as one pass over memory, on TensorFlow too.

JAX compiles a chain of elementwise operations to one kernel, and PyTorch has
kernels made by hand for the usual ones. TensorFlow runs each operation by
itself, and reads and writes the whole tensor every time; Keras has it compile
whole models on a GPU, but not where there are processors alone.
"""

import functools

import keras


def fused(function):
    """Has XLA compile a function where TensorFlow would not do so itself.

    That is in graphs, as `fit` makes them, on machines without an accelerator.
    Anywhere else, and on the other backends, the function is called as it is.

    Args:
        function: from one or more tensors to one, elementwise.

    Returns:
        A function that takes and returns the same.
    """

    @functools.cache
    def compiled():
        import tensorflow as tf

        return tf.function(function, jit_compile=True, autograph=False)

    @functools.wraps(function)
    def call(*tensors):
        if keras.backend.backend() == "tensorflow" and _in_graph():
            return compiled()(*tensors)
        return function(*tensors)

    return call


def _in_graph():
    import tensorflow as tf

    return tf.inside_function() and _can_compile()


@functools.cache
def _can_compile():
    """Whether there are processors alone, and a compiler in this build."""
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
