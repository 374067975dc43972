"""Raw tables to one cohort: cells parsed, tables joined by patient, excluded patients listed with the reason."""

import os
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath

import numpy as np
import pandas as pd

from mcti import storage
from mcti.cohort import competing, labels, left_truncation
from mcti.cohort.raw_tables import Matrix, RawTable, check_duplicate_columns
from mcti.cohort.tables import PATIENT_COLUMNS, PATIENTS, SLIDES, Cohort, CohortInfo, ExcludedPatient, covariates
from mcti.errors import DataError, UsageError, did_you_mean
from mcti.params import IngestParams
from mcti.storage import Location

NO_FOLLOWUP = "no follow-up"
NO_ENTRY = "no time of entry"
LATE_ENTRY = "follow-up ends before or at the entry"
NO_SUBTYPE = "no subtype"
NO_GENES = "no genes"
NO_SLIDES = "no slides"
REDACTED = "redacted by the source"
CONTRADICTORY = "contradictory status and dates"
PATIENT_REASONS = (NO_FOLLOWUP, NO_ENTRY, LATE_ENTRY, NO_SUBTYPE, NO_GENES, NO_SLIDES, REDACTED, CONTRADICTORY)
"""Reasons for which patients of the clinical table are excluded; other reasons concern samples and other tables."""

NOT_CLINICAL = "in the expression table, not in the clinical table"
NOT_CLINICAL_SLIDE = "in the slide manifest, not in the clinical table"

SLIDE_SUFFIXES = {".svs", ".ndpi", ".tif", ".tiff", ".scn", ".mrxs", ".vms", ".vmu", ".bif", ".svslide", ".dcm", ".czi"}
SLIDE_SUFFIXES |= {".dicom"}
SLIDE_SUFFIXES |= {".h5", ".pt", ".npy", ".npz"}  # tables of STAMP and CLAM list feature files


@dataclass(frozen=True)
class RawCohort:
    """The tables of a source under canonical column names, still as text.

    excluded    patients and samples that the reader of the layout excluded
    time_unit   the unit that the layout prescribes; None: that of the settings
    """

    clinical: RawTable
    expression: Matrix
    slides: RawTable | None
    excluded: list[ExcludedPatient] = field(default_factory=list)
    time_unit: str | None = None


def assemble(raw: RawCohort, params: IngestParams) -> Cohort:
    """The cohort of raw tables.

    Raises DataError when a cell, id or column is invalid, the tables share no patient, or no patient remains.
    """
    clinical = _patients(raw.clinical, params, raw.time_unit or params.time_unit)
    expression = _expression(raw.expression)
    slides = _slides(raw.slides) if raw.slides else None
    _check_spelling(raw, clinical)
    _check_overlap(raw, clinical, expression, slides)
    excluded_before = {patient.patient_id for patient in raw.excluded}
    exclusions = _exclusions(clinical, expression, slides, params)
    excluded = [*raw.excluded, *(x for x in exclusions if x.patient_id not in excluded_before)]
    excluded_ids = {patient.patient_id for patient in excluded}
    is_included = ~clinical["patient_id"].isin(excluded_ids)
    patients = clinical[is_included].sort_values("patient_id", ignore_index=True)
    patients, no_competing_events = competing.without_empty_column(patients, raw.clinical.where)
    left_truncation.check_no_competing_events(patients, raw.clinical.where)
    if patients.empty:
        raise DataError("no patient remains", raw.clinical.where, _count_reasons(excluded))
    return _cohort(patients, expression, slides, excluded, raw, params, no_competing_events)


