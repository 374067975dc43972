"""monitor: whether new patients differ from the training patients, and whether the model must be trained again."""

import math
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import Field

from mcti import storage
from mcti.errors import DataError, MctiError
from mcti.params import MonitorParams
from mcti.progress import Progress
from mcti.registry.refusals import cache_refusals
from mcti.steps.result import StepResult
from mcti.steps.task_log import logged
from mcti.storage import Location

if TYPE_CHECKING:  # they import torch and pandas, which a wrong option or the first line of the log does not need
    from mcti.arrays import FloatArray
    from mcti.cohort.tables import CohortInfo
    from mcti.dataset.bags import PatientBag
    from mcti.evaluation.comparison import Interval
    from mcti.evaluation.decay import Decay
    from mcti.monitoring.drift import Family
    from mcti.monitoring.monitoring_html import ReportHeader, Trend
    from mcti.monitoring.rules import Verdict
    from mcti.registry.ensemble import Ensemble
    from mcti.registry.monitoring_history import RegisteredModel


_NO_ENTRY = (
    "the training counts patients from their entry, and this cohort has no column entry_months "
    "(0: under observation from the origin)"
)


class MonitorResult(StepResult):
    """Whether to train again, and the reason.

    rule                      performance, drift, events, age or none;  fired: all rules that fired
    new_patients, new_events  of patients that no member was trained or tested on
    drifted                   families with drift;  effects: the largest effect of each tested family
    not_tested                enabled rules that could not be tested completely
    uno_c                     of the new patients, {value, low, high}; None: fewer than 5 events
    competing_events          of the new patients, censored in all numbers; None: the cohort records none
    """

    model: str
    version: str
    patients: int
    new_patients: int
    new_events: int
    retrain: bool
    rule: str
    fired: tuple[str, ...]
    not_tested: tuple[str, ...]
    reasons: dict[str, str]
    drifted: tuple[str, ...]
    effects: dict[str, float]
    uno_c: dict[str, float | None] | None
    c_loss: dict[str, float | None] | None
    calibration_gap: dict[str, float | None] | None
    age_days: float | None
    competing_events: int | None = Field(None, exclude_if=lambda count: count is None)

    def lines(self) -> list[str]:
        """Human-readable output: the verdict, then the reason of each rule."""
        verdict = f"train again (rule {self.rule})" if self.retrain else "no rule fired"
        verdict += f" (not fully tested: {', '.join(self.not_tested)})" if self.not_tested else ""
        first = f"{self.model} version {self.version}: {verdict}; {self.new_patients} new patients of {self.patients}"
        competing = [f"  {self.competing_sentence()}"] if self.competing_events is not None else []
        return [first, *(f"  {rule}: {reason}" for rule, reason in self.reasons.items()), *competing]

    def competing_sentence(self) -> str:
        """That the numbers are cause-specific, for a cohort that records competing events."""
        return (
            f"{self.competing_events} new patients had competing events and count as censored: Uno's C and the "
            "calibration are cause-specific"
        )

    @classmethod
    def build(
        cls,
        subject: tuple[str, str],
        counts: tuple[int, int, int],
        verdict: "Verdict",
        families: "Sequence[Family]",
        performance: "Decay",
        age_days: float | None,
        competing_events: int | None,
    ) -> "MonitorResult":
        """The result of one run.

        subject   name and version of the model;  counts  patients, new patients, new events
        competing_events  of the new patients, None: not recorded
        age_days  age of the model in days, None: unknown
        """
        patients, new_patients, new_events = counts
        return cls(
            model=subject[0],
            version=subject[1],
            patients=patients,
            new_patients=new_patients,
            new_events=new_events,
            retrain=verdict.retrain,
            rule=verdict.rule,
            fired=verdict.fired,
            not_tested=verdict.not_tested,
            reasons=verdict.reasons,
            drifted=tuple(family.name for family in families if family.drifted),
            effects={family.name: family.largest for family in families if family.tested},
            uno_c=_ends(performance.uno_c),
            c_loss=_ends(performance.loss),
            calibration_gap=_ends(performance.gap),
            age_days=age_days,
            competing_events=competing_events,
        )

    def numbers(self) -> dict[str, float]:
        """The finite numbers for the history of the model, with the unit in the name."""
        numbers: dict[str, float | None] = {
            "patients": self.patients,
            "new_patients": self.new_patients,
            "new_events": self.new_events,
            "retrain": float(self.retrain),
            "age_days": self.age_days,
            **{f"effect.{name}": value for name, value in self.effects.items()},
            **{f"uno_c.{end}": value for end, value in (self.uno_c or {}).items()},
            **{f"calibration_gap.{end}": value for end, value in (self.calibration_gap or {}).items()},
        }
        return {name: float(value) for name, value in numbers.items() if value is not None and math.isfinite(value)}


@dataclass(frozen=True)
class Predictions:
    """Predictions of the new patients, in order: risk (n,), S(t) {months: (n,)}; by_member: {member: risks}."""

    risk: "FloatArray"
    survival: "Mapping[float, FloatArray]"
    by_member: "Mapping[str, FloatArray]"


