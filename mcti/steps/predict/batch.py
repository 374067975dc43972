"""The work of the step `predict` (mcti/steps/predict/step.py), which imports this module when it runs."""

import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mcti import redaction, storage
from mcti.cohort import tables
from mcti.dataset import new_patients as new_patient_folder
from mcti.dataset.bags import Dataset
from mcti.dataset.loading import CohortTables, slides_with_features, write_expression
from mcti.errors import DataError, MctiError, did_you_mean
from mcti.explanation.patient_context import PredictionContext
from mcti.model.trained import single_thread
from mcti.params import PredictParams, TrustParams
from mcti.progress import Progress
from mcti.registry import ensemble_files
from mcti.registry.ensemble import CALCULATION, Ensemble
from mcti.registry.trust import policy
from mcti.steps.patient_selection import Selection
from mcti.steps.predict import patient_pages, table_file
from mcti.steps.predict.step import PatientPages, PredictResult, expression_by_gene
from mcti.training.worker_pool import Channel, Pool, cores

if TYPE_CHECKING:
    pass

PATIENTS_PER_JOB = 32
"""Enough to amortise the start of a job, few enough that their bags fit into memory."""


@dataclass(frozen=True)
class PatientSource:
    """A cohort, or a folder of new patients (`new`), with its features; plain values that are sent to workers.

    age_values  (masked age, years) of a folder of new patients
    categories  (categorical covariate of the model, (cell, level) pairs to replace) of such a folder
    expression  folder with the expression in a file that the workers map; None: there is no expression
    """

    folder: str
    features: str | None
    new: bool
    age_values: tuple[tuple[str, float], ...] = ()
    categories: tuple[tuple[str, tuple[tuple[str, str | None], ...]], ...] = ()
    expression: str | None = None

    def with_expression_file(self, folder: Path) -> "PatientSource":
        """Write the expression once for all workers; each maps it, so that memory does not grow with the patients."""
        if self.new and not new_patient_folder.write_expression(Path(self.folder), folder):
            return self
        if not self.new:
            write_expression(self.folder, folder)
        return replace(self, expression=str(folder))


@dataclass(frozen=True)
class PredictionJob:
    """Patients that one worker predicts."""

    model: str
    source: PatientSource
    patients: tuple[str, ...]
    risk_groups: int


@dataclass(frozen=True)
class Refused:
    """A patient who cannot be predicted, and the error."""

    patient_id: str
    error: MctiError


def run(
    model: str,
    patients: Selection,
    params: PredictParams,
    out: Path,
    pages: PatientPages | None,
    trust: TrustParams | None,
    progress: Progress,
) -> PredictResult:
    """Predict the selected patients; files, result and errors of `predict`."""
    with tempfile.TemporaryDirectory(prefix="mcti-predict-") as scratch:
        folder = policy.fetch(model, Path(scratch, "model"), trust or policy.from_environment())
        loaded = ensemble_files.load(folder)
        source = _source(patients, loaded, Path(scratch, "features"), progress)
        names = _select(_patient_ids(source), patients.patient_ids, source.folder)
        source = source.with_expression_file(Path(scratch, "expression"))
        total = _Total(loaded, keep_rows=pages is not None)
        with table_file.writing(out) as write:
            for rows in _predict_all(folder, source, names, params, progress):
                write(total.add(rows))
            if not total.patients:
                raise total.refused[0].error
        _write_refused(total.refused, out)
        if pages is not None:
            _write_pages(total.rows, pages, source, loaded, patient_pages.development_context(folder, model))
    _check_refused_share(total.refused, len(names), params, out)
    return total.result()


def _source(patients: Selection, loaded: Ensemble, scratch: Path, progress: Progress) -> PatientSource:
    """Where the workers read the patients."""
    features = patients.feature_folder(scratch, progress)
    return PatientSource(
        str(patients.new_patients or patients.cohort),
        None if features is None else str(features),
        patients.new_patients is not None,
        tuple(patients.age_values.items()),
        tuple((name, tuple(patients.category_values.get(name, {}).items())) for name in loaded.levels),
    )


@dataclass
class _Total:
    """Counts of the predicted patients, the refused ones, and with `keep_rows` the rows (for the patient pages)."""

    loaded: Ensemble
    keep_rows: bool
    patients: int = 0
    known: int = 0
    in_sources: int = 0
    out_of_distribution: int = 0
    incomplete: int = 0
    refused: list[Refused] = field(default_factory=list)
    rows: list[dict[str, Any]] = field(default_factory=list)

    def add(self, results: Sequence[dict[str, Any] | Refused]) -> list[dict[str, Any]]:
        """Count the results of a job; the rows to write, with redacted ids."""
        rows = [row for row in results if not isinstance(row, Refused)]
        self.refused += [row for row in results if isinstance(row, Refused)]
        self.patients += len(rows)
        self.known += sum(self.loaded.is_development_patient(str(row["patient_id"])) for row in rows)
        self.in_sources += sum(self.loaded.is_source_patient(str(row["patient_id"])) for row in rows)
        self.out_of_distribution += sum(bool(row["out_of_distribution"]) for row in rows)
        self.incomplete += sum(bool(row["missing"]) for row in rows)
        if self.keep_rows:
            self.rows += rows
        return [row | {"patient_id": redaction.redact_id(row["patient_id"])} for row in rows]

    def result(self) -> PredictResult:
        """The result of the step."""
        return PredictResult(
            patients=self.patients,
            known=self.known,
            in_sources=self.in_sources,
            out_of_distribution=self.out_of_distribution,
            incomplete=self.incomplete,
            refused=len(self.refused),
            model_digest=self.loaded.digest,
            calculation=CALCULATION,
        )


