"""What the page of a patient says beside the prediction: cohort and endpoint of the model, date, place among others."""

from collections.abc import Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True)
class About:
    """Where a prediction stands.

    model      name or folder of the model;  cohort, endpoint  of the patients that it was developed on, empty: unknown
    date       of the prediction, ISO 8601
    percentile share of the development patients with a lower out-of-fold risk, in %; None: the model does not know
    curve      {months: Kaplan-Meier of the development cohort}, up to its follow-up; empty: unknown
    follow_up  longest follow-up in months of the training patients; S(t) beyond is extrapolated; None: unknown
    """

    model: str = ""
    cohort: str = ""
    endpoint: str = ""
    date: str = ""
    percentile: float | None = None
    curve: Mapping[float, float] = field(default_factory=dict)
    follow_up: float | None = None

    def headline(self) -> str:
        """Endpoint, cohort, model and date in one line; what is not known is left out."""
        cohort = f"Developed on cohort {self.cohort}" + (f", endpoint {self.endpoint}" if self.endpoint else "")
        parts = [cohort if self.cohort else "", f"model {self.model}" if self.model else ""]
        parts += [f"predicted on {self.date}" if self.date else ""]
        return "; ".join(part for part in parts if part) + "."

    def place(self) -> str:
        """The risk as a percentile of the development cohort; empty where the model does not know."""
        if self.percentile is None:
            return ""
        return f"The risk is higher than that of {self.percentile:.0f} % of the patients of the development cohort."

    def beyond(self, months: float) -> bool:
        """Whether S at `months` is extrapolated."""
        return self.follow_up is not None and months > self.follow_up


UNKNOWN = About()
