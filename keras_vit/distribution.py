"""Training on several devices and several machines, by Keras' own engine.

`keras.distribution` places weights and batches, and JAX does the rest. What a
Vision Transformer adds is here: which axis of which weight is split (attention
heads and the MLP: Shoeybi et al. 2019, arXiv:1909.08053, section 3; the rest
over the data axis: Rajbhandari et al. 2019, arXiv:1910.02054, stage 3), and
which part of a data set a process reads. Left out: pipelines over the blocks.
"""

import keras

from keras_vit.arguments import check_positive
from keras_vit.keras_gaps import current_distribution
from keras_vit.variants import parse_variant, root_width

__all__ = ["data_parallel", "layout_map", "model_parallel", "process_shard"]

# Axes of the device mesh.
DATA, MODEL = "batch", "model"

# In front of a path, where the model is part of another one.
ANYWHERE = "(.+/)?"
# fmt: off
# Weight paths, and the axis of the mesh for each axis of the weight. What the
# blocks' first matrices make, by heads or by units, their second ones take
# together, so devices talk once a branch.
LAYOUTS = (
    ("attention/(query|key|value)/kernel", (DATA, MODEL, None)),
    ("attention/(query|key|value)/bias",   (MODEL, None)),
    ("attention/output/kernel",            (MODEL, None, DATA)),
    ("mlp/(hidden|gate)/kernel",           (DATA, MODEL)),
    ("mlp/(hidden|gate)/bias",             (MODEL,)),
    ("mlp/output/kernel",                  (MODEL, DATA)),
)
# Only split where all is.
LAYOUTS_OF_THE_REST = (
    ("patch_encoder/projection/kernel",                   (None, DATA)),
    ("(pre_logits|head)/kernel",                          (DATA, None)),
    (r"(root_conv|stage\d+_unit\d+/conv[^/]*)/kernel",
                                              (None, None, None, DATA)),
)
# fmt: on


def data_parallel(devices=None) -> keras.distribution.DataParallel:
    """Every device holds the model, and takes an equal part of each batch.

    The result is what one device computes, up to rounding. Set it before the
    model is built, so that Keras makes the weights on all devices. Batches
    must divide by the number of devices: `fit` takes an `ArrayDataset` with
    `drop_remainder=True`; `keras_vit.predict` and `keras_vit.evaluate` take
    arrays of any number of images.

    With several processes, one for each machine, first call
    `keras.distribution.initialize` in each; then `fit` reads in each process
    what that process alone contributes: give `ArrayDataset` a
    `shard=process_shard()`. Keras takes arrays for such a share too, so the
    same arrays in two processes would be trained on twice.

    Args:
        devices: Names such as `"gpu:0"`. Defaults to all devices of all
            processes, `keras.distribution.list_devices()`.

    Returns:
        A `keras.distribution.DataParallel` for
        `keras.distribution.set_distribution`.

    Raises:
        RuntimeError: If the backend is not JAX.

    Example:

    ```python
    distribution = keras_vit.distribution.data_parallel()
    keras.distribution.set_distribution(distribution)
    model = keras_vit.ViT("B/16", num_classes=10)
    model.compile(**keras_vit.recipes.adamw(total_steps=1000))
    train = keras_vit.ArrayDataset(
        images,
        labels,
        batch_size=256,
        drop_remainder=True,
        shard=keras_vit.distribution.process_shard(),
    )
    model.fit(train, epochs=10, shuffle=False)
    ```
    """
    _check_backend()
    return keras.distribution.DataParallel(
        devices=_devices(devices), auto_shard_dataset=False
    )


def model_parallel(
    variant,
    model_devices: int,
    *,
    fsdp: bool = False,
    devices=None,
) -> keras.distribution.ModelParallel:
    """Splits the model over some devices, and the batch over the others.

    Of `n` devices, groups of `model_devices` hold one model together, and the
    `n / model_devices` groups take equal parts of each batch. Weights,
    gradients and the optimizer's moments are split alike, see `layout_map`.
    Devices of one group talk in every block, so let them be of one machine;
    neighbours in `devices` are of one group. For all else see
    `data_parallel`.

    Args:
        variant: Name or `keras_vit.Variant` of the model that is to be built,
            which is checked here; or `None`, to let Keras complain of the
            first weight that does not divide.
        model_devices: Devices that hold one model together: a divisor of
            their number, of the heads and of `mlp_dim`. 1 with `fsdp=True`
            is FSDP alone.
        fsdp: Whether kernels are split over the groups too.
        devices: As in `data_parallel`.

    Returns:
        A `keras.distribution.ModelParallel` for
        `keras.distribution.set_distribution`.

    Raises:
        RuntimeError: If the backend is not JAX.
        ValueError: If a number does not divide another.

    Example:

    ```python
    # Eight devices: two parts of each batch, models split in four.
    distribution = keras_vit.distribution.model_parallel("L/16", 4)
    keras.distribution.set_distribution(distribution)
    model = keras_vit.ViT("L/16", num_classes=10)
    ```

    Reference:
        Shoeybi et al., arXiv 1909.08053, section 3; Rajbhandari et al.,
        arXiv 1910.02054.
    """
    _check_backend()
    devices = _devices(devices)
    model_devices = check_positive("model_devices", model_devices)
    _check_divides("model_devices", model_devices, "devices", len(devices))
    groups = len(devices) // model_devices
    if variant is not None:
        variant = parse_variant(variant)
        for name in ("num_heads", "mlp_dim"):
            size = getattr(variant, name)
            _check_divides("model_devices", model_devices, name, size)
        if fsdp:
            split = {"hidden_dim": variant.hidden_dim}
            if variant.stages is not None:
                split["channels of the stem"] = root_width(variant.width_factor)
            for name, size in split.items():
                _check_divides(
                    "len(devices) / model_devices", groups, name, size
                )
    mesh = keras.distribution.DeviceMesh(
        (groups, model_devices), (DATA, MODEL), devices
    )
    return keras.distribution.ModelParallel(
        layout_map=layout_map(mesh, fsdp=fsdp),
        batch_dim_name=DATA,
        auto_shard_dataset=False,
    )


