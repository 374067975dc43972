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
from mcti.cohort.reading import Matrix, RawTable, read_table, shorten
from mcti.cohort.tables import ExcludedPatient
from mcti.errors import DataError, UsageError
from mcti.params import IngestParams
from mcti.storage import Location

DAYS_PER_YEAR = 365.25
_STAR_COLUMNS = {"counts": "unstranded", "tpm": "tpm_unstranded", "log2": "tpm_unstranded"}
_UNSAID = {"not reported", "unknown", "unspecified", "not allowed to collect"}
_DOWNLOAD = "download `Clinical` of the cart as JSON"
_COLUMNS = ("patient_id", "cohort", "site", "age", "is_female", "subtype", "time_months", "event")


def read(clinical: Location, expression: Location, slides: Location | None, params: IngestParams) -> RawCohort:
    """`clinical` is the JSON list of cases; `expression` a folder with `…sample_sheet….tsv` and the STAR files.

    expression_scale counts takes `unstranded`, tpm `tpm_unstranded`, log2 log2(tpm_unstranded + 1).

    Raises
        UsageError: another end point than OS, or z-scores, which the GDC does not have.
        DataError: a file, key or column is missing, a cell cannot be.
    """
    if params.endpoint != "OS":
        raise UsageError(f"the GDC has no {params.endpoint}", "ingest.endpoint", "set it to OS, or take another source")
    if params.expression_scale not in _STAR_COLUMNS:
        hint = "set it to counts, tpm or log2 (of TPM + 1)"
        raise UsageError(f"STAR counts are no {params.expression_scale}", "ingest.expression_scale", hint)
    cases, contradictions = _cases(clinical)
    table = layouts.pick(cases, {name: name for name in _COLUMNS}, params)
    table = layouts.words(layouts.words(table, "is_female", layouts.SEXES), "event", {"alive": "0", "dead": "1"})
    with storage.local_copy(expression) as folder:
        genes, left = _star(folder, str(expression), params.expression_scale)
    manifest = None if slides is None else read_table(slides)
    gone = {name for name, status in contradictions.items() if status != _AFTER_DEATH}
    left += [ExcludedPatient(patient_id=name, reason=CONTRADICTORY) for name in sorted(gone)]
    return RawCohort(layouts.with_site(table), genes, manifest, left, time_unit="days")


_AFTER_DEATH = "followed up after death (days_to_death is taken)"


def _contradiction(case: dict[str, Any], where: str) -> str:
    """What of status and dates cannot both be; empty where they agree."""
    person, diagnosis = _mapping(case, "demographic", where), _primary(_list(case, "diagnoses", where))
    status, death = _text(person.get("vital_status")), person.get("days_to_death")
    seen = _last_seen(case, diagnosis, where)
    if status != "Dead":
        return "" if death is None else f"vital_status {status or 'missing'} with days_to_death {shorten(death)}"
    if death is None:
        return "" if seen is None else "vital_status Dead without days_to_death"
    return _AFTER_DEATH if seen is not None and float(str(seen)) > _days(death, "days_to_death", where) else ""


def _remarks(found: dict[str, str], where: str) -> list[str]:
    """A warning for each kind of contradiction, with its patients."""
    texts = []
    for text in sorted(set(found.values())):
        names = sorted(name for name, said in found.items() if said == text)
        redaction.register_ids(names)
        texts.append(f"{where}: {len(names)} patients {text}: {', '.join(names)}")
    return texts


def _cases(location: Location) -> tuple[RawTable, dict[str, str]]:
    """The cases as canonical text, and the contradictions of status and dates by patient."""
    try:
        cases = json.loads(storage.read_bytes(location))
    except ValueError as error:  # also: UnicodeDecodeError
        raise DataError(f"not a JSON document ({error})", str(location), _DOWNLOAD) from error
    if not isinstance(cases, list) or not cases or not all(isinstance(case, dict) for case in cases):
        raise DataError("not a list of cases", str(location), _DOWNLOAD)
    rows = [_case(case, f"{location}, case {number}") for number, case in enumerate(cases, start=1)]
    said = [_contradiction(case, f"{location}, case {number}") for number, case in enumerate(cases, start=1)]
    found = {row["patient_id"]: text for row, text in zip(rows, said, strict=True) if text}
    numbers, remarks = list(range(1, len(rows) + 1)), _remarks(found, str(location))
    return RawTable(pd.DataFrame(rows, dtype=str), str(location), numbers, remarks), found