@logged
@cache_refusals
def monitor(
    model: str,
    cohort: Location,
    features: Location | None,
    params: MonitorParams,
    out: Path,
    *,
    evaluation: Location | None = None,
    progress: Progress = lambda *_: None,
) -> MonitorResult:
    """Compare the new patients of a cohort with the training patients of a model; decide whether to retrain it.

    Reads   the model (models:/NAME@ALIAS, or a folder of folds), cohort/{patients,expression,slides}.parquet,
            features/<slide_id>.h5, evaluation/metrics.json (None: that of the registered version, if there is one)
    Writes  out/{result.json, report.html, metrics.prom, findings.json}: all of it or nothing; and for a registered
            model one run in the experiment `monitor.experiment` of MLflow

    Raises
    DataError for a model without reference profiles, and for patients that do not fit the model.
    OperationalError when the registry does not respond.
    """
    from mcti.cohort import left_truncation, tables
    from mcti.dataset.loading import load_dataset
    from mcti.evaluation import decay
    from mcti.model import reference_profile
    from mcti.monitoring import drift, rules
    from mcti.monitoring.drift import MemberRisks
    from mcti.registry import ensemble_files, models, monitoring_history

    with tempfile.TemporaryDirectory(prefix="mcti-monitor-") as scratch:
        folder = models.fetch(model, Path(scratch, "model"))
        loaded, counts_entry = ensemble_files.load(folder), ensemble_files.has_late_entries(folder)
        registered = monitoring_history.find(model, Path(scratch, "evidence"))
    member = _reference_member(loaded, model)
    profile, inputs = loaded.reference_profiles[member], loaded.members[member].config.clinical_inputs
    data = load_dataset(cohort, features)
    loaded.check_features(data.provenance, str(features))
    new = [
        bag
        for name, bag in sorted(data.bags.items())
        if not (loaded.is_development_patient(name) or loaded.is_source_patient(name))
    ]
    predictions = _predict(loaded, new, data.genes, progress)
    risks = MemberRisks(
        {name: member.risk for name, member in loaded.reference_profiles.items()}, predictions.by_member
    )
    families = drift.compare(profile, reference_profile.column_values(new, data.genes, inputs), risks, params)
    events = sum(bag.event for bag in new)
    if counts_entry and not left_truncation.has_entries(tables.read_patients(cohort)):
        performance = decay.Decay(len(new), events, not_assessed_reason=_NO_ENTRY)
    else:
        performance = _performance(new, predictions, _registered_uno_c(evaluation, registered), params)
    age = None if registered is None else registered.age_days
    verdict = rules.decide(events, families, performance.alarms, age, params, performance.not_assessed_reason)
    subject = (registered.name, registered.version) if registered else (Path(model).name, loaded.digest[:12])
    counts = len(data.bags), len(new), events
    competing = _competing_events(new)
    result = MonitorResult.build(subject, counts, verdict, families, performance, age, competing)
    report = _Report(result, verdict, families, performance, profile.patients, tables.read_info(cohort), params)
    report.write(out, registered)
    return result


@dataclass(frozen=True)
class _Report:
    """Everything that is written to the output folder."""

    result: MonitorResult
    verdict: "Verdict"
    families: "tuple[Family, ...]"
    performance: "Decay"
    reference_patients: int
    cohort: "CohortInfo"
    params: MonitorParams

    def write(self, out: Path, registered: "RegisteredModel | None") -> None:
        """Write the folder, and for a registered model log the run into its history."""
        from mcti.monitoring import drift, monitoring_html, prometheus
        from mcti.registry import monitoring_history

        numbers = self.result.numbers()
        labels = {"model": self.result.model, "version": self.result.version}
        metrics = prometheus.text(prometheus.gauges(numbers, self.verdict, self.families), labels)
        trends = _trends(numbers, registered, self.params)
        page = monitoring_html.render(self._header(), self.verdict, self.families, trends, self.params)
        with storage.replacing(out) as draft:
            draft.mkdir()
            (draft / "report.html").write_text(page, encoding="utf-8")
            (draft / "metrics.prom").write_text(metrics, encoding="utf-8")
            storage.write_json(draft / "findings.json", drift.as_json(self.families))
            self.result.save(draft)
            if registered is not None:
                tags = {"mcti.rule": self.verdict.rule}
                monitoring_history.log(self.params.experiment, registered, numbers, tags, draft / "report.html")

    def _header(self) -> "ReportHeader":
        from mcti.monitoring.monitoring_html import ReportHeader

        performance = self.performance
        intervals = [
            ("Uno's C of the new patients", performance.uno_c),
            ("Uno's C at registration", performance.registered),
            ("loss, with the interval that decides", performance.loss),
            ("event probability, observed minus predicted", performance.gap),
        ]
        rows = [(name, f"{i.value:.3f} [{i.low:.3f}, {i.high:.3f}]") for name, i in intervals if i is not None]
        if performance.horizon_months is not None:
            rows.append(("horizon of the calibration", f"{performance.horizon_months:g} months"))
        if self.result.competing_events is not None:
            rows.append(("competing events", self.result.competing_sentence()))
        return ReportHeader(
            model=f"{self.result.model} version {self.result.version}",
            cohort=self.cohort.name,
            notice=self.cohort.notice,
            patients=self.result.patients,
            new_patients=self.result.new_patients,
            new_events=self.result.new_events,
            reference_patients=self.reference_patients,
            performance=rows,
            not_assessed=performance.not_assessed_reason,
        )


