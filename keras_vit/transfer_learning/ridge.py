"""Ridge regression onto class labels, in closed form, in float64 on the host.

The numerics of few-shot evaluation, as in big_vision's `fewshot_lsr.py`:
features are standardised, a constant feature of 100 is appended, targets are
-1 and +1, and the smaller of two systems is solved:

    N >= D + 1:  W = (X'X + l2 I)^-1 X'Y         (D unknowns a class)
    N <  D + 1:  W = X'(XX' + l2 I)^-1 Y         (N unknowns a class)

The matrix of the larger system is never made. The solution is fast because
standardised features Z sum to zero over their rows:

- The constant feature is orthogonal to all others, so X'X falls into Z'Z and
  one number, and the bias of a class is known without a solver. Left in, it
  would be an eigenvalue of 10^4 N next to ones near zero.
- With the targets 2 * onehot - 1, Z'Y is twice the sums of Z over each class:
  additions instead of a matrix product.

Left out: mixed labels, and weights of examples.
"""

from collections.abc import Iterator, Sequence

import numpy as np

# `fewshot_lsr.py`, `_precompute_cache`: the constant feature, so large that
# `l2` hardly shrinks the bias, and what is added to a standard deviation.
BIAS_FEATURE = 100.0
EPSILON = 1e-5
# The most scores in memory at once.
BLOCK = 2**23


def standardize(
    features: np.ndarray,
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Returns standardised features, their mean and their scale.

    Args:
        features: array of shape `(num_examples, dim)`, float64, changed in
            place.

    Returns:
        Standardised features; and, each of shape `(dim,)`, their mean and
        their scale: the population standard deviation plus 1e-5.
    """
    mean = features.mean(axis=0)
    features -= mean
    squares = np.einsum("nd,nd->d", features, features)
    scale = np.sqrt(squares / len(features)) + EPSILON
    features /= scale
    return features, mean, scale


def ridge_classifiers(
    features: np.ndarray,
    labels: np.ndarray,
    num_classes: int,
    l2: Sequence[float],
) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Solves for one linear classifier per regularisation strength.

    Several strengths share one eigendecomposition, `A = Q diag(e) Q'`, which
    gives `(A + l2 I)^-1 B = Q diag(1 / (e + l2)) Q'B`. A single strength is
    solved for directly, which is faster and loses no digits.

    Args:
        features: array of shape `(num_examples, dim)`, float64. They are
            standardised here.
        labels: integers of shape `(num_examples,)` in `[0, num_classes)`.
        num_classes: number of classes.
        l2: sequence of strengths above 0, added to a sum over the examples,
            not to a mean.

    Yields:
        For each strength `kernel` of shape `(dim, num_classes)` and `bias` of
        shape `(num_classes,)`. They include standardisation and the constant
        feature: the scores of raw features are `features @ kernel + bias`.
    """
    num_examples, dim = features.shape
    order = np.argsort(labels, kind="stable")
    counts = np.bincount(labels, minlength=num_classes)
    rows, mean, scale = standardize(features[order])

    primal = num_examples >= dim + 1
    if primal:
        system = rows.T @ rows
        targets = 2 * _sums_of_classes(rows, counts).T
    else:
        system = rows @ rows.T
        # 2 * onehot suffices: the rows are orthogonal to a constant -1.
        targets = np.zeros((num_examples, num_classes))
        targets[np.arange(num_examples), labels[order]] = 2
    for strength, solution in zip(l2, _solve(system, targets, l2)):
        kernel = solution if primal else rows.T @ solution
        kernel /= scale[:, None]
        bias = (2 * counts - num_examples) / (
            num_examples + strength / BIAS_FEATURE**2
        )
        yield kernel, bias - mean @ kernel


def accuracy(
    features: np.ndarray,
    labels: np.ndarray,
    kernel: np.ndarray,
    bias: np.ndarray,
) -> float:
    """Returns the share of examples whose class has the highest score.

    Args:
        features: array of shape `(num_examples, dim)`.
        labels: integers of shape `(num_examples,)`.
        kernel: array of shape `(dim, num_classes)`.
        bias: array of shape `(num_classes,)`.

    Returns:
        A float in [0, 1].
    """
    correct = 0
    step = max(1, BLOCK // len(bias))
    for start in range(0, len(features), step):
        scores = features[start : start + step] @ kernel
        scores += bias
        hits = scores.argmax(axis=1) == labels[start : start + step]
        correct += np.count_nonzero(hits)
    return correct / len(features)


def _sums_of_classes(rows, counts):
    """Sums of rows that are sorted by class: (num_classes, dim)."""
    ends = np.cumsum(counts)
    # Several times faster than `np.add.reduceat` along the first axis.
    return np.stack(
        [rows[end - n : end].sum(axis=0) for n, end in zip(counts, ends)]
    )


def _solve(matrix, targets, l2):
    """Yields `(matrix + l2 I)^-1 targets` for each of `l2`."""
    if len(l2) == 1:
        matrix.flat[:: len(matrix) + 1] += l2[0]
        yield np.linalg.solve(matrix, targets)
        return
    values, vectors = np.linalg.eigh(matrix)
    projected = vectors.T @ targets
    for strength in l2:
        yield vectors @ (projected / (values + strength)[:, None])
