"""What `mcti init` reads from a clinical table: columns, unit, coding, counts, and the table that `ingest` reads."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

import pandas as pd

from mcti.cohort import delayed_entry
from mcti.cohort.labels import COMPETING, competing_hint
from mcti.cohort.layouts import site_from_barcode
from mcti.cohort.raw_tables import is_missing
from mcti.errors import DataError, did_you_mean
from mcti.project import clinical_cells, coding, column_names, dates, endpoints, entries
from mcti.project.clinical_cells import age_questions
from mcti.project.coding import EventCoding, Guess
from mcti.project.endpoints import Outcome, Stated
from mcti.project.foreign_tables import ForeignTable

_DAYS_PER_YEAR = 365.25
_MIN_FILLED = 0.8
FLAGS = {"patient_id": "--patient", "time_months": "--time", "event": "--event", "site": "--site", "age": "--age"} | {
    "is_female": "--sex",
    "subtype": "--subtype",
    "entry_months": "--entry",
}
"""Canonical column -> flag of `mcti init` that names its source."""


@dataclass(frozen=True)
class Answers:
    """What the user stated by flags; None and empty: to be proposed.

    endpoints   the first is that of the project, the others can be selected later
    sex_values  {value in lower case: "1" (female), "0" or "" (missing)}
    """

    columns: Mapping[str, str] = field(default_factory=dict)
    time_unit: str | None = None
    endpoints: Stated = field(default_factory=dict)
    event_values: Mapping[str, int] = field(default_factory=dict)
    sex_values: Mapping[str, str] = field(default_factory=dict)
    covariates: tuple[str, ...] | None = None
    event_confirmed: bool = False

    @property
    def endpoint(self) -> str | None:
        """The end point of the project."""
        return next(iter(self.endpoints), None)

    def has_outcomes(self) -> bool:
        """Whether each end point has its own columns: there are several, or the user named the columns."""
        return len(self.endpoints) > 1 or any(self.endpoints.values())


@dataclass(frozen=True)
class ClinicalProposal:
    """The reading of a clinical table.

    columns     canonical column -> source column, where the names differ
    outcomes    end point -> its columns, where there are several;  endpoint: the selected one
    event_values, event_text    the meaning of the events, for the settings and for the user
    unread_sex  {column: values} of sex where the values do not state which is female
    covariates  source columns that the cohort keeps;  read_by_network  those that the network reads
    table       the table to be written in place of the source; None: the source can be used as it is
    changes     what `table` changes, for the user
    questions   what is not certain, each with the flag that answers it
    masked_ages     {cell: years} of ages such as `>89`, for `ingest.age_values`
    """

    columns: dict[str, str]
    unit: Guess
    endpoint: str
    outcomes: dict[str, Outcome]
    event_values: dict[str, int]
    event_text: str
    unread_sex: dict[str, tuple[str, ...]]
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
    outcomes = endpoints.find(frame.columns, answers.endpoints, source.where) if answers.has_outcomes() else {}
    columns = _columns(frame, source, answers, outcomes)
    endpoint = answers.endpoint or column_names.endpoint_of(columns["time_months"], columns["event"])
    outcomes = outcomes or {endpoint: Outcome(columns["time_months"], columns["event"])}
    frame, outcomes, cell_changes = _with_readable_cells(frame, columns, outcomes, source)
    frame, outcomes, unit, unit_changes = endpoints.one_unit(frame, outcomes, answers.time_unit)
    frame, entry_changes, entry_questions = entries.in_unit_of_times(
        frame, columns, outcomes[endpoint].time, unit.value, stated="entry_months" in answers.columns
    )
    codings = {name: _events(frame, one.event, source.where, answers) for name, one in outcomes.items()}
    frame, outcomes, event_values, event_changes = endpoints.one_coding(frame, outcomes, codings)
    columns |= {"time_months": outcomes[endpoint].time, "event": outcomes[endpoint].event}
    frame, sex_changes, unread_sex = _with_sex(frame, columns, source.where, answers)
    frame, age_changes = _with_age_in_years(frame, columns)
    frame, added = _with_required(frame, columns)
    covariates, read = _covariates(frame, columns, outcomes, answers)
    ages = clinical_cells.masked_ages(frame[columns["age"]]) if "age" in columns else {}
    changes = (
        *changes,
        *cell_changes,
        *unit_changes,
        *entry_changes,
        *event_changes,
        *sex_changes,
        *age_changes,
        *added,
    )
    by_endpoint = {"time_months", "event"} if answers.has_outcomes() else set()
    return ClinicalProposal(
        columns={name: column for name, column in columns.items() if name not in {column, *by_endpoint}},
        unit=unit,
        endpoint=endpoint,
        outcomes=outcomes if answers.has_outcomes() else {},
        event_values=event_values,
        event_text=_event_text(codings),
        unread_sex=unread_sex,
        covariates=covariates,
        read_by_network=read,
        ids=tuple(frame[columns["patient_id"]]),
        table=frame if changes else None,
        changes=changes,
        questions=(
            *_sex_questions(unread_sex),
            *_unit_questions(unit, outcomes[endpoint].time),
            *age_questions(ages),
            *entry_questions,
            *delayed_entry.warnings(frame, source.where, columns.get("entry_months")),
        ),
        masked_ages=ages,
    )


def _event_text(codings: Mapping[str, EventCoding]) -> str:
    return "; ".join(f"{name}: {one.text()}" if len(codings) > 1 else one.text() for name, one in codings.items())


def _unit_questions(unit: Guess, column: str) -> tuple[str, ...]:
    text = f"the unit of {column} is taken as {unit.value} ({unit.reason}): --time-unit"
    return () if unit.is_sure else (text,)


def _sex_questions(unread_sex: Mapping[str, tuple[str, ...]]) -> tuple[str, ...]:
    return tuple(
        f"{column} ({', '.join(values)}) is not used: which value is female is not known: {sex_hint(values)}"
        for column, values in unread_sex.items()
    )


def sex_hint(values: Sequence[str]) -> str:
    """The flags that state the meaning of the values of a column of sex; the user corrects the words."""
    return " ".join(f"--sex-value {value}=female|male|missing" for value in values)


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


def _columns(
    frame: pd.DataFrame, source: ForeignTable, answers: Answers, outcomes: Mapping[str, Outcome]
) -> dict[str, str]:
    for name, column in answers.columns.items():
        if column not in frame.columns:
            raise DataError(
                f"column {column!r} of {FLAGS[name]} is missing", source.where, did_you_mean(column, frame.columns)
            )
    first = next(iter(outcomes.values()), None)
    stated = dict(answers.columns) | ({"time_months": first.time, "event": first.event} if first else {})
    used = {*stated.values(), *(column for one in outcomes.values() for column in (one.time, one.event))}
    rest = [column for column in frame.columns if column not in used]
    if answers.endpoint:
        rest = [column for column in rest if not column_names.is_of_another(str(column), answers.endpoint)]
    columns = entries.guess(frame[rest]) | column_names.guess(rest, answers.endpoint) | stated
    for name in ("patient_id", "time_months", "event"):
        if name not in columns:
            hint = f"name it: {FLAGS[name]} COLUMN; the columns are {', '.join(map(str, frame.columns[:12]))}"
            if name == "time_months" and dates.date_columns(frame):
                hint = dates.hint(frame, source)
            of = f" of {answers.endpoint}" if answers.endpoint and name != "patient_id" else ""
            raise DataError(f"no column has a known name of {name}{of}", source.where, hint)
    return columns


def _with_gdc_times(
    frame: pd.DataFrame, outcomes: Mapping[str, Outcome]
) -> tuple[pd.DataFrame, dict[str, Outcome], tuple[str, ...]]:
    """The GDC has the times of deaths and of the last visit in two columns: one column `follow_up_days` of both."""
    by_name = {column_names.plain(str(c).rpartition(".")[2]): c for c in frame.columns}
    death = by_name.get("days_to_death")
    last = by_name.get("days_to_last_follow_up", by_name.get("days_to_last_followup"))
    in_two = {name for name, one in outcomes.items() if one.time in (death, last)}
    if death is None or last is None or not in_two:
        return frame, dict(outcomes), ()
    days = frame[death].where(~frame[death].map(is_missing), frame[last])
    joined = {name: replace(one, time="follow_up_days") if name in in_two else one for name, one in outcomes.items()}
    return frame.assign(follow_up_days=days), joined, (f"follow_up_days: {death} where known, else {last}",)


def _with_readable_cells(
    frame: pd.DataFrame, columns: Mapping[str, str], outcomes: Mapping[str, Outcome], source: ForeignTable
) -> tuple[pd.DataFrame, dict[str, Outcome], tuple[str, ...]]:
    """One row per patient, one column of times per end point, and unknown values as empty cells.

    Raises DataError when the times are dates, or times in days have separators of thousands.
    """
    dates.check_no_dates(frame, [one.time for one in outcomes.values()], source)
    patient = columns["patient_id"]
    frame, sample_changes = clinical_cells.patients_of_samples(frame, patient)
    frame, joined, time_changes = _with_gdc_times(frame, outcomes)
    names = [column for one in joined.values() for column in (one.time, one.event)]
    names += [columns[name] for name in ("age", "is_female", "entry_months") if name in columns]
    frame, unknown_changes = clinical_cells.without_unknown(frame, list(dict.fromkeys(names)))
    for one in joined.values():
        clinical_cells.check_thousands(frame, one.time, patient, source.where)
    return frame, joined, (*sample_changes, *time_changes, *unknown_changes)


def _with_sex(
    frame: pd.DataFrame, columns: dict[str, str], where: str, answers: Answers
) -> tuple[pd.DataFrame, tuple[str, ...], dict[str, tuple[str, ...]]]:
    """Sex as 1 and 0; a column whose values do not state which is female is left out and returned.

    Raises DataError when the user named such a column, or stated the meaning of some values only.
    """
    sex = columns.get("is_female")
    if sex is None:
        if answers.sex_values:
            raise DataError("no column has a known name of sex", where, "name it: --sex COLUMN")
        return frame, (), {}
    read = coding.female_flags(sex, frame[sex], answers.sex_values)
    if read is None:
        values = tuple(sorted({cell for cell in frame[sex] if not is_missing(cell)})[:4])
        if answers.sex_values or "is_female" in answers.columns:
            what = f"which value of {', '.join(values)} is female is not known"
            raise DataError(what, f"{where}, column {sex}", f"state the meaning of each value: {sex_hint(values)}")
        del columns["is_female"]
        return frame, (), {sex: values}
    if read[0].equals(frame[sex]):
        return frame, (), {}
    columns["is_female"] = "is_female"
    return frame.assign(is_female=read[0]), (f"is_female: {sex} as 1 and 0 ({read[1]})",), {}


def _with_age_in_years(frame: pd.DataFrame, columns: dict[str, str]) -> tuple[pd.DataFrame, tuple[str, ...]]:
    age = columns.get("age")
    if age is None or not len(years := coding.numbers(frame[age])) or float(pd.Series(years).median()) <= 150:
        return frame, ()
    columns["age"] = "age"
    in_years = pd.to_numeric(frame[age], errors="coerce") / _DAYS_PER_YEAR
    cells = in_years.map("{:.2f}".format).where(in_years.notna(), frame[age])
    return frame.assign(age=cells), (f"age: {age} in years (it is in days)",)


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


def _events(frame: pd.DataFrame, column: str, where: str, answers: Answers) -> EventCoding:
    events = coding.event_coding(column, frame[column])
    if answers.event_values:
        stated = {value.casefold(): meaning for value, meaning in answers.event_values.items()}
        if set(stated.values()) == {COMPETING}:  # only the competing events are stated, the others have known words
            stated = {**events.values, **stated}
        events = EventCoding({v: stated[v] for v in events.counts if v in stated}, events.counts,
                            tuple(v for v in events.counts if v not in stated))  # fmt: skip
    if events.unknown or not events.values:
        values = ", ".join(repr(value) for value in events.unknown[:4]) or "none"
        hint = (
            "state the meaning of each value (1 event, 0 censored, 2 competing event): --event-value dead=1 "
            "--event-value alive=0, or another column: --event; "
        )
        hint += "an empty cell excludes the patient" + competing_hint(frame[column])
        raise DataError(f"values of unknown meaning: {values}", f"{where}, column {column}", hint)
    if 1 not in events.values.values():
        hint = "name another column of events: --event, or the meaning of its values: --event-value"
        raise DataError(f"no patient has an event: {events.text()}", f"{where}, column {column}", hint)
    return events


def _covariates(
    frame: pd.DataFrame, columns: dict[str, str], outcomes: Mapping[str, Outcome], answers: Answers
) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Numeric columns that are neither outcome nor entry; the network reads age and sex, or what the user stated."""
    used = {*columns, *columns.values(), *(column for one in outcomes.values() for column in (one.time, one.event))}
    others = [str(name) for name in frame.columns if name not in used and not column_names.is_outcome(str(name))]
    others = [name for name in others if not delayed_entry.is_entry_name(name)]
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
