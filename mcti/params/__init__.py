"""The settings: `params.yaml` as frozen, validated objects.

Every key has a unit in its name or in its description; an unknown key is an error with a suggestion. Command line
flags and pipeline parameters override keys by their dotted path (`--set train.epochs=5`).
"""

from mcti.params.architecture import ArchitectureParams
from mcti.params.base import Params
from mcti.params.cluster import ClusterParams, NodeParams, QuotaParams, TaskParams, TaskTable, TolerationParams
from mcti.params.data import IngestParams, SplitParams, ValidateParams
from mcti.params.evaluation import EvaluateParams, ExplainParams, TestParams
from mcti.params.reading import check, from_json, load
from mcti.params.registry import PromoteParams, RegisterParams
from mcti.params.search import SearchParams
from mcti.params.serving import MonitorParams, PredictParams, ServeParams
from mcti.params.settings import Settings
from mcti.params.slides import ExtractParams, ImportParams, TissueParams
from mcti.params.training import BinParams, TrainParams
from mcti.params.trust import TrustParams

__all__ = [
    "ArchitectureParams",
    "BinParams",
    "ClusterParams",
    "EvaluateParams",
    "ExplainParams",
    "ExtractParams",
    "ImportParams",
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
    "TestParams",
    "TissueParams",
    "TolerationParams",
    "TrainParams",
    "TrustParams",
    "ValidateParams",
    "check",
    "from_json",
    "load",
]