def _case(case: dict[str, Any], where: str) -> dict[str, str]:
    """One case as canonical text; what the GDC does not know is empty."""
    if "submitter_id" not in case:
        raise DataError("key 'submitter_id' is missing", where, _DOWNLOAD)
    person, diagnosis = _mapping(case, "demographic", where), _primary(_list(case, "diagnoses", where))
    status = _text(person.get("vital_status"))
    days = person.get("days_to_death") if status == "Dead" else _last_seen(case, diagnosis, where)
    return {
        "patient_id": str(case["submitter_id"]),
        "cohort": _text(_mapping(case, "project", where).get("project_id")),
        "site": _text(_mapping(case, "tissue_source_site", where).get("code")),
        "age": _age(person, diagnosis, where),
        "is_female": _text(person.get("gender")),
        "subtype": _text(diagnosis.get("primary_diagnosis")),
        "time_months": _text(days),
        "event": status,
    }


def _mapping(case: dict[str, Any], key: str, where: str) -> dict[str, Any]:
    found = case.get(key) or {}
    if not isinstance(found, dict):
        raise DataError(f"{key} is {shorten(found)!r}, not a mapping", where, _DOWNLOAD)
    return found


def _list(case: dict[str, Any], key: str, where: str) -> list[dict[str, Any]]:
    found = case.get(key) or []
    if not isinstance(found, list) or not all(isinstance(item, dict) for item in found):
        raise DataError(f"{key} is {shorten(found)!r}, not a list of mappings", where, _DOWNLOAD)
    return found


def _primary(diagnoses: list[dict[str, Any]]) -> dict[str, Any]:
    """The diagnosis of the primary disease; newer releases list those of metastases and recurrences beside it."""
    for diagnosis in diagnoses:
        said = str(diagnosis.get("diagnosis_is_primary_disease", "")).casefold()
        if said == "true" or str(diagnosis.get("classification_of_tumor", "")).casefold() == "primary":
            return diagnosis
    return diagnoses[0] if diagnoses else {}


def _last_seen(case: dict[str, Any], diagnosis: dict[str, Any], where: str) -> object:
    """Days to the last follow-up: the largest that the diagnosis or a visit tells; older releases have no visits."""
    told = [diagnosis.get("days_to_last_follow_up")]
    told += [visit.get("days_to_follow_up") for visit in _list(case, "follow_ups", where)]
    days = [_days(value, "days_to_follow_up", where) for value in told if value is not None]
    return max(days, default=None)


def _age(person: dict[str, Any], diagnosis: dict[str, Any], where: str) -> str:
    """Age in years, from days at the diagnosis, else from the years at the index date; a masked age (>89) as it is."""
    days, years = diagnosis.get("age_at_diagnosis"), person.get("age_at_index")
    if str(days)[:1] in {"<", ">"}:
        return str(days)
    if days is not None:
        return repr(_days(days, "age_at_diagnosis", where) / DAYS_PER_YEAR)
    return _text(years)


def _days(value: object, key: str, where: str) -> float:
    try:
        return float(str(value))
    except ValueError:
        hint = "the GDC writes days as numbers: mend the value, or write null"
        raise DataError(f"{key} is {shorten(value)!r}, not a number", where, hint) from None


def _text(value: object) -> str:
    text = "" if value is None else str(value)
    return "" if text.casefold() in _UNSAID else text


