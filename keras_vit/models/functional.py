"""A functional model with the dtype policy of its layers.

Keras gives such a model the global policy and forgets it in files. `compile`
asks the model, not its layers, whether to scale the loss: float16 without it
loses small gradients, in silence.
"""

from typing import Any

import keras


@keras.saving.register_keras_serializable(package="keras_vit")
class ModelWithPolicy(keras.Model):
    """A functional `keras.Model` whose file says its dtype policy."""

    def get_config(self):
        policy = keras.dtype_policies.serialize(self.dtype_policy)
        return {**super().get_config(), "dtype": policy}

    @classmethod
    def from_config(cls, config, custom_objects=None):
        own = {key: config[key] for key in config if key != "dtype"}
        model = super().from_config(own, custom_objects=custom_objects)
        if "dtype" in config:
            model.dtype_policy = keras.dtype_policies.get(config["dtype"])
        return model


def functional(
    inputs: Any, outputs: Any, *, name: str | None, dtype: Any
) -> keras.Model:
    """Returns a functional model that has a dtype policy.

    Args:
        inputs, outputs: as for `keras.Model`.
        name: name of the model, or `None`.
        dtype: dtype policy, an object.
    """
    # Of float32 Keras' own says all there is to say.
    kind = keras.Model if dtype.name == "float32" else ModelWithPolicy
    model = kind(inputs, outputs, name=name)
    model.dtype_policy = dtype
    return model
