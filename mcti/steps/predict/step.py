"""predict: risk and survival of patients, by a registered model or by the folds of a folder."""

import math
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mcti import redaction, storage
from mcti.cohort import tables
from mcti.dataset import new_patients as new_patient_folder
from mcti.dataset.bags import Dataset, PatientBag
from mcti.dataset.loading import CohortTables, load_dataset, slides_with_features
from mcti.errors import DataError, MctiError, UsageError, did_you_mean
from mcti.model.trained import single_thread
from mcti.params import ExtractParams, PredictParams
from mcti.progress import Progress
from mcti.registry import ensemble_files, models
from mcti.registry.ensemble import Ensemble
from mcti.registry.pipeline_run import tracked
from mcti.steps.extract import extract
from mcti.steps.predict import patient_pages
from mcti.steps.result import StepResult
from mcti.steps.task_log import logged
from mcti.storage import Location
from mcti.training.worker_pool import Channel, Pool, cores

if TYPE_CHECKING:
    import pandas as pd

CHUNK = 32
"""Patients of a job: enough to pay for its start, few enough that their bags fit into memory."""


class PredictResult(StepResult):
    """How many patients; `known` of them belong to the development cohort and got their out-of-fold risk.

    out_of_distribution  flagged as unlike the training patients;  incomplete  without slides or without genes
    refused              not predicted, since the model cannot read what there is of them
    """

    patients: int
    known: int
    out_of_distribution: int
    incomplete: int
    refused: int
    model_digest: str


@dataclass(frozen=True)
class Job:
    """Some patients, as plain values that travel to a worker. source: a cohort, or a folder of new patients."""

    model: str
    source: str
    features: str | None
    new: bool
    chosen: tuple[str, ...]
    risk_groups: int


@dataclass(frozen=True)
class Refused:
    """A patient who cannot be predicted, and why."""

    patient_id: str
    error: MctiError


@logged
@tracked
def predict(
    model: str,
    cohort: Location | None,
    features: Location | None,
    params: PredictParams,
    out: Path,
    *,
    new_patients: Location | None = None,
    patient_ids: Sequence[str] = (),
    extraction: ExtractParams = ExtractParams(),  # noqa: B008  (frozen)
    pages: Path | None = None,
    explanation: Location | None = None,
    pdf: bool = False,
    progress: Progress = lambda *_: None,
) -> PredictResult:
    """Predict patients one at a time on one thread, in several processes: the same bits in a batch and alone.

    Reads   the model (models:/NAME@ALIAS, or a folder of folds); either cohort/{patients,expression,slides}.parquet
            with features/<slide_id>.h5 (None: no slides are used), or the folder `new_patients` of patients without an
            outcome (mcti/dataset/new_patients.py), whose slides are extracted with the settings `extraction` where
            the folder has no features; patient_ids: only these patients, empty: all of them;
            explanation: the output folder of `mcti explain`, for the patient pages
    Writes  out (.csv, or .json for any other reader), sorted by patient: the columns of docs/serving.md;
            <out>.refused.csv (.json) where somebody cannot be predicted: patient_id, reason; the others are;
            pages/<patient_id>.html, one a patient, with `pdf` also .pdf; with `--redact` the hash in place of the id,
            in names of files too
    Raises  DataError naming a patient whose genes or slides do not fit the model, when nobody's do (nothing is written)
            or more do not than params.max_refused_share allows (all is written)
            OperationalError when the registry does not answer
    """
    if (cohort is None) == (new_patients is None):
        raise UsageError("exactly one source of patients is needed", "--cohort, --new-patients", "set one of the two")
    with tempfile.TemporaryDirectory(prefix="mcti-predict-") as scratch:
        folder = models.fetch(model, Path(scratch, "model"))
        loaded = ensemble_files.load(folder)
        if new_patients is not None:
            names = new_patient_folder.patient_ids(Path(new_patients))
            features = new_patient_folder.feature_folder(
                Path(new_patients),
                Path(scratch, "features"),
                lambda slides, out: extract(slides, extraction, out, progress=progress),
            )
        else:
            names = sorted(map(str, tables.read_patients(str(cohort))["patient_id"]))
        names = _select(names, patient_ids, str(new_patients or cohort))
        slides = None if features is None else str(features)
        chunks = [tuple(names[start : start + CHUNK]) for start in range(0, len(names), CHUNK)]
        source, new = str(new_patients or cohort), new_patients is not None
        jobs = [Job(str(folder), source, slides, new, chunk, params.risk_groups) for chunk in chunks]
        for kept in (_loaded, _tables):  # a folder may have been written anew since the last call in this process
            kept.cache_clear()
        with Pool(_predict_some, params.workers or min(cores(), len(jobs)), len(jobs)) as pool:
            told = [row for part in pool.map(jobs, progress) for row in part]
        refused = [row for row in told if isinstance(row, Refused)]
        rows = [row for row in told if not isinstance(row, Refused)]
        if not rows:
            raise refused[0].error
        _write([row | {"patient_id": redaction.redact_id(row["patient_id"])} for row in rows], out)
        _list_refused(refused, out)
        if pages is not None:
            notice = "" if new else tables.read_info(source).notice
            owned = (
                new_patient_folder.slides_by_patient(Path(source)) if new else slides_with_features(source, features)
            )
            development = patient_pages.development_of(folder, model)
            patient_pages.write(rows, pages, development, loaded, explanation, notice, owned, pdf=pdf)
    _refuse_too_many(refused, len(names), params, out)
    return _result(rows, len(refused), loaded)


