"""monitor: is the model in use still the one for the patients of today, and is it to be trained again?"""

import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np

from mcti import storage
from mcti.arrays import FloatArray
from mcti.cohort import tables
from mcti.dataset.bags import Dataset, PatientBag
from mcti.dataset.loading import load_dataset
from mcti.errors import DataError, MctiError
from mcti.evaluation import decay
from mcti.evaluation.comparison import Interval, finite
from mcti.evaluation.decay import Decay
from mcti.model import reference_profile
from mcti.model.reference_profile import ReferenceProfile
from mcti.model.trained import survival_column
from mcti.monitoring import drift, history, monitoring_html, prometheus, rules
from mcti.monitoring.drift import Family, Risks
from mcti.monitoring.monitoring_html import Trend
from mcti.monitoring.rules import Verdict
from mcti.params import MonitorParams
from mcti.progress import Progress
from mcti.redaction import hashed
from mcti.registry import ensemble_files, models, monitoring_history
from mcti.registry.ensemble import Ensemble
from mcti.registry.monitoring_history import Registered
from mcti.registry.refusals import cache_refusals
from mcti.steps.predict.step import expression_by_gene
from mcti.steps.result import StepResult
from mcti.steps.task_log import logged
from mcti.storage import Location


class MonitorResult(StepResult):
    """Whether to train again, and why: `rule` is performance, drift, events, age or none; `fired` are all that fired.

    new_patients, new_events  of the patients that no member was trained or tested on
    drifted                   families that moved;  effects the largest effect of each family tested
    not_tested                rules in force that could not be tested, or not in all families
    uno_c                     of the new patients, {value, low, high}, from 5 events on; None: fewer
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

    def lines(self) -> list[str]:
        """For people: the verdict, then why each rule fired or did not."""
        words = f"train again (rule {self.rule})" if self.retrain else "no rule fired"
        words += f" (not fully tested: {', '.join(self.not_tested)})" if self.not_tested else ""
        head = f"{self.model} version {self.version}: {words}; {self.new_patients} new patients of {self.patients}"
        return [head, *(f"  {rule}: {reason}" for rule, reason in self.reasons.items())]


@dataclass(frozen=True)
class Predictions:
    """Of the new patients, in order: risk (n,), S(t) {months: (n,)}, and the risks by single members for the drift."""

    risk: FloatArray
    survival: Mapping[float, FloatArray]
    members: Mapping[str, FloatArray]


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
    """Hold the patients of a cohort that the model never saw against its training patients; say whether to train again.

    Reads   the model (models:/NAME@ALIAS, or a folder of folds), cohort/{patients,expression,slides}.parquet,
            features/<slide_id>.h5, evaluation/metrics.json (None: that of the registered version, if it is one)
    Writes  out/{result.json, report.html, metrics.prom, findings.json}: all of it or nothing; and for a registered
            model one run in the experiment `monitor.experiment` of MLflow
    Raises  DataError for a model without a training reference, and for patients that do not fit it
            OperationalError when the registry does not answer
    """
    with tempfile.TemporaryDirectory(prefix="mcti-monitor-") as scratch:
        loaded = ensemble_files.load(models.fetch(model, Path(scratch, "model")))
        registered = monitoring_history.find(model, Path(scratch, "evidence"))
    sketch = _reference(loaded, model)
    data = load_dataset(cohort, features)
    loaded.check_features(data.provenance, str(features))
    new = [bag for name, bag in sorted(data.bags.items()) if not loaded.is_development_patient(name)]
    predicted = _predict(loaded, new, data.genes, progress)
    families = _drift(loaded, sketch, new, data, predicted, params)
    decayed = _decay(new, predicted, _uno(evaluation, registered), params)
    events = sum(bag.event for bag in new)
    age = None if registered is None else registered.age_days
    verdict = rules.decide(events, families, decayed.alarms, age, params, decayed.not_assessed_reason)
    named = (registered.name, registered.version) if registered else (Path(model).name, loaded.digest[:12])
    result = _result(named, len(data.bags), len(new), events, verdict, families, decayed, age)
    with storage.replacing(out) as draft:
        draft.mkdir()
        numbers = _numbers(result)
        trends = _trends(numbers, registered, params)
        facts = _facts(result, cohort, sketch, decayed)
        (draft / "report.html").write_text(
            monitoring_html.render(facts, verdict, families, trends, params), encoding="utf-8"
        )
        labels = {"model": result.model, "version": result.version}
        (draft / "metrics.prom").write_text(
            prometheus.text(prometheus.of(numbers, verdict, families), labels), encoding="utf-8"
        )
        storage.write_json(draft / "findings.json", drift.as_json(families))
        result.save(draft)
        if registered is not None:
            monitoring_history.log(
                params.experiment, registered, numbers, {"mcti.rule": verdict.rule}, draft / "report.html"
            )
    return result


def _reference(loaded: Ensemble, model: str) -> ReferenceProfile:
    """The sketch of the member with the most training patients.

    One member's, not their union: the training parts overlap, and the union's distribution cannot be had from
    sketches without guessing between the knots.
    """
    if len(loaded.reference_profiles) < len(loaded.members):
        raise DataError("the model carries no reference of its training patients", model, "train and register it anew")
    return max(loaded.reference_profiles.values(), key=lambda sketch: sketch.patients)


def _predict(loaded: Ensemble, new: Sequence[PatientBag], genes: tuple[str, ...], progress: Progress) -> Predictions:
    names = sorted(loaded.members)
    risks, members = [], {name: [] for name in names}  # type: tuple[list[float], dict[str, list[float]]]
    survival: dict[float, list[float]] = {months: [] for months in loaded.horizons_months}
    for done, bag in enumerate(new, start=1):
        try:
            rows = loaded.member_predictions(
                bag.patient_id, bag.patches, expression_by_gene(bag, genes), covariates=bag.covariates
            )
        except MctiError as error:
            raise error.with_patient(bag.patient_id) from error
        risks.append(float(np.mean([row["risk"] for row in rows.values()])))
        for months, column in survival.items():
            column.append(float(np.mean([row[survival_column(months)] for row in rows.values()])))
        # One member by the hash of the id, whatever the order of the table: its risks are spread as out of fold.
        asked = names[int(hashed(bag.patient_id)[:8], 16) % len(names)]
        members[asked].append(rows[asked]["risk"])
        progress(done, len(new), "patients")
    return Predictions(
        np.array(risks), {m: np.array(c) for m, c in survival.items()}, {n: np.array(v) for n, v in members.items()}
    )


def _drift(
    loaded: Ensemble,
    sketch: ReferenceProfile,
    new: Sequence[PatientBag],
    data: Dataset,
    predicted: Predictions,
    params: MonitorParams,
) -> tuple[Family, ...]:
    columns = {name: member.risk for name, member in loaded.reference_profiles.items()}
    return drift.compare(
        sketch, reference_profile.column_values(new, data.genes), Risks(columns, predicted.members), params
    )


def _uno(evaluation: Location | None, registered: Registered | None) -> Interval | None:
    """Uno's C of the evaluation with its interval."""
    metrics: Mapping[str, Any] = registered.metrics if registered else {}
    if evaluation is not None:
        metrics = storage.read_json(storage.join(evaluation, "metrics.json"))
    numbers = metrics.get("mcti", {}).get("uno_c")
    if numbers is None:
        return None
    value, low, high = (np.nan if numbers[end] is None else numbers[end] for end in ("value", "low", "high"))
    return Interval(value, low, high)


