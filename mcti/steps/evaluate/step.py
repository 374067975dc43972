"""Score the out-of-fold risks of the trained models against the baselines, on the same folds."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd

from mcti import redaction, storage
from mcti.arrays import FloatArray
from mcti.cohort import folds as cohort_folds
from mcti.cohort import tables
from mcti.errors import DataError
from mcti.evaluation import (
    baselines,
    calibration,
    characteristics,
    cohort_figures,
    figures,
    flow,
    metrics,
    plot_tables,
    predictions,
    report,
    risk_groups,
    scores,
    summary_text,
)
from mcti.evaluation.attribution_shares import SMALL_SHARE, AttributionShares
from mcti.evaluation.comparison import finite
from mcti.evaluation.curves import median_follow_up
from mcti.evaluation.design_matrix import Inputs
from mcti.evaluation.figures import Figure
from mcti.evaluation.outcomes import Outcomes
from mcti.evaluation.predictions import Predictions
from mcti.evaluation.scores import OURS, Scores
from mcti.model.names import PARTS
from mcti.params import EvaluateParams
from mcti.progress import Progress
from mcti.registry.pipeline_run import tracked
from mcti.slides import features as slide_features
from mcti.steps.evaluate import comparators as other_models
from mcti.steps.evaluate import excluded, modalities, model_insights, recalibration, search_use
from mcti.steps.evaluate.ensemble_parts import Models
from mcti.steps.result import StepResult
from mcti.steps.task_log import logged
from mcti.storage import Location


class EvaluateResult(StepResult):
    """The headline of an evaluation; all numbers stand in metrics.json."""

    patients: int
    events: int
    folds: int
    c_index: float | None
    c_index_low: float | None
    c_index_high: float | None
    primary_baseline: str
    difference: float | None
    difference_low: float | None
    difference_high: float | None
    models: dict[str, dict[str, float | None]]
    skipped: dict[str, str]
    excluded: dict[str, dict[str, int]]
    median_follow_up: float | None
    warnings: tuple[str, ...]
    notice: str
    cohort_md5: str


@logged
@tracked
def evaluate(
    cohort: Location,
    features: Location | None,
    folds: Location,
    models: Location,
    params: EvaluateParams,
    out: Path,
    *,
    peers: Sequence[Location] = (),
    slides: Location | None = None,
    progress: Progress | None = None,
) -> EvaluateResult:
    """Score the out-of-fold risks of MCTI, of the baselines and of further trained models.

    Reads   cohort/{patients,expression}.parquet and cohort.json, features (may be None), folds (patient_id, fold,
            role), models/fold_<k>/predictions.csv and the same of each folder in `peers`; slides, a manifest or
            folder (None: the report names the places of critical patches and does not show them)
    Writes  out/{metrics.json, summary.json, predictions.csv, groups.csv, baselines.csv, report.html, result.json,
            excluded.csv, figures/, plots/}: all of it or nothing, the same bytes on every run
    Raises  DataError when a test patient has no prediction, or more than one, or a model saw its test patients in
            training; UsageError for an unknown baseline, or two models of one name
    """
    everyone, split = tables.read_patients(cohort), cohort_folds.read_folds(folds)
    patients = in_folds(everyone, split)
    outcomes = _outcomes(patients, split)
    horizons = np.array(sorted(params.horizons_months))
    other_models.check_training(models, outcomes)
    ours = predictions.read_models(models, outcomes, horizons)
    others = other_models.read(peers, outcomes, horizons, taken=(OURS, *PARTS, *params.baselines))
    inputs = read_inputs(cohort, features, patients)
    fitted, skipped = fit_baselines(inputs, outcomes, params, progress)
    of_parts = Models(models, cohort, features, outcomes)
    fitted = {**of_parts.predict(horizons, progress), **others, **fitted}
    grouped = risk_groups.form_groups(outcomes, ours.risk, params.risk_groups)
    found = scores.score(outcomes, {OURS: ours, **fitted}, patients, grouped, params)
    shares = of_parts.shares(params.attribution_patients)
    found = replace(
        found,
        regimes=modalities.compare(models, patients, outcomes, ours, params),
        recalibration=recalibration.compare(models, outcomes, ours, found.horizons, params),
        attribution={} if shares is None else shares.as_dict(),
        search=_search(models, split),
    )
    gone = excluded.read(tables.read_info(cohort), list(everyone["patient_id"]), folds, split)
    facts = _facts(cohort, outcomes, gone)
    with storage.replacing(out) as draft:
        draft.mkdir()
        _write_tables(draft, outcomes, ours, fitted, horizons)
        hidden = flow.table(gone).assign(patient_id=lambda rows: rows["patient_id"].map(redaction.redact_id))
        predictions.write_csv(hidden, draft / "excluded.csv")
        tested = patients.iloc[outcomes.tested]
        predictions.write_csv(tested[["patient_id", "subtype", "site"]], draft / "groups.csv")
        about = read_insights(cohort, features, models, outcomes, ours, shares, slides)
        table_1 = characteristics.table(patients, outcomes, grouped)
        _write_report(draft, outcomes, ours, grouped, found, params, facts, skipped, replace(about, table_1=table_1))
        storage.write_json(draft / "metrics.json", found.metrics_json())
        result = _result(outcomes, found, params, skipped, facts, _md5(cohort))
        storage.write_json(draft / "summary.json", _summary(result, found))
        return result.save(draft)


def _search(models: Location, split: cohort_folds.Folds) -> dict[str, object]:
    """What the search saw and gained, with the sentences that reports and dossier show."""
    found = search_use.read(models, split)
    return {**found, "sentences": summary_text.searched(found)}


def in_folds(patients: pd.DataFrame, split: cohort_folds.Folds) -> pd.DataFrame:
    """The patients of the folds, in the order of the table: `split` may have left out others of the cohort."""
    return patients[patients["patient_id"].isin(set(split.frame["patient_id"]))].reset_index(drop=True)


def _outcomes(patients: pd.DataFrame, split: cohort_folds.Folds) -> Outcomes:
    if not split.numbers:
        raise DataError("no fold is there", "folds", "run mcti split")
    return Outcomes.from_folds(patients, {k: (split.train_patients(k), split.test_patients(k)) for k in split.numbers})


def read_outcomes(patients: pd.DataFrame, folds: Location) -> Outcomes:
    """The test parts of all folds with what happened to their patients."""
    return _outcomes(patients, cohort_folds.read_folds(folds))


def read_inputs(cohort: Location, features: Location | None, patients: pd.DataFrame) -> Inputs:
    """What the baselines look at, rows in the order of `patients`; a patient without genes gets missing values."""
    genes = tables.read_expression(cohort).reindex(patients["patient_id"])
    bags = None if features is None else bag_moments(cohort, features, list(patients["patient_id"]))
    return Inputs(patients, genes, bags)


def bag_moments(cohort: Location, features: Location, patients: list[str]) -> FloatArray:
    """(n, 2 D) mean and standard deviation of each patient's patch features over all slides; NaN without patches."""
    found: dict[str, FloatArray] = {}
    for patient, slides in tables.read_slides(cohort).groupby("patient_id")["slide_id"]:
        files = [storage.join(features, f"{slide}.h5") for slide in sorted(slides)]
        bag = [rows for rows in (_features(file) for file in files if storage.exists(file)) if len(rows)]
        if bag:
            rows = np.concatenate(bag)
            found[str(patient)] = np.concatenate([rows.mean(axis=0), rows.std(axis=0)])
    if not found:
        raise DataError("no slide of the cohort has features", str(features), "extract the slides of this cohort")
    if len(widths := {len(moments) // 2 for moments in found.values()}) > 1:
        raise DataError(f"features of {sorted(widths)} columns", str(features), "extract all slides with one encoder")
    nothing = np.full(2 * widths.pop(), np.nan)
    return np.stack([found.get(patient, nothing) for patient in patients])


def _features(where: str) -> FloatArray:
    with storage.local_copy(where) as path:
        return slide_features.read(path)[0].astype(np.float64)


def fit_baselines(
    inputs: Inputs, outcomes: Outcomes, params: EvaluateParams, progress: Progress | None = None
) -> tuple[dict[str, Predictions], dict[str, str]]:
    """Every baseline of the settings on every fold; and why some were left out, {name: reason}."""
    from threadpoolctl import threadpool_limits  # type: ignore[import-untyped]

    made = {name: baselines.create(name) for name in params.baselines}
    skipped = {name: "no slide features were given" for name, b in made.items() if b.needs_bags and inputs.bags is None}
    wanted = [name for name in made if name not in skipped]
    horizons = np.array(sorted(params.horizons_months))
    fitted = {}
    # One thread: sums in a fixed order, so that the last bit does not depend on the machine's load.
    with threadpool_limits(1):
        for done, name in enumerate(wanted):
            if progress is not None:
                progress(done, len(wanted), "baselines", name)
            fitted[name] = baselines.fit_predict(name, inputs, outcomes, horizons, params.seed)
    if progress is not None:
        progress(len(wanted), len(wanted), "baselines")
    return fitted, skipped


def _write_tables(
    draft: Path, outcomes: Outcomes, ours: Predictions, fitted: Mapping[str, Predictions], horizons: FloatArray
) -> None:
    predictions.write_csv(predictions.with_outcomes(outcomes, ours, horizons), draft / "predictions.csv")
    parts = [predictions.table(outcomes, p, horizons).assign(model=name) for name, p in fitted.items()]
    if parts:
        frame = pd.concat(parts)
        predictions.write_csv(frame[["model", *frame.columns.drop("model")]], draft / "baselines.csv")


def _write_report(
    draft: Path,
    outcomes: Outcomes,
    ours: Predictions,
    grouped: risk_groups.RiskGroups,
    found: Scores,
    params: EvaluateParams,
    facts: report.CohortSummary,
    skipped: Mapping[str, str],
    about: report.ModelInsights,
) -> None:
    """plots/*.csv, figures/*.{svg,png} and the page that shows them."""
    column = {float(t): i for i, t in enumerate(sorted(params.horizons_months))}
    points = {
        float(t): calibration.calibration_groups(outcomes, ours.survival[:, column[float(t)]], float(t))
        for t in found.horizons
    }
    (draft / "plots").mkdir()
    for name, frame in {
        "km": plot_tables.kaplan_meier(grouped),
        "c_index_by_fold": plot_tables.c_index_by_fold(found),
        "over_time": plot_tables.over_time(found),
        "roc": plot_tables.roc(outcomes, ours.risk, found.horizons),
        "calibration": plot_tables.calibration(points),
        "decision": plot_tables.decision(found),
        "table_1": about.table_1,
    }.items():
        predictions.write_csv(frame, draft / "plots" / f"{name}.csv")
    drawn = _draw(outcomes, found, grouped, points)
    drawn += [(cohort_figures.flow(facts.excluded, facts.patients, facts.events), "")]
    if about.history:
        drawn.append((cohort_figures.learning(about.history), "Of the training parts; no epoch was chosen on them."))
    (draft / "figures").mkdir()
    for figure, _ in drawn:
        (draft / "figures" / f"{figure.name}.svg").write_text(figure.svg, encoding="utf-8")
        (draft / "figures" / f"{figure.name}.png").write_bytes(figure.png)
    (draft / "report.html").write_text(report.render(facts, found, drawn, params, skipped, about), encoding="utf-8")


def read_insights(
    cohort: Location,
    features: Location | None,
    models: Location,
    outcomes: Outcomes,
    ours: Predictions,
    shares: AttributionShares | None,
    slides: Location | None = None,
) -> report.ModelInsights:
    """What the trained models themselves show, as far as their files are there.

    Critical patches only where they carry a share of the attribution that is worth showing.
    """
    pairs = metrics.c_index(outcomes, ours.risk)
    small = shares is not None and shares.details["critical_patches"] < SMALL_SHARE
    patches = (
        [] if small else model_insights.critical_patches(cohort, features, models, outcomes, ours.risk, pairs, slides)
    )
    return report.ModelInsights(
        model_insights.history(models, outcomes), model_insights.gene_groups(models, outcomes), patches
    )


def _draw(
    outcomes: Outcomes, found: Scores, grouped: risk_groups.RiskGroups, points: Mapping[float, Mapping[str, FloatArray]]
) -> list[tuple[Figure, str]]:
    """Every figure with its caption."""
    # Beyond the 90 % quantile of follow-up a curve rests on a handful of patients.
    horizon = float(np.quantile(outcomes.tested_time, 0.9))
    c_by_model = {name: tuple(vars(found.c_index(name)).values()) for name in found.models}
    by_fold = {
        name: [np.nan if f["c_index"] is None else f["c_index"] for f in numbers["folds"]]
        for name, numbers in found.models.items()
    }
    drawn = [
        (figures.forest(c_by_model, by_fold), ""),
        (cohort_figures.forest(found.forest), "A fold with fewer than ten events has no interval."),
        (figures.kaplan_meier(grouped, horizon), "MCTI, out of fold; limits from the training part of each fold."),
    ]
    if len(found.horizons):
        errors = {
            name: [numbers[f"brier_{t:g}"]["value"] for t in found.horizons] for name, numbers in found.models.items()
        }
        drawn.append((figures.calibration(points), "MCTI, out of fold. On the dotted line prediction and fate agree."))
        drawn.append(
            (
                figures.decision_curve(found.decision),
                "A model is of use where its line lies above treating everybody and nobody.",
            )
        )
        drawn.append((figures.brier(errors, found.horizons), "Weighed for censoring with the training part's curve."))
    return drawn


def _facts(cohort: Location, outcomes: Outcomes, gone: Sequence[flow.ExcludedPatient]) -> report.CohortSummary:
    """Of the evaluated patients alone."""
    info = tables.read_info(cohort)
    event, time = outcomes.tested_event, outcomes.tested_time
    genes = f"{len(tables.gene_names(cohort))} genes"
    return report.CohortSummary(
        name=info.name,
        notice=info.notice,
        endpoint=info.endpoint,
        patients=len(event),
        events=int(event.sum()),
        follow_up=median_follow_up(event, time),
        predictors=", ".join([genes, "age", "sex", "subtype", *info.covariates]),
        excluded=flow.counts(gone),
        train_patients=tuple(len(fold.train_event) for fold in outcomes.folds),
        train_events=tuple(int(fold.train_event.sum()) for fold in outcomes.folds),
    )


def _result(
    outcomes: Outcomes,
    found: Scores,
    params: EvaluateParams,
    skipped: Mapping[str, str],
    facts: report.CohortSummary,
    cohort_md5: str,
) -> EvaluateResult:
    ours = found.models[OURS]["c_index"]
    difference = found.comparison.get(params.primary_baseline, {}).get("difference", {})
    return EvaluateResult(
        patients=facts.patients,
        events=facts.events,
        excluded=facts.excluded,
        median_follow_up=finite(facts.follow_up),
        folds=len(outcomes.folds),
        c_index=ours["value"],
        c_index_low=ours["low"],
        c_index_high=ours["high"],
        primary_baseline=params.primary_baseline,
        difference=difference.get("value"),
        difference_low=difference.get("low"),
        difference_high=difference.get("high"),
        models={name: dict(numbers["c_index"]) for name, numbers in found.models.items()},
        skipped=dict(skipped),
        warnings=tuple(summary_text.warnings(found, skipped)),
        notice=facts.notice,
        cohort_md5=cohort_md5,
    )


def _md5(cohort: Location) -> str:
    """The cohort's identity as `mcti validate` writes it: which contract belongs to which evaluation."""
    with storage.local_copy(cohort) as folder:
        return storage.tree_md5(folder)


def _summary(result: EvaluateResult, found: Scores) -> dict[str, object]:
    """The few numbers of `dvc metrics diff`: C of every model, our difference, our calibration and Brier score."""
    return {
        "c_index": {name: numbers["value"] for name, numbers in result.models.items()},
        "mcti": {"low": result.c_index_low, "high": result.c_index_high} | summary_text.calibration(found),
        "difference": {
            "to": result.primary_baseline,
            "value": result.difference,
            "low": result.difference_low,
            "high": result.difference_high,
        },
    }
