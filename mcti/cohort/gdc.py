"""The files of the GDC portal: the clinical JSON of a cart, and a folder of STAR counts with its sample sheet.

Times and ages are days. The GDC has overall survival only.
"""

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from mcti import storage
from mcti.cohort import labels, layouts
from mcti.cohort.assembly import RawCohort
from mcti.cohort.reading import Matrix, RawTable, read_table
from mcti.cohort.tables import Leaver
from mcti.errors import DataError, UsageError
from mcti.params import IngestParams
from mcti.storage import Location

DAYS_PER_YEAR = 365.25
_STAR_COLUMNS = {"counts": "unstranded", "tpm": "tpm_unstranded", "log2": "tpm_unstranded"}
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
        mend = "set it to counts, tpm or log2 (of TPM + 1)"
        raise UsageError(f"STAR counts are no {params.expression_scale}", "ingest.expression_scale", mend)
    table = layouts.pick(_cases(clinical), {name: name for name in _COLUMNS}, params)
    table = layouts.words(layouts.words(table, "is_female", layouts.SEXES), "event", {"alive": "0", "dead": "1"})
    with storage.local(expression) as folder:
        genes, left = _star(folder, str(expression), params.expression_scale)
    manifest = None if slides is None else read_table(slides)
    return RawCohort(layouts.with_site(table), genes, manifest, left, time_unit="days")


def _cases(location: Location) -> RawTable:
    cases = storage.read_json(location)
    if not isinstance(cases, list) or not cases or not all(isinstance(case, dict) for case in cases):
        raise DataError("not a list of cases", str(location), "download `Clinical` of the cart as JSON")
    rows = [_case(case, f"{location}, case {number}") for number, case in enumerate(cases, start=1)]
    frame = pd.DataFrame(rows, dtype=str)
    if not frame["site"].any():
        frame = frame.drop(columns="site")  # then the barcodes tell it
    return RawTable(frame, str(location), list(range(1, len(rows) + 1)))


def _case(case: dict[str, Any], where: str) -> dict[str, str]:
    """One case as canonical text; what the GDC does not know is empty."""
    if "submitter_id" not in case:
        raise DataError("key 'submitter_id' is missing", where, "download `Clinical` of the cart as JSON")
    person, diagnosis = case.get("demographic") or {}, (case.get("diagnoses") or [{}])[0]
    status = str(person.get("vital_status") or "")
    days = person.get("days_to_death") if status == "Dead" else diagnosis.get("days_to_last_follow_up")
    age = diagnosis.get("age_at_diagnosis")
    return {
        "patient_id": str(case["submitter_id"]),
        "cohort": _text((case.get("project") or {}).get("project_id")),
        "site": _text((case.get("tissue_source_site") or {}).get("code")),
        "age": "" if age is None else repr(float(age) / DAYS_PER_YEAR),
        "is_female": _text(person.get("gender")),
        "subtype": _text(diagnosis.get("primary_diagnosis")),
        "time_months": _text(days),
        "event": "" if status in {"Not Reported", "Unknown"} else status,
    }


def _text(value: object) -> str:
    return "" if value is None else str(value)


def _star(folder: Path, where: str, scale: str) -> tuple[Matrix, list[Leaver]]:
    if not folder.is_dir():
        raise DataError("not a folder", where, "name the folder of the sample sheet and the STAR files")
    sheet_name = layouts.only(sorted(p.name for p in folder.iterdir() if p.is_file()), "sample_sheet", where)
    sheet = read_table(folder / sheet_name, "\t")
    sheet.need("File ID", "File Name", "Case ID", "Sample ID")
    samples, cases = sheet.frame["Sample ID"].tolist(), sheet.frame["Case ID"].tolist()
    kept, left = layouts.one_sample_each(samples, cases)
    profiles = [_profile(folder, sheet.frame.iloc[i], scale) for i in kept]
    genes = list(profiles[0].index)
    for i, profile in zip(kept, profiles, strict=True):
        if list(profile.index) != genes:
            what = "the genes are not those of the first file"
            raise DataError(what, storage.join(where, sheet.frame["File Name"].iloc[i]), "take files of one release")
    values = np.stack([profile.to_numpy(np.float32) for profile in profiles])
    ids, rows = [cases[i] for i in kept], [sheet.rows[i] for i in kept]
    warning = f"{where}: of genes with one name, only the first is kept"
    return Matrix(ids, genes, values, where, rows, [warning]), left


def _profile(folder: Path, row: "pd.Series[str]", scale: str) -> "pd.Series[Any]":
    """One STAR file: gene name -> value; the first of each name."""
    beside, below = folder / row["File Name"], folder / row["File ID"] / row["File Name"]
    table = read_table(beside if beside.exists() else below, "\t", "#")
    table.need("gene_id", "gene_name", _STAR_COLUMNS[scale])
    genes = table.frame["gene_id"].str.startswith("ENSG") & ~table.frame["gene_name"].duplicated()
    chosen = np.flatnonzero(genes)
    rows = [table.rows[i] for i in chosen]
    kept = RawTable(table.frame.iloc[chosen].reset_index(drop=True), table.where, rows)
    values = labels.numbers(kept, _STAR_COLUMNS[scale]).to_numpy()
    return pd.Series(np.log2(values + 1) if scale == "log2" else values, index=kept.frame["gene_name"])
