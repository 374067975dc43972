"""Tables with dates in place of times. The printed command is run in a shell; the days are those of the simulation."""

import re
import shlex
import subprocess
import sys

import numpy as np
import pandas as pd
import pytest

from mcti.errors import DataError
from mcti.project import clinical, dates, foreign_tables
from mcti.project.clinical import Answers
from tests.project.cohorts import cohort

FORMS = {
    "iso": ("%Y-%m-%d", {}),
    "german": ("%d.%m.%Y", {"sep": ";", "encoding": "cp1252"}),
    "english": ("%m/%d/%Y", {"sep": "\t"}),
}
NAMES = ("Tag der Diagnose", "Datum: letzter Kontakt", "Bernd's Todesdatum")


def written(path, form, names=NAMES, *, event=True, joined=False):
    """A table of dates: (days, events) as simulated; joined: one column of the last contact or death."""
    truth = cohort()[0]
    text, options = FORMS[form]
    days = (truth["time_months"] * 30.4375).round().astype(int)
    start = pd.Series(pd.Timestamp("2009-12-20") + pd.to_timedelta(np.arange(len(truth)) * 11, unit="D"))
    last, is_dead = (start + pd.to_timedelta(days, unit="D")).dt.strftime(text), truth["event"] == 1
    table = truth.drop(columns=["time_months"] if event else ["time_months", "event"])
    table["Geburtsdatum"] = (start - pd.Timedelta(days=20000)).dt.strftime(text)
    table["Größe"] = "klein"
    table[names[0]] = start.dt.strftime(text)
    table[names[1]] = last if joined else last.where(~is_dead, "")
    if not joined:
        table[names[2]] = last.where(is_dead, "NA")
    table.to_csv(path, index=False, **options)
    return days.tolist(), truth["event"].tolist()


def refused(path, **answers):
    with pytest.raises(DataError) as caught:
        clinical.propose(foreign_tables.read(path), Answers(**answers))
    return str(caught.value)


def run(message, folder):
    """Run the command of the message; the path of the table that it writes."""
    command = re.search(r"(python -c '.*'); then use --clinical (\S+)", message)
    line = command[1].replace("python", shlex.quote(sys.executable), 1)
    subprocess.run(["bash", "-c", line], cwd=folder, check=True)
    return folder / command[2]


@pytest.mark.parametrize("event", [True, False])
@pytest.mark.parametrize("form", FORMS)
def test_the_command_of_the_message_writes_the_days_between_the_dates(form, event, tmp_path):
    folder = tmp_path / "a b"
    folder.mkdir()
    days, events = written(folder / "clinical.csv", form, event=event)
    message = refused(folder / "clinical.csv")
    assert "Tag der Diagnose, Datum: letzter Kontakt, Bernd's Todesdatum have dates" in message
    assert ("--event event" in message) is not event
    columns = {"time_months": "time_days"} | ({} if event else {"event": "event"})
    proposal = clinical.propose(foreign_tables.read(run(message, folder)), Answers(columns=columns))
    assert proposal.unit.value == "days"
    table = foreign_tables.read(folder / "clinical_days.csv").frame
    assert table["time_days"].astype(int).tolist() == days
    assert table["event"].astype(int).tolist() == events
    assert set(table["Größe"]) == {"klein"}


@pytest.mark.parametrize("name", ["Date of last follow-up or death", "seen", "Follow up"])
def test_one_column_of_the_end_of_follow_up_suffices(name, tmp_path):
    days, _ = written(tmp_path / "clinical.csv", "iso", ("diagnosed", name), joined=True)
    message = refused(tmp_path / "clinical.csv")
    assert f"the days from 'diagnosed' to '{name}':" in message
    assert foreign_tables.read(run(message, tmp_path)).frame["time_days"].astype(int).tolist() == days


def test_a_column_of_dates_that_the_user_names_has_the_same_command(tmp_path):
    written(tmp_path / "clinical.csv", "iso")
    message = refused(tmp_path / "clinical.csv", columns={"time_months": NAMES[1]})
    assert f"clinical.csv, column {NAMES[1]}: " in message
    assert run(message, tmp_path).exists()


def test_one_column_of_dates_has_no_command(tmp_path):
    (tmp_path / "t.csv").write_text("patient_id,event,seen\nP1,1,2020-01-02\nP2,0,2021-03-04\n")
    message = refused(tmp_path / "t.csv")
    assert "seen has dates, and the times are the days between two" in message
    assert "python" not in message


@pytest.mark.parametrize(
    ("cells", "day_first", "stated"),
    [(["05/01/2010"], True, True), (["05/21/2010"], False, False), (["21/05/2010"], True, False)],
)
def test_the_order_of_day_and_month_is_that_of_the_dates_or_is_stated(cells, day_first, stated):
    frame = pd.DataFrame({"diagnosed": cells, "seen": cells})
    text = dates.hint(frame, foreign_tables.ForeignTable(frame, "t.csv", ()))
    assert f"dayfirst={day_first}" in text
    assert ("the day is taken as first" in text) is stated


def test_cells_of_dates_are_recognised():
    frame = pd.DataFrame({"a": ["2010-01-05", "", "NA"], "b": ["05.01.2010", "1.2.11", ""], "c": ["2010", "", "7.5"]})
    assert dates.date_columns(frame) == ["a", "b"]
