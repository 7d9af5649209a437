"""What a few-shot evaluation returns: a table, a data frame, a figure."""

import dataclasses
from typing import TYPE_CHECKING

import numpy as np

from keras_vit.extras import require

if TYPE_CHECKING:
    import pandas
    from matplotlib.figure import Figure


@dataclasses.dataclass(frozen=True, eq=False)
class FewShotResult:
    """Accuracies by number of shots and by seed.

    `print` shows a table of means and population standard deviations over the
    seeds (0 for a single seed).

    Args:
        accuracies: array of shape `(len(shots), len(seeds))`, each in [0, 1],
            the share of test images that were classified correctly. For a
            sequence of `l2`, of shape `(len(l2), len(shots), len(seeds))`.
        shots: training images of each class, at most.
        seeds: seeds with which the training images were drawn.
        num_classes: number of classes.
        num_test: number of test images.
        l2: regularisation strength, or a tuple of them; `None` for methods
            without it.

    Example:

    >>> features = np.array([[0.0, 1], [0, 2], [3, 0], [4, 0]])
    >>> data = features, [0, 0, 1, 1]
    >>> result = keras_vit.few_shot(None, data, data, shots=(1, 2))
    >>> print(result)
    accuracy on 4 test images, classes: 2, seeds: 3
    shots     mean      std
        1   1.0000   0.0000
        2   1.0000   0.0000
    >>> result.mean
    array([1., 1.])
    """

    accuracies: np.ndarray
    shots: tuple[int, ...]
    seeds: tuple[int, ...]
    num_classes: int
    num_test: int
    l2: float | tuple[float, ...] | None = None

    @property
    def mean(self) -> np.ndarray:
        """Mean over the seeds, of shape `accuracies.shape[:-1]`."""
        return self.accuracies.mean(axis=-1)

    @property
    def std(self) -> np.ndarray:
        """Population standard deviation over the seeds, shaped like `mean`."""
        return self.accuracies.std(axis=-1)

    @property
    def chance(self) -> float:
        """Accuracy of guessing uniformly: `1 / num_classes`."""
        return 1 / self.num_classes

    def best_l2(self) -> float:
        """Returns the strength with the highest mean accuracy.

        The mean is over shots and seeds. The choice depends on the images
        that were given as `test`: to report a test accuracy, choose on images
        held out from training, and evaluate once more with that strength.

        Returns:
            One of `l2`; of equally good ones the largest.

        Raises:
            ValueError: if there was a single strength.

        Example:

        ```python
        l2 = keras_vit.few_shot(
            model, train, validation, l2=(64, 1024, 16384)
        ).best_l2()
        print(keras_vit.few_shot(model, train, test, l2=l2))
        ```
        """
        if not isinstance(self.l2, tuple):
            raise ValueError(
                "`best_l2` needs an evaluation with a sequence of `l2`. "
                f"Received: l2={self.l2}"
            )
        means = self.accuracies.mean(axis=(1, 2))
        return max(zip(means, self.l2))[1]

    def __str__(self):
        lines = [
            f"accuracy on {self.num_test:,} test images, classes: "
            f"{self.num_classes:,}, seeds: {len(self.seeds)}"
        ]
        swept = isinstance(self.l2, tuple)
        lines.append(f"{'l2':>12}   " * swept + f"shots {'mean':>8} {'std':>8}")
        for l2, means, stds in zip(*self._by_l2(self.mean, self.std)):
            for shots, mean, std in zip(self.shots, means, stds):
                lines.append(
                    (f"{l2:>12g}   " if swept else "")
                    + f"{shots:>5} {mean:>8.4f} {std:>8.4f}"
                )
        return "\n".join(lines)

    def to_frame(self) -> "pandas.DataFrame":
        """Returns a pandas data frame with one row for each accuracy.

        Returns:
            A `pandas.DataFrame` with the columns `l2` (if the method has one),
            `shots`, `seed` and `accuracy`.

        Raises:
            ImportError: if pandas is not installed.
        """
        pandas = require("pandas", None, "Data frames need pandas")
        rows = [
            {"l2": l2, "shots": shots, "seed": seed, "accuracy": accuracy}
            for l2, table in zip(*self._by_l2(self.accuracies))
            for shots, row in zip(self.shots, table)
            for seed, accuracy in zip(self.seeds, row)
        ]
        frame = pandas.DataFrame(rows)
        return frame if self.l2 is not None else frame.drop(columns="l2")

    def plot(self) -> "Figure":
        """Draws accuracy against shots, one line for each strength.

        Dots are means over the seeds, bars are one standard deviation to each
        side, the dashed line is chance.

        Returns:
            A `matplotlib.figure.Figure`.

        Raises:
            ImportError: if Matplotlib is not installed.
        """
        module = require("matplotlib.figure", "viz", "Figures need Matplotlib")
        # Without pyplot, which would keep it open and show it a second time.
        figure = module.Figure(figsize=(5, 3.5), layout="constrained")
        axes = figure.add_subplot()
        order = np.argsort(self.shots)
        shots = np.array(self.shots)[order]
        for l2, mean, std in zip(*self._by_l2(self.mean, self.std)):
            axes.errorbar(
                shots,
                mean[order],
                std[order],
                marker="o",
                capsize=3,
                label=None if l2 is None else f"l2 = {l2:g}",
            )
        axes.axhline(
            self.chance,
            color="gray",
            linestyle="--",
            label=f"chance, 1 in {self.num_classes:,}",
        )
        axes.set_xscale("log")
        axes.set_xticks(shots, [str(number) for number in shots])
        axes.minorticks_off()
        axes.set_ylim(0, 1.02)
        axes.set_xlabel("shots (training images per class)")
        axes.set_ylabel("accuracy (fraction of test images)")
        axes.legend()
        return figure

    def _by_l2(self, *arrays):
        """The strengths, and each array with an axis for them in front."""
        if isinstance(self.l2, tuple):
            return self.l2, *arrays
        return (self.l2,), *(array[None] for array in arrays)
