"""What `mcti init` reads from a clinical table: columns, unit, coding, counts, and the table that `ingest` reads."""

from collections.abc import Mapping
from dataclasses import dataclass, field

import pandas as pd

from mcti.cohort.layouts import site_from_barcode
from mcti.cohort.raw_tables import is_missing
from mcti.errors import DataError, did_you_mean
from mcti.project import clinical_cells, coding, column_names
from mcti.project.coding import EventCoding, Guess
from mcti.project.foreign_tables import ForeignTable

_DAYS_PER_YEAR = 365.25
_MIN_FILLED = 0.8
FLAGS = {"patient_id": "--patient", "time_months": "--time", "event": "--event", "site": "--site", "age": "--age"} | {
    "is_female": "--sex",
    "subtype": "--subtype",
}
"""Canonical column -> flag of `mcti init` that names its source."""


@dataclass(frozen=True)
class Answers:
    """What the user stated by flags; None and empty: to be proposed."""

    columns: Mapping[str, str] = field(default_factory=dict)
    time_unit: str | None = None
    endpoint: str | None = None
    event_values: Mapping[str, int] = field(default_factory=dict)
    covariates: tuple[str, ...] | None = None
    event_confirmed: bool = False


@dataclass(frozen=True)
class ClinicalProposal:
    """The reading of a clinical table.

    columns     canonical column -> source column, where the names differ
    covariates  source columns that the cohort keeps;  read_by_network  those that the network reads
    table       the table to be written in place of the source; None: the source can be used as it is
    changes     what `table` changes, for the user
    questions   what is not certain, each with the flag that answers it
    masked_ages     {cell: years} of ages such as `>89`, for `ingest.age_values`
    """

    columns: dict[str, str]
    unit: Guess
    endpoint: str
    events: EventCoding
    covariates: tuple[str, ...]
    read_by_network: tuple[str, ...]
    ids: tuple[str, ...]
    table: pd.DataFrame | None
    changes: tuple[str, ...]
    questions: tuple[str, ...]
    masked_ages: Mapping[str, float]


def propose(source: ForeignTable, answers: Answers) -> ClinicalProposal:
    """The proposal for a clinical table.

    Raises DataError when the table has no column of ids, times or events, or its events are no known words.
    """
    frame, changes = _first_row_per_patient(source.frame, source.differences)
    columns = _columns(frame, source.where, answers)
    frame, sample_changes = clinical_cells.patients_of_samples(frame, columns["patient_id"])
    frame, time_changes = _with_gdc_times(frame, columns)
    frame, cell_changes = _with_clean_cells(frame, columns)
    clinical_cells.check_thousands(frame, columns["time_months"], columns["patient_id"], source.where)
    frame, sex_changes, questions = _with_flags(frame, columns, answers.columns)
    frame, added = _with_required(frame, columns)
    unit = _unit(frame, columns, answers)
    if not unit.is_sure:
        questions = [*questions, f"the unit of {columns['time_months']} is taken as {unit.value} ({unit.reason}): "
                     "--time-unit"]  # fmt: skip
    events = _events(frame, columns["event"], source.where, answers)
    covariates, read = _covariates(frame, columns, answers)
    changes = (*changes, *sample_changes, *time_changes, *cell_changes, *sex_changes, *added)
    ages = clinical_cells.masked_ages(frame[columns["age"]]) if "age" in columns else {}
    if ages:
        questions = [*questions, f"masked ages are taken as {', '.join(f'{k} = {v:g}' for k, v in ages.items())}: "
                     "ingest.age_values in params.yaml"]  # fmt: skip
    return ClinicalProposal(
        columns={name: column for name, column in columns.items() if name != column},
        unit=unit,
        endpoint=answers.endpoint or column_names.endpoint_of(columns["time_months"], columns["event"]),
        events=events,
        covariates=covariates,
        read_by_network=read,
        ids=tuple(frame[columns["patient_id"]]),
        table=frame if changes else None,
        changes=changes,
        questions=tuple(questions),
        masked_ages=ages,
    )


