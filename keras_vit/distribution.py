"""Training on several devices and several machines, by Keras' own engine.

`keras.distribution` places weights and batches, and JAX does the rest. Here is
what a Vision Transformer adds: which axis of which weight is split (attention
heads and the MLP: Shoeybi et al. 2019, arXiv:1909.08053, section 3; the rest
over the data axis: Rajbhandari et al. 2019, arXiv:1910.02054, stage 3), and
which part of a data set a process reads. Left out: pipelines over the blocks.
"""

from collections.abc import Sequence

import keras

from keras_vit.arguments import check_positive
from keras_vit.keras_gaps import current_distribution
from keras_vit.variants import Variant, parse_variant, root_width

__all__ = ["data_parallel", "layout_map", "model_parallel", "process_shard"]

# Axes of the device mesh.
DATA, MODEL = "batch", "model"

# In front of a path, if the model is part of another model.
ANYWHERE = "(.+/)?"
# fmt: off
# Weight paths, and the axis of the mesh for each axis of the weight. The first
# matrices of a branch are split by heads or units and the second ones by the
# same, so devices communicate once for each branch.
LAYOUTS = (
    ("attention/(query|key|value)/kernel", (DATA, MODEL, None)),
    ("attention/(query|key|value)/bias",   (MODEL, None)),
    ("attention/output/kernel",            (MODEL, None, DATA)),
    ("mlp/(hidden|gate)/kernel",           (DATA, MODEL)),
    ("mlp/(hidden|gate)/bias",             (MODEL,)),
    ("mlp/output/kernel",                  (MODEL, DATA)),
)
# Split with `fsdp=True` alone.
LAYOUTS_OF_THE_REST = (
    ("patch_encoder/projection/kernel",                   (None, DATA)),
    ("(pre_logits|head)/kernel",                          (DATA, None)),
    (r"(root_conv|stage\d+_unit\d+/conv[^/]*)/kernel",
                                              (None, None, None, DATA)),
)
# fmt: on


def data_parallel(
    devices: Sequence[str] | None = None,
) -> keras.distribution.DataParallel:
    """Puts the model on every device, and splits each batch equally.

    The result is what one device computes, up to rounding. Set it before the
    model is built, so that Keras makes the weights on all devices. Batches
    must divide by the number of devices: give `fit` an `ArrayDataset` with
    `drop_remainder=True`. `keras_vit.predict` and `keras_vit.evaluate` take
    arrays of any number of images.

    With several processes, one for each machine, first call
    `keras.distribution.initialize` in each. `fit` then reads in each process
    the part that this process contributes: give `ArrayDataset` a
    `shard=process_shard()`. Keras takes arrays for such a part too, so two
    processes with the same arrays would train on them twice.

    Args:
        devices: names such as `"gpu:0"`. Defaults to all devices of all
            processes, `keras.distribution.list_devices()`.

    Returns:
        A `keras.distribution.DataParallel` for
        `keras.distribution.set_distribution`.

    Raises:
        RuntimeError: if the backend is not JAX.

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
    variant: Variant | str | None,
    model_devices: int,
    *,
    fsdp: bool = False,
    devices: Sequence[str] | None = None,
) -> keras.distribution.ModelParallel:
    """Splits the model over some devices, and the batch over the others.

    Of `n` devices, each group of `model_devices` holds one model, and the
    `n / model_devices` groups take equal parts of each batch. Weights,
    gradients and the optimizer's moments are split in the same way, see
    `layout_map`. The devices of a group communicate in every block, so choose
    them on one machine; neighbours in `devices` form a group. `data_parallel`
    says the rest.

    Args:
        variant: name or `keras_vit.Variant` of the model that you build next,
            to check its sizes here; with `None` Keras raises at the first
            weight that does not divide.
        model_devices: devices that hold one model together: a divisor of the
            number of devices, of the heads and of `mlp_dim`. 1 with
            `fsdp=True` is FSDP alone.
        fsdp: whether to split kernels over the groups too.
        devices: as in `data_parallel`.

    Returns:
        A `keras.distribution.ModelParallel` for
        `keras.distribution.set_distribution`.

    Raises:
        RuntimeError: if the backend is not JAX.
        ValueError: if a number does not divide another.

    Example:

    ```python
    # Eight devices: two parts of each batch, models split in four.
    distribution = keras_vit.distribution.model_parallel("L/16", 4)
    keras.distribution.set_distribution(distribution)
    model = keras_vit.ViT("L/16", num_classes=10)
    ```

    Reference:
        - [Shoeybi et al., 2019](https://arxiv.org/abs/1909.08053), section 3
        - [Rajbhandari et al., 2019](https://arxiv.org/abs/1910.02054)
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
    """Returns which axis of which weight is split over which mesh axis.

    The axis `"model"` splits queries, keys, values and the first matrices of
    the MLPs by columns (whole heads, units), and the matrices after them by
    rows. The map finds layers by the end of their weights' paths, such as
    `attention/query/kernel`, so it finds those of hybrids, of
    `AttentionPooling`, of nested models and of your own blocks with such parts
    too. All other weights are whole on every device.

    With `fsdp=True` the axis `"batch"` splits the other large axis of these
    weights, and the kernels of patch projection, convolutional trunk,
    `pre_logits` and `head`. XLA gathers each where it is used.

    Before you build the model you can add and remove keys as in a dict.

    Args:
        device_mesh: a `keras.distribution.DeviceMesh` with the axes
            `"batch"` and `"model"`.
        fsdp: whether to split over the axis `"batch"` too.

    Returns:
        A `keras.distribution.LayoutMap`.

    Raises:
        RuntimeError: if the backend is not JAX.
        ValueError: if the mesh lacks an axis.

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
    """Returns which part of every batch this process reads.

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