def _cohort(
    patients: pd.DataFrame,
    expression: pd.DataFrame,
    slides: pd.DataFrame | None,
    excluded: list[ExcludedPatient],
    raw: RawCohort,
    params: IngestParams,
    more_warnings: list[str],
) -> Cohort:
    ids = set(patients["patient_id"])
    genes = expression[expression.index.isin(ids)].sort_index()
    included_slides = _empty_slides() if slides is None else slides[slides["patient_id"].isin(ids)]
    included_slides = included_slides.sort_values(["patient_id", "slide_id"], ignore_index=True)
    patients["event"] = patients["event"].astype("int8")
    counts = {
        "patients": len(patients),
        "events": int(patients["event"].sum()),
        "genes": genes.shape[1],
        "slides": len(included_slides),
        **competing.counts(patients),
        **left_truncation.counts(patients),
    }
    info = CohortInfo(
        name=params.name,
        notice=params.notice,
        endpoint=params.endpoint,
        expression_scale=params.expression_scale,
        counts=counts,
        covariates=tuple(covariates(patients)),
        sources={},
        attrition=tuple(sorted(excluded, key=lambda patient: (patient.patient_id, patient.reason))),
        warnings=(*_warnings(raw, patients), *more_warnings),
        event_confirmed=params.event_confirmed,
        median_late_entry=left_truncation.median_late_entry(patients),
        ordered_levels=dict(params.ordered_levels),
    )
    return Cohort(patients, genes, included_slides, info)


def _warnings(raw: RawCohort, patients: pd.DataFrame) -> list[str]:
    return [
        *_mixed_id_warnings(raw.clinical),
        *_missing_age_warnings(patients, raw.clinical.where),
        *left_truncation.warnings(patients, raw.clinical.where),
        *raw.clinical.warnings,
        *raw.expression.warnings,
        *(raw.slides.warnings if raw.slides else []),
    ]


def _patients(table: RawTable, params: IngestParams, time_unit: str) -> pd.DataFrame:
    table.require(*(column.name for column in PATIENTS if column.required))
    ids = table.frame["patient_id"].tolist()
    labels.check_ids(ids, lambda i: table.address(i, "patient_id"))
    labels.check_unique(ids, lambda i: table.address(i, "patient_id"))
    has_cohort = "cohort" in table.frame.columns
    columns = {
        "patient_id": pd.Series(ids, dtype=object),
        "cohort": labels.texts(table, "cohort").fillna(params.name) if has_cohort else params.name,
        "site": _sites(table),
        "age": _age(table, params),
        "is_female": labels.flags(table, "is_female", "write 1 (female) or 0 (male), or leave the cell empty"),
        "subtype": labels.texts(table, "subtype"),
        "time_months": labels.times(table, "time_months", time_unit),
        **competing.outcome(table, params.event_values),
    }
    if "entry_months" in table.frame.columns:
        columns["entry_months"] = labels.times(table, "entry_months", time_unit)
    names = [str(name) for name in table.frame.columns if name not in PATIENT_COLUMNS]
    _check_categories(params, names)
    return pd.DataFrame({**columns, **{name: _covariate(table, name, params) for name in names}})


def _check_categories(params: IngestParams, names: list[str]) -> None:
    """Check that the settings of categorical covariates name covariates."""
    for setting in ("ordered_levels", "category_values"):
        for name in getattr(params, setting):
            if name not in names:
                hint = f"{did_you_mean(name, names).removesuffix('?')}, or list it in ingest.covariates"
                raise UsageError(f"{name!r} is no covariate of the clinical table", f"ingest.{setting}", hint)


def _covariate(table: RawTable, name: str, params: IngestParams) -> pd.Series:
    """A covariate (rows,): categorical where the settings or a text in it make it one, else numeric."""
    if name in params.ordered_levels or name in params.category_values:
        return labels.levels(table, name, params.category_values.get(name, {}), params.ordered_levels.get(name, ()))
    return labels.covariate(table, name)


def _age(table: RawTable, params: IngestParams) -> pd.Series:
    """Ages in years; all missing where the table has no such column."""
    if "age" in table.frame.columns:
        return labels.ages(table, "age", params.age_values)
    for name in table.frame.columns:  # a misspelled name must not silently give a cohort without age
        if str(name).casefold() == "age":
            raise DataError("column 'age' is missing", table.where, f"did you mean {name}?")
    return pd.Series(np.nan, index=range(len(table.frame)), dtype=np.float64)


def _missing_age_warnings(patients: pd.DataFrame, where: str) -> list[str]:
    return [] if patients["age"].notna().any() else [f"{where}: the age of every patient is missing"]


