"""All sections of params.yaml."""

from typing import Self

from pydantic import Field, model_validator

from mcti.params.base import Params, refuse_text
from mcti.params.cluster import ClusterParams
from mcti.params.data import IngestParams, SplitParams, ValidateParams
from mcti.params.evaluation import EvaluateParams, ExplainParams, TestParams
from mcti.params.registry import PromoteParams, RegisterParams
from mcti.params.search import SearchParams, check_space
from mcti.params.serving import MonitorParams, PredictParams, ServeParams
from mcti.params.slides import ExtractParams
from mcti.params.training import TrainParams
from mcti.params.trust import TrustParams


class Settings(Params):
    """All of params.yaml."""

    ingest: IngestParams = IngestParams()
    validation: ValidateParams = Field(ValidateParams(), alias="validate")
    extract: ExtractParams = ExtractParams()
    split: SplitParams = SplitParams()
    search: SearchParams = SearchParams()
    train: TrainParams = TrainParams()
    evaluate: EvaluateParams = EvaluateParams()
    test: TestParams = TestParams()
    register_: RegisterParams = Field(RegisterParams(), alias="register")
    promote: PromoteParams = PromoteParams()
    trust: TrustParams = TrustParams()
    explain: ExplainParams = ExplainParams()
    predict: PredictParams = PredictParams()
    serve: ServeParams = ServeParams()
    monitor: MonitorParams = MonitorParams()
    cluster: ClusterParams = ClusterParams()

    @model_validator(mode="after")
    def _training_accepts_the_search_space(self) -> Self:
        try:
            check_space(self.search.space, self.train)
        except ValueError as error:
            refuse_text(("search", "space"), self.search.space, str(error))
        return self
