"""Scores of a model on a cohort that it never saw, with its development and the baselines fitted there."""

import math
from collections import Counter
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from mcti import storage
from mcti.arrays import FloatArray
from mcti.cohort import competing
from mcti.cohort import tables as cohort_tables
from mcti.cohort.tables import CohortInfo
from mcti.dataset.loading import CohortTables
from mcti.errors import DataError
from mcti.evaluation import case_mix, external, scores, transportability
from mcti.evaluation.curves import median_follow_up
from mcti.evaluation.external import ExternalSummary
from mcti.evaluation.outcomes import Outcomes
from mcti.evaluation.predictions import Predictions
from mcti.evaluation.scores import MCTI_KEY
from mcti.evaluation.transportability import Decomposition, Side
from mcti.model.names import NOT_RECALIBRATED
from mcti.params import EvaluateParams
from mcti.progress import Progress
from mcti.registry import ensemble_files, models, recalibrated_ensemble
from mcti.registry.ensemble import Ensemble
from mcti.steps.evaluate import baseline_fits
from mcti.steps.test import comparability, development, prediction, recalibration
from mcti.steps.test.comparability import ComparedItem
from mcti.steps.test.development import Development
from mcti.steps.test.prediction import CohortPredictions, KnownPatients
from mcti.steps.test.report_files import ExternalData
from mcti.storage import Location

TREES = "trees are not stored: their leaves hold outcomes of single patients"


@dataclass(frozen=True)
class Subject:
    """The tested model: name and version, members, development; record: entry `cohort` of model.json.

    folder  of the ensemble
    """

    name: str
    version: str
    ensemble: Ensemble
    development: Development
    record: dict[str, Any]
    folder: Path

    @classmethod
    def read(cls, model: str, evaluation: Location | None, scratch: Path) -> "Subject":
        """The model at an address or in a folder, and its development; scratch: an empty folder for downloads."""
        folder = models.fetch(model, scratch / "model")
        ensemble = ensemble_files.load(folder)
        (scratch / "evidence").mkdir()
        known = development.read(model, evaluation, folder, ensemble, scratch / "evidence")
        record = storage.read_json(ensemble_files.fold_folders(folder)[0] / "model.json").get("cohort", {})
        return cls(known.name or Path(model).name, known.version, ensemble, known, record, folder)

    def used_patients(self) -> dict[str, frozenset[str]]:
        """SHA-256 of the ids of the patients that were used for the model, by their use."""
        trained = ensemble_files.trained_on(self.folder).values()
        recalibrated_on = recalibrated_ensemble.recalibrated_on(self.folder)
        return {"development": frozenset(self.ensemble.assigned).union(*trained), "recalibration": recalibrated_on}

    def median_months(self) -> float:
        """Median of time_months of the development (months); without its evaluation that of the edges of its time bins.

        The edges are quantiles of the times of the events, so that their median is about the median time of an event.
        """
        known = self.development.median_time()
        if math.isfinite(known):
            return known
        edges = [edge for member in self.ensemble.members.values() for edge in member.fitted.edges[1:-1]]
        return float(np.median(edges))


@dataclass(frozen=True)
class Trial:
    """A cohort on which a model is tested: its tables, what was compared, and the predictions of the model."""

    cohort: Location
    tables: CohortTables
    info: CohortInfo
    items: list[ComparedItem]
    params: EvaluateParams
    predicted: CohortPredictions

    def rows(self, predicted: CohortPredictions) -> pd.DataFrame:
        """The rows of the predicted patients in the table of the cohort."""
        patients = self.tables.patients
        return patients[patients["patient_id"].isin(predicted.patients)].reset_index(drop=True)


