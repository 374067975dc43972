"""Cells of a foreign clinical table that `ingest` refuses or misreads: unknown values, thousands, barcodes."""

import re
from collections.abc import Mapping

import pandas as pd

from mcti.cohort.layouts import patient_from_barcode, select_samples
from mcti.cohort.raw_tables import is_missing
from mcti.errors import DataError
from mcti.project import coding, column_names

_THOUSANDS = re.compile(r"[1-9]\d{0,2}([.,]\d{3})+")
_MASKED = re.compile(r"(>=?|≥)\s*(\d+)|(\d+)\s*\+")


def without_unknown(frame: pd.DataFrame, columns: list[str]) -> tuple[pd.DataFrame, tuple[str, ...]]:
    """The table with empty cells where `columns` state that a value is unknown, and their number by column."""
    changes = []
    for column in columns:
        unknown = frame[column].str.strip().str.casefold().isin(coding.UNKNOWN)
        if unknown.any():
            frame = frame.assign(**{column: frame[column].mask(unknown, "")})
            changes.append(f"{column}: {int(unknown.sum())} unknown values as missing")
    return frame, tuple(changes)


def patients_of_samples(frame: pd.DataFrame, column: str) -> tuple[pd.DataFrame, tuple[str, ...]]:
    """One row per patient where the ids are TCGA sample barcodes, as in tables of Xena; other tables as they are."""
    samples = frame[column].tolist()
    patients = [patient_from_barcode(sample) for sample in samples]
    if any(patient == sample for patient, sample in zip(patients, samples, strict=True)):
        return frame, ()
    rows, _ = select_samples(samples, patients)
    table = frame.iloc[rows].assign(**{column: [patients[row] for row in rows]}).reset_index(drop=True)
    return table, (f"{column}: the patients of {len(samples)} TCGA samples",)


def check_thousands(frame: pd.DataFrame, column: str, patient: str, where: str) -> None:
    """Check that a column of days has no separators of thousands, which would be read as decimal points.

    patient     column of the ids

    Raises DataError when every number of 1000 and more may have one.
    """
    filled = [cell.strip() for cell in frame[column] if not is_missing(cell)]
    separated = [cell for cell in filled if re.search("[.,]", cell)]
    if column_names.unit_of(column) == "days" and separated and all(map(_THOUSANDS.fullmatch, separated)):
        first = frame[patient].iloc[frame[column].str.strip().tolist().index(separated[0])]
        hint = (
            f"write {re.sub('[.,]', '', separated[0])}, without a separator of thousands, or a decimal point and digits"
        )
        raise DataError(f"{separated[0]!r} is ambiguous", f"{where}, patient {first}, column {column}", hint)


def masked_ages(cells: "pd.Series[str]") -> dict[str, float]:
    """Ages such as `>89` and `90+`, each with the smallest age in years that it can be."""
    matches = {cell.strip(): _MASKED.fullmatch(cell.strip()) for cell in cells}
    return {cell: _smallest(match) for cell, match in matches.items() if match is not None}


def _smallest(match: "re.Match[str]") -> float:
    sign, bound, open_end = match.groups()
    return float(open_end) if open_end else float(bound) + (sign == ">")


def age_questions(ages: Mapping[str, float]) -> tuple[str, ...]:
    """The question of masked ages, in years; none without such ages."""
    shown = ", ".join(f"{cell} = {years:g}" for cell, years in ages.items())
    return (f"masked ages are taken as {shown}: ingest.age_values in params.yaml",) if ages else ()
