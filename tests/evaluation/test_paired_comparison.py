"""Two models on the same patients."""

import numpy as np
import pandas as pd
import pytest
from sksurv.metrics import concordance_index_censored, concordance_index_ipcw, integrated_brier_score
from sksurv.util import Surv

from mcti.concordance import harrell_c
from mcti.errors import DataError
from mcti.evaluation.paired_comparison import PairedBootstrap, PairedComparison, point_estimates


@pytest.fixture(scope="module")
def truth():
    draw = np.random.default_rng(2)
    return draw.exponential(30, 160), draw.random(160) < 0.6, draw


def table(risk, time, event, fold=0):
    scaled = (risk - risk.mean()) / risk.std()
    alive = {f"S_{t:g}": np.exp(-t / 40 * np.exp(0.5 * scaled)) for t in (6.0, 12.0, 24.0)}
    ids = [f"P{i:03d}" for i in range(len(risk))]
    counted = event.astype(int)
    return pd.DataFrame({"patient_id": ids, "fold": fold, "risk": risk, **alive, "time_months": time, "event": counted})


def test_both_c_and_the_brier_score_agree_with_scikit_survival(truth):
    """Oracle: scikit-survival 0.28.0 with all patients as training part; one fold, so nothing is pooled."""
    time, event, draw = truth
    good, bad = -time + draw.normal(0, 10, 160), draw.normal(size=160)
    ours, theirs = table(good, time, event), table(bad, time, event).iloc[20:]
    paired = PairedComparison.from_tables(ours, theirs, tau_quantile=0.8)
    kept = slice(20, None)
    assert len(paired.patients) == 140
    assert paired.events == event[kept].sum()
    outcome, tau = Surv.from_arrays(event[kept], time[kept]), np.quantile(time[kept], 0.8)
    for position, risk in enumerate((good, bad)):
        oracle = concordance_index_censored(event[kept], time[kept], risk[kept])[0]
        assert point_estimates(paired.harrell_c(), 140)[position] == pytest.approx(oracle, abs=1e-12)
        oracle = concordance_index_ipcw(outcome, outcome, risk[kept], tau=tau)[0]
        assert point_estimates(paired.uno_c(), 140)[position] == pytest.approx(oracle, abs=1e-9)
    alive = ours.iloc[20:][["S_6", "S_12", "S_24"]].to_numpy()
    oracle = integrated_brier_score(outcome, outcome, alive, [6.0, 12.0, 24.0])
    assert point_estimates(paired.ibs(), 140)[0] == pytest.approx(oracle, rel=1e-9)


def test_the_interval_of_the_difference_contains_the_difference(truth):
    time, event, draw = truth
    risk = -time + draw.normal(0, 30, 160)
    close = risk + draw.normal(0, 1, 160)
    paired = PairedComparison.from_tables(table(risk, time, event), table(close, time, event))
    drawn = PairedBootstrap.draw(paired, 300)
    difference = drawn.difference(paired.uno_c(), 0.95)
    assert difference.low <= difference.value <= difference.high
    # Two models that agree on nearly every pair: the difference is far surer than either C (0.1 wide here).
    assert difference.high - difference.low < 0.03


def test_a_group_counts_only_pairs_of_its_members(truth):
    time, event, draw = truth
    risk = draw.normal(size=160)
    paired = PairedComparison.from_tables(table(risk, time, event), table(-risk, time, event), tau_quantile=0.999)
    labels = pd.DataFrame({"patient_id": [f"P{i:03d}" for i in range(160)], "site": ["x"] * 70 + ["y"] * 90})
    group_members = dict(paired.group_members(labels))
    assert list(group_members) == ["site x", "site y"]
    moved = np.where(np.arange(160) < 70, risk, draw.normal(size=160))
    others = PairedComparison.from_tables(table(moved, time, event), table(-risk, time, event), tau_quantile=0.999)
    ours, theirs = point_estimates(paired.uno_c(group_members["site x"]), 160)
    assert ours + theirs == pytest.approx(1)
    assert point_estimates(others.uno_c(group_members["site x"]), 160)[0] == pytest.approx(
        ours
    )  # risks outside the group do not matter
    assert point_estimates(others.uno_c(), 160)[0] != pytest.approx(point_estimates(paired.uno_c(), 160)[0])


def test_entries_of_the_model_count_for_both_and_those_of_the_comparator_alone_are_refused(truth):
    """A pair needs the other patient under observation at the event: the champion may have been evaluated without."""
    time, event, draw = truth
    champion, challenger = (table(draw.normal(size=160), time, event) for _ in range(2))
    entered = challenger.assign(entry_months=challenger["time_months"] * 0.6)
    risks = [one["risk"].to_numpy() for one in (entered, champion)]
    outcome = [entered[name].to_numpy() for name in ("event", "time_months", "entry_months")]
    expected = [harrell_c(outcome[0] == 1, outcome[1], risk, outcome[2]) for risk in risks]
    pair = PairedComparison.from_tables(entered, champion)
    np.testing.assert_allclose(point_estimates(pair.harrell_c(), 160), expected)
    with pytest.raises(DataError, match="only the comparator has the column entry_months"):
        PairedComparison.from_tables(challenger, entered)


def test_without_a_common_patient_the_comparison_is_empty(truth):
    time, event, draw = truth
    ours = table(draw.normal(size=160), time, event)
    theirs = ours.assign(patient_id=[f"Q{i}" for i in range(160)])
    paired = PairedComparison.from_tables(ours, theirs)
    assert (len(paired.patients), paired.events) == (0, 0)


def test_follow_up_is_that_of_the_first_table(truth):
    time, event, draw = truth
    risk = draw.normal(size=160)
    newer = table(risk, time + 5, event)
    assert PairedComparison.from_tables(newer, table(risk, time, event)).patients["time_months"].tolist() == list(
        time + 5
    )
