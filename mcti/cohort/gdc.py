"""The files of the GDC portal: the clinical JSON of a cart, and a folder of STAR counts with its sample sheet.

Times and ages are days. The GDC has overall survival only.
"""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from mcti import redaction, storage
from mcti.cohort import labels, layouts
from mcti.cohort.assembly import CONTRADICTORY, RawCohort
from mcti.cohort.raw_tables import Matrix, RawTable, shorten
from mcti.cohort.reading import TSV, TSV_WITH_COMMENTS, read_table
from mcti.cohort.tables import ExcludedPatient
from mcti.errors import DataError, UsageError
from mcti.params import IngestParams
from mcti.storage import Location

DAYS_PER_YEAR = 365.25
_STAR_COLUMNS = {"counts": "unstranded", "tpm": "tpm_unstranded", "log2": "tpm_unstranded"}
_MISSING_WORDS = {"not reported", "unknown", "unspecified", "not allowed to collect"}
_DOWNLOAD_HINT = "download `Clinical` of the cart as JSON"
_COLUMNS = ("patient_id", "cohort", "site", "age", "is_female", "subtype", "time_months", "event")
_FOLLOW_UP_AFTER_DEATH = "followed up after death (days_to_death is taken)"


def read(clinical: Location, expression: Location, slides: Location | None, params: IngestParams) -> RawCohort:
    """The raw tables of a cart.

    clinical    the JSON list of cases
    expression  folder with `…sample_sheet….tsv` and the STAR files; expression_scale counts takes `unstranded`,
                tpm `tpm_unstranded`, log2 log2(tpm_unstranded + 1)

    Raises
        UsageError when the settings need another end point than OS, or z-scores, which the GDC does not have.
        DataError when a file, key or column is missing, or a cell is invalid.
    """
    if params.endpoint != "OS":
        hint = "set it to OS, or use another source"
        raise UsageError(f"the GDC has no end point {params.endpoint}", "ingest.endpoint", hint)
    if params.expression_scale not in _STAR_COLUMNS:
        hint = "set it to counts, tpm or log2 (of TPM + 1)"
        raise UsageError(f"STAR files have no {params.expression_scale} values", "ingest.expression_scale", hint)
    cases, contradictions = _read_cases(clinical)
    table = layouts.select_columns(cases, {name: name for name in _COLUMNS}, params)
    table = layouts.replace_words(table, "is_female", layouts.SEX_VALUES)
    table = layouts.replace_words(table, "event", {"alive": "0", "dead": "1"})
    with storage.local_copy(expression) as folder:
        genes, excluded = _read_expression(folder, str(expression), params.expression_scale)
    manifest = None if slides is None else read_table(slides)
    unusable = {name for name, message in contradictions.items() if message != _FOLLOW_UP_AFTER_DEATH}
    excluded += [ExcludedPatient(patient_id=name, reason=CONTRADICTORY) for name in sorted(unusable)]
    return RawCohort(layouts.add_site(table), genes, manifest, excluded, time_unit="days")


def _contradiction(case: dict[str, Any], where: str) -> str:
    """The contradiction between vital status and dates of a case; empty where they agree."""
    demographic = _mapping(case, "demographic", where)
    diagnosis = _primary_diagnosis(_list(case, "diagnoses", where))
    status, death = _text(demographic.get("vital_status")), demographic.get("days_to_death")
    last = _last_follow_up(case, diagnosis, where)
    if status != "Dead":
        return "" if death is None else f"vital_status {status or 'missing'} with days_to_death {shorten(death)}"
    if death is None:
        return "" if last is None else "vital_status Dead without days_to_death"
    return _FOLLOW_UP_AFTER_DEATH if last is not None and last > _days(death, "days_to_death", where) else ""


def _contradiction_warnings(contradictions: dict[str, str], where: str) -> list[str]:
    """One warning per contradiction, with its patients."""
    warnings = []
    for message in sorted(set(contradictions.values())):
        names = sorted(name for name, contradiction in contradictions.items() if contradiction == message)
        redaction.register_ids(names)
        warnings.append(f"{where}: {len(names)} patients {message}: {', '.join(names)}")
    return warnings


