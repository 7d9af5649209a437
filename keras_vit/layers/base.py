"""What layers that contain layers or draw random numbers have in common.

Two things that Keras leaves to the layer: a quantised model reloads only if
the dtype policies of sub-layers are in the config, and `keras.RematScope`
gives right gradients only if a recomputed layer draws the numbers it drew
before.
"""

import keras
from keras import tree
from keras.dtype_policies import DTypePolicyMap, serialize


def parts():
    """Returns the scope in which a layer makes its sub-layers.

    Under `keras.RematScope` a layer of this library is recomputed as a whole.
    Its parts are not recomputed a second time within that.
    """
    return keras.RematScope(mode=None)


def at_least_float32(dtype):
    """Returns the dtype for what float16 and bfloat16 are too coarse for.

    Not `keras.backend.result_type(dtype, "float32")`, which turns float64
    into float32.
    """
    return "float64" if dtype == "float64" else "float32"


class Layer(keras.layers.Layer):
    """Base of the layers that have sub-layers or a `training` argument."""

    def get_config(self):
        config = super().get_config()
        # Keras keys policies by layer path; the `dtype` argument takes the
        # map back, and `part_policy` looks a sub-layer up in it.
        policies = {
            layer.path: layer.dtype_policy
            for layer in self._flatten_layers(include_self=False)
            if layer.quantization_mode is not None
        }
        if policies:
            default = self.dtype_policy
            if isinstance(default, DTypePolicyMap):
                default = default.default_policy
            config["dtype"] = serialize(DTypePolicyMap(default, policies))
        return config

    def part_policy(self, name):
        """Returns the dtype policy of the sub-layer of this name, in `build`.

        A leaf gets a policy of its own, never the map of its parent, with
        which Keras' dense layers cannot be saved again.
        """
        policy = self.dtype_policy
        if isinstance(policy, DTypePolicyMap):
            return policy[f"{self.path}/{name}"]
        return policy

    def rematerialized_call(self, layer_call, *args, **kwargs):
        """Makes `call` forget its activations and recompute them backwards.

        Keras passes every argument of `call` through the backend's checkpoint
        function, which turns `training` into a tensor on JAX, and reads seeds
        from variables, which have moved on when `call` runs again. Here
        flags stay Python values, and variables go in and out as tensors.
        """
        if self._remat_mode.mode in (None, "activations"):
            return layer_call
        remat = super().rematerialized_call
        variables = self.variables

        def call(*args, **kwargs):
            leaves = tree.flatten((args, kwargs))
            is_tensor = [keras.ops.is_tensor(leaf) for leaf in leaves]
            tensors = [x for x, tensor in zip(leaves, is_tensor) if tensor]
            # States of random generators are copied: PyTorch changes them in
            # place, and `call` needs the old ones again.
            values = [
                variable.value
                if variable.trainable
                else keras.ops.copy(variable.value)
                for variable in variables
            ]
            changed = []

            def stateless(*inputs):
                inputs = iter(inputs)
                state = [(variable, next(inputs)) for variable in variables]
                filled = [
                    next(inputs) if tensor else leaf
                    for leaf, tensor in zip(leaves, is_tensor)
                ]
                call_args, call_kwargs = tree.pack_sequence_as(
                    (args, kwargs), filled
                )
                with keras.StatelessScope(state_mapping=state) as scope:
                    outputs = layer_call(*call_args, **call_kwargs)
                    now = [scope.get_current_value(v) for v in variables]
                changed[:] = [
                    variable
                    for (variable, value), new in zip(state, now)
                    if new is not value
                ]
                return outputs, [
                    new
                    for (_, value), new in zip(state, now)
                    if new is not value
                ]

            outputs, updates = remat(stateless, *args, **kwargs)(
                *values, *tensors
            )
            for variable, value in zip(changed, updates):
                variable.assign(value)
            return outputs

        return call


def find_layers(model, kind):
    """Returns the layers of a class in a model or layer, however deep.

    Args:
        model: a `keras.Model` or a layer.
        kind: the class, or a tuple of classes.

    Returns:
        A list in the order in which they were made part of the model.
    """
    layers = model._flatten_layers(include_self=False)
    return [layer for layer in layers if isinstance(layer, kind)]