def _decay(
    new: Sequence[PatientBag], predicted: Predictions, registered: Interval | None, params: MonitorParams
) -> Decay:
    event = np.array([bag.event for bag in new], dtype=np.bool_)
    time = np.array([bag.time_months for bag in new], dtype=np.float64)
    mature, event, time = decay.mature_follow_up(event, time, _entries(new, params), params.delay_months)
    survival = {months: column[mature] for months, column in predicted.survival.items()}
    return decay.assess(event, time, predicted.risk[mature], survival, registered, params)


def _entries(new: Sequence[PatientBag], params: MonitorParams) -> FloatArray | None:
    if params.entry_column is None or not new:
        return None
    values = [bag.covariates.get(params.entry_column) for bag in new]
    if all(value is None for value in values):
        what = f"no new patient has a value of {params.entry_column!r}"
        raise DataError(what, "the cohort's covariates", "name a numeric covariate in monitor.entry_column")
    return np.array([np.nan if value is None else value for value in values], dtype=np.float64)


def _result(
    named: tuple[str, str],
    patients: int,
    new: int,
    events: int,
    verdict: Verdict,
    families: Sequence[Family],
    decayed: Decay,
    age: float | None,
) -> MonitorResult:
    return MonitorResult(
        model=named[0],
        version=named[1],
        patients=patients,
        new_patients=new,
        new_events=events,
        retrain=verdict.retrain,
        rule=verdict.rule,
        fired=verdict.fired,
        not_tested=verdict.not_tested,
        reasons=verdict.reasons,
        drifted=tuple(family.name for family in families if family.drifted),
        effects={family.name: family.largest for family in families if family.tested},
        uno_c=_ends(decayed.uno_c),
        c_loss=_ends(decayed.loss),
        calibration_gap=_ends(decayed.gap),
        age_days=age,
    )


