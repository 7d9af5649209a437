"""What a model costs, and how well it does."""

from keras_vit.evaluation.cost import cost, exaflops
from keras_vit.evaluation.few_shot import few_shot
from keras_vit.evaluation.few_shot_callback import FewShotEvaluation
from keras_vit.evaluation.few_shot_result import FewShotResult
from keras_vit.evaluation.formulas import Cost
from keras_vit.evaluation.probes import linear_probe, nearest_neighbors
from keras_vit.evaluation.real import RealAccuracy, real_labels
from keras_vit.evaluation.vtab import vtab, vtab_finetuning
from keras_vit.evaluation.vtab_scores import VTABScores
from keras_vit.evaluation.vtab_tasks import VTABTask

__all__ = [
    "Cost",
    "FewShotEvaluation",
    "FewShotResult",
    "RealAccuracy",
    "VTABScores",
    "VTABTask",
    "cost",
    "exaflops",
    "few_shot",
    "linear_probe",
    "nearest_neighbors",
    "real_labels",
    "vtab",
    "vtab_finetuning",
]
