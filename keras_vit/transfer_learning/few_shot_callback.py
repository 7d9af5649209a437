"""Few-shot accuracy as a metric of `fit`."""

import contextlib

import keras

from keras_vit.arguments import check_positive
from keras_vit.transfer_learning.features import Extractor
from keras_vit.transfer_learning.few_shot import (
    L2,
    SEEDS,
    check_sequence,
    few_shot,
)


class FewShotEvaluation(keras.callbacks.Callback):
    """Evaluates the features of a model after each epoch of its training.

    The logs of the epoch gain `few_shot_5` and so on, the accuracies of
    `few_shot` at so many shots, mean over the seeds. Callbacks that read them,
    such as `ModelCheckpoint(monitor="few_shot_5", mode="max")` or
    `TensorBoard`, must come later in the list; `History` always does.

    Training goes on as it would have without: weights, optimizer and random
    numbers are left alone, and so is the epoch of a `PyDataset` that training
    reads from as well. Other kinds of data sets that shuffle count their
    passes: give the callback one of its own.

    Args:
        train: as in `few_shot`.
        test: as in `few_shot`.
        shots: an integer or a sequence of them.
        seeds: an integer or a sequence of them.
        l2: regularisation strength above 0.
        num_classes: number of classes. Defaults to the largest label of
            `train` and one more.
        batch_size: images a step, for arrays.
        every: evaluates after epochs `every`, `2 * every` and so on. Other
            epochs log nothing, of which `ModelCheckpoint` warns.
        name: what the names in the logs start with.
        verbose: progress bar, as in Keras.

    Raises:
        ValueError: if an argument breaks its rule; from `fit`, as `few_shot`.

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
        train,
        test,
        shots=(5,),
        seeds=SEEDS,
        l2=L2,
        *,
        num_classes=None,
        batch_size=32,
        every=1,
        name="few_shot",
        verbose=0,
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
        # One for all epochs, so that it is compiled once.
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
    """On PyTorch every pass over data draws from the global generator."""
    if keras.backend.backend() != "torch":
        return contextlib.nullcontext()
    import torch

    # Data loaders draw on the CPU alone.
    return torch.random.fork_rng(devices=[])
