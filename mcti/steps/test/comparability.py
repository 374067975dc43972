"""Whether a model can be tested on a cohort: unseen patients, same endpoint, scale, units and encoder, shared genes."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from mcti.cohort import left_truncation, tables
from mcti.cohort.tables import CohortInfo
from mcti.errors import DataError
from mcti.model.reference_profile import ColumnProfile, ReferenceProfile
from mcti.params.data import MAX_FOLLOWUP_MONTHS, MAX_MISSING_GENES
from mcti.redaction import hashed
from mcti.registry.ensemble import Ensemble

UNIT_RATIO = 5.0
"""Ratio of two medians from which a covariate without overlap of its values is taken to have another unit."""
MAX_SHIFTED_GENES = 0.5
"""With a larger share of genes whose median is outside the development's range, the scale is another one."""
MAX_FOLLOWUP_RATIO = 10.0
"""With a larger ratio of the two medians of time_months, one of them is in another unit, as for `train.sources`."""
_NO_UNIT = ("age", "is_female")  # their ranges are checked for every patient (mcti/model/clinical.py)


@dataclass(frozen=True)
class ComparedItem:
    """One row of the table of what was compared: both values as text, and the verdict or the difference."""

    item: str
    development: str
    validation: str
    verdict: str


def check_unseen(patients: Sequence[str], used: Mapping[str, frozenset[str]]) -> None:
    """Check that no patient of the cohort was used for the model, by the SHA-256 of the ids.

    used  {use of the patients: hashes of their ids}, such as the development

    Raises DataError with the number of such patients, and the first of them.
    """
    for use, hashes in used.items():
        known = sorted(patient for patient in patients if hashed(patient) in hashes)
        if known:
            what = f"{len(known)} of {len(patients)} patients belong to the {use} of the model, the first: {known[0]!r}"
            raise DataError(what, "the cohort", "test on patients whom the model never saw, without these")


def compare(
    record: Mapping[str, Any],
    info: CohortInfo,
    patients: pd.DataFrame,
    genes: pd.DataFrame,
    ensemble: Ensemble,
    median_months: float,
) -> list[ComparedItem]:
    """What was compared of the development cohort and of this one; the rows of the report.

    record  entry `cohort` of model.json;  genes (n, G) expression
    median_months  of time_months in the development

    Raises DataError for the first thing that cannot be compared: it names both values.
    """
    if not any(patients["event"] == 1):
        raise DataError("no patient has the event", "the cohort", "use a cohort with longer follow-up")
    profile = largest_profile(ensemble)
    shared = [gene for gene in ensemble.genes if gene in genes.columns]
    return [
        _equal("endpoint", record.get("endpoint"), info.endpoint),
        _equal("expression scale", record.get("expression_scale"), info.expression_scale),
        _genes(ensemble, shared, genes.shape[1]),
        _gene_values(genes[shared], profile.families.get("genes", {})),
        _follow_up(patients, median_months),
        *late_entry(int(record.get("late_entries", 0)), patients),
        _subtypes(ensemble, patients),
        *_covariates(ensemble, patients, profile),
    ]


def largest_profile(ensemble: Ensemble) -> ReferenceProfile:
    """The reference profile of the member with the most training patients.

    Raises DataError for a model without a reference profile of each member.
    """
    if not ensemble.members.keys() <= ensemble.reference_profiles.keys():
        what = "the model has no reference profile of its training patients"
        raise DataError(what, "model.json", "train and register the model again")
    return max(ensemble.reference_profiles.values(), key=lambda profile: profile.patients)


def _equal(item: str, development: object, validation: str) -> ComparedItem:
    if development is None:
        return ComparedItem(item, "not recorded", validation, "not compared")
    if development != validation:
        what = f"the {item} is {validation}, that of the development {development}"
        raise DataError(what, "the cohort", f"ingest the cohort with {item} {development}; others are not comparable")
    return ComparedItem(item, str(development), validation, "equal")


def _genes(ensemble: Ensemble, shared: Sequence[str], columns: int) -> ComparedItem:
    total, missing = len(ensemble.genes), len(ensemble.genes) - len(shared)
    if missing > MAX_MISSING_GENES * total:
        absent = next(gene for gene in ensemble.genes if gene not in set(shared))
        what = (
            f"the cohort has {len(shared) or 'none'} of the {total} genes of the model, the first missing: {absent!r}"
        )
        hint = f"at most {MAX_MISSING_GENES:.0%} may be missing; use the gene names of the development"
        raise DataError(what, "expression.parquet of the cohort", hint)
    verdict = f"{missing} missing, set to the training mean" if missing else "all genes of the model"
    return ComparedItem("genes", str(total), f"{len(shared)} of {columns} columns", verdict)


def _gene_values(genes: pd.DataFrame, profiles: Mapping[str, ColumnProfile]) -> ComparedItem:
    """Refuse an expression most of whose medians are outside the quantile grids of the training patients."""
    medians = {str(name): float(median) for name, median in genes.median().items()}
    known = {name: profiles[name].quantile_grid for name in medians if name in profiles}
    known = {name: grid for name, grid in known.items() if grid}
    outside = [name for name, grid in known.items() if not grid[0] <= medians[name] <= grid[-1]]
    if known and len(outside) > MAX_SHIFTED_GENES * len(known):
        name = outside[0]
        what = (
            f"the medians of {len(outside)} of {len(known)} genes are outside the range of the development "
            f"({name}: {medians[name]:.4g}, not {known[name][0]:.4g} to {known[name][-1]:.4g})"
        )
        raise DataError(what, "expression.parquet of the cohort", "another scale or unit: convert it as in development")
    verdict = "no gene" if not known else f"{len(outside)} of {len(known)} medians outside"
    return ComparedItem("expression values", "range of the central quantiles", "median of each gene", verdict)


