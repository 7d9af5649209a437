"""Dtype policies of layers that contain other layers.

A quantised model reloads only if every `Dense` inside a composite layer is
rebuilt with the policy it had when it was saved. Keras keeps such policies in
a `DTypePolicyMap`, keyed by layer path; `composite_config` puts one into the
config of the composite layer, whose `dtype` argument takes it back.
"""

from keras.dtype_policies import DTypePolicyMap, serialize


def composite_config(layer, config):
    """Returns `config` with the dtype policies of quantised sub-layers in it.

    Args:
        layer: the composite layer.
        config: its config. `"dtype"` is replaced if, and only if, a layer
            inside `layer` has been quantised.

    Returns:
        The config, a dict.
    """
    own = layer.dtype_policy
    if isinstance(own, DTypePolicyMap):
        # Rebuilt from such a config: Keras keeps the map up to date itself.
        return config
    policies = {
        sublayer.path: sublayer.dtype_policy
        for sublayer in layer._flatten_layers(include_self=False)
        if sublayer.quantization_mode is not None
        and not isinstance(sublayer.dtype_policy, DTypePolicyMap)
    }
    if policies:
        config["dtype"] = serialize(DTypePolicyMap(own, policies))
    return config
