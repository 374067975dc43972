"""What the contract looks at: small tables measured from a cohort, on which the expectations stand.

The rows of a table are what an expectation lists when it fails: patients, genes, sites, slides.
"""

import re
from dataclasses import dataclass, field

import numpy as np
import pandas as pd

from mcti.contracts import followup
from mcti.contracts.expectations import PLAIN
from mcti.contracts.expression import Expression, gene_table, site_predictability, two_groups
from mcti.contracts.orientation import orientation

FEMALE_GENE, MALE_GENE, RECEPTOR_GENE = "XIST", "RPS4Y1", "ESR1"
MARKERS = (FEMALE_GENE, MALE_GENE, RECEPTOR_GENE)
TWO_GROUPS = 0.75  # share of variance between the groups from which on a marker tells two groups (two_groups)
EARLY_MONTHS = 3.0
_RECEPTOR_COLUMNS = ("er", "er_status", "er_ihc", "er_status_by_ihc", "subtype")
_RECEPTOR_WORDS = {"er+": 1, "er-": 0, "positive": 1, "negative": 0, "pos": 1, "neg": 0, "1": 1, "0": 0}


@dataclass(frozen=True)
class CohortData:
    """All that the contract sees.

    patients, slides  the canonical tables;  markers  expression (patients, genes) of those of MARKERS the cohort has
    twins  pairs of patients that share a slide or a profile, with what they share
    event_confirmed  the user answered that event 1 means observed
    no_followup  how many patients left for want of follow-up;  bags  one row a slide with features (None: not asked)
    """

    patients: pd.DataFrame
    slides: pd.DataFrame
    expression: Expression
    markers: pd.DataFrame
    scale: str
    endpoint: str = "OS"
    event_confirmed: bool = False
    no_followup: int = 0
    twins: list[tuple[str, str, str]] = field(default_factory=list)
    bags: pd.DataFrame | None = None
    slide_statuses: pd.DataFrame | None = None


def measure(evidence: CohortData) -> dict[str, pd.DataFrame]:
    """The tables of the contract by name; `bags` and `slide_statuses` only where features were given."""
    patients = evidence.patients
    site = dict(zip(patients["patient_id"], patients["site"].fillna(""), strict=True))
    genes = gene_table(evidence.expression, site)
    largest = np.maximum(genes["minimum"].abs(), genes["maximum"].abs())
    genes["largest_z"] = largest if evidence.scale == "z-score" else np.nan
    slides = _slides(evidence.slides)
    found = {
        "patients": _patients(evidence, slides),
        "subtypes": _groups(patients, "subtype"),
        "sites": _groups(patients, "site"),
        "columns": _columns(patients),
        "genes": genes,
        "slides": slides,
        "cohort": _cohort(evidence, genes, site_predictability(evidence.expression, genes, site)),
    }
    if evidence.bags is not None:
        bags = evidence.bags
        filled = bags["contents"].where(bags["tiles"] > 0)  # slides without a patch are alike without being one
        found["bags"] = bags.assign(names_of_contents=filled.map(bags.groupby(filled)["slide_id"].nunique()))
    return found


def _patients(evidence: CohortData, slides: pd.DataFrame) -> pd.DataFrame:
    table = evidence.patients.copy()
    ids = table["patient_id"]
    folded = ids.str.strip().str.casefold()
    table["spelled_like"] = folded.where(folded.duplicated(keep=False) & ~ids.duplicated(keep=False))
    shared: dict[str, str] = {}
    for first, second, what in evidence.twins:
        shared.setdefault(first, f"{what}, with {second}")
        shared.setdefault(second, f"{what}, with {first}")
    table["shares"] = ids.map(shared)
    table["sex_agrees"] = _agrees(_sex_score(evidence), _flag(table["is_female"]), ids)
    table["receptor_agrees"] = _agrees(_marker(evidence, RECEPTOR_GENE), _receptor(table), ids)
    table["slides"] = ids.map(slides["patient_id"].value_counts()).fillna(0).astype(np.int64)
    if evidence.bags is not None:
        tiles = evidence.bags.groupby("patient_id")["tiles"].sum()
        table["tiles"] = ids.map(tiles).fillna(0).astype(np.int64)
    return table


def _flag(values: pd.Series) -> pd.Series:
    return pd.Series(values.to_numpy(dtype=np.float64, na_value=np.nan))


def _receptor(table: pd.DataFrame) -> pd.Series:
    """Receptor status 1, 0 or NaN (n,) from the first column that tells it; all NaN where none does."""
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


def _marker(evidence: CohortData, gene: str) -> pd.Series:
    """Expression (n,) of a marker in the patients' order; empty where the cohort does not have it."""
    if gene not in evidence.markers.columns:
        return pd.Series(dtype=np.float64)
    return evidence.markers[gene].reindex(evidence.patients["patient_id"]).astype(np.float64)


