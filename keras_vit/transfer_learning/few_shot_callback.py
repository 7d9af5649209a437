"""Few-shot accuracy as a metric of `fit`."""

import contextlib
from collections.abc import Sequence

import keras

from keras_vit.arguments import check_positive
from keras_vit.transfer_learning.features import Data, Extractor, Verbose
from keras_vit.transfer_learning.few_shot import (
    L2,
    SEEDS,
    check_sequence,
    few_shot,
)


class FewShotEvaluation(keras.callbacks.Callback):
    """Evaluates the features of a model after each epoch of its training.

    It adds the mean accuracies of `few_shot` over the seeds to the logs of the
    epoch, as `few_shot_5` for 5 shots. Callbacks that read them, such as
    `ModelCheckpoint(monitor="few_shot_5", mode="max")` or `TensorBoard`, must
    come later in the list; `History` always does.

    Training goes on as it would without the callback, which changes neither
    weights, optimizer and random numbers nor the epoch of a `PyDataset` that
    training reads from too. Other kinds of data sets that shuffle count their
    passes: give the callback a data set of its own.

    Args:
        train: as in `few_shot`.
        test: as in `few_shot`.
        shots: an integer or a sequence of them.
        seeds: an integer or a sequence of them.
        l2: regularisation strength above 0.
        num_classes: number of classes. Defaults to the largest label of
            `train` and one more.
        batch_size: images in a step, for arrays.
        every: evaluate after epochs `every`, `2 * every` and so on. Other
            epochs log nothing, and `ModelCheckpoint` warns about that.
        name: start of the names in the logs.
        verbose: progress bar, as in Keras.

    Raises:
        ValueError: if an argument breaks its rule; in `fit`, as in `few_shot`.

    Example:

    ```python
    model.fit(
        images,
        epochs=10,
        callbacks=[
            keras_vit.transfer_learning.FewShotEvaluation(
                train, test, shots=(5, 10)
            ),
            keras.callbacks.ModelCheckpoint(
                "best.keras",
                monitor="few_shot_5",
                mode="max",
                save_best_only=True,
            ),
        ],
    )
    ```
    """

    def __init__(
        self,
        train: Data,
        test: Data,
        shots: int | Sequence[int] = (5,),
        seeds: int | Sequence[int] = SEEDS,
        l2: float = L2,
        *,
        num_classes: int | None = None,
        batch_size: int = 32,
        every: int = 1,
        name: str = "few_shot",
        verbose: Verbose = 0,
    ):
        super().__init__()
        self.shots = check_sequence("shots", shots, check_positive)
        self.every = check_positive("every", every)
        self.name = name
        self.arguments = {
            "train": train,
            "test": test,
            "shots": self.shots,
            "seeds": seeds,
            "l2": l2,
            "num_classes": num_classes,
            "batch_size": batch_size,
            "verbose": verbose,
        }
        self._extractor = (None, None)

    def on_epoch_end(self, epoch, logs=None):
        if (epoch + 1) % self.every:
            return
        # The same in all epochs, so that it is compiled once.
        model, extractor = self._extractor
        if model is not self.model:
            extractor = Extractor(self.model)
            self._extractor = (self.model, extractor)
        with _random_state_kept():
            result = few_shot(extractor, **self.arguments)
        if logs is not None:
            for shots, mean in zip(result.shots, result.mean):
                logs[f"{self.name}_{shots}"] = float(mean)


def _random_state_kept():
    """Restores PyTorch's generator, from which every pass over data draws."""
    if keras.backend.backend() != "torch":
        return contextlib.nullcontext()
    import torch

    # Data loaders draw on the CPU.
    return torch.random.fork_rng(devices=[])
