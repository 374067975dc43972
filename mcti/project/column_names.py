"""Which column of a foreign clinical table is which canonical one, by the names that registries use."""

import re
from collections.abc import Iterable

NAMES: dict[str, tuple[str, ...]] = {
    "patient_id": (
        # The case_id of the GDC is a UUID, which no other table has.
        *("patient_id", "patient", "bcr_patient_barcode", "case_submitter_id", "cases_submitter_id", "submitter_id"),
        *("case_id", "subject_id", "subject", "pid", "pseudonym", "patient_number", "patientennummer", "patienten_id"),
        *("sample", "sample_id", "id", "row_names"),
    ),
    "cohort": ("cohort", "study", "project", "project_id", "study_id"),
    "site": (
        *("site", "center", "centre", "hospital", "institution", "tissue_source_site", "tissue_source_site_code"),
        *("tss", "clinic", "klinik", "zentrum"),
    ),
    "age": (
        *("age", "age_at_diagnosis", "age_at_initial_pathologic_diagnosis", "age_years", "age_at_index"),
        *("demographic_age_at_index", "diagnosis_age", "alter", "age_at_surgery"),
    ),
    "is_female": ("is_female", "female", "sex", "gender", "geschlecht", "is_male", "male"),
    "subtype": (
        *("subtype", "histology", "histological_type", "oncotree_code", "tumor_type", "tumour_type"),
        *("cancer_type_detailed", "cancer_type"),
        *("primary_diagnosis", "histological_subtype", "molecular_subtype", "histologie"),
    ),
    "time_months": (
        *("time_months", "survival_months", "os_months", "time", "survival_time", "os_time", "os_days", "time_days"),
        *("survival_days", "survival", "follow_up", "followup", "follow_up_months", "followup_months", "followup_days"),
        *("follow_up_days", "follow_up_time", "months", "days", "days_to_last_follow_up", "days_to_last_followup"),
        *("time_years", "survival_years", "os_years", "os", "duration", "zeit", "ueberleben", "überleben"),
        *("zeit_tage", "zeit_monate", "zeit_jahre", "follow_up_years", "followup_years", "followup_time"),
    ),
    "event": (
        *("event", "status", "os_event", "os_status", "vital_status", "death", "dead", "deceased", "died", "censored"),
        *("censorship", "censoring", "survival_status", "event_observed", "os", "verstorben", "tod"),
        *("is_censored", "right_censored", "is_dead", "alive", "is_alive", "living", "survived", "statut", "estado"),
    ),
}
"""Canonical column -> names of sources, as `plain` writes them, the more specific first."""
ENDPOINTS = {"os": "OS", "dss": "DSS", "dfs": "DFI", "dfi": "DFI", "pfs": "PFI", "pfi": "PFI", "dmfs": "DMFS"} | {
    # The web site of cBioPortal writes the names in full.
    "overall_survival": "OS",
    "disease_specific_survival": "DSS",
    "disease_free": "DFI",
    "disease_free_survival": "DFI",
    "progress_free_survival": "PFI",
    "progression_free_survival": "PFI",
    "progression_free": "PFI",
}
"""Prefix of a column of times or events -> end point."""
UNITS = {"days": ("day", "days", "tage", "tagen"), "months": ("month", "months", "mo", "monate", "monaten")} | {
    "years": ("year", "years", "yr", "yrs", "jahre", "jahren")
}
_OUTCOME = re.compile(r"time|surviv|days_to|death|dead|event|status|recur|relapse|follow|progress|censor|vital|compet")


def plain(name: str) -> str:
    """A column name in lower case, words joined by `_`: `OS.time (days)` -> `os_time_days`."""
    return "_".join(re.findall(r"[a-z0-9äöüß]+", re.sub(r"([a-z])([A-Z])", r"\1_\2", name).lower()))


def guess(columns: Iterable[str], endpoint: str | None = None) -> dict[str, str]:
    """Canonical column -> the column of the table with one of its names; columns without a known name are left out.

    endpoint    prefers the times and events of this end point, such as `PFI.time` and `PFI`
    """
    by_plain: dict[str, str] = {}
    for column in columns:
        by_plain.setdefault(plain(column), column)
        by_plain.setdefault(plain(column.rpartition(".")[2]), column)  # demographic.vital_status
    sources: dict[str, str] = {}
    for canonical, names in NAMES.items():
        known = (*_of_endpoint(canonical, endpoint), *names)
        source = next(
            (by_plain[name] for name in known if name in by_plain and by_plain[name] not in sources.values()), None
        )
        if source is not None:
            sources[canonical] = source
    return sources


def _of_endpoint(canonical: str, endpoint: str | None) -> tuple[str, ...]:
    words = [word for word, name in ENDPOINTS.items() if name == endpoint] if endpoint else list(ENDPOINTS)
    units = [f"_{word}" for names in UNITS.values() for word in names]
    ends = {
        "time_months": ["_time", *units, *(f"_time{unit}" for unit in units)],
        "event": ["_event", "_status", "_cens", "_censor", "_censored", "_censorship", ""],
    }
    return tuple(word + end for word in words for end in ends.get(canonical, ()))


def of_endpoint(columns: Iterable[str], endpoint: str) -> dict[str, str]:
    """The columns of times and events whose names state this end point: {canonical column: column}."""
    by_plain = {plain(column): column for column in reversed(list(columns))}
    sources: dict[str, str] = {}
    for canonical in ("time_months", "event"):
        names = (name for name in _of_endpoint(canonical, endpoint) if name in by_plain)
        if (name := next(names, None)) is not None:
            sources[canonical] = by_plain[name]
    return sources


def is_of_another(column: str, endpoint: str) -> bool:
    """Whether the name states an end point that is not this one."""
    return _stated_endpoint(column) not in (None, endpoint)


def endpoint_of(*columns: str) -> str:
    """The end point that the first of these names states; OS where none does."""
    stated = [name for column in columns if (name := _stated_endpoint(column)) is not None]
    return stated[0] if stated else "OS"


def _stated_endpoint(column: str) -> str | None:
    name = f"_{plain(column)}_"
    places = {name.find(f"_{words}_"): endpoint for words, endpoint in ENDPOINTS.items() if f"_{words}_" in name}
    return places[min(places)] if places else None


def unit_of(column: str) -> str | None:
    """The unit of time that a column name states."""
    words = plain(column).split("_")
    return next((unit for unit, names in UNITS.items() if any(word in names for word in words)), None)


def is_known(column: str) -> bool:
    """Whether the name is one of a canonical column: its column may have been replaced by a converted one."""
    names = {name for known in NAMES.values() for name in known}
    return bool({plain(column), plain(column.rpartition(".")[2])} & names)


def is_outcome(column: str) -> bool:
    """Whether the name is that of a time or event: such a column is no covariate."""
    return bool(_OUTCOME.search(plain(column))) or _stated_endpoint(column) is not None