def predict_cohort(
    subject: Subject,
    cohort: Location,
    features: Location | None,
    params: EvaluateParams,
    progress: Progress,
    recalibration_share: float | None,
) -> Trial:
    """The predictions of the model for a cohort.

    recalibration_share  as in `mcti.steps.test.step.test`: too few events for it are an error before the predictions

    Raises DataError as `mcti.steps.test.step.test` does.
    """
    tables, info = CohortTables.read(cohort, features), cohort_tables.read_info(cohort)
    comparability.check_unseen(list(tables.patients["patient_id"].astype(str)), subject.used_patients())
    items = comparability.compare(
        subject.record, info, tables.patients, tables.expression, subject.ensemble, subject.median_months()
    )
    if recalibration_share is not None:  # patients who cannot be predicted only reduce the events
        recalibration.assign_parts(tables.patients, recalibration_share)
    horizons, known = np.array(sorted(params.horizons_months)), KnownPatients.of(subject.development.predictions)
    predicted = prediction.predict(subject.ensemble, tables, horizons, params.risk_groups, known, progress)
    return Trial(cohort, tables, info, items, params, predicted)


@dataclass(frozen=True)
class BeforeRecalibration:
    """The model before its recalibration: its predictions for the patients of the evidence, and the fit in one line."""

    model: Predictions
    fit: str


def one_fold(patients: pd.DataFrame) -> Outcomes:
    """The patients (one row each) as one test part; its censoring weights come from the same patients."""
    ids = list(patients["patient_id"])
    return Outcomes.from_folds(patients, {0: ([], ids)}).with_weights_of_all()


def score(
    subject: Subject, trial: Trial, predicted: CohortPredictions, before: BeforeRecalibration | None = None
) -> ExternalData:
    """Score the predictions of some or all patients of a cohort; before: for a recalibrated model.

    Raises DataError when no patient has the event.
    """
    tables, params = trial.tables, trial.params
    patients = trial.rows(predicted)
    if not (patients["event"] == 1).any():
        raise DataError("no patient who can be predicted has the event", "the cohort", "use a longer follow-up")
    outcomes = one_fold(patients)
    baselines, skipped = _baselines(subject.development, tables, patients, params, trial.cohort)
    baselines = baselines if before is None else {NOT_RECALIBRATED: before.model, **baselines}
    groups = external.risk_groups_of(outcomes, predicted.group, params.risk_groups)
    left_out = comparability.subtypes_left_out(subject.ensemble, patients)
    model = replace(predicted.model, subtypes=None) if left_out else predicted.model
    numbers = scores.score(outcomes, {MCTI_KEY: model, **baselines}, patients, groups, params)
    horizon = float(max(params.horizons_months))
    moments = case_mix.CaseMix.fit(case_mix.variables(patients, predicted.member), horizon)
    return ExternalData(
        summary=replace(
            _summary(subject, trial, patients, predicted, before),
            subtypes_left_out=left_out if len(subject.ensemble.classes) > 1 else "",
        ),
        patients=patients,
        outcomes=outcomes,
        model=model,
        baselines=baselines,
        skipped=skipped,
        groups=groups,
        scores=numbers,
        params=params,
        items=trial.items,
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
    subject: Subject,
    trial: Trial,
    patients: pd.DataFrame,
    predicted: CohortPredictions,
    before: BeforeRecalibration | None,
) -> ExternalSummary:
    info = trial.info
    outcomes, had_competing = one_fold(patients), competing.flags(patients)
    return ExternalSummary(
        model=subject.name,
        version=subject.version,
        cohort=info.name,
        notice=info.notice,
        endpoint=info.endpoint,
        development=str(subject.record.get("name", "")),
        patients=len(patients),
        events=int(outcomes.event.sum()),
        follow_up=median_follow_up(outcomes.event | had_competing, outcomes.time_months, outcomes.entry_months),
        competing_events=int(had_competing.sum()),
        entry_difference=comparability.entry_difference(subject.record.get("late_entries", 0), outcomes.late_entries),
        excluded=dict(Counter(predicted.excluded.values())),
        excluded_at_ingest=len(info.attrition),
        out_of_distribution=predicted.out_of_distribution,
        predictors=", ".join([f"{len(subject.ensemble.genes)} genes", *subject.ensemble.covariates]),
        slides=trial.tables.features is not None,
        recalibration="" if before is None else before.fit,
        time_ratio=float(patients["time_months"].median()) / subject.median_months(),
    )
