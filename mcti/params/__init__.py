"""The one source of settings: `params.yaml` as frozen, checked objects.

Every key has a unit in its name or in its description; an unknown key is an error with a suggestion. A command line
flag or a pipeline parameter only overrides a key by its dotted path (`--set train.epochs=5`).
"""

from mcti.params.base import Params
from mcti.params.cluster import ClusterParams, NodeParams, QuotaParams, TaskParams, TaskTable, TolerationParams
from mcti.params.reading import Settings, check, from_json, load
from mcti.params.steps import (
    BinParams,
    EvaluateParams,
    ExplainParams,
    ExtractParams,
    IngestParams,
    MonitorParams,
    PredictParams,
    PromoteParams,
    RegisterParams,
    SearchParams,
    ServeParams,
    SplitParams,
    TissueParams,
    TrainParams,
    ValidateParams,
)

__all__ = [
    "BinParams",
    "ClusterParams",
    "EvaluateParams",
    "ExplainParams",
    "ExtractParams",
    "IngestParams",
    "MonitorParams",
    "NodeParams",
    "Params",
    "PredictParams",
    "PromoteParams",
    "QuotaParams",
    "RegisterParams",
    "SearchParams",
    "ServeParams",
    "Settings",
    "SplitParams",
    "TaskParams",
    "TaskTable",
    "TissueParams",
    "TolerationParams",
    "TrainParams",
    "ValidateParams",
    "check",
    "from_json",
    "load",
]