def _first_row_per_patient(frame: pd.DataFrame, differences: tuple[str, ...]) -> tuple[pd.DataFrame, tuple[str, ...]]:
    """The GDC's table of a cart has one row per diagnosis or treatment; other tables are returned as they are."""
    ids = next(
        (c for c in frame.columns if column_names.plain(c).endswith(("case_submitter_id", "cases_submitter_id"))), None
    )
    if ids is None or frame[ids].is_unique:
        return frame, differences
    first = frame.groupby(ids, sort=False).first().reset_index()
    return first.fillna("")[frame.columns], (
        *differences,
        f"{len(frame)} rows of {len(first)} patients: the first of each",
    )


def _columns(frame: pd.DataFrame, where: str, answers: Answers) -> dict[str, str]:
    for name, source in answers.columns.items():
        if source not in frame.columns:
            raise DataError(
                f"column {source!r} of {FLAGS[name]} is missing", where, did_you_mean(source, frame.columns)
            )
    rest = [column for column in frame.columns if column not in answers.columns.values()]
    columns = column_names.guess(rest, answers.endpoint) | dict(answers.columns)
    for name in ("patient_id", "time_months", "event"):
        if name not in columns:
            hint = f"name it: {FLAGS[name]} COLUMN; the columns are {', '.join(map(str, frame.columns[:12]))}"
            if name == "time_months" and (dates := clinical_cells.date_columns(frame)):
                hint = clinical_cells.dates_hint(dates)
            raise DataError(f"no column has a known name of {name}", where, hint)
    return columns


def _with_gdc_times(frame: pd.DataFrame, columns: dict[str, str]) -> tuple[pd.DataFrame, tuple[str, ...]]:
    """The GDC has the times of deaths and of the last visit in two columns: one column `follow_up_days` of both."""
    by_name = {column_names.plain(str(c).rpartition(".")[2]): c for c in frame.columns}
    death = by_name.get("days_to_death")
    last = by_name.get("days_to_last_follow_up", by_name.get("days_to_last_followup"))
    if death is None or last is None or columns["time_months"] not in (death, last):
        return frame, ()
    columns["time_months"] = "follow_up_days"
    days = frame[death].where(~frame[death].map(is_missing), frame[last])
    return frame.assign(follow_up_days=days), (f"follow_up_days: {death} where known, else {last}",)


def _with_clean_cells(frame: pd.DataFrame, columns: dict[str, str]) -> tuple[pd.DataFrame, tuple[str, ...]]:
    names = [columns[name] for name in ("time_months", "event", "age", "is_female") if name in columns]
    return clinical_cells.without_unknown(frame, names)


def _with_flags(
    frame: pd.DataFrame, columns: dict[str, str], stated: Mapping[str, str]
) -> tuple[pd.DataFrame, tuple[str, ...], list[str]]:
    """Sex as 1 and 0, and ages in years."""
    changes: list[str] = []
    questions: list[str] = []
    if (sex := columns.get("is_female")) is not None:
        read = coding.female_flags(sex, frame[sex])
        if read is None and sex in stated.values():
            read = (frame[sex], "as written")
        if read is None:
            values = ", ".join(sorted(set(frame[sex]))[:4])
            questions.append(f"{sex} ({values}) is not used: which value is female is not known; write female and male")
            del columns["is_female"]
        elif not read[0].equals(frame[sex]):
            frame = frame.assign(is_female=read[0])
            columns["is_female"] = "is_female"
            changes.append(f"is_female: {sex} as 1 and 0 ({read[1]})")
    age = columns.get("age")
    if age is not None and len(years := coding.numbers(frame[age])) and float(pd.Series(years).median()) > 150:
        in_years = pd.to_numeric(frame[age], errors="coerce") / _DAYS_PER_YEAR
        frame = frame.assign(age=in_years.map("{:.2f}".format).where(in_years.notna(), frame[age]))
        columns["age"] = "age"
        changes.append(f"age: {age} in years (it is in days)")
    return frame, tuple(changes), questions


