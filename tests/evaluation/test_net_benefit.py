"""Net benefit against values worked out from the counts."""

import numpy as np
import pandas as pd
import pytest

from mcti.evaluation.comparison import point
from mcti.evaluation.net_benefit import net_benefit
from mcti.evaluation.outcomes import Outcomes


def test_net_benefit_equals_the_value_worked_out_from_the_counts():
    """Ten patients, none censored before 12 months, four events. The model treats five patients, three of whom have the
    event: at a threshold of 0.25 the net benefit is 3/10 - 2/10 * 1/3."""
    patients = pd.DataFrame({"patient_id": [f"P{i}" for i in range(10)], "event": [1] * 4 + [0] * 6})
    patients["time_months"] = [6.0] * 4 + [24.0] * 6
    ids = list(patients["patient_id"])
    outcomes = Outcomes.from_folds(pd.concat([patients, patients.assign(patient_id=lambda f: "T" + f["patient_id"])]),
                           {0: (["T" + i for i in ids], ids)})  # fmt: skip
    survival = np.where(np.isin(np.arange(10), [0, 1, 2, 8, 9]), 0.5, 0.9)
    benefit = point(net_benefit(outcomes, survival, 12.0, 0.25), 20)
    assert benefit == pytest.approx(3 / 10 - 2 / 10 / 3)
    treat_all = point(net_benefit(outcomes, np.zeros(10), 12.0, 0.25), 20)
    assert treat_all == pytest.approx(4 / 10 - 6 / 10 / 3)
    assert point(net_benefit(outcomes, np.ones(10), 12.0, 0.25), 20) == 0
