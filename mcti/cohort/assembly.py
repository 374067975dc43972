"""Raw tables to one cohort: labels read, tables joined by patient, every patient who leaves listed with the reason."""

import os
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath

import numpy as np
import pandas as pd

from mcti import storage
from mcti.cohort import labels
from mcti.cohort.reading import Matrix, RawTable, refuse_duplicates
from mcti.cohort.tables import PATIENTS, SLIDES, Cohort, CohortInfo, ExcludedPatient, covariates
from mcti.errors import DataError
from mcti.params import IngestParams
from mcti.storage import Location

NO_FOLLOWUP = "no follow-up"
NO_SUBTYPE = "no subtype"
NO_GENES = "no genes"
NO_SLIDES = "no slides"
REDACTED = "redacted by the source"
CONTRADICTORY = "contradictory status and dates"
PATIENT_REASONS = (NO_FOLLOWUP, NO_SUBTYPE, NO_GENES, NO_SLIDES, REDACTED, CONTRADICTORY)
"""Reasons for which patients of the clinical table leave; the others are of samples and of rows of other tables."""

NOT_CLINICAL = "in the expression table, not in the clinical table"
NOT_CLINICAL_SLIDE = "in the slide manifest, not in the clinical table"

SLIDE_ENDINGS = {".svs", ".ndpi", ".tif", ".tiff", ".scn", ".mrxs", ".vms", ".vmu", ".bif", ".svslide", ".dcm", ".czi"}
SLIDE_ENDINGS |= {".dicom"}


@dataclass(frozen=True)
class RawCohort:
    """The tables of a source under canonical column names, still as text, with those who left on the way."""

    clinical: RawTable
    expression: Matrix
    slides: RawTable | None
    leavers: list[ExcludedPatient] = field(default_factory=list)
    time_unit: str | None = None  # the unit that the layout fixes; None: as the settings say


def assemble(raw: RawCohort, params: IngestParams) -> Cohort:
    """The cohort of raw tables.

    Raises
        DataError: a cell, id or column that cannot be; tables that share no patient.
    """
    clinical = _patients(raw.clinical, params, raw.time_unit or params.time_unit)
    expression = _expression(raw.expression)
    slides = _slides(raw.slides) if raw.slides else None
    _check_spelling(raw, clinical)
    _check_overlap(raw, clinical, expression, slides)
    before = {leaver.patient_id for leaver in raw.leavers}
    now = [x for x in _leavers(clinical, expression, slides, params) if x.patient_id not in before]
    leavers = [*raw.leavers, *now]
    gone = {leaver.patient_id for leaver in leavers}
    patients = clinical[~clinical["patient_id"].isin(gone)].sort_values("patient_id", ignore_index=True)
    if patients.empty:
        raise DataError("no patient is left", raw.clinical.where, _reasons(leavers))
    return _cohort(patients, expression, slides, leavers, raw, params)


def _cohort(
    patients: pd.DataFrame,
    expression: pd.DataFrame,
    slides: pd.DataFrame | None,
    leavers: list[ExcludedPatient],
    raw: RawCohort,
    params: IngestParams,
) -> Cohort:
    ids = set(patients["patient_id"])
    genes = expression[expression.index.isin(ids)].sort_index()
    kept = _no_slides() if slides is None else slides[slides["patient_id"].isin(ids)]
    kept = kept.sort_values(["patient_id", "slide_id"], ignore_index=True)
    patients["event"] = patients["event"].astype("int8")
    counts = {
        "patients": len(patients),
        "events": int(patients["event"].sum()),
        "genes": genes.shape[1],
        "slides": len(kept),
    }
    warnings = [
        *_mixed(raw.clinical),
        *_ageless(patients, raw.clinical.where),
        *raw.clinical.warnings,
        *raw.expression.warnings,
        *(raw.slides.warnings if raw.slides else []),
    ]
    info = CohortInfo(
        name=params.name,
        notice=params.notice,
        endpoint=params.endpoint,
        expression_scale=params.expression_scale,
        counts=counts,
        covariates=tuple(covariates(patients)),
        sources={},
        attrition=tuple(sorted(leavers, key=lambda leaver: (leaver.patient_id, leaver.reason))),
        warnings=tuple(warnings),
        event_confirmed=params.event_confirmed,
    )
    return Cohort(patients, genes, kept, info)


