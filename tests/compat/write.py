"""Made the files in this folder with version 0.1.0 before its modules moved.

Never run again over the same files: they show what users of 0.1.0 have on
their disks. `test_files_of_0_1_0` loads them. Ran once, with keras-hub beside
the development environment, as

    KERAS_BACKEND=jax python tests/compat/write.py

into the folder `v0_1_0`:

- a `.keras` file for each kind of model. The zip is packed anew with
  compression; what is in it is as Keras wrote it;
- `vit.weights.h5` and `checkpoints`, one model in each format for weights;
- `expected.npz`: for each file inputs and outputs, under `file/images` and
  `file/outputs`, how many weights there are and how many of them learn, for
  compiled models all numbers of the optimizer and what one more step gives;
- `registered.txt`: the classes that `import keras_vit` registers with Keras.
"""

import itertools
import json
import pathlib
import warnings
import zipfile

import keras
import numpy as np

import keras_vit
from keras_vit import layers, recipes

FOLDER = pathlib.Path(__file__).parent / "v0_1_0"
PACKAGE = "keras_vit>"

TWO_BLOCKS = keras_vit.Variant(2, 16, 32, 4, patch_size=4)
ONE_BLOCK = keras_vit.Variant(1, 8, 16, 2, patch_size=4)
GRID = (2, 3)  # patches in an image


def vit(variant=ONE_BLOCK, **arguments):
    arguments = {"image_size": (8, 12), "num_classes": 3, **arguments}
    return keras_vit.ViT(variant, **arguments)


def block(**arguments):
    """An argument of `ViT`: blocks of one's own."""
    return {"block": lambda index: layers.TransformerBlock(**arguments)}


def attending(make, **arguments):
    """The same with an attention of one's own."""
    return {
        "block": lambda index: layers.TransformerBlock(
            attention=make(), mlp_dim=16
        ),
        **arguments,
    }


def backbone(**arguments):
    return vit(num_classes=None, **arguments)


def pair_of_patches(**arguments):
    """For models that draw: one patch of two is drawn."""
    return backbone(image_size=(4, 8), num_channels=1, **arguments)


def all_layers_of_tokens():
    x = inputs = keras.Input((6, 8), name="tokens")
    for layer in (
        layers.PositionEmbedding("learned_2d", GRID),
        layers.SelfAttention(
            2, head_dim=3, use_bias=False, qk_norm=True, epsilon=1e-5
        ),
        layers.MLP(12, activation="gelu", dropout=0.1, seed=1),
        layers.LayerScale(0.5),
        layers.StochasticDepth(0.1, seed=1),
        layers.LayerNorm(1e-3),
        layers.WindowAttention(2, (None, 1), GRID),
        layers.SparseAttention(2, k=3),
        layers.RelativeAttention(2, use_output_bias=False),
        layers.RotaryAttention(2, GRID, base=50.0),
        layers.TransformerBlock(2, 12, activation="swiglu", layer_scale=0.5),
        layers.AxialBlock(2, 12, GRID, activation="gelu"),
    ):
        x = layer(x)
    pooled = layers.AttentionPooling(2, 12, activation="gelu")(x)
    masked = layers.MaskToken(8)(x)
    return keras.Model(inputs, {"pooled": pooled, "mask_token": masked})


def resnet(**arguments):
    return keras_vit.ResNet(
        ((1,), 0.5), image_size=(16, 24), num_classes=3, **arguments
    )


def hybrid(stages, patch_size, **arguments):
    variant = keras_vit.Variant(
        1, 8, 16, 2, patch_size, stages=stages, width_factor=0.5
    )
    return vit(variant, image_size=(16, 24), **arguments)


def quantized(mode, **arguments):
    def quantize(model):
        with warnings.catch_warnings():
            # Keras says of every layer without a kernel that it cannot.
            warnings.simplefilter("ignore")
            model.quantize(mode)
        return model

    return lambda: vit(TWO_BLOCKS, **arguments), quantize


