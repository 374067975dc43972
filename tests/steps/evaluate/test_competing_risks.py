"""The evaluation of a cohort with competing events on real files; without them nothing changes."""

import json

import numpy as np
import pandas as pd
import pytest

from mcti.cohort import competing, tables
from mcti.params import EvaluateParams
from tests.steps.evaluate.test_step import files, make_project, run

PARAMS = EvaluateParams(
    bootstrap=100,
    horizons_months=(12.0, 36.0),
    baselines=("kaplan_meier", "cox_clinical"),
    primary_baseline="cox_clinical",
)


@pytest.fixture(scope="module")
def project(tmp_path_factory):
    """One project, evaluated without and with the column: each second censored patient had a competing event."""
    root = tmp_path_factory.mktemp("competing")
    make_project(root)
    run(root, PARAMS, "plain", features=None)
    path = root / "cohort/patients.parquet"
    frame = pd.read_parquet(path)
    had = (frame["event"] == 0) & (np.arange(len(frame)) % 2 == 0)
    frame.insert(list(frame).index("event") + 1, "competing", had.astype("int8"))
    frame.to_parquet(path, index=False)
    return root, int(had.sum()), run(root, PARAMS, "with", features=None)


def test_the_report_has_the_cumulative_incidence_of_every_model(project):
    root, count, result = project
    assert competing.flags(tables.read_patients(root / "cohort")).sum() == count
    assert result.competing_events == count
    section = json.loads((root / "with/metrics.json").read_text())["mcti"]["competing"]
    assert (section["competing_events"], section["horizons_months"]) == (count, [12.0, 36.0])
    assert {"mcti", "kaplan_meier", "cox_clinical", "cause_specific_cox", "aalen_johansen"} == set(section["models"])
    assert 0.5 < section["models"]["mcti"]["c_competing"]["value"] <= 1
    page = (root / "with/report.html").read_text()
    for text in (f"{count} competing events", 'id="competing"', 'id="cumulative_incidence"', "Wolbers et al. 2009"):
        assert text in page, text
    assert "competing" not in pd.read_csv(root / "with/plots/table_1.csv").iloc[:, 0].str.lower().tolist()


def test_the_cause_specific_numbers_are_those_of_the_same_cohort_without_the_column(project):
    root, _, _ = project
    plain, with_column = (json.loads((root / name / "metrics.json").read_text()) for name in ("plain", "with"))
    with_column["mcti"].pop("competing")
    assert plain == with_column
    assert "ompeting event" not in (root / "plain/report.html").read_text()
    assert "competing" not in (root / "plain/result.json").read_text()
    added = set(files(root / "with")) - set(files(root / "plain"))
    names = ("cumulative_incidence", "incidence_calibration")
    drawn = {f"figures/{name}.{suffix}" for name in names for suffix in ("png", "svg")}
    assert added == drawn | {f"plots/{name}.csv" for name in names} | {"cumulative_incidence.csv"}


def test_the_predicted_incidence_of_every_test_row_is_below_the_cause_specific_probability(project):
    root, _, _ = project
    incidence = pd.read_csv(root / "with/cumulative_incidence.csv")
    curves = pd.read_csv(root / "with/predictions.csv")
    assert incidence.groupby("model").size().to_dict() == dict.fromkeys(incidence["model"].unique(), len(curves))
    mcti = incidence[incidence["model"] == "mcti"].reset_index(drop=True)
    assert mcti["patient_id"].tolist() == curves["patient_id"].tolist()
    for months in (12, 36):
        assert (mcti[f"F_{months}"] <= 1 - curves[f"S_{months}"] + 1e-9).all()
    assert (mcti["F_36"] < 1 - curves["S_36"] - 0.01).mean() > 0.5


def test_a_competing_event_does_not_shorten_the_follow_up(project):
    root, _, result = project
    plain = json.loads((root / "plain/result.json").read_text())["median_follow_up"]
    assert result.median_follow_up > plain
