"""`model.fit` with whatever Keras takes: sources of data, modes, resuming."""

import keras
import numpy as np
import pytest
from helpers import EAGER, to_numpy

import keras_vit

IMAGES, CLASSES, BATCH = 16, 3, 4


@pytest.fixture
def data(rng):
    """Images whose mean brightness is the label: learnt in a few steps."""
    labels = np.arange(IMAGES) % CLASSES
    images = rng.uniform(0, 60, (IMAGES, 8, 8, 3))
    images += 90.0 * labels[:, None, None, None]
    return images.astype("float32"), labels.astype("int32")


@pytest.fixture
def model():
    variant = keras_vit.Variant(1, 16, 32, 2, patch_size=4)
    return keras_vit.ViT(variant, image_size=8, num_classes=CLASSES)


@pytest.fixture(scope="module")
def compiled():
    """Gives one model, compiled once, as if it were new."""
    keras.utils.set_random_seed(0)
    variant = keras_vit.Variant(1, 16, 32, 2, patch_size=4)
    model = keras_vit.ViT(variant, image_size=8, num_classes=CLASSES)
    model.compile(**recipe())
    model.optimizer.build(model.trainable_variables)
    variables = [*model.variables, *model.optimizer.variables]
    start = [to_numpy(variable).copy() for variable in variables]

    def renew():
        for variable, value in zip(variables, start):
            variable.assign(value)
        return model

    return renew


def recipe(epochs=8, **options):
    steps = keras_vit.recipes.total_steps(IMAGES, BATCH, epochs)
    return keras_vit.recipes.adamw(
        steps, learning_rate=1e-2, warmup_steps=2, **options
    )


class Batches(keras.utils.PyDataset):
    def __init__(self, images, labels):
        super().__init__()
        self.images, self.labels = images, labels

    def __len__(self):
        return IMAGES // BATCH

    def __getitem__(self, index):
        batch = slice(index * BATCH, (index + 1) * BATCH)
        return self.images[batch], self.labels[batch]


def as_arrays(images, labels):
    return {"x": images, "y": labels, "batch_size": BATCH}


def as_py_dataset(images, labels):
    return {"x": Batches(images, labels)}


def as_array_dataset(images, labels):
    return {"x": keras_vit.ArrayDataset(images, labels, BATCH)}


def as_generator(images, labels):
    batches = Batches(images, labels)

    def endless():
        while True:
            for index in range(len(batches)):
                yield batches[index]

    return {"x": endless(), "steps_per_epoch": len(batches)}


def as_tf_data(images, labels):
    tf = pytest.importorskip("tensorflow")
    dataset = tf.data.Dataset.from_tensor_slices((images, labels))
    return {"x": dataset.batch(BATCH)}


def as_torch_loader(images, labels):
    torch = pytest.importorskip("torch")
    dataset = torch.utils.data.TensorDataset(
        torch.as_tensor(images), torch.as_tensor(labels)
    )
    return {"x": torch.utils.data.DataLoader(dataset, batch_size=BATCH)}


def as_grain(images, labels):
    grain = pytest.importorskip("grain")
    dataset = grain.MapDataset.source(list(zip(images, labels)))
    # Keras asks grain for a length, and a map dataset's is one epoch.
    batches = dataset.repeat(8).batch(BATCH)
    return {"x": batches, "steps_per_epoch": IMAGES // BATCH}


# Keras notes that it cannot shuffle what is a stream already.
@pytest.mark.filterwarnings("ignore:`shuffle=True` was passed:UserWarning")
@pytest.mark.parametrize(
    "source",
    [
        as_arrays,
        as_py_dataset,
        as_array_dataset,
        as_generator,
        as_tf_data,
        as_torch_loader,
        as_grain,
    ],
)
def test_fit_learns_from_every_source(source, data, compiled):
    history = compiled().fit(**source(*data), epochs=8, verbose=0).history
    assert history["loss"][-1] < 0.7 * history["loss"][0]


# Compiled in float32 is what all other tests here do.
@pytest.mark.parametrize(
    "jit_compile, dtype",
    [(True, "mixed_bfloat16"), (False, "float32")],
)
def test_compiled_and_not(jit_compile, dtype, data):
    if jit_compile and keras.backend.backend() == "torch":
        pytest.skip("torch.compile needs a C++ compiler on the user's side")
    variant = keras_vit.Variant(1, 16, 32, 2, patch_size=4)
    model = keras_vit.ViT(
        variant, image_size=8, num_classes=CLASSES, dtype=dtype
    )
    model.compile(**recipe(), jit_compile=jit_compile)
    history = model.fit(**as_arrays(*data), epochs=8, verbose=0).history
    assert history["loss"][-1] < 0.7 * history["loss"][0]


def test_dropout_and_augmentation_train(data):
    variant = keras_vit.Variant(2, 16, 32, 2, patch_size=4)
    model = keras_vit.ViT(
        variant,
        image_size=8,
        num_classes=CLASSES,
        dropout=0.1,
        stochastic_depth=0.1,
    )
    model.compile(**recipe(polyak=0.9))
    history = model.fit(**as_arrays(*data), epochs=8, verbose=0).history
    assert history["loss"][-1] < 0.9 * history["loss"][0]


def test_a_saved_model_goes_on_training(data, model, tmp_path):
    """Optimizer, schedule and exclusions from weight decay are in the file."""
    model.compile(**recipe())
    model.fit(**as_arrays(*data), epochs=2, verbose=0)
    model.save(tmp_path / "model.keras")
    loaded = keras.models.load_model(tmp_path / "model.keras")
    for trained in (model, loaded):
        trained.fit(**as_arrays(*data), shuffle=False, epochs=1, verbose=0)
    for given, expected in zip(loaded.weights, model.weights):
        np.testing.assert_allclose(
            to_numpy(given), to_numpy(expected), atol=1e-6
        )


def test_freezing_holds_the_lower_layers(data, model):
    keras_vit.freeze(model, up_to="patch_encoder")
    before = {w.path: to_numpy(w).copy() for w in model.weights}
    model.compile(**recipe(), **EAGER)
    model.fit(**as_arrays(*data), epochs=1, verbose=0)
    for weight in model.weights:
        frozen = weight.path.startswith("patch_encoder")
        same = (to_numpy(weight) == before[weight.path]).all()
        assert same == frozen or weight.path.endswith("attention/key/bias")


def test_layer_wise_rates_reach_every_block(data, model):
    rates = keras_vit.transfer_learning.layer_wise_learning_rates(
        model, decay=0.5
    )
    assert rates["head"] == 1.0
    assert rates["block_00"] == 0.5
    assert rates["patch_encoder"] == 0.25
    model.compile(**recipe(learning_rate_multipliers=rates), **EAGER)
    history = model.fit(**as_arrays(*data), epochs=4, verbose=0).history
    assert history["loss"][-1] < history["loss"][0]