def with_lora(model):
    model = keras_vit.enable_lora(model, rank=2)
    rng = np.random.default_rng(0)
    for weight in model.trainable_weights:
        if weight.name.startswith("lora"):
            weight.assign(rng.normal(0, 0.2, weight.shape))
    return model


# From the name of a file to what builds its model. A pair: the second function
# gets the model when its weights are filled.
MODELS = {
    "plain": lambda: vit(TWO_BLOCKS, num_registers=2, representation_dim=6),
    "average": lambda: vit(
        pooling="average",
        position="sincos_2d",
        num_registers=1,
        classifier_activation="softmax",
        head_bias=-1.0,
    ),
    "attention_pooling": lambda: vit(
        pooling="attention", activation="swiglu", position="learned_2d"
    ),
    "flatten": lambda: vit(
        pooling="flatten", image_size=(10, 13), remainder="crop"
    ),
    "no_pooling": lambda: vit(
        pooling=None, position=None, image_size=(10, 13), remainder="pad"
    ),
    "no_head": lambda: backbone(include_rescaling=False),
    "learned_2d": lambda: vit(position="learned_2d"),
    "sincos_2d": lambda: vit(position="sincos_2d"),
    "relative_1d": lambda: vit(position="relative_1d"),
    "every_layer": lambda: vit(
        TWO_BLOCKS, position="learned_2d", position_injection="every_layer"
    ),
    "every_layer_shared": lambda: vit(
        TWO_BLOCKS, position_injection="every_layer_shared"
    ),
    "regularized": lambda: vit(
        TWO_BLOCKS,
        dropout=0.1,
        stochastic_depth=0.2,
        activation="gelu",
        epsilon=1e-12,
        norm_after_pooling=True,
        pooling="average",
    ),
    "layer_scale": lambda: vit(
        **block(
            num_heads=2,
            mlp_dim=16,
            layer_scale=1e-5,
            stochastic_depth=0.1,
            dropout=0.1,
            seed=1,
        )
    ),
    "own_parts": lambda: vit(
        patch_encoder=layers.PatchEncoder(
            8,
            position_of_cls_token=False,
            num_registers=1,
            norm_before=True,
            norm_after=True,
            epsilon=1e-5,
        ),
        block=lambda index: layers.TransformerBlock(
            attention=layers.SelfAttention(2, qk_norm=True),
            mlp=layers.MLP(12, activation="swiglu"),
        ),
        pooling=layers.TokenPooling(1),
    ),
    "axial": lambda: vit(
        pooling="average",
        block=lambda index: layers.AxialBlock(2, 16, GRID, layer_scale=0.5),
    ),
    "windows": lambda: vit(
        image_size=(8, 16),
        **attending(
            lambda: layers.WindowAttention(2, (2, 2), (2, 4)),
            pooling="average",
        ),
    ),
    "sparse": lambda: vit(**attending(lambda: layers.SparseAttention(2, k=3))),
    "rotary": lambda: vit(
        **attending(lambda: layers.RotaryAttention(2, GRID, 1), position=None),
    ),
    "relative": lambda: vit(
        **attending(
            lambda: layers.RelativeAttention(2, qk_norm=True), position=None
        ),
    ),
    "layers_of_tokens": all_layers_of_tokens,
    "channels_first": lambda: vit(
        keras_vit.Variant(1, 8, 16, 2, patch_size=(4, 6)),
        data_format="channels_first",
    ),
    "any_size": lambda: vit(
        keras_vit.Variant(1, 8, 16, 2, patch_size=16),
        image_size=None,
        num_channels=1,
    ),
    "mixed_bfloat16": lambda: vit(
        TWO_BLOCKS, dtype="mixed_bfloat16", pooling="attention"
    ),
    "frozen": (
        lambda: vit(TWO_BLOCKS),
        lambda model: keras_vit.freeze(model, up_to="block_00"),
    ),
    "lora": (vit, with_lora),
    "int8": quantized("int8", pooling="attention", representation_dim=6),
    "int4": quantized("int4", **block(num_heads=4, mlp_dim=32)),
    "hybrid": lambda: hybrid((1, 1), 1),
    "hybrid_stem": lambda: hybrid((), 2, num_channels=1),
    "resnet": lambda: resnet(),
    "resnet_preactivation": lambda: resnet(
        preactivation=True, data_format="channels_first"
    ),
    "taps": lambda: keras_vit.feature_extractor(
        vit(TWO_BLOCKS), ["block_00", "encoder_norm", "head"]
    ),
    "feature_map": lambda: keras_vit.feature_map(vit(num_registers=1)),
    "pyramid": lambda: keras_vit.feature_pyramid(
        backbone(
            variant=keras_vit.Variant(1, 8, 16, 2, patch_size=16),
            image_size=32,
            num_channels=1,
        ),
        hidden_dim=4,
    ),
    "segmentation": lambda: keras_vit.segmentation_model(
        backbone(image_size=(10, 13), remainder="pad"), 3
    ),
    "segmentation_conv": lambda: keras_vit.segmentation_model(
        backbone(data_format="channels_first"),
        3,
        decoder="conv",
        decoder_dim=4,
    ),
    "distillation": lambda: keras_vit.distillation_model(
        backbone(num_registers=1), 3
    ),
    "masked_patches": lambda: keras_vit.masked_patch_model(
        pair_of_patches(), mask_rate=1.0, swap_rate=0.0, seed=3
    ),
    "masked_thumbnails": lambda: keras_vit.masked_patch_model(
        pair_of_patches(pooling="average"),
        "thumbnail",
        mask_rate=1.0,
        swap_rate=0.0,
    ),
    "masked_pixels": lambda: keras_vit.masked_patch_model(
        pair_of_patches(), "pixels", mask_rate=1.0, swap_rate=0.0
    ),
    "masked_autoencoder": lambda: keras_vit.masked_autoencoder(
        pair_of_patches(),
        masking=0.5,
        decoder_dim=8,
        decoder_layers=1,
        decoder_heads=2,
        seed=3,
    ),
}