def _mixed_id_warnings(table: RawTable) -> list[str]:
    """A warning where some ids are whole numbers and others are not: two sources may have been joined."""
    is_number = table.frame["patient_id"].str.isdecimal()
    if is_number.all() or not is_number.any():
        return []
    other, number = table.frame["patient_id"][~is_number].iloc[0], table.frame["patient_id"][is_number].iloc[0]
    count = f"{int(is_number.sum())} of {len(is_number)} patient ids are whole numbers"
    return [f"{table.where}: {count} ({number!r}), the others are not ({other!r})"]


def _sites(table: RawTable) -> pd.Series:
    values = labels.texts(table, "site")
    for position in np.flatnonzero(values.isna()):
        hint = "write the treating hospital (ingest.columns can name another source of site), or one word for unknown"
        raise DataError("site is missing", table.address(int(position), "site"), hint)
    return values


def _expression(matrix: Matrix) -> pd.DataFrame:
    def address(position: int) -> str:
        return f"{matrix.where}, row {matrix.rows[position]}, column patient_id"

    if not matrix.genes:
        raise DataError("the table has no gene", matrix.where, "add one column per gene next to patient_id")
    check_duplicate_columns(matrix.genes, matrix.where)
    labels.check_ids(matrix.ids, address)
    labels.check_unique(matrix.ids, address)
    index = pd.Index(matrix.ids, name="patient_id", dtype=object)
    return pd.DataFrame(matrix.values, index=index, columns=matrix.genes)


def _slides(table: RawTable) -> pd.DataFrame:
    table.require("patient_id", "slide_id")
    labels.check_ids(table.frame["patient_id"].tolist(), lambda i: table.address(i, "patient_id"))
    names = [slide_name(text) for text in table.frame["slide_id"].tolist()]
    labels.check_ids(names, lambda i: table.address(i, "slide_id"), "slide_id")
    pairs = [f"{patient} {slide}" for patient, slide in zip(table.frame["patient_id"], names, strict=True)]
    labels.check_unique(pairs, lambda i: table.address(i, "slide_id"), "slide of a patient")
    columns = set(table.frame.columns)
    return pd.DataFrame(
        {
            "patient_id": table.frame["patient_id"],
            "slide_id": pd.Series(names, dtype=object),
            "path": _paths(table) if "path" in columns else None,
            "mpp": _positive_numbers(table, "mpp") if "mpp" in columns else np.nan,
            "stain": labels.texts(table, "stain") if "stain" in columns else None,
            "md5": _md5s(table) if "md5" in columns else None,
        }
    )


def slide_name(text: str) -> str:
    """A slide's id without the suffix of its file; features are stored under this name.

    >>> slide_name("TCGA-05-4249-01Z-00-DX1.9fce.svs")
    'TCGA-05-4249-01Z-00-DX1.9fce'
    """
    path = PurePosixPath(text)
    return text[: -len(path.suffix)] if path.suffix.casefold() in SLIDE_SUFFIXES else text


def _paths(table: RawTable) -> pd.Series:
    paths = labels.texts(table, "path")
    return paths.map(lambda text: text if text is None else resolve_slide_path(text, table.where))


def resolve_slide_path(path: str, manifest: Location) -> str:
    """The path of a slide relative to the working directory; in the manifest it is relative to the manifest's folder.

    Absolute paths and addresses are returned unchanged. A relative path never becomes absolute, so that the table is
    the same on every machine.
    """
    if storage.is_s3(path) or Path(path).is_absolute():
        return path
    if storage.is_s3(manifest):
        return f"{str(manifest).rpartition('/')[0]}/{path}"
    folder = Path(manifest).parent
    if folder.is_absolute():
        folder = Path(os.path.relpath(folder))
    return Path(os.path.normpath(folder / path)).as_posix()