def _patients(table: RawTable, params: IngestParams, time_unit: str) -> pd.DataFrame:
    table.need(*(column.name for column in PATIENTS if column.required))
    ids = table.frame["patient_id"].tolist()
    labels.check_ids(ids, lambda i: table.at(i, "patient_id"))
    labels.check_unique(ids, lambda i: table.at(i, "patient_id"))
    named = "cohort" in table.frame.columns
    columns = {
        "patient_id": pd.Series(ids, dtype=object),
        "cohort": labels.texts(table, "cohort").fillna(params.name) if named else params.name,
        "site": _filled(table, "site"),
        "age": _age(table, params),
        "is_female": labels.flags(table, "is_female", "write 1 (female), 0 (male) or nothing"),
        "subtype": labels.texts(table, "subtype"),
        "time_months": labels.times(table, "time_months", time_unit),
        "event": labels.events(table, "event", params.event_values),
    }
    known = {column.name for column in PATIENTS}
    extra = {name: labels.covariate(table, name) for name in table.frame.columns if name not in known}
    return pd.DataFrame({**columns, **extra})


def _age(table: RawTable, params: IngestParams) -> pd.Series:
    """Ages; all missing where the table has no such column."""
    if "age" in table.frame.columns:
        return labels.ages(table, "age", params.age_values)
    for name in table.frame.columns:  # a typing error must not make a cohort without age
        if str(name).casefold() == "age":
            raise DataError("column 'age' is missing", table.where, f"did you mean {name}?")
    return pd.Series(np.nan, index=range(len(table.frame)), dtype=np.float64)


def _ageless(patients: pd.DataFrame, where: str) -> list[str]:
    return [] if patients["age"].notna().any() else [f"{where}: no age of any patient: a cohort without age"]


def _mixed(table: RawTable) -> list[str]:
    """A warning where some ids are whole numbers and others are not: two sources may have been joined."""
    numbers = table.frame["patient_id"].str.isdecimal()
    if numbers.all() or not numbers.any():
        return []
    other, number = table.frame["patient_id"][~numbers].iloc[0], table.frame["patient_id"][numbers].iloc[0]
    count = f"{int(numbers.sum())} of {len(numbers)} patient ids are whole numbers"
    return [f"{table.where}: {count} ({number!r}), the others are not ({other!r})"]


def _filled(table: RawTable, column: str) -> pd.Series:
    values = labels.texts(table, column)
    for position in np.flatnonzero(values.isna()):
        hint = "write where the patient was treated (ingest.columns gives site another source), one word where unknown"
        raise DataError(f"no {column}", table.at(int(position), column), hint)
    return values


def _expression(matrix: Matrix) -> pd.DataFrame:
    def at(position: int) -> str:
        return f"{matrix.where}, row {matrix.rows[position]}, column patient_id"

    if not matrix.genes:
        raise DataError("the table has no gene", matrix.where, "give one column a gene beside patient_id")
    refuse_duplicates(matrix.genes, matrix.where)
    labels.check_ids(matrix.ids, at)
    labels.check_unique(matrix.ids, at)
    return pd.DataFrame(
        matrix.values, index=pd.Index(matrix.ids, name="patient_id", dtype=object), columns=matrix.genes
    )


def _slides(table: RawTable) -> pd.DataFrame:
    table.need("patient_id", "slide_id")
    labels.check_ids(table.frame["patient_id"].tolist(), lambda i: table.at(i, "patient_id"))
    names = [slide_name(text) for text in table.frame["slide_id"].tolist()]
    labels.check_ids(names, lambda i: table.at(i, "slide_id"), "slide_id")
    pairs = [f"{patient} {slide}" for patient, slide in zip(table.frame["patient_id"], names, strict=True)]
    labels.check_unique(pairs, lambda i: table.at(i, "slide_id"), "slide of a patient")
    has = set(table.frame.columns)
    return pd.DataFrame(
        {
            "patient_id": table.frame["patient_id"],
            "slide_id": pd.Series(names, dtype=object),
            "path": _paths(table) if "path" in has else None,
            "mpp": _positive(table, "mpp") if "mpp" in has else np.nan,
            "stain": labels.texts(table, "stain") if "stain" in has else None,
            "md5": _md5s(table) if "md5" in has else None,
        }
    )


def slide_name(text: str) -> str:
    """A slide's id without the ending of its file: features are stored under this name.

    >>> slide_name("TCGA-05-4249-01Z-00-DX1.9fce.svs")
    'TCGA-05-4249-01Z-00-DX1.9fce'
    """
    path = PurePosixPath(text)
    return text[: -len(path.suffix)] if path.suffix.casefold() in SLIDE_ENDINGS else text


