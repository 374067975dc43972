"""test: a frozen model on a cohort that it never saw, compared with its development and the baselines fitted there."""

import tempfile
from collections import Counter
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from mcti import storage
from mcti.arrays import FloatArray
from mcti.cohort import tables as cohort_tables
from mcti.cohort.tables import CohortInfo
from mcti.dataset.loading import CohortTables
from mcti.errors import DataError
from mcti.evaluation import case_mix, external, scores, transportability
from mcti.evaluation.comparison import finite
from mcti.evaluation.curves import median_follow_up
from mcti.evaluation.external import ExternalSummary
from mcti.evaluation.outcomes import Outcomes
from mcti.evaluation.predictions import Predictions
from mcti.evaluation.scores import MCTI_KEY
from mcti.evaluation.transportability import Decomposition, Side
from mcti.params import EvaluateParams
from mcti.progress import Progress
from mcti.registry import ensemble_files, external_validations, models
from mcti.registry.ensemble import Ensemble
from mcti.registry.pipeline_run import tracked
from mcti.steps.evaluate import baseline_fits
from mcti.steps.result import StepResult
from mcti.steps.task_log import logged
from mcti.steps.test import comparability, development, prediction, report_files
from mcti.steps.test.comparability import ComparedItem
from mcti.steps.test.development import Development
from mcti.steps.test.prediction import CohortPredictions, KnownPatient
from mcti.steps.test.report_files import ExternalData
from mcti.storage import Location

TREES = "trees are not stored: their leaves hold outcomes of single patients"


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

    def lines(self) -> list[str]:
        """Human-readable output: the result in one line, then the warnings."""
        subject = f"{self.model} version {self.version}" if self.version else self.model
        known = self.c_index_low is not None and self.c_index is not None
        ends = f" [{self.c_index_low:.3f}, {self.c_index_high:.3f}]" if known else ""
        value = "not defined" if self.c_index is None else f"{self.c_index:.3f}{ends}"
        before = "" if self.development_c_index is None else f" (development {self.development_c_index:.3f})"
        first = f"{subject} on {self.cohort}: C {value}{before}, {self.patients} patients, {self.events} events"
        return [first, *(f"  {warning}" for warning in self.warnings)]


@logged
@tracked
def test(
    model: str,
    cohort: Location,
    features: Location | None,
    params: EvaluateParams,
    out: Path,
    *,
    evaluation: Location | None = None,
    progress: Progress = lambda *_: None,
) -> ExternalResult:
    """Test a frozen model on a cohort that it never saw (docs/external-validation.md).

    Reads   the model (models:/NAME@ALIAS, or a folder of folds), cohort/{patients,expression,slides}.parquet and
            cohort.json, features/<slide_id>.h5 (None: no slides are used); the evaluation of the development: that of
            the version, or the folder `evaluation` (a folder of folds without it has no figures to compare with)
    Writes  out/{metrics.json, external.json, predictions.csv, baselines.csv, compared.csv, excluded.csv, result.json,
            report.html, figures/, plots/}: all of it or nothing, the same bytes on every run; for a registered
            version also a run in MLflow with these files, which a tag of the version names

    Raises
    DataError when a patient of the cohort belongs to the development; when endpoint, scale, unit, genes or encoder are
    not those of the development; when no patient can be predicted or none has the event.
    OperationalError when the registry does not respond.
    """
    with tempfile.TemporaryDirectory(prefix="mcti-test-") as scratch:
        folder = models.fetch(model, Path(scratch, "model"))
        ensemble = ensemble_files.load(folder)
        Path(scratch, "evidence").mkdir()
        known = development.read(model, evaluation, folder, ensemble, Path(scratch, "evidence"))
        record = storage.read_json(ensemble_files.fold_folders(folder)[0] / "model.json").get("cohort", {})
        trained = ensemble_files.trained_on(folder)
    subject = Subject(known.name or Path(model).name, known.version, ensemble, known, record)
    tables = CohortTables.read(cohort, features)
    info = cohort_tables.read_info(cohort)
    comparability.check_unseen(list(tables.patients["patient_id"].astype(str)), trained, ensemble)
    items = comparability.compare(record, info, tables.patients, tables.expression, ensemble)
    horizons = np.array(sorted(params.horizons_months))
    predicted = prediction.predict(ensemble, tables, horizons, params.risk_groups, _known(known), progress)
    data = _score(subject, tables, info, items, predicted, params, cohort)
    with storage.replacing(out) as draft:
        draft.mkdir()
        report_files.write(draft, data)
        result = _result(subject, data, cohort).save(draft)
        if subject.version:
            external_validations.log(model, draft)
        return result


@dataclass(frozen=True)
class Subject:
    """The tested model: name and version, members, development; record: entry `cohort` of model.json."""

    name: str
    version: str
    ensemble: Ensemble
    development: Development
    record: dict[str, Any]