def _read_cases(location: Location) -> tuple[RawTable, dict[str, str]]:
    """The cases as canonical text, and {patient: contradiction between status and dates}."""
    try:
        cases = json.loads(storage.read_bytes(location))
    except ValueError as error:  # also: UnicodeDecodeError
        raise DataError(f"not a JSON document ({error})", str(location), _DOWNLOAD_HINT) from error
    if not isinstance(cases, list) or not cases or not all(isinstance(case, dict) for case in cases):
        raise DataError("not a list of cases", str(location), _DOWNLOAD_HINT)
    rows = [_case_row(case, f"{location}, case {number}") for number, case in enumerate(cases, start=1)]
    messages = [_contradiction(case, f"{location}, case {number}") for number, case in enumerate(cases, start=1)]
    contradictions = {row["patient_id"]: text for row, text in zip(rows, messages, strict=True) if text}
    numbers, warnings = list(range(1, len(rows) + 1)), _contradiction_warnings(contradictions, str(location))
    return RawTable(pd.DataFrame(rows, dtype=str), str(location), numbers, warnings), contradictions


def _case_row(case: dict[str, Any], where: str) -> dict[str, str]:
    """One case as canonical text; a value that the GDC does not have is empty."""
    if "submitter_id" not in case:
        raise DataError("key 'submitter_id' is missing", where, _DOWNLOAD_HINT)
    demographic = _mapping(case, "demographic", where)
    diagnosis = _primary_diagnosis(_list(case, "diagnoses", where))
    status = _text(demographic.get("vital_status"))
    days = demographic.get("days_to_death") if status == "Dead" else _last_follow_up(case, diagnosis, where)
    return {
        "patient_id": str(case["submitter_id"]),
        "cohort": _text(_mapping(case, "project", where).get("project_id")),
        "site": _text(_mapping(case, "tissue_source_site", where).get("code")),
        "age": _age(demographic, diagnosis, where),
        "is_female": _text(demographic.get("gender")),
        "subtype": _text(diagnosis.get("primary_diagnosis")),
        "time_months": _text(days),
        "event": status,
    }


def _mapping(case: dict[str, Any], key: str, where: str) -> dict[str, Any]:
    value = case.get(key) or {}
    if not isinstance(value, dict):
        raise DataError(f"{key} is {shorten(value)!r}, not a mapping", where, _DOWNLOAD_HINT)
    return value


def _list(case: dict[str, Any], key: str, where: str) -> list[dict[str, Any]]:
    value = case.get(key) or []
    if not isinstance(value, list) or not all(isinstance(item, dict) for item in value):
        raise DataError(f"{key} is {shorten(value)!r}, not a list of mappings", where, _DOWNLOAD_HINT)
    return value


def _primary_diagnosis(diagnoses: list[dict[str, Any]]) -> dict[str, Any]:
    """The diagnosis of the primary disease; newer releases also list those of metastases and recurrences."""
    for diagnosis in diagnoses:
        is_primary = str(diagnosis.get("diagnosis_is_primary_disease", "")).casefold() == "true"
        if is_primary or str(diagnosis.get("classification_of_tumor", "")).casefold() == "primary":
            return diagnosis
    return diagnoses[0] if diagnoses else {}


def _last_follow_up(case: dict[str, Any], diagnosis: dict[str, Any], where: str) -> float | None:
    """Days to the last follow-up: the maximum over the diagnosis and the visits; older releases have no visits."""
    values = [diagnosis.get("days_to_last_follow_up")]
    values += [visit.get("days_to_follow_up") for visit in _list(case, "follow_ups", where)]
    days = [_days(value, "days_to_follow_up", where) for value in values if value is not None]
    return max(days, default=None)


def _age(demographic: dict[str, Any], diagnosis: dict[str, Any], where: str) -> str:
    """Age in years from days at diagnosis, else the years at the index date; a masked age (>89) is kept as it is."""
    days, years = diagnosis.get("age_at_diagnosis"), demographic.get("age_at_index")
    if str(days)[:1] in {"<", ">"}:
        return str(days)
    if days is not None:
        return repr(_days(days, "age_at_diagnosis", where) / DAYS_PER_YEAR)
    return _text(years)


def _days(value: object, key: str, where: str) -> float:
    try:
        return float(str(value))
    except ValueError:
        hint = "the GDC writes days as numbers: correct the value, or write null"
        raise DataError(f"{key} is {shorten(value)!r}, not a number", where, hint) from None


def _text(value: object) -> str:
    text = "" if value is None else str(value)
    return "" if text.casefold() in _MISSING_WORDS else text