def _paths(table: RawTable) -> pd.Series:
    found = labels.texts(table, "path")
    return found.map(lambda text: text if text is None else resolved(text, table.where))


def resolved(path: str, manifest: Location) -> str:
    """The path of a slide as the working directory sees it: relative paths count from the manifest's folder.

    Absolute paths and addresses stay as given; a relative one never becomes absolute, so that the table is the same
    on every machine.
    """
    if storage.is_s3(path) or Path(path).is_absolute():
        return path
    if storage.is_s3(manifest):
        return f"{str(manifest).rpartition('/')[0]}/{path}"
    folder = Path(manifest).parent
    if folder.is_absolute():
        folder = Path(os.path.relpath(folder))
    return Path(os.path.normpath(folder / path)).as_posix()


def _positive(table: RawTable, column: str) -> pd.Series:
    values = labels.numbers(table, column)
    for position in np.flatnonzero(values.to_numpy() <= 0):
        what = f"{column} is {table.frame[column].iloc[position]}, not above 0"
        raise DataError(what, table.at(int(position), column), "write µm per pixel, or leave the cell empty")
    return values


def _md5s(table: RawTable) -> pd.Series:
    values = labels.texts(table, "md5")
    for position, text in enumerate(values):
        if text is not None and (len(text) != 32 or set(text.casefold()) - set("0123456789abcdef")):
            raise DataError(f"md5 is {text!r}", table.at(position, "md5"), "write 32 hex digits, or nothing")
    return values.map(lambda text: text if text is None else text.casefold())


def _check_spelling(raw: RawCohort, clinical: pd.DataFrame) -> None:
    known, where, matrix = clinical["patient_id"].tolist(), raw.clinical.where, raw.expression
    labels.check_same_spelling(matrix.ids, known, lambda i: f"{matrix.where}, row {matrix.rows[i]}", where)
    if raw.slides:
        table = raw.slides
        ids = table.frame["patient_id"].tolist()
        labels.check_same_spelling(ids, known, lambda i: table.at(i, "patient_id"), where)


def _check_overlap(
    raw: RawCohort, clinical: pd.DataFrame, expression: pd.DataFrame, slides: pd.DataFrame | None
) -> None:
    ids = clinical["patient_id"]
    others: list[tuple[str, Iterable[str]]] = [(raw.expression.where, expression.index)]
    if raw.slides and slides is not None:
        others.append((raw.slides.where, slides["patient_id"]))
    for where, theirs in others:
        if not ids.isin(set(theirs)).any():
            what = f"no patient of {raw.clinical.where} is in it (there {ids.iloc[0]!r}, here {next(iter(theirs))!r})"
            raise DataError(what, where, "write the same patient_id in both tables")


def _leavers(
    clinical: pd.DataFrame, expression: pd.DataFrame, slides: pd.DataFrame | None, params: IngestParams
) -> list[ExcludedPatient]:
    """Each patient with the first reason that holds; rows of other tables that belong to nobody."""
    ids = clinical["patient_id"]
    reasons = [
        (NO_FOLLOWUP, clinical["time_months"].isna() | clinical["event"].isna() | (clinical["time_months"] == 0)),
        (NO_SUBTYPE, clinical["subtype"].isna()),
    ]
    if params.missing_modality == "drop":
        reasons.append((NO_GENES, ~ids.isin(expression.index)))
        if slides is not None:
            reasons.append((NO_SLIDES, ~ids.isin(slides["patient_id"])))
    first: dict[str, str] = {}
    for reason, holds in reasons:
        for patient_id in ids[holds.fillna(value=True).astype(bool)]:
            first.setdefault(patient_id, reason)
    known = set(ids)
    strangers = [(p, NOT_CLINICAL) for p in expression.index if p not in known]
    if slides is not None:
        strangers += [(p, NOT_CLINICAL_SLIDE) for p in slides["patient_id"].unique() if p not in known]
    return [ExcludedPatient(patient_id=p, reason=reason) for p, reason in [*first.items(), *strangers]]


def _reasons(leavers: list[ExcludedPatient]) -> str:
    counts = pd.Series([leaver.reason for leaver in leavers]).value_counts()
    return "; ".join(f"{count} left: {reason}" for reason, count in counts.items())


def _no_slides() -> pd.DataFrame:
    return pd.DataFrame({column.name: pd.Series(dtype=object) for column in SLIDES})
