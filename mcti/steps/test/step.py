"""test: a frozen model on a cohort that it never saw, compared with its development and the baselines fitted there."""

import tempfile
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd

from mcti import storage
from mcti.evaluation import inputs_record
from mcti.params import EvaluateParams
from mcti.progress import Progress
from mcti.registry import ensemble_files, external_validations, recalibrated_versions
from mcti.registry.ensemble import Ensemble
from mcti.registry.pipeline_run import tracked
from mcti.registry.recalibrated_ensemble import RecalibrationRecord
from mcti.steps.task_log import logged
from mcti.steps.test import prediction, recalibration, report_files, results, scoring
from mcti.steps.test.prediction import CohortPredictions, KnownPatients
from mcti.steps.test.recalibration import CohortParts
from mcti.steps.test.report_files import ExternalData
from mcti.steps.test.results import ExternalResult, RecalibratedResult
from mcti.steps.test.scoring import BeforeRecalibration, Subject, Trial
from mcti.storage import Location


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
    recalibration_share: float | None = None,
    progress: Progress = lambda *_: None,
) -> ExternalResult:
    """Test a frozen model on a cohort that it never saw (docs/external-validation.md).

    recalibration_share  share of the patients on whom intercept and slope are fitted; None: no recalibration

    Reads   the model (models:/NAME@ALIAS, or a folder of folds), cohort/{patients,expression,slides}.parquet and
            cohort.json, features/<slide_id>.h5 (None: no slides are used); the evaluation of the development: that of
            the version, or the folder `evaluation` (a folder of folds without it has no figures to compare with)
    Writes  out/{metrics.json, external.json, predictions.csv, baselines.csv, compared.csv, excluded.csv, inputs.json,
            result.json, report.html, figures/, plots/}: all of it or nothing, the same bytes on every run; for a
            registered version also a run in MLflow with these files, which a tag of the version names
            with a recalibration out/recalibrated/{model/, validation/}: the recalibrated ensemble, and the same files
            for it on the patients who were not used to fit it; for a registered version also a new version of the model

    Raises
    DataError when a patient of the cohort belongs to the development; when endpoint, scale, unit, genes or encoder are
    not those of the development; when no patient can be predicted or none has the event.
    OperationalError when the registry does not respond.
    """
    with tempfile.TemporaryDirectory(prefix="mcti-test-") as scratch:
        subject = Subject.read(model, evaluation, Path(scratch))
        trial = scoring.predict_cohort(subject, cohort, features, params, progress, recalibration_share)
        parts = None
        if recalibration_share is not None:
            parts = recalibration.assign_parts(trial.rows(trial.predicted), recalibration_share)
        data = scoring.score(subject, trial, trial.predicted)
        with storage.replacing(out) as draft:
            draft.mkdir()
            report_files.write(draft, data)
            _write_inputs(draft, data, cohort)
            result = results.external_result(subject, data, cohort)
            if parts is not None:
                after = _recalibrate(model, subject, trial, parts, draft / "recalibrated")
                result = result.model_copy(update={"recalibrated": after})
            result.save(draft)
            if subject.version:
                external_validations.log(draft)
            return result


def _recalibrate(model: str, subject: Subject, trial: Trial, parts: CohortParts, out: Path) -> RecalibratedResult:
    """Write the recalibrated ensemble and its evidence below `out`, and register both for a registered version."""
    out.mkdir()
    cohort_md5 = storage.tree_md5(trial.cohort)
    record = recalibration.write(subject.ensemble, subject.folder, trial.tables, parts, cohort_md5, out / "model")
    ensemble = ensemble_files.load(out / "model")
    number = recalibrated_versions.create(model, out / "model", ensemble.digest) if subject.version else ""
    after = replace(subject, ensemble=ensemble, version=str(number))
    data = scoring.score(after, trial, _after(ensemble, trial, parts), _before(trial, parts, record))
    (out / "validation").mkdir()
    report_files.write(out / "validation", data)
    _write_inputs(out / "validation", data, trial.cohort)
    results.external_result(after, data, trial.cohort).save(out / "validation")
    if after.version:
        external_validations.log(out / "validation")
    return results.recalibrated_result(after, data, parts, record)


def _write_inputs(draft: Path, data: ExternalData, cohort: Location) -> None:
    summary, digests = data.summary, {"cohort": storage.tree_md5(cohort)}
    record = inputs_record.record(summary.endpoint, summary.cohort, data.params, digests)
    storage.write_json(draft / inputs_record.FILE, record)


def _after(ensemble: Ensemble, trial: Trial, parts: CohortParts) -> CohortPredictions:
    """The recalibrated predictions of the patients of the evidence.

    Case mix and model-based concordance keep the linear predictor of the development, that before the recalibration.
    """
    before = recalibration.subset(trial.predicted, parts.evidence)
    patients = trial.tables.patients[trial.tables.patients["patient_id"].isin(parts.evidence)]
    tables, horizons = replace(trial.tables, patients=patients), np.array(sorted(trial.params.horizons_months))
    unknown = KnownPatients.of(pd.DataFrame())  # already compared for the predictions before
    predicted = prediction.predict(ensemble, tables, horizons, trial.params.risk_groups, unknown, lambda *_: None)
    return replace(before, model=predicted.model, out_of_distribution=predicted.out_of_distribution)


def _before(trial: Trial, parts: CohortParts, record: RecalibrationRecord) -> BeforeRecalibration:
    fit = (
        f"intercept {record.intercept:+.3f} and slope {record.slope:.3f} of the survival curves were fitted on "
        f"{len(parts.fit)} other patients of this cohort ({record.events} events)"
    )
    return BeforeRecalibration(recalibration.subset(trial.predicted, parts.evidence).model, fit)
