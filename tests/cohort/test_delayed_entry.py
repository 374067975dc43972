"""Columns of entries under observation: names, values, and the warning of `ingest`."""

import pandas as pd
import pytest

from mcti.cohort import delayed_entry
from mcti.params import IngestParams
from mcti.steps.ingest import ingest
from tests.cohort import cases


@pytest.mark.parametrize(
    "name", ["entry", "entry_months", "DAYS_TO_SEQUENCING", "daysToEnrollment", "Left truncation (days)", "tstart"]
)
def test_names_of_entries(name):
    assert delayed_entry.is_entry_name(name)


@pytest.mark.parametrize("name", ["age_at_entry_years", "sequencing_depth", "time_months", "centre", "year", "size"])
def test_other_names(name):
    assert not delayed_entry.is_entry_name(name)


@pytest.mark.parametrize("cells", [["2014", "2015"], ["2014-05-06", "1"], ["-1", "3"], ["0", "0"], ["", ""]])
def test_values_that_are_no_entries(cells):
    assert delayed_entry.warnings(pd.DataFrame({"entry_months": cells}), "t.csv") == []


def test_patients_after_the_origin_are_counted_with_their_median():
    table = pd.DataFrame({"entry_months": ["0", "2", "4", "9", ""], "size": ["1"] * 5})
    (warning,) = delayed_entry.warnings(table, "t.csv")
    assert "column 'entry_months'" in warning
    assert "3 of 5 patients after the origin, median 4 " in warning


@pytest.mark.parametrize("kept", [None, ()])
def test_ingest_warns_whether_or_not_the_column_is_a_covariate(tmp_path, kept):
    frames = cases.sources()
    frames["clinical"]["entry_days"] = [0.0, 30.0] * 20
    paths = cases.write_sources(frames, tmp_path / "raw")
    params = IngestParams(name="made", expression_scale="z-score", covariates=kept)
    result = ingest(paths["clinical"], paths["expression"], paths.get("slides"), params, tmp_path / "cohort")
    assert any("20 of 40 patients after the origin, median 30 " in warning for warning in result.warnings)
