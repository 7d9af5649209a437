"""A file of another library opened by itself, and held against that library."""

import warnings

import numpy as np
from helpers import outputs_of

import keras_vit


def opened(path, **arguments):
    """The model of a file, and what was said on the way."""
    with warnings.catch_warnings(record=True) as notes:
        warnings.simplefilter("always")
        model = keras_vit.from_checkpoint(path, verbose=0, **arguments)
    return model, " ".join(str(note.message) for note in notes)


def assert_agrees(model, value, photographs, statistics):
    """To 1e-5 of the largest value, where images differ by far more."""
    import torch

    known = keras_vit.preprocessing.get(statistics)
    x = (photographs / 255 - np.array(known.mean)) / np.array(known.std)
    x = torch.from_numpy(x.transpose(0, 3, 1, 2).copy()).float()
    with torch.no_grad():
        expected = value(x).numpy()
    given = outputs_of(model, photographs)
    assert given.shape == expected.shape
    largest = np.abs(expected).max()
    assert np.abs(expected[0] - expected[1]).max() > 1e-2 * largest
    np.testing.assert_allclose(given, expected, atol=1e-5 * largest)