def _sex_score(evidence: CohortData) -> pd.Series:
    """High in women: standardised XIST less standardised RPS4Y1, or the one of them that is there."""
    female, male = _marker(evidence, FEMALE_GENE), _marker(evidence, MALE_GENE)
    scores = [sign * _standard(marker) for sign, marker in ((1, female), (-1, male)) if len(marker)]
    return sum(scores[1:], start=scores[0]) if scores else pd.Series(dtype=np.float64)


def _standard(values: pd.Series) -> pd.Series:
    # Ranks would lose the gap between the groups, raw values let one outlier set the scale.
    spread = float(values.quantile(0.95) - values.quantile(0.05))
    return ((values - values.median()) / (spread or 1.0)).clip(-2, 2)


def _agrees(score: pd.Series, label: pd.Series, ids: pd.Series) -> pd.Series:
    """1 where marker and label (1, 0) agree, 0 where not; missing where one is silent or there are no two groups."""
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


def _columns(patients: pd.DataFrame) -> pd.DataFrame:
    # A cohort without age was said to be one when it was read; the column stands in the table all the same.
    known = patients if patients["age"].notna().any() else patients.drop(columns="age")
    names = [str(name) for name in known.columns]
    missing = [float(known[name].isna().mean()) for name in known.columns]
    odd = [_odd(str(name), known[name]) for name in known.columns]
    return pd.DataFrame({"column": names, "missing_share": missing, "odd": odd})


def _odd(name: str, values: pd.Series) -> str | None:
    """The name of a column, or its first cell, that is not plain; ids have a rule of their own."""
    if not re.match(PLAIN, name):
        return f"the name {name!r}"
    if name == "patient_id" or pd.api.types.is_numeric_dtype(values):
        return None
    words = [word for word in values.dropna().unique() if not re.match(PLAIN, str(word))]
    return f"{words[0]!r} in {int((values == words[0]).sum())} rows" if words else None


def _slides(slides: pd.DataFrame) -> pd.DataFrame:
    table = slides.copy()
    owners = table.groupby("slide_id")["patient_id"].nunique()
    table["owners"] = table["slide_id"].map(owners)
    same = table[table["md5"].notna()].groupby("md5")["slide_id"].nunique()
    table["names_of_contents"] = table["md5"].map(same)
    return table


def _cohort(evidence: CohortData, genes: pd.DataFrame, predictability: float) -> pd.DataFrame:
    """One row of measurements of the whole cohort."""
    patients = evidence.patients
    time = patients["time_months"].to_numpy(dtype=np.float64)
    event = patients["event"].to_numpy() == 1
    late, chance = followup.lateness(time, event)
    known = np.isfinite(time)
    oriented = orientation(time[known], event[known], evidence.endpoint, patients["cohort"].tolist())
    values = {
        "cohort": "all patients",
        "patients": len(patients),
        "events": int(event.sum()),
        "event_rate": float(event.mean()) if len(event) else np.nan,
        "median_followup": followup.median_followup(time[known], event[known]) if known.any() else np.nan,
        "events_later": late if chance < 0.01 else min(late, 0.5) if np.isfinite(late) else np.nan,
        "orientation": oriented.total,
        "orientation_question": None if evidence.event_confirmed else oriented.question(),
        "subtypes": int(patients["subtype"].nunique()),
        "tied_share": float(patients["time_months"].value_counts(normalize=True).max()) if known.any() else np.nan,
        "early_censored_share": float((~event & (time < EARLY_MONTHS)).mean()) if len(event) else np.nan,
        "no_followup_share": evidence.no_followup / max(evidence.no_followup + len(patients), 1),
        "site_variance": float(genes["site_variance"].mean()),
        "site_predictability": predictability,
        "negative_values": _negative(evidence.scale, genes),
        "foreign_profiles": int(genes["foreign_profiles"].max()) if len(genes) else 0,
        "genes": len(genes),
    }
    return pd.DataFrame([{**values, **_of_features(evidence)}])


def _negative(scale: str, genes: pd.DataFrame) -> int:
    """Genes with negative values where the stated scale has none."""
    return int((genes["minimum"] < 0).sum()) if scale in {"counts", "tpm"} else 0


def _of_features(evidence: CohortData) -> dict[str, object]:
    bags, statuses = evidence.bags, evidence.slide_statuses
    if bags is None or statuses is None:
        return {}
    failed = int((statuses["status"] != "OK").sum())
    return {
        "failed_slides_share": failed / max(len(statuses), 1),
        "encoders": int(bags["encoder"].nunique()),
        "resolutions": int(bags["resolution"].nunique()),
        "widths": int(bags["width"].nunique()),
    }