def _read_expression(folder: Path, where: str, scale: str) -> tuple[Matrix, list[ExcludedPatient]]:
    """The expression of one tumour sample per patient, and the other samples with the reason of their exclusion."""
    if not folder.is_dir():
        raise DataError("not a folder", where, "use the path of the folder with the sample sheet and the STAR files")
    file_names = sorted(path.name for path in folder.iterdir() if path.is_file())
    sheet_name = layouts.file_named(file_names, "sample_sheet", where)
    sheet = _expression_rows(read_table(folder / sheet_name, TSV, display_name=storage.join(where, sheet_name)))
    samples = sheet.frame["Sample ID"].tolist()
    cases = [_case_of_row(sheet, i) for i in range(len(samples))]
    selected, excluded = layouts.select_samples(samples, cases, layouts.tissue_cells_by_row(sheet.frame))
    if not selected:
        hint = "add files of tumour samples to the cart, or correct column Tissue Type"
        raise DataError("every sample is of normal tissue", sheet.where, hint)
    profiles, repeated = zip(*(_read_profile(folder, where, sheet.frame.iloc[i], scale) for i in selected), strict=True)
    genes = list(profiles[0].index)
    for i, profile in zip(selected, profiles, strict=True):
        if list(profile.index) != genes:
            file = storage.join(where, sheet.frame["File Name"].iloc[i])
            raise DataError("the genes differ from those of the first file", file, "use files of one release")
    values = np.stack([profile.to_numpy(np.float32) for profile in profiles])
    ids, rows = [cases[i] for i in selected], [sheet.rows[i] for i in selected]
    warning = f"{where}: genes with the name of an earlier gene are left out: {repeated[0]}"
    return Matrix(ids, genes, values, where, rows, [warning] if repeated[0] else []), excluded


def _case_of_row(sheet: RawTable, position: int) -> str:
    """The case of a row; a file of several samples of one case repeats the case for each sample."""
    names = sorted({name.strip() for name in sheet.frame["Case ID"].iloc[position].split(",")})
    if len(names) > 1:
        what = f"the file belongs to {len(names)} cases ({', '.join(names[:3])})"
        raise DataError(what, sheet.address(position, "Case ID"), "use a file of one case, or split the row")
    return str(names[0])


def _expression_rows(sheet: RawTable) -> RawTable:
    """The rows of expression files: the sheet of a cart may also list slides and other files."""
    sheet.require("File ID", "File Name", "Case ID", "Sample ID")
    if "Data Type" not in sheet.frame.columns:
        return sheet
    kept = np.flatnonzero(sheet.frame["Data Type"] == "Gene Expression Quantification")
    if not len(kept):
        hint = "add files of `Gene Expression Quantification` to the cart"
        raise DataError("the sheet lists no expression file", f"{sheet.where}, column Data Type", hint)
    return RawTable(sheet.frame.iloc[kept].reset_index(drop=True), sheet.where, [sheet.rows[i] for i in kept])


def _read_profile(folder: Path, where: str, row: "pd.Series[str]", scale: str) -> "tuple[pd.Series[Any], int]":
    """One STAR file as {gene name: value} of the first gene of each name, and the number of the other genes."""
    name = row["File Name"] if (folder / row["File Name"]).exists() else f"{row['File ID']}/{row['File Name']}"
    path = _path_below(folder, name, where)
    table = read_table(path, TSV_WITH_COMMENTS, display_name=storage.join(where, name))
    table.require("gene_id", "gene_name", _STAR_COLUMNS[scale])
    is_gene = table.frame["gene_id"].str.startswith("ENSG")
    is_repeated = is_gene & table.frame["gene_name"].duplicated()
    kept = np.flatnonzero(is_gene & ~is_repeated)
    rows = [table.rows[i] for i in kept]
    genes = RawTable(table.frame.iloc[kept].reset_index(drop=True), table.where, rows)
    values = labels.numbers(genes, _STAR_COLUMNS[scale]).to_numpy()
    profile = pd.Series(np.log2(values + 1) if scale == "log2" else values, index=genes.frame["gene_name"])
    return profile, int(is_repeated.sum())


def _path_below(folder: Path, name: str, where: str) -> Path:
    """The path of a file that the sheet names, which must be below the folder of the sheet."""
    path = folder / name
    if not path.resolve().is_relative_to(folder.resolve()):
        raise DataError(f"the file {shorten(name)!r} is outside its folder", where, "correct the sample sheet")
    if not path.exists():
        raise DataError(f"the file {shorten(name)!r} of the sample sheet is missing", where, "download it again")
    return path
