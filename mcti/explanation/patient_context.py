"""The context of a prediction on a patient report: model, cohort, endpoint, date, and rank of the risk."""

from collections.abc import Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True)
class PredictionContext:
    """Where a prediction comes from; an empty field is unknown.

    model      name or folder of the model;  cohort, endpoint  of the development patients
    date       of the prediction, ISO 8601
    percentile share of the development patients with a lower out-of-fold risk, in %; None: unknown
    curve      {months: Kaplan-Meier estimate of the development cohort}, up to its follow-up
    follow_up  longest follow-up of the training patients in months; S(t) beyond is extrapolated; None: unknown
    """

    model: str = ""
    cohort: str = ""
    endpoint: str = ""
    date: str = ""
    percentile: float | None = None
    curve: Mapping[float, float] = field(default_factory=dict)
    follow_up: float | None = None

    def origin_sentence(self) -> str:
        """Cohort, endpoint, model and date in one sentence; empty where nothing is known."""
        cohort = f"Developed on cohort {self.cohort}" + (f", endpoint {self.endpoint}" if self.endpoint else "")
        parts = [cohort if self.cohort else "", f"model {self.model}" if self.model else ""]
        parts += [f"predicted on {self.date}" if self.date else ""]
        known = [part for part in parts if part]
        return "; ".join(known) + "." if known else ""

    def percentile_sentence(self) -> str:
        """The risk as a percentile of the development cohort; empty where it is unknown."""
        if self.percentile is None:
            return ""
        return f"The risk is higher than that of {self.percentile:.0f} % of the patients of the development cohort."

    def is_extrapolated(self, months: float) -> bool:
        """Whether S at `months` is beyond the follow-up of the training patients."""
        return self.follow_up is not None and months > self.follow_up


NO_CONTEXT = PredictionContext()
