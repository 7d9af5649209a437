"""What a few-shot evaluation returns: a table, a data frame, a figure."""

import dataclasses

import numpy as np


@dataclasses.dataclass(frozen=True, eq=False)
class FewShotResult:
    """Accuracies by number of shots and by seed.

    `print` shows them as a table: mean and standard deviation over the seeds
    (the population one, as NumPy's default; 0 for a single seed).

    Args:
        accuracies: array of shape `(len(shots), len(seeds))`, each in [0, 1],
            the share of test images that were classified rightly. Where a
            sequence of `l2` was asked for, `(len(l2), len(shots),
            len(seeds))`.
        shots: training images of each class, at most.
        seeds: seeds that the training images were drawn with.
        num_classes: number of classes.
        num_test: number of test images.
        l2: regularisation strength, or a tuple of them; `None` for methods
            that have none.

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
    shots: tuple
    seeds: tuple
    num_classes: int
    num_test: int
    l2: float | tuple | None = None

    @property
    def mean(self):
        """Mean over the seeds, of shape `accuracies.shape[:-1]`."""
        return self.accuracies.mean(axis=-1)

    @property
    def std(self):
        """Population standard deviation over the seeds, shaped as `mean`."""
        return self.accuracies.std(axis=-1)

    @property
    def chance(self):
        """Accuracy of guessing, each class alike: `1 / num_classes`."""
        return 1 / self.num_classes

    def best_l2(self):
        """Returns the strength with the highest mean accuracy.

        The mean is over shots and seeds. The choice is made on the images
        that were given as `test`: to report a test accuracy, choose on images
        held out from training, and evaluate once more with what was chosen.

        Returns:
            One of `l2`; of equals, the largest.

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

    def to_frame(self):
        """Returns a pandas data frame, one row an accuracy.

        Returns:
            A `pandas.DataFrame` with the columns `l2` (where the method has
            one), `shots`, `seed` and `accuracy`.

        Raises:
            ImportError: if pandas is not installed.
        """
        try:
            import pandas
        except ImportError as error:
            raise ImportError(
                "Data frames need pandas, which is not installed: "
                "pip install pandas"
            ) from error
        rows = [
            {"l2": l2, "shots": shots, "seed": seed, "accuracy": accuracy}
            for l2, table in zip(*self._by_l2(self.accuracies))
            for shots, row in zip(self.shots, table)
            for seed, accuracy in zip(self.seeds, row)
        ]
        frame = pandas.DataFrame(rows)
        return frame if self.l2 is not None else frame.drop(columns="l2")

    def plot(self):
        """Draws accuracy against shots, one line for each strength.

        Dots are means over the seeds, bars one standard deviation to each
        side, the dashed line is chance.

        Returns:
            A `matplotlib.figure.Figure`.

        Raises:
            ImportError: if matplotlib is not installed.
        """
        try:
            from matplotlib.figure import Figure
        except ImportError as error:
            raise ImportError(
                "Figures need matplotlib, which is not installed: "
                'pip install "keras-vit[viz]"'
            ) from error
        # Not of pyplot, which would keep it open and show it a second time.
        figure = Figure(figsize=(5, 3.5), layout="constrained")
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