# Arguments of `compile` beside the model, and what the labels are.
COMPILED = {
    "compiled_adamw": (
        vit,
        recipes.adamw(
            20,
            learning_rate=0.01,
            warmup_steps=1,
            learning_rate_multipliers={"block_00": 0.5, "head": 2.0},
        ),
        "classes",
    ),
    "compiled_pretrain": (
        lambda: vit(representation_dim=4),
        recipes.pretrain(
            "B/16",
            "jft",
            20,
            warmup_steps=1,
            learning_rate=0.01,
            polyak=0.9,
            gradient_accumulation_steps=2,
        ),
        "classes",
    ),
    "compiled_augreg": (
        vit,
        recipes.augreg(
            "S/16",
            20,
            warmup_steps=1,
            decay="rsqrt",
            learning_rate=0.01,
            label_smoothing=0.1,
        ),
        "one_hot",
    ),
    "compiled_finetune": (
        vit,
        recipes.finetune(20, batch_size=512, warmup_steps=1),
        "classes",
    ),
    "compiled_finetune_options": (
        vit,
        recipes.finetune(
            20,
            batch_size=512,
            warmup_steps=1,
            one_hot=True,
            label_smoothing=0.1,
            polyak=0.9,
            learning_rate_multipliers={"patch_encoder": 0.5},
            gradient_accumulation_steps=2,
        ),
        "one_hot",
    ),
    "compiled_real_accuracy": (
        vit,
        {
            **recipes.finetune(20, one_hot=True, warmup_steps=1),
            "metrics": [keras_vit.RealAccuracy()],
        },
        "one_hot",
    ),
    "compiled_distillation_loss": (
        vit,
        {
            **recipes.adamw(20, learning_rate=0.01, warmup_steps=1),
            "loss": (
                recipes.distillation("soft")["distillation_losses"][0].loss
            ),
            "metrics": None,
        },
        "logits",
    ),
    "compiled_segmentation": (
        lambda: keras_vit.segmentation_model(backbone(), 3),
        {
            **recipes.adamw(20, learning_rate=0.01, warmup_steps=1),
            **recipes.segmentation(3),
        },
        "pixels",
    ),
    "compiled_mixed_float16": (
        lambda: vit(dtype="mixed_float16"),
        recipes.adamw(20, learning_rate=0.01, warmup_steps=1),
        "classes",
    ),
    "compiled_masked_patches": (
        lambda: keras_vit.masked_patch_model(
            pair_of_patches(), mask_rate=1.0, swap_rate=0.0, seed=3
        ),
        recipes.masked_patches(20, learning_rate=0.01, warmup_steps=1),
        None,
    ),
}