def _ends(interval: Interval | None) -> dict[str, float | None] | None:
    return None if interval is None else interval.as_dict()


def _facts(result: MonitorResult, cohort: Location, sketch: ReferenceProfile, decayed: Decay) -> monitoring_html.Facts:
    info = tables.read_info(cohort)
    shown = [
        ("Uno's C of the new patients", decayed.uno_c),
        ("Uno's C at registration", decayed.registered),
        ("loss, with the interval that decides", decayed.loss),
        ("event probability, observed minus predicted", decayed.gap),
    ]
    rows = [(what, f"{i.value:.3f} [{i.low:.3f}, {i.high:.3f}]") for what, i in shown if i is not None]
    if decayed.horizon_months is not None:
        rows.append(("horizon of the calibration", f"{decayed.horizon_months:g} months"))
    return monitoring_html.Facts(
        model=f"{result.model} version {result.version}",
        cohort=info.name,
        notice=info.notice,
        patients=result.patients,
        new_patients=result.new_patients,
        new_events=result.new_events,
        reference_patients=sketch.patients,
        performance=rows,
        why_not=decayed.not_assessed_reason,
    )


def _numbers(result: MonitorResult) -> dict[str, float]:
    """What the history keeps of a run."""
    numbers: dict[str, float | None] = {
        "patients": result.patients,
        "new_patients": result.new_patients,
        "new_events": result.new_events,
        "retrain": float(result.retrain),
        "age_days": result.age_days,
        **{f"effect.{name}": value for name, value in result.effects.items()},
        **{f"uno_c.{end}": value for end, value in (result.uno_c or {}).items()},
        **{f"calibration_gap.{end}": value for end, value in (result.calibration_gap or {}).items()},
    }
    return {name: float(value) for name, value in numbers.items() if value is not None and finite(value) is not None}


def _trends(numbers: Mapping[str, float], registered: Registered | None, params: MonitorParams) -> list[Trend]:
    past = [] if registered is None else monitoring_history.history(params.experiment, registered.name)
    dates = [datetime.fromtimestamp(point.seconds, UTC).strftime("%Y-%m-%d") for point in past] + ["now"]
    return history.trends(dates, [*(point.numbers for point in past), numbers], params)
