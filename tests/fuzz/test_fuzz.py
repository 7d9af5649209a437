"""A few seeded inputs for every reader, and files that once were trouble."""

import pathlib

import pytest
from fuzzer import FILE_KINDS, Fuzzer

import keras_vit

CORPUS = sorted((pathlib.Path(__file__).parent / "corpus").iterdir())
INPUTS = 20  # of each kind; `make fuzz` runs many


@pytest.fixture(scope="module")
def fuzzer(tmp_path_factory):
    return Fuzzer(tmp_path_factory.mktemp("fuzz"))


@pytest.mark.parametrize("kind", [*FILE_KINDS, "arguments"])
def test_damaged_inputs(kind, fuzzer):
    if kind not in fuzzer.kinds:
        pytest.skip("PyTorch is not installed")
    faults, errors = {}, set()
    for seed in range(INPUTS):
        outcome = fuzzer.run(kind, seed)
        errors.add(outcome.error)
        # A shared machine stalls, and so do first imports.
        if outcome.fault and not outcome.fault.startswith("took"):
            faults[seed] = outcome.fault
    assert not faults
    # Most are damaged, and not all at the door.
    assert errors & {"CheckpointError", "ValueError"} and len(errors) > 1


def test_the_same_seed_is_the_same_input(fuzzer):
    contents = []
    for _ in range(2):
        fuzzer.run("npz", 7)
        contents.append((fuzzer.inputs / "weights.npz").read_bytes())
    assert contents[0] == contents[1]


@pytest.mark.parametrize("file", CORPUS, ids=lambda file: file.name)
def test_files_that_once_were_trouble(file, tmp_path):
    """Each raised another class, or took seconds or gigabytes."""
    if file.suffix == ".pth":
        pytest.importorskip("torch")
    with pytest.raises(keras_vit.CheckpointError, match="corpus"):
        keras_vit.from_checkpoint(file, num_heads=1, verbose=0)


def test_the_corpus_is_small():
    assert CORPUS
    assert sum(file.stat().st_size for file in CORPUS) < 10_000