def _follow_up(patients: pd.DataFrame, development: float) -> ComparedItem:
    """Refuse times in another unit than months; development: the median of its times in months."""
    longest, median = (float(getattr(patients["time_months"], name)()) for name in ("max", "median"))
    hint = "ingest it with the unit of its times (ingest.time_unit)"
    if longest > MAX_FOLLOWUP_MONTHS:
        raise DataError(f"time_months reaches {longest:.6g}, more than {MAX_FOLLOWUP_MONTHS:g}", "the cohort", hint)
    if median > 0 and max(development / median, median / development) > MAX_FOLLOWUP_RATIO:
        what = f"the median of time_months is {median:.4g}, that of the development {development:.4g}"
        raise DataError(f"{what}: the unit is another one", "the cohort", hint)
    validation = f"median {median:.4g} months, up to {longest:.4g}"
    return ComparedItem("follow-up", f"median {development:.4g} months", validation, "same unit")


def late_entry(development: int, patients: pd.DataFrame) -> list[ComparedItem]:
    """Whether both cohorts count patients from their entry; no row where neither has late entry.

    development  number of training patients who came under observation after the origin
    """
    validation = left_truncation.late_entries(patients)[0]
    if not development and not validation:
        return []
    verdict = entry_difference(development, validation) or "both count patients from their entry"
    return [ComparedItem("late entry", f"{development} patients", f"{validation} patients", verdict)]


def entry_difference(development: int, validation: int) -> str:
    """Which cohort has no late entry while the other has; empty: both or neither. Numbers of such patients."""
    if bool(development) == bool(validation):
        return ""
    which, other = ("development", "this cohort") if validation else ("this cohort", "development")
    return f"{which}: every patient counts from the origin; {other}: from the entry ({left_truncation.COLUMN})"


def subtypes_left_out(ensemble: Ensemble, patients: pd.DataFrame) -> str:
    """Why the subtypes that the model predicts are not scored on these patients (n rows); empty where they are."""
    classes, known = sorted(map(str, patients["subtype"].unique())), set(ensemble.classes)
    if unknown := [name for name in classes if name not in known]:
        return f"the model does not predict {', '.join(unknown)}"
    return f"the cohort has one subtype, {classes[0]}" if len(classes) == 1 else ""


def _subtypes(ensemble: Ensemble, patients: pd.DataFrame) -> ComparedItem:
    classes = ", ".join(sorted(map(str, patients["subtype"].unique())))
    if len(ensemble.classes) < 2:
        return ComparedItem("subtypes", ", ".join(ensemble.classes), classes, "not predicted by the model")
    reason = subtypes_left_out(ensemble, patients)
    return ComparedItem(
        "subtypes", ", ".join(ensemble.classes), classes, f"not scored: {reason}" if reason else "scored"
    )


def _covariates(ensemble: Ensemble, patients: pd.DataFrame, profile: ReferenceProfile) -> list[ComparedItem]:
    columns = tables.covariate_columns(patients)
    rows = []
    for name in ensemble.covariates:
        known = ensemble.levels.get(name)
        if columns.get(name) is not (known is None):
            form = "numeric" if known is None else "categorical"
            what = f"the cohort has no {form} covariate {name!r}, which the model reads"
            raise DataError(what, "patients.parquet of the cohort", "ingest it; an unknown value may be missing")
        if known is not None:
            rows.append(_levels(name, patients[name].dropna().astype(str), known))
            continue
        values = patients[name].to_numpy(dtype=np.float64, na_value=np.nan)
        rows.append(_covariate(name, values[np.isfinite(values)], profile.families.get("covariates", {}).get(name)))
    return rows


def _levels(name: str, values: pd.Series, known: tuple[str, ...]) -> ComparedItem:
    """Refuse a categorical covariate none of whose levels occurred in training; single unseen ones count as missing."""
    unseen = values[~values.isin(known)]
    present = ", ".join(sorted(values.unique())[:10])
    if len(values) and len(unseen) == len(values):
        what = f"none of the levels of {name} ({present}) occurred in the development"
        hint = f"write its levels as {', '.join(known)} (ingest.category_values)"
        raise DataError(what, "patients.parquet of the cohort", hint)
    outcome = f"{len(unseen)} patients with an unseen level"
    return ComparedItem(name, f"levels {', '.join(known)}", f"levels {present}", outcome)


def _covariate(name: str, values: np.ndarray, profile: ColumnProfile | None) -> ComparedItem:
    """Refuse a covariate without a value in the development's range whose median is many times as large or small."""
    if profile is None or not profile.quantile_grid or not values.size:
        return ComparedItem(name, "not recorded" if profile is None else "", f"{values.size} values", "not compared")
    low, high = profile.quantile_grid[0], profile.quantile_grid[-1]
    one, other = profile.quantile(0.5), float(np.median(values))
    ratio = abs(math.log(other / one)) if one * other > 0 else 0.0
    if name not in _NO_UNIT and not ((values >= low) & (values <= high)).any() and ratio >= math.log(UNIT_RATIO):
        what = f"the median of {name} is {other:.4g}, that of the development {one:.4g}, and the values do not overlap"
        raise DataError(what, "patients.parquet of the cohort", "convert it to the unit of the development")
    return ComparedItem(name, f"median {one:.4g}", f"median {other:.4g}", "overlapping values or similar median")
