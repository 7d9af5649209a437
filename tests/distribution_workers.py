"""What tests of several devices and processes run in processes of their own.

    python distribution_workers.py FUNCTION ARGUMENT ...

The line of JSON in the output is what the function returns.
"""

import json
import os
import signal
import sys

import keras
import numpy as np

import keras_vit

VARIANT = keras_vit.Variant(1, 16, 32, 4, patch_size=4)
STEPS, EPOCHS = 4, 5
BATCH = 8
# The last three images fill no batch and are fewer than the devices.
IMAGES = (
    np.random.default_rng(0).uniform(0, 255, (35, 8, 8, 3)).astype("float32")
)
LABELS = np.arange(35) % 3


def build():
    keras.utils.set_random_seed(0)
    model = keras_vit.ViT(VARIANT, image_size=8, num_classes=3, dropout=0.1)
    model.compile(
        **keras_vit.recipes.adamw(
            STEPS * EPOCHS, warmup_steps=1, learning_rate=1e-2
        )
    )
    return model


def fit(model, callbacks=(), first=0, shard=(0, 1)):
    """Trains, and returns the mean loss of every epoch."""
    data = keras_vit.ArrayDataset(
        IMAGES, LABELS, BATCH, drop_remainder=True, shard=shard
    )
    history = model.fit(
        data,
        epochs=EPOCHS,
        initial_epoch=first,
        shuffle=False,
        verbose=0,
        callbacks=[data.epoch_callback(), *callbacks],
    )
    return history.history["loss"]


def error_of(function, *args, **kwargs):
    try:
        function(*args, **kwargs)
    except Exception as error:
        return f"{type(error).__name__}: {error}"
    return None


def four_devices(folder, *kinds):
    """Trains under each distribution; loads what the last one saved."""
    assert len(keras.distribution.list_devices()) == 4
    parallel = keras_vit.distribution
    distributions = {
        "single": None,
        "data": parallel.data_parallel(),
        "tensor": parallel.model_parallel(VARIANT, 2),
        "fsdp": parallel.model_parallel(VARIANT, 2, fsdp=True),
    }
    report = {}
    for kind in kinds:
        keras.distribution.set_distribution(distributions[kind])
        model = build()
        losses = fit(model)
        state = [*model.trainable_variables, *model.optimizer.variables]
        report[kind] = {
            "losses": losses,
            "shapes": shapes(model),
            "bytes": [
                sum(
                    shard.data.nbytes
                    for variable in state
                    for shard in variable.value.addressable_shards
                    if shard.device.id == device
                )
                for device in range(4)
            ],
        }
        if kind in ("single", "data"):
            report[kind]["predict"] = keras_vit.predict(
                model, IMAGES, batch_size=30, verbose=0
            ).tolist()
        if kind == "data":
            for number in (35, 3):
                report[kind][f"evaluate_{number}"] = keras_vit.evaluate(
                    model,
                    IMAGES[:number],
                    LABELS[:number],
                    batch_size=30,
                    verbose=0,
                )
            data = keras_vit.ArrayDataset(IMAGES, LABELS, BATCH)
            report[kind]["partial"] = error_of(model.fit, data, verbose=0)
    saved = os.path.join(folder, "model.keras")
    model.save(saved)
    report["loaded"] = {}
    for kind in ("single", "data"):
        keras.distribution.set_distribution(distributions[kind])
        loaded = keras.saving.load_model(saved)
        pairs = [
            (keras.ops.convert_to_numpy(one), keras.ops.convert_to_numpy(other))
            for one, other in zip(
                [*model.weights, *model.optimizer.variables],
                [*loaded.weights, *loaded.optimizer.variables],
            )
        ]
        report["loaded"][kind] = {
            "equal": all(np.array_equal(*pair) for pair in pairs),
            "shapes": shapes(loaded),
        }
    return report


def shapes(model):
    """What of each weight lies on the first device."""
    return {
        weight.path: weight.value.addressable_shards[0].data.shape
        for weight in model.weights
    }


def process(address, count, index):
    """Trains as one of several processes, of two devices each."""
    keras.distribution.initialize(address, int(count), int(index))
    parallel = keras_vit.distribution
    keras.distribution.set_distribution(parallel.data_parallel())
    model = build()
    losses = fit(model, shard=parallel.process_shard())
    rest = keras_vit.ArrayDataset(
        IMAGES[:32], LABELS[:32], BATCH, shard=parallel.process_shard()
    )
    return {
        "shard": parallel.process_shard(),
        "losses": losses,
        "weights": [float(abs(w).sum()) for w in model.get_weights()],
        "evaluate": keras_vit.evaluate(model, rest, verbose=0),
        "predict": error_of(keras_vit.predict, model, IMAGES, verbose=0),
        "arrays": error_of(keras_vit.evaluate, model, IMAGES, LABELS),
    }


def resumable(folder, address, index, dies_at):
    """Trains as one of two processes, from the last checkpoint if any.

    The second is killed in the middle of an epoch, unless `dies_at` is -1.
    """
    import jax

    jax.distributed.initialize(
        address, 2, int(index), heartbeat_timeout_seconds=20
    )
    parallel = keras_vit.distribution
    keras.distribution.set_distribution(parallel.data_parallel())
    keras.utils.set_random_seed(0)
    if os.path.isdir(folder) and os.listdir(folder):
        model = keras.saving.load_model(folder)
    else:
        model = build()
    first = int(model.optimizer.iterations) // STEPS

    class Killer(keras.callbacks.Callback):
        steps = first * STEPS

        def on_train_batch_begin(self, batch, logs=None):
            if index == "1" and self.steps == int(dies_at):
                os.kill(os.getpid(), signal.SIGKILL)
            self.steps += 1

    checkpoint = keras.callbacks.OrbaxCheckpoint(
        folder, save_on_background=False
    )
    losses = fit(model, [Killer(), checkpoint], first, parallel.process_shard())
    return {"first": first, "losses": losses}


def mirrored():
    """Trains on one and on two devices of TensorFlow."""
    import tensorflow as tf

    cpu = tf.config.list_physical_devices("CPU")[0]
    tf.config.set_logical_device_configuration(
        cpu, [tf.config.LogicalDeviceConfiguration()] * 2
    )
    strategy = tf.distribute.MirroredStrategy(["CPU:0", "CPU:1"])

    def run():
        keras.utils.set_random_seed(0)
        model = keras_vit.ViT(VARIANT, image_size=8, num_classes=3)
        model.compile(
            **keras_vit.recipes.adamw(
                # Keras clips what each replica has, before it adds them up.
                8,
                warmup_steps=1,
                learning_rate=1e-2,
                clip_norm=None,
            )
        )
        data = tf.data.Dataset.from_tensor_slices((IMAGES[:32], LABELS[:32]))
        history = model.fit(
            data.batch(BATCH), epochs=2, shuffle=False, verbose=0
        )
        return history.history["loss"]

    single = run()
    with strategy.scope():
        return {"single": single, "mirrored": run()}


if __name__ == "__main__":
    print(json.dumps(globals()[sys.argv[1]](*sys.argv[2:])))