def fill(model, rng):
    """Gives each weight values that tell, of few digits: they pack well."""
    for weight in model.weights:
        dtype = keras.backend.standardize_dtype(weight.dtype)
        if np.issubdtype(dtype, np.floating):
            values = np.round(64 * rng.normal(0, 0.2, weight.shape)) / 64
            weight.assign(values + (weight.name == "gamma"))


def images_for(model, rng, batch=2):
    """Pixels, or numbers if the model does not rescale."""
    shape = [edge or 32 for edge in model.input_shape[1:]]
    if len(shape) == 2 or "rescaling" not in [x.name for x in model.layers]:
        return rng.normal(0, 0.5, (batch, *shape)).astype("float32")
    return rng.integers(0, 256, (batch, *shape)).astype("uint8")


def labels_for(kind, images, rng):
    batch = len(images)
    return {
        "classes": lambda: rng.integers(0, 3, batch, "int32"),
        "one_hot": lambda: np.eye(3, dtype="float32")[
            rng.integers(0, 3, batch)
        ],
        "logits": lambda: rng.normal(size=(batch, 3)).astype("float32"),
        "pixels": lambda: rng.integers(0, 3, images.shape[:3], "int32"),
    }[kind]()


def outputs_of(model, images):
    return model.predict_on_batch(images.astype("float32"))


def outputs_by_draw(model, images):
    """Outputs if the first patch of two is drawn, and if the second is."""
    found = {}
    while len(found) < 2 * len(images):
        outputs = outputs_of(model, images)
        # (batch, 1 row, 2 columns)
        drawn = outputs["corrupted"][:, 0].argmax(axis=-1)
        for image, patch in enumerate(drawn):
            given = outputs["predictions"][image]
            before = found.setdefault((patch, image), given)
            np.testing.assert_allclose(given, before, atol=1e-5)
    predictions = [
        [found[patch, image] for image in range(len(images))]
        for patch in range(2)
    ]
    return {"by_draw": np.array(predictions), "targets": outputs["targets"]}


def expectations(model, images):
    if isinstance(model.output, dict) and "corrupted" in model.output:
        return outputs_by_draw(model, images)
    outputs = outputs_of(model, images)
    if isinstance(outputs, dict):
        return {f"outputs/{key}": value for key, value in outputs.items()}
    return {"outputs": outputs}


def save(model, name):
    path = FOLDER / f"{name}.keras"
    model.save(path)
    with zipfile.ZipFile(path) as archive:
        entries = {each: archive.read(each) for each in archive.namelist()}
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for each, data in entries.items():
            archive.writestr(each, data)


def train(model, arguments, kind, images, rng):
    """Trains three batches, saves, and returns what must come back."""
    model.compile(**arguments)
    labels = () if kind is None else (labels_for(kind, images, rng),)
    for _ in range(3):
        model.train_on_batch(images.astype("float32"), *labels)
    numbers = [
        keras.ops.convert_to_numpy(variable).ravel()
        for variable in model.optimizer.variables
    ]
    # Counts of steps are small enough to be exact in float32.
    expected = {"optimizer": np.concatenate(numbers).astype("float32")}
    return expected | dict(zip(["labels"], labels))