def layout_map(
    device_mesh: keras.distribution.DeviceMesh, *, fsdp: bool = False
) -> keras.distribution.LayoutMap:
    """Which axis of which weight is split over which axis of the mesh.

    Over the axis `"model"`: queries, keys, values and the first matrices of
    the MLPs by columns (whole heads, units), the matrices after them by rows.
    The layers are found by the end of their weights' paths,
    `attention/query/kernel`, so those of hybrids, of `AttentionPooling`, of
    nested models and of blocks of one's own with such parts are found too.
    All other weights are whole on every device.

    With `fsdp=True` the other large axis of these, and the kernels of patch
    projection, convolutional trunk, `pre_logits` and `head`, are split over
    the axis `"batch"`; XLA gathers each where it is used.

    Keys can be added and removed as in a dict, before the model is built.

    Args:
        device_mesh: A `keras.distribution.DeviceMesh` with the axes
            `"batch"` and `"model"`.
        fsdp: Whether to split over the axis `"batch"` as well.

    Returns:
        A `keras.distribution.LayoutMap`.

    Raises:
        RuntimeError: If the backend is not JAX.
        ValueError: If the mesh lacks an axis.

    Example:

    ```python
    mesh = keras.distribution.DeviceMesh((2, 4), ("batch", "model"))
    layouts = keras_vit.distribution.layout_map(mesh)
    layouts["my_layer/kernel"] = (None, "model")
    distribution = keras.distribution.ModelParallel(
        layout_map=layouts, batch_dim_name="batch", auto_shard_dataset=False
    )
    ```
    """
    _check_backend()
    if not {DATA, MODEL} <= set(device_mesh.axis_names):
        raise ValueError(
            f"`device_mesh` must have the axes '{DATA}' and '{MODEL}'. "
            f"Received: axis_names={tuple(device_mesh.axis_names)}"
        )
    layouts = keras.distribution.LayoutMap(device_mesh)
    for path, axes in LAYOUTS + (LAYOUTS_OF_THE_REST if fsdp else ()):
        if not fsdp:
            axes = tuple(None if axis == DATA else axis for axis in axes)
        layouts[ANYWHERE + path] = axes
    return layouts


def process_shard() -> tuple[int, int]:
    """Which part of every batch this process has to read.

    Returns:
        `(index, count)`: part `index` of `count` equal parts, for the `shard`
        of `ArrayDataset`. `(0, 1)` for a single process, or without a
        distribution. Processes that hold one model together read the same
        part.

    Example:

    >>> keras_vit.distribution.process_shard()
    (0, 1)
    """
    current = current_distribution()
    if current is None:
        return 0, 1
    return current.data_shard_id, min(
        current.num_processes, current.num_model_replicas
    )


def _check_backend():
    backend = keras.backend.backend()
    if backend != "jax":
        raise RuntimeError(
            "`keras.distribution` splits work on JAX alone. With TensorFlow "
            "build and compile the model under "
            "`tf.distribute.MirroredStrategy().scope()`, for the devices of "
            "one machine; with PyTorch, Keras has nothing of its own. For "
            "several machines set KERAS_BACKEND=jax. "
            f"Received: backend={backend}"
        )


def _devices(devices):
    if devices is None:
        return keras.distribution.list_devices()
    if not len(devices):
        raise ValueError(
            "`devices` must name at least one device. Received: "
            f"devices={devices!r}"
        )
    return list(devices)


def _check_divides(name, number, whole, size):
    if size % number:
        raise ValueError(
            f"`{name}` must divide {whole}. Received: {name}={number}, "
            f"{whole}={size}"
        )
