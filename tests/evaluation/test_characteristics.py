"""Table 1 against counts worked out from the rows."""

import numpy as np
import pandas as pd

from mcti.evaluation import characteristics
from mcti.evaluation.outcomes import Outcomes
from mcti.evaluation.risk_groups import RiskGroups

PATIENTS = pd.DataFrame(
    {
        "patient_id": list("ABCDE"),
        "site": ["x", "x", "y", "y", "y"],
        "age": [50.0, 60.0, 70.0, np.nan, 10.0],
        "is_female": pd.array([1, 0, 1, None, 1], dtype="Int8"),
        "subtype": ["L", "L", "B", "B", "B"],
        "time_months": [10.0, 20.0, 30.0, 40.0, 50.0],
        "event": [1, 0, 1, 0, 0],
        "grade": [1.0, 2.0, 3.0, 3.0, 3.0],
        "smoker": ["yes", None, "no", "no", None],
    }
)


def test_the_table_describes_the_evaluated_patients_by_group_and_fold():
    """E is in training parts only and does not count."""
    outcomes = Outcomes.from_folds(PATIENTS, {0: (["C", "D", "E"], ["A", "B"]), 1: (["A", "B", "E"], ["C", "D"])})
    groups = RiskGroups(np.array([0, 1, 0, 1]), ("low", "high"), (None, None), np.nan)
    table = characteristics.table(PATIENTS, outcomes, groups).set_index("characteristic")
    assert list(table.columns) == ["all", "low risk", "high risk", "fold 0", "fold 1"]
    assert table.loc["patients"].tolist() == ["4", "2", "2", "2", "2"]
    assert table.loc["events, n (%)", "all"] == "2 (50.0)"
    assert table.loc["age, median [quartiles]", "all"] == "60 [55, 65], 1 missing"
    assert table.loc["female, n (%)", "all"] == "2 (66.7), 1 missing"
    assert table.loc["subtype L, n (%)", "fold 0"] == "2 (100.0)"
    assert table.loc["smoker yes, n (%)"].tolist() == ["1 (33.3)", "1 (50.0)", "0 (0.0)", "1 (100.0)", "0 (0.0)"]
    assert table.loc["smoker missing, n"].tolist() == ["1", "0", "1", "1", "0"]
    assert table.loc["grade, median [quartiles]", "low risk"] == "2 [1.5, 2.5]"


def test_a_competing_event_is_counted_and_does_not_end_the_potential_follow_up():
    """Of fold 0, A had the event and B a competing event: no patient was censored, and no median is reached."""
    patients = PATIENTS.assign(competing=[0, 1, 0, 0, 0])
    outcomes = Outcomes.from_folds(patients, {0: (["C", "D", "E"], ["A", "B"]), 1: (["A", "B", "E"], ["C", "D"])})
    groups = RiskGroups(np.array([0, 1, 0, 1]), ("low", "high"), (None, None), np.nan)
    table = characteristics.table(patients, outcomes, groups).set_index("characteristic")
    assert table.loc["competing events, n (%)", ["all", "fold 0", "fold 1"]].tolist() == [
        "1 (25.0)",
        "1 (50.0)",
        "0 (0.0)",
    ]
    follow_up = "median follow-up, months (reverse Kaplan-Meier)"
    assert table.loc[follow_up, ["all", "fold 0", "fold 1"]].tolist() == ["40.0", "not reached", "40.0"]


def test_an_infinite_median_is_not_reached():
    assert characteristics.months(np.inf) == "not reached"
    assert characteristics.months(12.34) == "12.3"