def _known(development: Development) -> prediction.KnownPatients:
    """Development patients by outcome, each with a risk that no other patient of the fold has."""
    table = development.predictions
    known: dict[tuple[float, int], list[KnownPatient]] = {}
    if len(table):
        table = table[~table.duplicated(["fold", "risk"], keep=False)]
        for fold, risk, time, event in zip(
            table["fold"], table["risk"], table["time_months"], table["event"], strict=True
        ):
            known.setdefault((float(time), int(event)), []).append(KnownPatient(f"fold_{fold}", float(risk)))
    return known


def one_fold(patients: pd.DataFrame) -> Outcomes:
    """The patients (one row each) as one test part; its censoring weights come from the same patients."""
    ids = list(patients["patient_id"])
    whole = Outcomes.from_folds(patients, {0: ([], ids)})
    fold = replace(whole.folds[0], train_event=whole.event, train_time=whole.time_months)
    return replace(whole, folds=(fold,))


def _score(
    subject: Subject,
    tables: CohortTables,
    info: CohortInfo,
    items: list[ComparedItem],
    predicted: CohortPredictions,
    params: EvaluateParams,
    cohort: Location,
) -> ExternalData:
    patients = tables.patients[tables.patients["patient_id"].isin(predicted.patients)].reset_index(drop=True)
    if not (patients["event"] == 1).any():
        raise DataError("no patient who can be predicted has the event", "the cohort", "use a longer follow-up")
    outcomes = one_fold(patients)
    baselines, skipped = _baselines(subject.development, tables, patients, params, cohort)
    groups = external.risk_groups_of(outcomes, predicted.group, params.risk_groups)
    numbers = scores.score(outcomes, {MCTI_KEY: predicted.model, **baselines}, patients, groups, params)
    horizon = float(max(params.horizons_months))
    moments = case_mix.CaseMix.fit(case_mix.variables(patients, predicted.member), horizon)
    return ExternalData(
        summary=_summary(subject, info, patients, predicted, tables),
        patients=patients,
        outcomes=outcomes,
        model=predicted.model,
        baselines=baselines,
        skipped=skipped,
        groups=groups,
        scores=numbers,
        params=params,
        items=items,
        development=subject.development,
        mixture=external.compare_case_mix(subject.development.moments, moments),
        decomposition=_decompose(subject.development, outcomes, predicted, horizon, params),
        excluded=predicted.excluded,
    )


def _baselines(
    known: Development, tables: CohortTables, patients: pd.DataFrame, params: EvaluateParams, cohort: Location
) -> tuple[dict[str, Predictions], dict[str, str]]:
    """Predictions of the baselines as fitted in development, and {baseline: reason} of those left out."""
    evaluated = [name for name in params.baselines if name in known.metrics]
    if known.baselines is None:
        reason = "the evaluation of the development did not store it: evaluate and register again"
        return {}, dict.fromkeys(evaluated, reason)
    inputs = baseline_fits.read_inputs(cohort, tables.features, patients)
    horizons = np.array(sorted(params.horizons_months))
    unusable = known.baselines.unusable(inputs, horizons)
    skipped = {name: unusable.get(name, TREES) for name in evaluated if name not in known.baselines.models}
    skipped |= {name: unusable[name] for name in known.baselines.models if name in unusable}
    usable = [name for name in known.baselines.models if name not in unusable]
    return {name: Predictions(*known.baselines.predict(name, inputs, horizons)) for name in usable}, skipped


def _decompose(
    known: Development, outcomes: Outcomes, predicted: CohortPredictions, months: float, params: EvaluateParams
) -> Decomposition | None:
    """None where the development is unknown, or has no S(t) at the last horizon."""
    column = f"S_{months:g}"
    if column not in known.predictions:
        return None
    rows = known.rows()
    survival: FloatArray = rows[column].to_numpy(dtype=np.float64)
    before = Side(known.outcomes(), rows["risk"].to_numpy(dtype=np.float64), case_mix.linear_predictor(survival))
    after = Side(outcomes, predicted.model.risk, case_mix.linear_predictor(predicted.member))
    return transportability.decompose(before, after, params.bootstrap, params.seed)


def _summary(
    subject: Subject, info: CohortInfo, patients: pd.DataFrame, predicted: CohortPredictions, tables: CohortTables
) -> ExternalSummary:
    event = patients["event"].to_numpy(dtype=np.int64) == 1
    return ExternalSummary(
        model=subject.name,
        version=subject.version,
        cohort=info.name,
        notice=info.notice,
        endpoint=info.endpoint,
        development=str(subject.record.get("name", "")),
        patients=len(patients),
        events=int(event.sum()),
        follow_up=median_follow_up(event, patients["time_months"].to_numpy(dtype=np.float64)),
        excluded=dict(Counter(predicted.excluded.values())),
        excluded_at_ingest=len(info.attrition),
        out_of_distribution=predicted.out_of_distribution,
        predictors=", ".join([f"{len(subject.ensemble.genes)} genes", *subject.ensemble.covariates]),
        slides=tables.features is not None,
    )


def _result(subject: Subject, data: ExternalData, cohort: Location) -> ExternalResult:
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
