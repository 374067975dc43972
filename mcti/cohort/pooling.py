"""Several cohorts as one: the patients of all of them, with genes of equal mean and spread in each cohort."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from pandas.api.types import is_numeric_dtype

from mcti.cohort import competing, left_truncation
from mcti.cohort.tables import OPTIONAL_PATIENTS, PATIENTS, SLIDES, Cohort, CohortInfo, covariates
from mcti.errors import DataError

_SKEWED = ("counts", "tpm")  # aligned as log2(x + 1)


@dataclass(frozen=True)
class NamedCohort:
    """A cohort with its name in the pool, where it was read, and the MD5 of its folder."""

    name: str
    where: str
    md5: str
    tables: Cohort


def pool(cohorts: Sequence[NamedCohort], categories: Sequence[str] = ()) -> Cohort:
    """One cohort of the patients of all these cohorts, which have one endpoint and one expression scale.

    The column `cohort` names the cohort of a patient, and a subtype starts with it. Genes are the union; a gene that a
    cohort lacks is NaN for its patients. Covariates are those that are numeric in every cohort that has them,
    and those of `categories` that no cohort has as a number.

    Raises DataError when a name, a patient or a slide is in two of them, or two of them order the levels differently
    """
    _check_unique([(one.name, one.where) for one in cohorts], "the cohort name")
    for table, column, what in (("patients", "patient_id", "patient"), ("slides", "slide_id", "slide")):
        rows = [(str(name), one.where) for one in cohorts for name in getattr(one.tables, table)[column]]
        _check_unique(rows, what)
    patients = _patients(cohorts, categories)
    slides = pd.concat([one.tables.slides for one in cohorts]).sort_values(["patient_id", "slide_id"])
    slides = slides[[column.name for column in SLIDES]].reset_index(drop=True)
    scale = cohorts[0].tables.info.expression_scale
    aligned = align({one.name: one.tables.expression for one in cohorts}, scale)
    return Cohort(patients, aligned, slides, _info(cohorts, patients, aligned, slides))


def align(expressions: Mapping[str, pd.DataFrame], scale: str) -> pd.DataFrame:
    """Expression (patients, union of genes), in which each gene has one mean and one spread in all cohorts.

    They are the means, over the cohorts that have the gene, of the mean and of the variance within a cohort. Counts and
    TPM are aligned as log2(x + 1). The unit stays the same.

    scale  counts | tpm | log2 | z-score
    """
    genes = list(dict.fromkeys(str(gene) for table in expressions.values() for gene in table.columns))
    tables = [table.reindex(columns=genes).astype(np.float64) for table in expressions.values()]
    if scale in _SKEWED:
        tables = [pd.DataFrame(np.log2(table + 1)) for table in tables]
    means = pd.DataFrame([table.mean() for table in tables])
    variances = pd.DataFrame([table.var(ddof=0) for table in tables])
    mean, sd = means.mean(), variances.mean() ** 0.5
    # A gene that is constant in a cohort has the common mean there.
    factors = (sd / variances**0.5).where(variances > 0, 0.0)
    rows = [(table - means.loc[i]) * factors.loc[i] + mean for i, table in enumerate(tables)]
    pooled = pd.concat(rows)
    if scale in _SKEWED:
        pooled = (2**pooled - 1).clip(lower=0)
    pooled.index.name = "patient_id"
    return pooled.sort_index().astype(np.float32)


def _patients(cohorts: Sequence[NamedCohort], categories: Sequence[str]) -> pd.DataFrame:
    shared = _numeric_covariates(cohorts)
    texts = [name for name in categories if _is_text(name, cohorts)]
    names = [column.name for column in PATIENTS] + _optional_columns(cohorts)
    parts = []
    for one in cohorts:
        subtype = one.name + " " + one.tables.patients["subtype"].astype(str)
        table = one.tables.patients.assign(competing=competing.flags(one.tables.patients).astype("int8"))
        part = table.assign(cohort=one.name, subtype=subtype).reindex(columns=[*names, *shared, *texts])
        parts.append(part.astype({"age": "float64", **dict.fromkeys(shared, "float64")}))
    return pd.concat(parts).sort_values("patient_id", ignore_index=True)


def _optional_columns(cohorts: Sequence[NamedCohort]) -> list[str]:
    """The optional columns of the pool: competing events of any cohort, entries of all cohorts."""
    left_truncation.check_same([(one.where, one.tables.patients) for one in cohorts])
    present = {name for one in cohorts for name in one.tables.patients}
    return [column.name for column in OPTIONAL_PATIENTS if column.name in present]


def _numeric_covariates(cohorts: Sequence[NamedCohort]) -> list[str]:
    tables = [one.tables.patients for one in cohorts]
    names = dict.fromkeys(name for table in tables for name in covariates(table))
    return [name for name in names if all(is_numeric_dtype(table[name]) for table in tables if name in table)]


def _is_text(name: str, cohorts: Sequence[NamedCohort]) -> bool:
    """Whether some cohort has this covariate, and none as a number."""
    tables = [one.tables.patients for one in cohorts]
    columns = [table[name] for table in tables if name in covariates(table)]
    return bool(columns) and not any(is_numeric_dtype(column) for column in columns)


def _ordered_levels(cohorts: Sequence[NamedCohort], patients: pd.DataFrame) -> dict[str, tuple[str, ...]]:
    """The order of the levels of the pooled covariates."""
    orders: dict[str, tuple[str, ...]] = {}
    for one in cohorts:
        for name, levels in one.tables.info.ordered_levels.items():
            if name in patients and orders.setdefault(name, levels) != levels:
                what = f"the levels of {name} are {list(levels)}, those of an earlier cohort {list(orders[name])}"
                raise DataError(what, one.where, "ingest all cohorts with one ingest.ordered_levels")
    return orders


def _info(
    cohorts: Sequence[NamedCohort], patients: pd.DataFrame, genes: pd.DataFrame, slides: pd.DataFrame
) -> CohortInfo:
    infos = [one.tables.info for one in cohorts]
    counts = {"patients": len(patients), "events": int(patients["event"].sum()), **left_truncation.counts(patients)}
    return CohortInfo(
        name="+".join(one.name for one in cohorts),
        notice="; ".join(dict.fromkeys(info.notice for info in infos if info.notice)),
        endpoint=infos[0].endpoint,
        expression_scale=infos[0].expression_scale,
        counts=counts | {"genes": genes.shape[1], "slides": len(slides)} | competing.counts(patients),
        covariates=tuple(covariates(patients)),
        sources={one.name: one.md5 for one in cohorts},
        attrition=tuple(patient for info in infos for patient in info.attrition),
        warnings=tuple(f"{one.name}: {text}" for one in cohorts for text in one.tables.info.warnings),
        event_confirmed=all(info.event_confirmed for info in infos),
        median_late_entry=left_truncation.median_late_entry(patients),
        ordered_levels=_ordered_levels(cohorts, patients),
    )


def _check_unique(rows: Sequence[tuple[str, str]], what: str) -> None:
    """Raise DataError for the first name that is in two places; rows: (name, where)."""
    places: dict[str, str] = {}
    for name, where in rows:
        if name in places:
            hint = "give each cohort its own ids and its own name (ingest.name), and list it once"
            raise DataError(f"{what} {name!r} is also in {places[name]}", where, hint)
        places[name] = where