def _patient_ids(source: PatientSource) -> list[str]:
    if source.new:
        return new_patient_folder.patient_ids(Path(source.folder))
    return sorted(map(str, tables.read_patients(source.folder)["patient_id"]))


def _select(known: Sequence[str], patient_ids: Sequence[str], source: str) -> list[str]:
    """The requested patients in sorted order; all of `known` when none is requested."""
    existing = set(known)
    for patient in patient_ids:
        if patient not in existing:
            raise DataError(f"patient {patient!r} does not exist", source, did_you_mean(patient, known))
    return sorted(set(patient_ids)) or list(known)


def _predict_all(
    folder: Path, source: PatientSource, names: Sequence[str], params: PredictParams, progress: Progress
) -> Iterator[list[dict[str, Any] | Refused]]:
    """The predictions in the order of the names, by job; a patient without one is `Refused`."""
    chunks = [tuple(names[start : start + PATIENTS_PER_JOB]) for start in range(0, len(names), PATIENTS_PER_JOB)]
    jobs = [PredictionJob(str(folder), source, chunk, params.risk_groups) for chunk in chunks]
    for cached in (_load_model, _load_tables):  # a folder may have changed since the last call in this process
        cached.cache_clear()
    with Pool(_run_job, params.workers or min(cores(), len(jobs)), len(jobs), takes_jobs=True) as pool:
        yield from pool.stream(jobs, progress)


@single_thread()
def _run_job(job: PredictionJob, channel: Channel) -> list[dict[str, Any] | Refused]:
    loaded, source = _load_model(job.model), _load_tables(job.source)
    rows: list[dict[str, Any] | Refused] = []
    for done, patient in enumerate(job.patients, start=1):
        try:
            rows.append(_predict_one(loaded, source.load((patient,)), patient, job.risk_groups))
        except DataError as error:
            # Redacted here: the ids were registered in the worker, which read the tables.
            redacted = DataError(*map(redaction.text, (error.what, error.where, error.hint)))
            rows.append(Refused(patient, redacted))
        channel.progress(done, len(job.patients), "patients")
    return rows


@lru_cache(maxsize=1)
def _load_model(folder: str) -> Ensemble:
    """The model, read once per process."""
    return ensemble_files.load(Path(folder))


@lru_cache(maxsize=1)
def _load_tables(source: PatientSource) -> CohortTables | new_patient_folder.NewPatientTables:
    """The tables of the patients, read once per process: a large expression table takes longer than a patient."""
    expression = None if source.expression is None else Path(source.expression)
    if source.new:
        folder, masked = Path(source.folder), dict(source.age_values)
        categories = {name: dict(cells) for name, cells in source.categories}
        return new_patient_folder.NewPatientTables.read(folder, source.features, masked, categories, expression)
    return CohortTables.read(source.folder, source.features, expression_file=expression)


def _predict_one(loaded: Ensemble, data: Dataset, patient: str, groups: int) -> dict[str, Any]:
    bag = data.bags[patient]
    try:
        loaded.check_features(data.provenance, "the patient's bag")
        expression = expression_by_gene(bag, data.genes)
        return loaded.predict(bag.patient_id, bag.patches, expression, covariates=bag.clinical, risk_groups=groups)
    except MctiError as error:
        raise error.with_patient(patient) from error


def _refused_list(out: Path) -> Path:
    return out.with_name(f"{out.stem}.refused{out.suffix}")


def _write_refused(refused: Sequence[Refused], out: Path) -> None:
    """The list of refused patients next to `out`; an existing list of an earlier run is deleted."""
    path = _refused_list(out)
    storage.remove(path)
    if refused:
        with table_file.writing(path) as write:
            write([{"patient_id": redaction.redact_id(row.patient_id), "reason": str(row.error)} for row in refused])


def _write_pages(
    rows: list[dict[str, Any]],
    pages: PatientPages,
    source: PatientSource,
    loaded: Ensemble,
    development: PredictionContext,
) -> None:
    if source.new:
        notice, slides = "", new_patient_folder.slides_by_patient(Path(source.folder))
    else:
        notice = tables.read_info(source.folder).notice
        slides = slides_with_features(source.folder, source.features)
    patient_pages.write(rows, pages.folder, development, loaded, pages.explanation, notice, slides, pdf=pages.pdf)


def _check_refused_share(refused: Sequence[Refused], requested: int, params: PredictParams, out: Path) -> None:
    if len(refused) > params.max_refused_share * requested:
        first = refused[0].error
        what = f"{len(refused)} of {requested} patients cannot be predicted, the first: {first.what}"
        hint = f"{first.hint}; {_refused_list(out).name} lists them, the others are in {out.name}"
        raise DataError(what, first.where, hint)
