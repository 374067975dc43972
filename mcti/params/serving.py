"""Settings of predictions, of the HTTP server and of monitoring."""

from typing import Literal, Self

from pydantic import Field, model_validator

from mcti.params.base import Params


class PredictParams(Params):
    """Prediction of new patients (docs/serving.md)."""

    risk_groups: int = Field(
        2, ge=2, le=4, description="risk groups, by quantiles of the out-of-fold risks of the training cohort"
    )
    workers: int = Field(0, ge=0, description="processes; 0: one per core. The bits do not depend on it")
    max_refused_share: float = Field(
        0.0,
        ge=0,
        le=1,
        description="share of patients that cannot be predicted; a larger one exits with 3 after writing the others",
    )


class ServeParams(Params):
    """HTTP server of a model (docs/serving.md)."""

    host: str = Field("127.0.0.1", min_length=1, description="address of the server")
    port: int = Field(8080, ge=0, le=65535, description="port of the server; 0: a free one")
    max_request_mb: int = Field(
        256, ge=1, description="largest request in MB; a larger one is refused with status 400 before it is parsed"
    )
    request_seconds: int = Field(
        60, ge=1, description="longest duration of a request in seconds; a longer one is refused with status 504"
    )


class MonitorParams(Params):
    """Rules for retraining the model in use (docs/monitoring.md)."""

    experiment: str = Field("mcti-monitor", min_length=1, description="MLflow experiment of the monitoring history")
    rules: tuple[Literal["performance", "drift", "events", "age"], ...] = Field(
        ("performance", "drift", "events", "age"),
        strict=False,
        description="active rules; the report names the first that fires",
    )
    alpha: float = Field(0.01, gt=0, lt=0.5, description="probability of a false drift alarm per run, over all columns")
    min_patients: int = Field(30, ge=5, description="new patients below which no drift is tested")
    min_effect: float = Field(
        0.2, ge=0, le=1, description="distance of distributions or difference of shares below which there is no drift"
    )
    new_events: int = Field(20, ge=1, description="events of new patients from which the model is retrained")
    max_age_days: float = Field(
        365, ge=0, description="days since registration after which the model is retrained; 0: no limit"
    )
    min_events: int = Field(20, ge=2, description="events of new patients below which performance is not tested")
    bootstrap: int = Field(1000, ge=100, le=100_000, description="resamples for the intervals of the performance")
    confidence: float = Field(0.95, gt=0.5, lt=1, description="level of the intervals of the performance")
    c_margin: float = Field(
        0.02, ge=0, description="tolerated loss of Uno's C; performance fires when the whole interval exceeds it"
    )
    calibration_margin: float = Field(
        0.1, ge=0, description="tolerated difference of predicted and observed event probability; as c_margin"
    )
    entry_column: str | None = Field(
        None, description="numeric covariate: calendar month of each patient's time zero; `delay_months` needs it"
    )
    delay_months: float = Field(
        0.0, ge=0, description="months until an event is recorded in the table; later follow-up is cut"
    )

    @model_validator(mode="after")
    def _delay_needs_entry(self) -> Self:
        if self.delay_months and self.entry_column is None:
            raise ValueError("delay_months without entry_column: name the covariate with the month of time zero")
        return self