def _star(folder: Path, where: str, scale: str) -> tuple[Matrix, list[ExcludedPatient]]:
    if not folder.is_dir():
        raise DataError("not a folder", where, "name the folder of the sample sheet and the STAR files")
    sheet_name = layouts.only(sorted(p.name for p in folder.iterdir() if p.is_file()), "sample_sheet", where)
    sheet = _counts_only(read_table(folder / sheet_name, "\t", shown=storage.join(where, sheet_name)))
    samples = sheet.frame["Sample ID"].tolist()
    cases = [_one_case(sheet, i) for i in range(len(samples))]
    kept, left = layouts.one_sample_each(samples, cases, layouts.stated_tissues(sheet.frame))
    if not kept:
        hint = "add files of tumour samples to the cart, or mend column Tissue Type"
        raise DataError("every sample is of normal tissue", sheet.where, hint)
    profiles = [_profile(folder, where, sheet.frame.iloc[i], scale) for i in kept]
    genes = list(profiles[0].index)
    for i, profile in zip(kept, profiles, strict=True):
        if list(profile.index) != genes:
            what = "the genes are not those of the first file"
            raise DataError(what, storage.join(where, sheet.frame["File Name"].iloc[i]), "take files of one release")
    values = np.stack([profile.to_numpy(np.float32) for profile in profiles])
    ids, rows = [cases[i] for i in kept], [sheet.rows[i] for i in kept]
    warning = f"{where}: of genes with one name, only the first is kept"
    return Matrix(ids, genes, values, where, rows, [warning]), left


def _one_case(sheet: RawTable, position: int) -> str:
    """The case of a row; a file of several samples of one case names it once for each sample."""
    names = sorted({name.strip() for name in sheet.frame["Case ID"].iloc[position].split(",")})
    if len(names) > 1:
        hint = "take a file of one case out of the cart, or split the row"
        raise DataError(f"a file of {len(names)} cases ({', '.join(names[:3])})", sheet.at(position, "Case ID"), hint)
    return str(names[0])


def _counts_only(sheet: RawTable) -> RawTable:
    """The rows of expression files: the sheet of a cart may list slides and other files, too."""
    sheet.need("File ID", "File Name", "Case ID", "Sample ID")
    if "Data Type" not in sheet.frame.columns:
        return sheet
    kept = np.flatnonzero(sheet.frame["Data Type"] == "Gene Expression Quantification")
    if not len(kept):
        hint = "add files of `Gene Expression Quantification` to the cart"
        raise DataError("no row is of an expression file", f"{sheet.where}, column Data Type", hint)
    return RawTable(sheet.frame.iloc[kept].reset_index(drop=True), sheet.where, [sheet.rows[i] for i in kept])


def _profile(folder: Path, where: str, row: "pd.Series[str]", scale: str) -> "pd.Series[Any]":
    """One STAR file: gene name -> value; the first of each name."""
    name = row["File Name"] if (folder / row["File Name"]).exists() else f"{row['File ID']}/{row['File Name']}"
    table = read_table(_inside(folder, name, where), "\t", "#", shown=storage.join(where, name))
    table.need("gene_id", "gene_name", _STAR_COLUMNS[scale])
    genes = table.frame["gene_id"].str.startswith("ENSG") & ~table.frame["gene_name"].duplicated()
    chosen = np.flatnonzero(genes)
    rows = [table.rows[i] for i in chosen]
    kept = RawTable(table.frame.iloc[chosen].reset_index(drop=True), table.where, rows)
    values = labels.numbers(kept, _STAR_COLUMNS[scale]).to_numpy()
    return pd.Series(np.log2(values + 1) if scale == "log2" else values, index=kept.frame["gene_name"])


def _inside(folder: Path, name: str, where: str) -> Path:
    """A file that the sheet names, below the folder of the sheet and nowhere else."""
    path = folder / name
    if not path.resolve().is_relative_to(folder.resolve()):
        raise DataError(f"the file {shorten(name)!r} is not below its folder", where, "mend the sample sheet")
    if not path.exists():
        raise DataError(f"the file {shorten(name)!r} of the sample sheet is missing", where, "download it again")
    return path
