"""Patients who belong to two cohorts, possibly under another id in the second one.

The same three cases as between the parts of a fold (mcti/cohort/leakage.py): patient id, slide, expression profile.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import pandas as pd

from mcti.cohort import leakage

_MARKS = "ab"  # first letter of each id: of the one and of the other cohort


@dataclass(frozen=True)
class Overlap:
    """A patient of one cohort and the patient of the other one who is the same, with what shows it."""

    one: str
    other: str
    evidence: str


@dataclass(frozen=True)
class Members:
    """What identifies the patients of a cohort.

    patients    ids
    slides      the table of slides: patient_id, slide_id, md5
    expression  (n, genes), index patient_id; both cohorts must have the same columns
    """

    patients: tuple[str, ...]
    slides: pd.DataFrame
    expression: pd.DataFrame


def overlaps(one: Members, other: Members) -> list[Overlap]:
    """The patients of `other` who also belong to `one`, each once, sorted by their id in `other`.

    Profiles are compared twice: standardised over both cohorts, which finds a copy of values in one unit, and each
    within its cohort, which finds patients whose values were standardised or measured in another unit.
    """
    common = sorted(set(one.patients) & set(other.patients))
    cases = [Overlap(patient, patient, "patient id") for patient in common]
    slides = pd.concat([_marked(members.slides, mark) for members, mark in zip((one, other), _MARKS, strict=True)])
    cases += _across(leakage.same_slides(slides))
    tables = [one.expression, other.expression]
    for pair in (tables, [_standardised(table) for table in tables]):
        cases += _across(leakage.same_profiles(lambda pair=pair: _blocks(pair)))  # type: ignore[misc]
    first = {case.other: case for case in reversed(cases)}
    return [first[patient] for patient in sorted(first)]


def _marked(slides: pd.DataFrame, mark: str) -> pd.DataFrame:
    table = slides[["patient_id", "slide_id", "md5"]].astype(object)
    return table.assign(patient_id=mark + table["patient_id"].astype(str))


def _across(pairs: list[tuple[str, str, str]]) -> list[Overlap]:
    """The pairs with one patient in each cohort, without the marks."""
    ordered = [(*sorted(pair[:2]), pair[2]) for pair in pairs]
    return [Overlap(a[1:], b[1:], what) for a, b, what in ordered if (a[0], b[0]) == tuple(_MARKS)]


def _blocks(tables: list[pd.DataFrame]) -> Iterator[tuple[list[str], leakage.Profiles]]:
    for table, mark in zip(tables, _MARKS, strict=True):
        yield [f"{mark}{patient}" for patient in table.index], table.to_numpy(dtype=np.float32)


def _standardised(table: pd.DataFrame) -> pd.DataFrame:
    """Each gene with mean 0 and sd 1 within the cohort, missing values ignored; constant genes are 0."""
    values = table.replace([np.inf, -np.inf], np.nan)
    sd = values.std(ddof=0)
    return (values - values.mean()) / sd.where(sd > 0, 1.0)