def _positive_numbers(table: RawTable, column: str) -> pd.Series:
    values = labels.numbers(table, column)
    for position in np.flatnonzero(values.to_numpy() <= 0):
        what = f"{column} is {table.frame[column].iloc[position]}, not above 0"
        raise DataError(what, table.address(int(position), column), "write µm per pixel, or leave the cell empty")
    return values


def _md5s(table: RawTable) -> pd.Series:
    values = labels.texts(table, "md5")
    for position, text in enumerate(values):
        if text is not None and (len(text) != 32 or set(text.casefold()) - set("0123456789abcdef")):
            hint = "write 32 hex digits, or leave the cell empty"
            raise DataError(f"md5 is {text!r}", table.address(position, "md5"), hint)
    return values.map(lambda text: text if text is None else text.casefold())


def _check_spelling(raw: RawCohort, clinical: pd.DataFrame) -> None:
    known, where, matrix = clinical["patient_id"].tolist(), raw.clinical.where, raw.expression
    labels.check_same_spelling(matrix.ids, known, lambda i: f"{matrix.where}, row {matrix.rows[i]}", where)
    if raw.slides:
        table = raw.slides
        ids = table.frame["patient_id"].tolist()
        labels.check_same_spelling(ids, known, lambda i: table.address(i, "patient_id"), where)


def _check_overlap(
    raw: RawCohort, clinical: pd.DataFrame, expression: pd.DataFrame, slides: pd.DataFrame | None
) -> None:
    ids = clinical["patient_id"]
    other_tables: list[tuple[str, Iterable[str]]] = [(raw.expression.where, expression.index)]
    if raw.slides and slides is not None:
        other_tables.append((raw.slides.where, slides["patient_id"]))
    for where, other_ids in other_tables:
        if not ids.isin(set(other_ids)).any():
            example = f"the first ids are {next(iter(other_ids))!r} and {ids.iloc[0]!r}"
            what = f"the table shares no patient with {raw.clinical.where} ({example})"
            raise DataError(what, where, "write the same patient_id in both tables")


def _exclusions(
    clinical: pd.DataFrame, expression: pd.DataFrame, slides: pd.DataFrame | None, params: IngestParams
) -> list[ExcludedPatient]:
    """Excluded patients, each with the first reason that holds; then the rows of other tables without a patient."""
    ids = clinical["patient_id"]
    reasons = [
        (NO_FOLLOWUP, clinical["time_months"].isna() | clinical["event"].isna() | (clinical["time_months"] == 0)),
        *_entry_reasons(clinical),
        (NO_SUBTYPE, clinical["subtype"].isna()),
    ]
    if params.missing_modality == "drop":
        reasons.append((NO_GENES, ~ids.isin(expression.index)))
        if slides is not None:
            reasons.append((NO_SLIDES, ~ids.isin(slides["patient_id"])))
    first_reason: dict[str, str] = {}
    for reason, holds in reasons:
        for patient_id in ids[holds.fillna(value=True).astype(bool)]:
            first_reason.setdefault(patient_id, reason)
    clinical_ids = set(ids)
    unmatched = [(p, NOT_CLINICAL) for p in expression.index if p not in clinical_ids]
    if slides is not None:
        unmatched += [(p, NOT_CLINICAL_SLIDE) for p in slides["patient_id"].unique() if p not in clinical_ids]
    return [ExcludedPatient(patient_id=p, reason=reason) for p, reason in [*first_reason.items(), *unmatched]]


def _entry_reasons(clinical: pd.DataFrame) -> "list[tuple[str, pd.Series[bool]]]":
    """Reasons of patients who were never at risk under observation, or of whom this is not known."""
    if "entry_months" not in clinical:
        return []
    entry = clinical["entry_months"]
    return [(NO_ENTRY, entry.isna()), (LATE_ENTRY, entry >= clinical["time_months"])]


def _count_reasons(excluded: list[ExcludedPatient]) -> str:
    counts = pd.Series([patient.reason for patient in excluded]).value_counts()
    return "; ".join(f"{count} excluded: {reason}" for reason, count in counts.items())


def _empty_slides() -> pd.DataFrame:
    return pd.DataFrame({column.name: pd.Series(dtype=object) for column in SLIDES})