def _with_required(frame: pd.DataFrame, columns: dict[str, str]) -> tuple[pd.DataFrame, tuple[str, ...]]:
    """The table with the columns that `ingest` needs: site, subtype and is_female, each with a stated substitute."""
    changes = []
    if "site" not in columns:
        sites = frame[columns["patient_id"]].map(site_from_barcode)
        known = bool(sites.astype(bool).all())
        frame = frame.assign(site=sites if known else "unknown")
        changes.append(f"site: {'from the TCGA barcodes' if known else 'unknown for all patients'} (name it: --site)")
    if "subtype" not in columns:
        frame = frame.assign(subtype="all")
        changes.append("subtype: one class for all patients, so that its task is off (name it: --subtype)")
    if "is_female" not in columns:
        frame = frame.assign(is_female="")
        changes.append("is_female: missing for all patients (name it: --sex)")
    columns |= {name: name for name in ("site", "subtype", "is_female") if name not in columns}
    return frame, tuple(changes)


def _unit(frame: pd.DataFrame, columns: dict[str, str], answers: Answers) -> Guess:
    if answers.time_unit:
        return Guess(answers.time_unit, "as stated")
    return coding.time_unit(columns["time_months"], frame[columns["time_months"]])


def _events(frame: pd.DataFrame, column: str, where: str, answers: Answers) -> EventCoding:
    events = coding.event_coding(column, frame[column])
    if answers.event_values:
        stated = {value.casefold(): meaning for value, meaning in answers.event_values.items()}
        events = EventCoding({v: stated[v] for v in events.counts if v in stated}, events.counts,
                            tuple(v for v in events.counts if v not in stated))  # fmt: skip
    if events.unknown or not events.values:
        values = ", ".join(repr(value) for value in events.unknown[:4]) or "none"
        hint = (
            "state the meaning of each value: --event-value dead=1 --event-value alive=0, or another column: --event; "
        )
        hint += "an empty cell excludes the patient"
        raise DataError(f"values of unknown meaning: {values}", f"{where}, column {column}", hint)
    if not any(events.values.values()):
        hint = "name another column of events: --event, or the meaning of its values: --event-value"
        raise DataError(f"no patient has an event: {events.text()}", f"{where}, column {column}", hint)
    return events


def _covariates(
    frame: pd.DataFrame, columns: dict[str, str], answers: Answers
) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Numeric columns that are no outcome; the network reads age and sex, or what the user stated."""
    used = {*columns, *columns.values()}
    others = [str(name) for name in frame.columns if name not in used and not column_names.is_outcome(str(name))]
    numeric = tuple(name for name in others if not column_names.is_known(name) and _is_numeric(frame[name]))
    built_in = tuple(name for name in ("age", "is_female") if name in columns and _varies(frame[columns[name]]))
    if answers.covariates is None:
        return numeric, built_in
    for name in answers.covariates:
        if name not in frame.columns and name not in built_in:
            raise DataError(f"column {name!r} of --covariate is missing", "the clinical table",
                            did_you_mean(name, frame.columns))  # fmt: skip
    stated = tuple(name for name in answers.covariates if name not in used)
    return tuple(dict.fromkeys((*numeric, *stated))), answers.covariates


def _is_numeric(cells: "pd.Series[str]") -> bool:
    """Whether a column is a measurement: numbers in most rows, neither constant nor a running number."""
    filled = cells[~cells.map(is_missing)]
    values = coding.numbers(cells)
    is_running = len(values) > 2 and len(set(values)) == len(values) and all(v == int(v) for v in values)
    return len(values) == len(filled) >= _MIN_FILLED * len(cells) and len(set(values)) > 1 and not is_running


def _varies(cells: "pd.Series[str]") -> bool:
    return len(set(cells[~cells.map(is_missing)])) > 1
