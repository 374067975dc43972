"""Score the out-of-fold risks of the trained models against the baselines, on the same folds."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd

from mcti import redaction, storage
from mcti.arrays import BoolArray, FloatArray
from mcti.cohort import competing, tables
from mcti.cohort import folds as cohort_folds
from mcti.cohort.folds import Folds
from mcti.cohort.tables import ExcludedPatient
from mcti.errors import DataError
from mcti.evaluation import (
    case_mix,
    characteristics,
    flow,
    inputs_record,
    linear_predictor,
    predictions,
    report,
    risk_groups,
    scores,
    summary_text,
)
from mcti.evaluation.attribution_shares import SMALL_SHARE, AttributionShares
from mcti.evaluation.comparison import finite
from mcti.evaluation.curves import median_follow_up
from mcti.evaluation.linear_predictor import StoredBaselines
from mcti.evaluation.outcomes import Outcomes
from mcti.evaluation.predictions import Predictions
from mcti.evaluation.scores import MCTI_KEY, Scores
from mcti.model.names import PARTS
from mcti.params import EvaluateParams
from mcti.progress import Progress
from mcti.steps.evaluate import (
    baseline_fits,
    competing_risks,
    excluded,
    modalities,
    model_insights,
    recalibration,
    report_files,
    search_use,
)
from mcti.steps.evaluate import comparators as comparator_models
from mcti.steps.evaluate.baseline_fits import BaselineFits
from mcti.steps.evaluate.ensemble_parts import FoldModels
from mcti.steps.evaluate.report_files import ReportData
from mcti.steps.evaluate.step import EvaluateResult
from mcti.storage import Location


def run(  # noqa: PLR0913  (the arguments of the step)
    cohort: Location,
    features: Location | None,
    folds: Location,
    models: Location,
    params: EvaluateParams,
    out: Path,
    comparators: Sequence[Location],
    slides: Location | None,
    progress: Progress | None,
) -> EvaluateResult:
    """The work of the step: arguments, files and errors of `evaluate` (mcti/steps/evaluate/step.py)."""
    cohort_patients, split = tables.read_patients(cohort), cohort_folds.read_folds(folds)
    patients = patients_in_folds(cohort_patients, split)
    outcomes = split_outcomes(patients, split)
    horizons = np.array(sorted(params.horizons_months))
    comparator_models.check_training(models, outcomes)
    mcti = predictions.read_models(models, outcomes, horizons)
    single = modalities.read(models, outcomes, horizons)
    networks = comparator_models.read(comparators, outcomes, horizons, (MCTI_KEY, *PARTS, *params.baselines))
    inputs = baseline_fits.read_inputs(cohort, features, patients)
    with BaselineFits(inputs, outcomes, params) as fits:
        groups = risk_groups.form_groups(outcomes, mcti.risk, params.risk_groups)
        direct = fits.interpreted(progress)
        fold_models = FoldModels(models, cohort, features, outcomes)
        trained = {MCTI_KEY: mcti, **fold_models.predict_parts(horizons, progress), **networks}
        shares = fold_models.attribution_shares(params.attribution_patients)
        insights = read_insights(cohort, features, models, outcomes, mcti, shares, slides, embeddings=inputs.embeddings)
        known = scores.by_model(outcomes, {**trained, **direct}, patients, params)
        fitted = fits.result(progress)
    predicted = {**trained, **fitted.predictions}
    numbers = scores.score(outcomes, predicted, patients, groups, params, known)
    incidence = competing_risks.score(patients, outcomes, predicted, inputs, groups, numbers.horizons, params)
    numbers = replace(
        numbers,
        competing={} if incidence is None else incidence.numbers,
        regimes=modalities.compare(single, patients, outcomes, mcti, params),
        recalibration=recalibration.compare(models, outcomes, mcti, numbers.horizons, params),
        attribution={} if shares is None else shares.as_dict(),
        search=_search(models, split),
        pretrained=recalibration.is_pretrained(models, split.numbers),
    )
    removed = excluded.read(tables.read_info(cohort), list(cohort_patients["patient_id"]), folds, split)
    insights = replace(insights, table_1=characteristics.table(patients, outcomes, groups))
    summary = _cohort_summary(cohort, outcomes, removed, competing.flags(patients))
    data = ReportData(outcomes, mcti, groups, numbers, params, summary, fitted.skipped, insights, incidence)
    with storage.replacing(out) as draft:
        draft.mkdir()
        report_files.write_predictions(draft, data, predicted, patients)
        _write_excluded(draft, removed)
        _write_development(draft, fitted.stored, _case_mix(patients, outcomes, mcti, horizons))
        storage.write_json(draft / inputs_record.FILE, _inputs(cohort, models, outcomes, params))
        report_files.write_report(draft, data)
        result = _result(data, storage.tree_md5(cohort))
        storage.write_json(draft / "summary.json", _summary(result, numbers))
        return result.save(draft)


def patients_in_folds(patients: pd.DataFrame, split: Folds) -> pd.DataFrame:
    """The rows of the patients in the folds, in the order of the table; `split` may exclude patients of the cohort."""
    return patients[patients["patient_id"].isin(set(split.frame["patient_id"]))].reset_index(drop=True)


def split_outcomes(patients: pd.DataFrame, split: Folds) -> Outcomes:
    """The test parts of all folds with the outcomes of their patients; `patients` has one row per patient.

    Raises
        DataError when there is no fold, or a fold does not fit the table (`Outcomes.from_folds`)
    """
    if not split.numbers:
        raise DataError("the table has no fold", "folds", "run mcti split")
    return Outcomes.from_folds(patients, {k: (split.train_patients(k), split.test_patients(k)) for k in split.numbers})


def read_insights(
    cohort: Location,
    features: Location | None,
    models: Location,
    outcomes: Outcomes,
    mcti: Predictions,
    shares: AttributionShares | None,
    slides: Location | None = None,
    *,
    embeddings: bool = False,
) -> report.ModelInsights:
    """Learning curves, gene groups and critical patches, as far as the files of the models exist.

    Critical patches only with features of patches (embeddings have none), and where their share of the attribution is
    at least SMALL_SHARE.
    """
    patches = []
    if not embeddings and (shares is None or shares.details["critical_patches"] >= SMALL_SHARE):
        patches = model_insights.critical_patches(cohort, features, models, outcomes, mcti.risk, slides)
    history, groups = model_insights.history(models, outcomes), model_insights.gene_groups(models, outcomes)
    return report.ModelInsights(history, groups, patches, embeddings=embeddings)


def _search(models: Location, split: Folds) -> dict[str, object]:
    """The record of the search, with the sentences that reports and dossier show."""
    record = search_use.read(models, split)
    return {**record, "sentences": summary_text.search_sentences(record)}


def _inputs(cohort: Location, models: Location, outcomes: Outcomes, params: EvaluateParams) -> dict[str, object]:
    """What `mcti compare` shows of the inputs; folds without model.json (of another program) record no settings."""
    info, files = tables.read_info(cohort), [f"fold_{fold.number}/model.json" for fold in outcomes.folds]
    locations = [storage.join(models, name) for name in files]
    specs = [storage.read_json(location) for location in locations if storage.exists(location)]
    data = {"cohort": storage.tree_md5(cohort), "folds": inputs_record.folds_md5(outcomes)}
    return inputs_record.record(info.endpoint, info.name, params, data, specs)


def _write_excluded(draft: Path, removed: Sequence[ExcludedPatient]) -> None:
    table = flow.table(removed)
    predictions.write_csv(table.assign(patient_id=table["patient_id"].map(redaction.redact_id)), draft / "excluded.csv")


def _write_development(draft: Path, stored: StoredBaselines, moments: dict[str, object]) -> None:
    """Write what `mcti test` needs of the development, without a value of a single patient."""
    (draft / linear_predictor.FILE).write_bytes(stored.save())
    storage.write_json(draft / case_mix.FILE, moments)


def _case_mix(patients: pd.DataFrame, outcomes: Outcomes, mcti: Predictions, horizons: FloatArray) -> dict[str, object]:
    """Moments of the evaluated patients, each by the first fold that tested them (with repeats there are several)."""
    tested, first = np.unique(outcomes.patient, return_index=True)
    table = case_mix.variables(patients.iloc[tested], mcti.survival[first, -1])
    return case_mix.CaseMix.fit(table, float(horizons[-1])).as_dict()


def _cohort_summary(
    cohort: Location, outcomes: Outcomes, removed: Sequence[ExcludedPatient], had_competing: BoolArray
) -> report.CohortSummary:
    """Counts of the evaluated patients only; had_competing (n,) of the cohort table."""
    info = tables.read_info(cohort)
    event, time = outcomes.tested_event, outcomes.tested_time
    genes = f"{len(tables.gene_names(cohort))} genes"
    return report.CohortSummary(
        name=info.name,
        notice=info.notice,
        endpoint=info.endpoint,
        patients=len(event),
        events=int(event.sum()),
        follow_up=median_follow_up(event | had_competing[outcomes.tested], time, outcomes.entries(outcomes.tested)),
        competing_events=int(had_competing[outcomes.tested].sum()),
        predictors=", ".join([genes, "age", "sex", "subtype", *info.covariates]),
        excluded=flow.counts(removed),
        train_patients=tuple(len(fold.train_event) for fold in outcomes.folds),
        train_events=tuple(int(fold.train_event.sum()) for fold in outcomes.folds),
    )


def _result(data: ReportData, cohort_md5: str) -> EvaluateResult:
    numbers, primary = data.scores, data.params.primary_baseline
    c_index = numbers.models[MCTI_KEY]["c_index"]
    difference = numbers.comparison.get(primary, {}).get("difference", {})
    return EvaluateResult(
        patients=data.cohort.patients,
        events=data.cohort.events,
        excluded={step: dict(reasons) for step, reasons in data.cohort.excluded.items()},
        median_follow_up=finite(data.cohort.follow_up),
        folds=len(data.outcomes.folds),
        c_index=c_index["value"],
        c_index_low=c_index["low"],
        c_index_high=c_index["high"],
        primary_baseline=primary,
        difference=difference.get("value"),
        difference_low=difference.get("low"),
        difference_high=difference.get("high"),
        models={name: dict(entry["c_index"]) for name, entry in numbers.models.items()},
        skipped=dict(data.skipped),
        warnings=tuple(summary_text.warnings(numbers, data.skipped)),
        notice=data.cohort.notice,
        cohort_md5=cohort_md5,
        competing_events=data.cohort.competing_events or None,
        late_entries=numbers.late_entries or None,
    )


def _summary(result: EvaluateResult, numbers: Scores) -> dict[str, object]:
    """The numbers of `dvc metrics diff`: C of every model, the primary difference, calibration and Brier score."""
    return {
        "c_index": {name: c_index["value"] for name, c_index in result.models.items()},
        "mcti": {"low": result.c_index_low, "high": result.c_index_high} | summary_text.calibration(numbers),
        "difference": {
            "to": result.primary_baseline,
            "value": result.difference,
            "low": result.difference_low,
            "high": result.difference_high,
        },
    }
