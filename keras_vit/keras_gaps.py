"""Where Keras leaves a gap: every private or overridden piece, in one place.

What this library uses of Keras (3.15 and 3.16) without a promise of Keras
stands here and, for running models, in `keras_gaps_of_runs`, and in no other
file. `PRIVATE` lists the names, and
`tests/test_keras_gaps.py` says which of them the installed Keras lacks. Read
this file first when a new Keras breaks something.

- `Layer`: a quantised model reloads only with the policies of its sub-layers,
  and `RematScope` recomputes with other random numbers (on JAX also with
  `training` as a tensor).
- `without_inner_remat`: a scope recomputes parts inside of recomputed layers.
- `flatten_layers`: there is no list of the layers inside of layers.
- `current_distribution`: TensorFlow accepts a distribution and ignores it.
- `serialize_part`: a nested layer is built on its own, under another path.
- `OptimizerSteps`: clipping and update of all variables cannot be replaced;
  and on JAX a model that was trained with averaging shares memory with its
  optimizer.
"""

import keras
from keras import tree
from keras.dtype_policies import DTypePolicyMap, serialize

# Owner and attribute of everything that is used and not promised.
PRIVATE = (
    ("keras.layers.Layer", "_flatten_layers"),
    ("keras.layers.Layer", "rematerialized_call"),
    ("keras.optimizers.Adam", "_get_variable_index"),
    ("keras.optimizers.Adam", "_clip_gradients"),
    ("keras.optimizers.Adam", "_backend_update_step"),
    ("keras.optimizers.Adam", "_trainable_variables"),
    ("keras.optimizers.Adam", "_momentums"),
    ("keras.optimizers.Adam", "_velocities"),
)


def without_inner_remat():
    """Returns the scope in which a layer makes its sub-layers.

    Under `keras.RematScope` a layer of this library is recomputed as a whole.
    Its parts are not recomputed a second time within that.
    """
    return keras.RematScope(mode=None)


def flatten_layers(layer):
    """Returns all layers inside a model or layer, however deep, in order."""
    return layer._flatten_layers(include_self=False)


def current_distribution():
    """Returns the `keras.distribution` that is in force, or `None`."""
    # TensorFlow accepts a distribution and ignores it.
    if keras.backend.backend() != "jax":
        return None
    return keras.distribution.distribution()


def serialize_part(layer):
    """Returns the configuration of a layer that another layer will build."""
    serialized = keras.saving.serialize_keras_object(layer)
    # Built by its owner, not on its own: so weights keep their paths.
    serialized.pop("build_config", None)
    return serialized


class Layer(keras.layers.Layer):
    """Base of the layers that have sub-layers or a `training` argument.

    A quantised model reloads only if the dtype policies of sub-layers are in
    the config, and `keras.RematScope` gives right gradients only if a
    recomputed layer draws the numbers that it drew before.
    """

    def get_config(self):
        config = super().get_config()
        # Keras keys policies by layer path; the `dtype` argument takes the
        # map back, and `part_policy` looks a sub-layer up in it.
        policies = {
            layer.path: layer.dtype_policy
            for layer in flatten_layers(self)
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

            # Keras 3.16 wraps what it is handed once more and keeps `training`
            # of the keywords, which `stateless` does not take.
            outputs, updates = remat(stateless, *args)(*values, *tensors)
            for variable, value in zip(changed, updates):
                variable.assign(value)
            return outputs

        return call


class OptimizerSteps:
    """Public names for two steps of an optimizer that Keras keeps private.

    Put it before a class of `keras.optimizers` among the bases.
    """

    def clip_gradients(self, gradients):
        """Returns the gradients, clipped as the optimizer's arguments say."""
        return super()._clip_gradients(gradients)

    def update_variables(self, gradients, variables, learning_rate):
        """Changes each variable by its gradient."""
        super()._backend_update_step(gradients, variables, learning_rate)

    def variable_index(self, variable):
        """Returns the place of a variable among those of `build`.

        TensorFlow hands `update_step` its own variables, which know no Keras
        path.
        """
        return self._get_variable_index(variable)

    def tracked_variables(self):
        """Returns the variables that `build` was given."""
        return self._trainable_variables

    def moments_of(self, index):
        """Returns the two moments that Adam keeps of a variable."""
        return self._momentums[index], self._velocities[index]

    def finalize_variable_values(self, var_list):
        """Gives the model the averages, at the end of a training."""
        super().finalize_variable_values(var_list)
        if self.use_ema and keras.backend.backend() == "jax":
            # Keras gives the arrays themselves. Steps on JAX consume the
            # variables that they are given: `fit` would consume each twice,
            # and `predict` those of the optimizer.
            for variable in var_list:
                variable.assign(keras.ops.copy(variable.value))

    def _clip_gradients(self, grads):
        return self.clip_gradients(grads)

    def _backend_update_step(self, grads, trainable_variables, learning_rate):
        self.update_variables(grads, trainable_variables, learning_rate)
