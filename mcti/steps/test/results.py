"""The results of the step test: the main numbers of an external validation, and of a recalibration."""

from mcti import storage
from mcti.evaluation import external
from mcti.evaluation.comparison import finite
from mcti.evaluation.scores import MCTI_KEY, as_interval
from mcti.evaluation.summary_text import format_interval
from mcti.model.names import NOT_RECALIBRATED
from mcti.registry.recalibrated_ensemble import RecalibrationRecord
from mcti.steps.result import StepResult
from mcti.steps.test.recalibration import CohortParts
from mcti.steps.test.report_files import ExternalData
from mcti.steps.test.scoring import Subject
from mcti.storage import Location


class ExternalResult(StepResult):
    """The main numbers of an external validation; all numbers are in metrics.json and external.json.

    model, version  of the registry (version empty: a folder);  digest  of the weights
    patients, events  that were scored;  excluded  {reason: patients}
    development_c_index  of the evaluation at the development; None: unknown
    """

    model: str
    version: str
    digest: str
    cohort: str
    cohort_md5: str
    patients: int
    events: int
    excluded: dict[str, int]
    c_index: float | None
    c_index_low: float | None
    c_index_high: float | None
    development_c_index: float | None
    slope: float | None
    intercept: float | None
    ici: float | None
    ibs: float | None
    membership_auc: float | None
    case_mix_loss: float | None
    warnings: tuple[str, ...]
    notice: str
    recalibrated: "RecalibratedResult | None" = None

    def lines(self) -> list[str]:
        """Human-readable output: the result in one line, then the warnings, then the recalibrated model."""
        subject = f"{self.model} version {self.version}" if self.version else self.model
        known = self.c_index_low is not None and self.c_index is not None
        ends = f" [{self.c_index_low:.3f}, {self.c_index_high:.3f}]" if known else ""
        value = "not defined" if self.c_index is None else f"{self.c_index:.3f}{ends}"
        before = "" if self.development_c_index is None else f" (development {self.development_c_index:.3f})"
        first = f"{subject} on {self.cohort}: C {value}{before}, {self.patients} patients, {self.events} events"
        recalibrated = [] if self.recalibrated is None else [self.recalibrated.line()]
        return [first, *(f"  {warning}" for warning in self.warnings), *recalibrated]


class RecalibratedResult(StepResult):
    """The recalibrated model.

    version  of the registry (empty: a folder);  digest  of weights and curves
    intercept, slope  fitted on `fit_patients` patients with `fit_events` events of the cohort
    patients, events  of the evidence, other patients of the cohort
    ici, ici_before  at the last horizon, of the evidence;  ibs_difference  integrated Brier score after minus before,
                     with its interval; None: no horizon can be scored
    """

    version: str
    digest: str
    intercept: float
    slope: float
    fit_patients: int
    fit_events: int
    patients: int
    events: int
    ici: float | None
    ici_before: float | None
    ibs_difference: dict[str, float | None] | None

    def line(self) -> str:
        """Human-readable output in one line."""
        subject = f"recalibrated, version {self.version}" if self.version else "recalibrated"
        fitted = f"intercept {self.intercept:+.3f}, slope {self.slope:.3f} from {self.fit_patients} patients"
        difference = as_interval(self.ibs_difference) if self.ibs_difference else None
        brier = "not defined" if difference is None else format_interval(difference)
        return f"{subject}: {fitted}; integrated Brier score {brier} on the {self.patients} others"


def external_result(subject: Subject, data: ExternalData, cohort: Location) -> ExternalResult:
    """The main numbers of a scored cohort."""
    numbers, summary = data.scores.models[MCTI_KEY], data.summary
    c_index, last = numbers["c_index"], external.last_horizon(data.scores)
    mixture = data.mixture
    return ExternalResult(
        model=subject.name,
        version=subject.version,
        digest=subject.ensemble.digest,
        cohort=summary.cohort,
        cohort_md5=storage.tree_md5(cohort),
        patients=summary.patients,
        events=summary.events,
        excluded=dict(summary.excluded),
        c_index=c_index["value"],
        c_index_low=c_index["low"],
        c_index_high=c_index["high"],
        development_c_index=external.value(subject.development.metrics, MCTI_KEY, "c_index"),
        slope=external.value(data.scores.models, MCTI_KEY, f"slope_{last}"),
        intercept=external.value(data.scores.models, MCTI_KEY, f"intercept_{last}"),
        ici=external.value(data.scores.models, MCTI_KEY, f"ici_{last}"),
        ibs=external.value(data.scores.models, MCTI_KEY, "ibs"),
        membership_auc=None if mixture is None else finite(mixture.all_variables.auc.value),
        case_mix_loss=None if data.decomposition is None else finite(data.decomposition.case_mix.value),
        warnings=tuple(data.warnings()),
        notice=summary.notice,
    )


def recalibrated_result(
    subject: Subject, data: ExternalData, parts: CohortParts, record: RecalibrationRecord
) -> RecalibratedResult:
    """The main numbers of a recalibration and of its evidence."""
    key, numbers = f"ici_{external.last_horizon(data.scores)}", data.scores.models
    return RecalibratedResult(
        version=subject.version,
        digest=subject.ensemble.digest,
        intercept=record.intercept,
        slope=record.slope,
        fit_patients=len(parts.fit),
        fit_events=record.events,
        patients=data.summary.patients,
        events=data.summary.events,
        ici=external.value(numbers, MCTI_KEY, key),
        ici_before=external.value(numbers, NOT_RECALIBRATED, key),
        ibs_difference=data.scores.comparison[NOT_RECALIBRATED]["ibs_difference"],
    )
