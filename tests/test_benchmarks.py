"""The figures of transfer come from code that runs: each function, once."""

import pathlib
import sys

import keras
import numpy as np
import pytest

import keras_vit

BENCHMARKS = pathlib.Path(__file__).parents[1] / "benchmarks"


@pytest.fixture(scope="module")
def modules():
    sys.path.insert(0, str(BENCHMARKS))
    try:
        import transfer
        import transfer_page

        yield transfer, transfer_page
    finally:
        sys.path.remove(str(BENCHMARKS))


@pytest.fixture
def transfer(modules, monkeypatch):
    """The script with a network of one small block and batches of eight."""
    module = modules[0]
    variant = keras_vit.Variant(1, 8, 16, 2, patch_size=16)
    monkeypatch.setattr(module, "VARIANT", variant)
    monkeypatch.setattr(
        module, "pretrained", lambda dtype=None: module.build(dtype=dtype)
    )
    monkeypatch.setattr(module, "BATCH", 8)
    monkeypatch.setattr(module, "PRETRAINING_BATCH", 8)
    monkeypatch.setattr(module, "IMAGES_A_CLASS", 2)
    monkeypatch.setattr(module, "SEEDS", (0, 1))
    return module


@pytest.fixture
def data(rng):
    images = rng.integers(0, 256, (20, 32, 32, 3)).astype("uint8")
    return images, np.arange(20) % 10


def test_masked_pretraining_changes_the_network(transfer, data, tmp_path):
    keras.utils.set_random_seed(0)
    before = transfer.build().get_weights()
    keras.utils.set_random_seed(0)
    model, log = transfer.masked(data[0], 1, tmp_path)
    changed = [(x != y).any() for x, y in zip(before, model.get_weights())]
    assert any(changed) and set(log) >= {"loss", "accuracy"}


def test_fine_tuning_tries_the_rates_on_one_seed(transfer, data, tmp_path):
    result = transfer.finetuned(
        lambda: transfer.build(10), (data, data), [1e-3, 1e-2], 1, "x", tmp_path
    )
    assert len(result["accuracies"]) == 2
    assert result["learning_rate"] in (1e-3, 1e-2)
    assert (
        len((tmp_path / "x_1_steps.csv").read_text("utf-8").splitlines()) == 3
    )


def test_few_shot_accuracies_are_listed_by_shots(transfer, data):
    features = np.eye(10)[data[1]], data[1]
    found = transfer.accuracies(None, features, features, (1, 2))
    assert found == {"1": [1.0, 1.0], "2": [1.0, 1.0]}


def test_enlarged_images_keep_a_constant(transfer):
    images = np.full((2, 32, 32, 3), 77, "uint8")
    larger = transfer.enlarged(images, 48)
    assert larger.shape == (2, 48, 48, 3) and larger.dtype == "uint8"
    assert (larger == 77).all()


def test_the_page_says_who_is_above(modules):
    _, page = modules
    assert page.compared([0.5, 0.5], [0.25, 0.25]) == "25.0 points above"
    assert "within the spread" in page.compared([0.1, 0.4], [0.2, 0.2])
    assert page.spread([0.1, 0.3]) == "20.0 ± 10.0"


def test_a_page_marks_what_is_missing(modules):
    _, page = modules
    scores = {str(k): [0.5, 0.5] for k in (1, 5, 10, 25)}
    lower = {str(k): [0.2, 0.2] for k in (1, 5, 10, 25)}
    result = {
        "parameters": 1234,
        "cifar100_accuracy": 0.3,
        "pretrained": scores,
        "untrained": lower,
        "pixels": lower,
        "minutes": 1.0,
        "backend": "torch",
        "dtype": "float32",
    }
    text = page.page(result, None, None, None)
    assert text.count(page.NOT_RUN) == 3
    assert "| 5 | 50.0 ± 0.0 | 20.0 ± 0.0 | 20.0 ± 0.0 |" in text
    with pytest.raises(ValueError, match="No part"):
        page.page(None, None, None, None)


@pytest.mark.slow
def test_all_parts_leave_a_page(transfer, modules, tmp_path, monkeypatch, rng):
    def load(name):
        count = {"cifar10": 10, "cifar100": 100}[name]
        labels = np.tile(np.arange(count), 2)
        images = rng.integers(0, 256, (len(labels), 32, 32, 3))
        return ((images.astype("uint8"), labels),) * 2

    monkeypatch.setattr(keras_vit.data, "load", load)
    path = tmp_path / "transfer.md"
    monkeypatch.setattr(
        transfer,
        "write_page",
        lambda folder, _: modules[1].write_page(folder, path),
    )
    arguments = (
        f"--part all --report --masked-epochs 1 --steps 1 "
        f"--rates 0.001 --dtype float32 --folder {tmp_path}"
    )
    monkeypatch.setattr(sys, "argv", ["transfer.py", *arguments.split()])
    transfer.main()
    text = path.read_text("utf-8")
    assert modules[1].NOT_RUN not in text and "nan" not in text
    assert {f"{name}.json" for name in "abcd"} <= {
        file.name for file in tmp_path.iterdir()
    }
    transfer.main()  # nothing is computed again
    assert path.read_text("utf-8") == text


def test_a_leak_shows_in_the_page_of_the_soak(modules, tmp_path):
    """A model leaves 2 kB, and every fourth a file; the first fifth, more."""
    import soak

    def sample(i):
        memory = 100 + 10 * i / 1024 + (0 if i >= 200 else -50)
        return [i, 5 * i, 50 * i, memory, 8 + 5 * i // 4, 3]

    note = {"samples": [sample(i) for i in range(1001)], "versions": "JAX 1"}
    found = soak.summary(note["samples"])
    assert found["a_model"] == pytest.approx(2)
    assert found["models"] == 5000 and found["minutes"] == 1000 / 60
    # Sample 300 and those before and after 900.5, the middles of the first and
    # of the last quarter of what follows the warm-up.
    assert found["files"] == (8 + 375, 8 + 1125) and found["threads"] == (3, 3)
    row = "| jax | 17 | 5,000 | 50,000 | 103 to 109 | +2 | 383 to 1133 | 3 to 3"
    assert row in soak.page({"jax": note})
    soak.draw({"jax": note}, tmp_path / "soak.svg")
    assert "jax" in (tmp_path / "soak.svg").read_text("utf-8")
