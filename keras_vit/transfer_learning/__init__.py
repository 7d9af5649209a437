"""From a pre-trained model to another task.

To change a model: `transfer` (a new head, another resolution), `freezing`,
`lora`. To choose settings: `grid_search`. To judge features: `few_shot` with
`ridge`, which is the paper's own evaluation, and `probes`. `vtab` and its data
are a protocol of 19 tasks, `real` is the metric of ImageNet-ReaL.
"""

from keras_vit.transfer_learning.few_shot import few_shot
from keras_vit.transfer_learning.few_shot_callback import FewShotEvaluation
from keras_vit.transfer_learning.few_shot_result import FewShotResult
from keras_vit.transfer_learning.freezing import (
    freeze,
    layer_wise_learning_rates,
)
from keras_vit.transfer_learning.grid_search import GridSearch, grid_search
from keras_vit.transfer_learning.lora import enable_lora
from keras_vit.transfer_learning.probes import linear_probe, nearest_neighbors
from keras_vit.transfer_learning.transfer import transfer
from keras_vit.transfer_learning.vtab import vtab, vtab_finetuning
from keras_vit.transfer_learning.vtab_scores import VTABScores
from keras_vit.transfer_learning.vtab_tasks import VTABTask

__all__ = [
    "FewShotEvaluation",
    "FewShotResult",
    "GridSearch",
    "VTABScores",
    "VTABTask",
    "enable_lora",
    "few_shot",
    "freeze",
    "grid_search",
    "layer_wise_learning_rates",
    "linear_probe",
    "nearest_neighbors",
    "transfer",
    "vtab",
    "vtab_finetuning",
]
