"""All sections of params.yaml."""

from pydantic import Field

from mcti.params.base import Params
from mcti.params.cluster import ClusterParams
from mcti.params.data import IngestParams, SplitParams, ValidateParams
from mcti.params.evaluation import EvaluateParams, ExplainParams
from mcti.params.registry import PromoteParams, RegisterParams
from mcti.params.serving import MonitorParams, PredictParams, ServeParams
from mcti.params.slides import ExtractParams
from mcti.params.training import SearchParams, TrainParams


class Settings(Params):
    """All of params.yaml."""

    ingest: IngestParams = IngestParams()
    validation: ValidateParams = Field(ValidateParams(), alias="validate")
    extract: ExtractParams = ExtractParams()
    split: SplitParams = SplitParams()
    search: SearchParams = SearchParams()
    train: TrainParams = TrainParams()
    evaluate: EvaluateParams = EvaluateParams()
    register_: RegisterParams = Field(RegisterParams(), alias="register")
    promote: PromoteParams = PromoteParams()
    explain: ExplainParams = ExplainParams()
    predict: PredictParams = PredictParams()
    serve: ServeParams = ServeParams()
    monitor: MonitorParams = MonitorParams()
    cluster: ClusterParams = ClusterParams()