def another_step(model, images, labels):
    before = outputs_of(model, images)
    model.reset_metrics()
    logs = model.train_on_batch(
        images.astype("float32"), labels, return_dict=True
    )
    after = outputs_of(model, images)
    assert np.abs(after - before).max() > 1e-2 * np.abs(before).max()
    logs = {f"logs/{key}": value for key, value in logs.items()}
    return {"next_outputs": after, **logs}


def write_models():
    expected = {}
    for name, make in (MODELS | COMPILED).items():
        rng = np.random.default_rng(list(name.encode()))
        keras.utils.set_random_seed(0)
        keras.utils.clear_session()
        make, *rest = make if isinstance(make, tuple) else (make,)
        model = make()
        fill(model, rng)
        images = images_for(model, rng)
        facts = {"images": images}
        if name in COMPILED:
            facts |= train(model, *rest, images, rng)
        elif rest:
            model = rest[0](model)
        facts |= expectations(model, images)
        save(model, name)
        # LoRA is merged in the file, and what is frozen inside a block learns
        # again when Keras has loaded it.
        if name not in ("lora", "frozen"):
            counts = [len(model.weights), len(model.trainable_weights)]
            facts["counts"] = np.array(counts)
        if "labels" in facts:
            facts |= another_step(model, images, facts["labels"])
        expected |= {f"{name}/{key}": value for key, value in facts.items()}
    return expected


def write_weights():
    model = vit(keras_vit.Variant(2, 8, 16, 2, patch_size=4))
    rng = np.random.default_rng(0)
    fill(model, rng)
    images = images_for(model, rng)
    model.save_weights(FOLDER / "vit.weights.h5")
    for format in ("official", "big_vision"):
        path = FOLDER / "checkpoints" / f"{format}.npz"
        keras_vit.export_checkpoint(model, path, format)
    for format in ("timm", "huggingface"):
        path = FOLDER / "checkpoints" / format
        keras_vit.export_checkpoint(model, path, format)
    return {
        "weights/images": images,
        "weights/outputs": outputs_of(model, images),
    }


def write_hub():
    import keras_vit.hub

    keras.utils.clear_session()
    rng = np.random.default_rng(1)
    maps = keras_vit.feature_map(vit())
    fill(maps, rng)
    model = keras_vit.hub.Backbone(maps, name="backbone")
    images = images_for(maps, rng)
    save(model, "hub_backbone")
    return {
        "hub_backbone/images": images,
        "hub_backbone/outputs": outputs_of(model, images),
    }


def named_in(value):
    """The registered classes that a configuration names."""
    if isinstance(value, dict):
        yield value.get("registered_name")
        value = list(value.values())
    if isinstance(value, list):
        yield from itertools.chain.from_iterable(map(named_in, value))


def main():
    assert keras_vit.__version__ == "0.1.0", keras_vit.__version__
    assert keras.backend.backend() == "jax"
    FOLDER.mkdir()  # never over files that are there
    (FOLDER / "checkpoints").mkdir()
    registered = {
        name
        for name in keras.saving.get_custom_objects()
        if name.startswith(PACKAGE)
    }
    lines = "".join(f"{name}\n" for name in sorted(registered))
    (FOLDER / "registered.txt").write_text(lines, encoding="utf-8")
    expected = write_models() | write_weights() | write_hub()
    np.savez_compressed(FOLDER / "expected.npz", **expected)

    named = set()
    for path in FOLDER.glob("*.keras"):
        with zipfile.ZipFile(path) as archive:
            named |= set(named_in(json.loads(archive.read("config.json"))))
    assert registered <= named, registered - named


if __name__ == "__main__":
    main()
