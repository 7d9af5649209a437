"""Models of this library as backbones of KerasHub.

    pip install keras-hub

KerasHub is imported here and nowhere else, so this module is imported by
itself: `import keras_vit.hub`.
"""

import keras

try:
    import keras_hub
except ImportError as error:
    raise ImportError(
        "`keras_vit.hub` needs KerasHub, which is not installed: "
        'pip install "keras-hub>=0.32"'
    ) from error


@keras.saving.register_keras_serializable(package="keras_vit")
class Backbone(keras_hub.models.FeaturePyramidBackbone):
    """A Vision Transformer that the tasks of KerasHub take for a backbone.

    It is saved and found again by `save_to_preset` and `from_preset`, after
    `import keras_vit.hub`.

    Args:
        model: a functional `keras.Model` from images to a map of rank 4: what
            `models.feature_map`, `models.feature_pyramid` or a
            `keras_vit.ResNet` cut at a stage gives. Its layers are shared.
        **kwargs: `name` and `trainable`.

    Raises:
        ValueError: if the model returns no map.

    Example:

    ```python
    vit = keras_vit.ViT("B/16", weights="augreg_i21k", num_classes=None)
    backbone = keras_vit.hub.Backbone(keras_vit.models.feature_map(vit))
    classifier = keras_hub.models.ImageClassifier(backbone, num_classes=37)
    classifier.fit(images, labels)
    backbone.save_to_preset("my_backbone")
    ```
    """

    def __init__(self, model, **kwargs):
        if len(model.output_shape) != 4:
            raise ValueError(
                "`model` must return maps of shape (batch, rows, columns, "
                f"channels). Received: output shape {model.output_shape}"
            )
        super().__init__(inputs=model.input, outputs=model.output, **kwargs)
        self.model = model
        # By name: attributes of a model are not in its configuration.
        self.pyramid_outputs = {
            layer.name: layer.output
            for layer in model.layers
            if layer.name in ("P2", "P3", "P4", "P5")
        }
        self.image_shape = model.input_shape[1:]
        self.data_format = "channels_last"

    def get_config(self):
        return {
            "name": self.name,
            "trainable": self.trainable,
            "model": keras.saving.serialize_keras_object(self.model),
        }

    @classmethod
    def from_config(cls, config, custom_objects=None):
        config = dict(config)
        config["model"] = keras.saving.deserialize_keras_object(
            config["model"], custom_objects=custom_objects
        )
        return cls(**config)
