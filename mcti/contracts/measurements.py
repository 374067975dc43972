"""Measurements of a cohort as small tables, on which the expectations of the data contract are evaluated.

A failing expectation lists rows of its table: patients, genes, sites, slides.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import pandas as pd

from mcti.cohort import competing, left_truncation
from mcti.cohort.tables import covariates
from mcti.contracts import followup
from mcti.contracts.expectations import SAFE_TEXT
from mcti.contracts.expression import Expression, gene_table, site_predictability, two_groups
from mcti.contracts.orientation import orientation
from mcti.model.categories import MAX_LEVELS

FEMALE_GENE, MALE_GENE, RECEPTOR_GENE = "XIST", "RPS4Y1", "ESR1"
MARKERS = (FEMALE_GENE, MALE_GENE, RECEPTOR_GENE)
TWO_GROUPS = 0.75  # share of variance between the groups at which a marker has two groups (two_groups)
EARLY_MONTHS = 3.0
_RECEPTOR_COLUMNS = ("er", "er_status", "er_ihc", "er_status_by_ihc", "subtype")
_RECEPTOR_WORDS = {"er+": 1, "er-": 0, "positive": 1, "negative": 0, "pos": 1, "neg": 0, "1": 1, "0": 0}


@dataclass(frozen=True)
class CohortData:
    """The data that the contract checks.

    patients, slides    the canonical tables
    markers             expression (patients, genes) of those of MARKERS that the cohort has
    scale               expression scale;  endpoint: end point of the follow-up
    event_confirmed     the user confirmed that event 1 means observed
    no_followup         number of patients that ingest excluded for missing follow-up
    shared_pairs        pairs of patients that share a slide or a profile, with what they share
    ordered_levels      levels of each ordered categorical covariate
    """

    patients: pd.DataFrame
    slides: pd.DataFrame
    expression: Expression
    markers: pd.DataFrame
    scale: str
    endpoint: str = "OS"
    event_confirmed: bool = False
    no_followup: int = 0
    shared_pairs: list[tuple[str, str, str]] = field(default_factory=list)
    ordered_levels: Mapping[str, Sequence[str]] = field(default_factory=dict)


def measure(data: CohortData) -> dict[str, pd.DataFrame]:
    """The tables of the contract by name, one row per patient, gene, slide or cohort."""
    patients = data.patients
    site = dict(zip(patients["patient_id"], patients["site"].fillna(""), strict=True))
    genes = gene_table(data.expression, site)
    largest = np.maximum(genes["minimum"].abs(), genes["maximum"].abs())
    genes["largest_z"] = largest if data.scale == "z-score" else np.nan
    slides = _slides(data.slides)
    return {
        "patients": _patients(data, slides),
        "subtypes": _groups(patients, "subtype"),
        "sites": _groups(patients, "site"),
        "columns": _columns(patients, data.ordered_levels),
        "genes": genes,
        "slides": slides,
        "cohort": _cohort(data, genes, site_predictability(data.expression, genes, site)),
    }


def measure_features(patients: pd.DataFrame, bags: pd.DataFrame, statuses: pd.DataFrame) -> dict[str, pd.DataFrame]:
    """The tables for the rules of the features: patients (patient_id, tiles), bags, cohort (one row).

    bags    one row per slide with features;  statuses  status of each slide (`feature_table`)
    """
    ids = patients["patient_id"]
    return {
        "patients": pd.DataFrame({"patient_id": ids, "tiles": _tiles(ids, bags)}),
        "bags": _bags(bags),
        "cohort": pd.DataFrame([{"cohort": "all slides", **_feature_measurements(bags, statuses)}]),
    }


def _bags(bags: pd.DataFrame) -> pd.DataFrame:
    # Slides without patches have equal contents without being copies.
    filled = bags["contents"].where(bags["tiles"] > 0)
    return bags.assign(names_of_contents=filled.map(bags.groupby(filled)["slide_id"].nunique()))


def _tiles(ids: pd.Series, bags: pd.DataFrame) -> pd.Series:
    """Number of patches of each patient (n,)."""
    return ids.map(bags.groupby("patient_id")["tiles"].sum()).fillna(0).astype(np.int64)


def _patients(data: CohortData, slides: pd.DataFrame) -> pd.DataFrame:
    table = data.patients.copy()
    ids = table["patient_id"]
    if left_truncation.has_entries(table):
        table["months_at_risk"] = table["time_months"] - table["entry_months"]
    folded = ids.str.strip().str.casefold()
    table["spelled_like"] = folded.where(folded.duplicated(keep=False) & ~ids.duplicated(keep=False))
    shared: dict[str, str] = {}
    for first, second, what in data.shared_pairs:
        shared.setdefault(first, f"{what}, with {second}")
        shared.setdefault(second, f"{what}, with {first}")
    table["shares"] = ids.map(shared)
    table["both_events"] = _both_events(table)
    is_female = pd.Series(table["is_female"].to_numpy(dtype=np.float64, na_value=np.nan))
    table["sex_agrees"] = _agrees(_sex_score(data), is_female, ids)
    table["receptor_agrees"] = _agrees(_marker(data, RECEPTOR_GENE), _receptor(table), ids)
    table["slides"] = ids.map(slides["patient_id"].value_counts()).fillna(0).astype(np.int64)
    return table


def _both_events(table: pd.DataFrame) -> pd.Series:
    """What contradicts in a row (n,): an event and a competing event; None where nothing does."""
    both = (table["event"] == 1).to_numpy() & competing.flags(table)
    return pd.Series(["event 1, competing 1" if one else None for one in both], dtype=object)


def _receptor(table: pd.DataFrame) -> pd.Series:
    """Receptor status 1, 0 or NaN (n,) from the first column that contains it; all NaN where none does."""
    by_name = {str(name).casefold(): name for name in table.columns}
    for name in _RECEPTOR_COLUMNS:
        if name in by_name:
            words = table[by_name[name]].map(_word)
            status = words.map(_RECEPTOR_WORDS)
            if status.notna().any():
                return pd.Series(status.to_numpy(dtype=np.float64))
    return pd.Series(np.nan, index=range(len(table)))


def _word(value: object) -> str:
    return f"{value:g}" if isinstance(value, float) else str(value).strip().casefold()


def _marker(data: CohortData, gene: str) -> pd.Series:
    """Expression (n,) of a marker in the order of the patients; empty where the cohort does not have the gene."""
    if gene not in data.markers.columns:
        return pd.Series(dtype=np.float64)
    return data.markers[gene].reindex(data.patients["patient_id"]).astype(np.float64)


def _sex_score(data: CohortData) -> pd.Series:
    """Standardised XIST minus standardised RPS4Y1 (n,), high in women; one of the two where the other is missing."""
    female, male = _marker(data, FEMALE_GENE), _marker(data, MALE_GENE)
    scores = [sign * _standard(marker) for sign, marker in ((1, female), (-1, male)) if len(marker)]
    return sum(scores[1:], start=scores[0]) if scores else pd.Series(dtype=np.float64)


def _standard(values: pd.Series) -> pd.Series:
    # Ranks would remove the gap between the groups; with raw values one outlier would determine the scale.
    spread = float(values.quantile(0.95) - values.quantile(0.05))
    return ((values - values.median()) / (spread or 1.0)).clip(-2, 2)


def _agrees(score: pd.Series, label: pd.Series, ids: pd.Series) -> pd.Series:
    """1 where marker and label (1, 0) agree, 0 where not; NaN where one is missing or the marker has no two groups."""
    agrees = pd.Series(np.nan, index=ids.index)
    known = np.isfinite(score.to_numpy()) & label.notna().to_numpy() if len(score) else np.zeros(len(ids), dtype=bool)
    if known.sum() >= 10:
        upper, share = two_groups(score.to_numpy()[known])
        if share >= TWO_GROUPS:
            agrees[known] = (upper == (label.to_numpy()[known] == 1)).astype(float)
    return agrees


def _groups(patients: pd.DataFrame, column: str) -> pd.DataFrame:
    grouped = patients.groupby(column, sort=True)["event"]
    return pd.DataFrame({"patients": grouped.size(), "events": grouped.sum()}).reset_index()


def _columns(patients: pd.DataFrame, ordered: Mapping[str, Sequence[str]]) -> pd.DataFrame:
    # Ingest has warned of a cohort without age; its table nevertheless has the column.
    checked = patients if patients["age"].notna().any() else patients.drop(columns="age")
    names = [str(name) for name in checked.columns]
    missing = [float(checked[name].isna().mean()) for name in checked.columns]
    unsafe = [_unsafe_text(str(name), checked[name]) for name in checked.columns]
    foreign = [_foreign_level(checked[name], ordered.get(name)) for name in names]
    rarest = [_rarest_level(checked[name]) if name in covariates(patients) else np.nan for name in names]
    levels = {"foreign_level": foreign, "rarest_level": rarest}
    return pd.DataFrame({"column": names, "missing_share": missing, "unsafe": unsafe, **levels})


def _foreign_level(values: pd.Series, order: Sequence[str] | None) -> str | None:
    """A level of an ordered covariate that its order does not contain."""
    if order is None:
        return None
    foreign = sorted(set(values.dropna().astype(str)) - set(order))
    return f"{foreign[0]!r} in {int((values == foreign[0]).sum())} rows" if foreign else None


def _rarest_level(values: pd.Series) -> float:
    """Patients in the rarest level of a categorical covariate; NaN for a number, and for free text."""
    if pd.api.types.is_numeric_dtype(values):
        return np.nan
    counts = values.value_counts()
    return float(counts.min()) if 0 < len(counts) <= MAX_LEVELS else np.nan


def _unsafe_text(name: str, values: pd.Series) -> str | None:
    """The name of a column, or its first cell, that is unsafe in reports; ids have a separate rule."""
    if not re.match(SAFE_TEXT, name):
        return f"the name {name!r}"
    if name == "patient_id" or pd.api.types.is_numeric_dtype(values):
        return None
    words = [word for word in values.dropna().unique() if not re.match(SAFE_TEXT, str(word))]
    return f"{words[0]!r} in {int((values == words[0]).sum())} rows" if words else None


def _slides(slides: pd.DataFrame) -> pd.DataFrame:
    table = slides.copy()
    owners = table.groupby("slide_id")["patient_id"].nunique()
    table["owners"] = table["slide_id"].map(owners)
    same = table[table["md5"].notna()].groupby("md5")["slide_id"].nunique()
    table["names_of_contents"] = table["md5"].map(same)
    return table


def _entry(patients: pd.DataFrame) -> dict[str, float]:
    """Measurements of the entry under observation; none for a cohort without this column."""
    if not left_truncation.has_entries(patients):
        return {}
    late, median = left_truncation.late_entries(patients)
    smallest = left_truncation.smallest_early_risk_set(patients)
    return {"late_entries": late, "median_late_entry": median, "smallest_risk_set": smallest}


def _cohort(data: CohortData, genes: pd.DataFrame, predictability: float) -> pd.DataFrame:
    """One row of measurements of the whole cohort."""
    patients = data.patients
    time = patients["time_months"].to_numpy(dtype=np.float64)
    event = patients["event"].to_numpy() == 1
    late, p_value = followup.lateness(time, event)
    known = np.isfinite(time)
    observed = event | competing.flags(patients)
    entry = left_truncation.entries(patients)
    oriented = orientation(time[known], event[known], data.endpoint, patients["cohort"].tolist(), entry[known])
    row = {
        "cohort": "all patients",
        "patients": len(patients),
        "events": int(event.sum()),
        **competing.counts(patients),
        "event_rate": float(event.mean()) if len(event) else np.nan,
        "median_followup": (
            followup.median_followup(time[known], observed[known], entry[known]) if known.any() else np.nan
        ),
        "events_later": late if p_value < 0.01 else min(late, 0.5) if np.isfinite(late) else np.nan,
        "orientation": oriented.total,
        "orientation_question": None if data.event_confirmed else oriented.question(),
        "subtypes": int(patients["subtype"].nunique()),
        "tied_share": float(patients["time_months"].value_counts(normalize=True).max()) if known.any() else np.nan,
        "early_censored_share": float((~observed & (time < EARLY_MONTHS)).mean()) if len(event) else np.nan,
        "no_followup_share": data.no_followup / max(data.no_followup + len(patients), 1),
        "site_variance": float(genes["site_variance"].mean()),
        "site_predictability": predictability,
        "negative_values": int((genes["minimum"] < 0).sum()) if data.scale in {"counts", "tpm"} else 0,
        "foreign_profiles": int(genes["foreign_profiles"].max()) if len(genes) else 0,
        "genes": len(genes),
        **_entry(patients),
    }
    return pd.DataFrame([row])


def _feature_measurements(bags: pd.DataFrame, statuses: pd.DataFrame) -> dict[str, object]:
    failed = int((statuses["status"] != "OK").sum())
    return {
        "failed_slides_share": failed / max(len(statuses), 1),
        "encoders": int(bags["encoder"].nunique()),
        "resolutions": int(bags["resolution"].nunique()),
        "widths": int(bags["width"].nunique()),
    }