def _select(known: Sequence[str], patient_ids: Sequence[str], source: str) -> list[str]:
    """The requested patients in sorted order; all of `known` when none is requested."""
    for patient in patient_ids:
        if patient not in known:
            raise DataError(f"patient {patient!r} does not exist", source, did_you_mean(patient, known))
    return sorted(set(patient_ids)) or list(known)


@single_thread()
def _predict_some(job: Job, channel: Channel) -> list[dict[str, Any] | Refused]:
    loaded, source = _loaded(job.model), _tables(job.source, job.features, new=job.new)
    rows: list[dict[str, Any] | Refused] = []
    for done, patient in enumerate(job.chosen, start=1):
        try:
            rows.append(_one(loaded, source.load((patient,)), patient, job.risk_groups))
        except DataError as error:
            # Told here: a worker read the tables, so it alone may know which ids to hide.
            told = DataError(*map(redaction.text, (error.what, error.where, error.hint)))
            rows.append(Refused(patient, told))
        channel.progress(done, len(job.chosen), "patients")
    return rows


@lru_cache(maxsize=1)
def _loaded(folder: str) -> Ensemble:
    """The model, read once a process."""
    return ensemble_files.load(Path(folder))


@lru_cache(maxsize=1)
def _tables(source: str, features: str | None, *, new: bool) -> CohortTables | new_patient_folder.NewPatientTables:
    """The tables of the patients, read once a process: a large expression takes longer than a patient."""
    return (
        new_patient_folder.NewPatientTables.read(Path(source), features) if new else CohortTables.read(source, features)
    )


def frame(cohort: Location, features: Location | None) -> "pd.DataFrame":
    """The patients of a cohort as the input of the served model (`mlflow.pyfunc.load_model(uri).predict(frame)`).

    Columns patient_id, genes ({name: value}), features (N patches of D numbers, as lists) and covariates
    ({name: value}), which a model that reads none leaves aside.
    """
    import pandas as pd

    data = load_dataset(cohort, features)
    rows = [
        {
            "patient_id": patient,
            "genes": by_name(bag, data.genes),
            "features": None if bag.patches is None else bag.patches.tolist(),
            "covariates": {name: math.nan if value is None else value for name, value in bag.covariates.items()},
        }
        for patient, bag in sorted(data.bags.items())
    ]
    return pd.DataFrame(rows)


def by_name(bag: PatientBag, genes: tuple[str, ...]) -> dict[str, float] | None:
    """The expression of a patient as {gene: value}, NaN where not measured; None: no expression."""
    return None if bag.genes is None else dict(zip(genes, bag.genes.tolist(), strict=True))


def _one(loaded: Ensemble, data: Dataset, patient: str, groups: int) -> dict[str, Any]:
    bag = data.bags[patient]
    try:
        loaded.check_features(data.provenance, "the patient's bag")
        expression = by_name(bag, data.genes)
        return loaded.predict(bag.patient_id, bag.patches, expression, covariates=bag.covariates, risk_groups=groups)
    except MctiError as error:
        raise error.with_patient(patient) from error


def _refused_list(out: Path) -> Path:
    return out.with_name(f"{out.stem}.refused{out.suffix}")


def _list_refused(refused: Sequence[Refused], out: Path) -> None:
    """Beside `out`, or nothing there: a list of an earlier run would be taken for one of this."""
    where = _refused_list(out)
    storage.remove(where)
    if refused:
        said = ({"patient_id": redaction.redact_id(r.patient_id), "reason": str(r.error)} for r in refused)
        _write(list(said), where)


def _refuse_too_many(refused: Sequence[Refused], asked: int, params: PredictParams, out: Path) -> None:
    if len(refused) > params.max_refused_share * asked:
        first = refused[0].error
        what = f"{len(refused)} of {asked} patients cannot be predicted, the first: {first.what}"
        hint = f"{first.hint}; {_refused_list(out).name} lists them, the others are in {out.name}"
        raise DataError(what, first.where, hint)


def _result(rows: Sequence[Mapping[str, Any]], refused: int, loaded: Ensemble) -> PredictResult:
    return PredictResult(
        patients=len(rows),
        known=sum(loaded.is_development_patient(str(row["patient_id"])) for row in rows),
        out_of_distribution=sum(bool(row["out_of_distribution"]) for row in rows),
        incomplete=sum(bool(row["missing"]) for row in rows),
        refused=refused,
        model_digest=loaded.digest,
    )


def _write(rows: list[dict[str, Any]], out: Path) -> None:
    if out.suffix == ".json":
        storage.write_json(out, rows)
        return
    import pandas as pd

    storage.write_text(out, pd.DataFrame(rows).to_csv(index=False, lineterminator="\n"))