def _competing_events(new: "Sequence[PatientBag]") -> int | None:
    """Number of patients with a competing event; None where the cohort records none."""
    if all(bag.competing is None for bag in new):
        return None
    return sum(bool(bag.competing) for bag in new)


def _reference_member(loaded: "Ensemble", model: str) -> str:
    """The member with the most training patients, whose reference profile is used.

    The profile of one member, because the training parts overlap and the distribution of their union cannot be
    computed from the profiles without interpolation on the quantile grids.
    """
    if len(loaded.reference_profiles) < len(loaded.members):
        hint = "train and register the model again"
        raise DataError("the model has no reference profile of its training patients", model, hint)
    return max(loaded.reference_profiles, key=lambda name: loaded.reference_profiles[name].patients)


def _predict(
    loaded: "Ensemble", new: "Sequence[PatientBag]", genes: tuple[str, ...], progress: Progress
) -> Predictions:
    import numpy as np

    from mcti.model.trained import survival_column
    from mcti.registry.ensemble import assigned_member
    from mcti.steps.predict.step import expression_by_gene

    risks, members = [], {name: [] for name in sorted(loaded.members)}  # type: tuple[list[float], dict[str, list[float]]]
    survival: dict[float, list[float]] = {months: [] for months in loaded.horizons_months}
    for done, bag in enumerate(new, start=1):
        try:
            rows = loaded.member_predictions(
                bag.patient_id, bag.patches, expression_by_gene(bag, genes), covariates=bag.clinical
            )
        except MctiError as error:
            raise error.with_patient(bag.patient_id) from error
        risks.append(float(np.mean([row["risk"] for row in rows.values()])))
        for months, column in survival.items():
            column.append(float(np.mean([row[survival_column(months)] for row in rows.values()])))
        member = assigned_member(bag.patient_id, members)
        members[member].append(rows[member]["risk"])
        progress(done, len(new), "patients")
    return Predictions(
        np.array(risks), {m: np.array(c) for m, c in survival.items()}, {n: np.array(v) for n, v in members.items()}
    )


def _registered_uno_c(evaluation: Location | None, registered: "RegisteredModel | None") -> "Interval | None":
    """Uno's C of the model's evaluation with its interval; None where it is unknown."""
    from mcti.evaluation.comparison import Interval

    metrics: Mapping[str, Any] = registered.metrics if registered else {}
    if evaluation is not None:
        metrics = storage.read_json(storage.join(evaluation, "metrics.json"))
    numbers = metrics.get("mcti", {}).get("uno_c")
    if numbers is None:
        return None
    value, low, high = (math.nan if numbers[end] is None else numbers[end] for end in ("value", "low", "high"))
    return Interval(value, low, high)


def _performance(
    new: "Sequence[PatientBag]", predictions: Predictions, registered: "Interval | None", params: MonitorParams
) -> "Decay":
    import numpy as np

    from mcti.dataset.bags import entries
    from mcti.evaluation import decay

    event = np.array([bag.event for bag in new], dtype=np.bool_)
    time = np.array([bag.time_months for bag in new], dtype=np.float64)
    mature, event, time = decay.mature_follow_up(event, time, _calendar_months(new, params), params.delay_months)
    rows, entry = np.flatnonzero(mature), None
    if (entered := entries(new)) is not None:  # the cut of the follow-up may be before the entry
        observed = entered[rows] < time
        rows, event, time, entry = rows[observed], event[observed], time[observed], entered[rows][observed]
    survival = {months: column[rows] for months, column in predictions.survival.items()}
    return decay.assess(event, time, predictions.risk[rows], survival, registered, params, entry)


def _calendar_months(new: "Sequence[PatientBag]", params: MonitorParams) -> "FloatArray | None":
    import numpy as np

    if params.entry_column is None or not new:
        return None
    values = [bag.covariates.get(params.entry_column) for bag in new]
    if all(value is None for value in values):
        what = f"no new patient has a value of {params.entry_column!r}"
        raise DataError(what, "the cohort's covariates", "name a numeric covariate in monitor.entry_column")
    return np.array([np.nan if value is None else value for value in values], dtype=np.float64)


def _ends(interval: "Interval | None") -> dict[str, float | None] | None:
    return None if interval is None else interval.as_dict()


def _trends(numbers: Mapping[str, float], registered: "RegisteredModel | None", params: MonitorParams) -> "list[Trend]":
    from mcti.monitoring import history
    from mcti.registry import monitoring_history

    earlier = [] if registered is None else monitoring_history.history(params.experiment, registered.name)
    dates = [datetime.fromtimestamp(run.seconds, UTC).strftime("%Y-%m-%d") for run in earlier] + ["now"]
    return history.trends(dates, [*(run.numbers for run in earlier), numbers], params)
