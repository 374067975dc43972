"""Risk groups and percentiles on the scale of the members. Oracle: numpy's quantiles of the risks."""

import numpy as np
import pytest

from mcti.errors import DataError
from mcti.model.reference_profile import ColumnProfile, ReferenceProfile
from mcti.registry.risk_groups import RiskScale

RISKS = np.linspace(0, 10, 400)


def profile(out_of_fold, training):
    columns = [ColumnProfile.fit(risks, between=2) for risks in (out_of_fold, training)]
    return ReferenceProfile(len(training), 0, {}, {}, columns[0], columns[1])


FOLDS = {"fold_0": profile(RISKS, RISKS / 2), "fold_1": profile(RISKS + 100, (RISKS + 100) / 2)}


@pytest.mark.parametrize(("level", "expected"), [(0.5, 5.0), (0.25, 2.5), (0.9, 9.0)])
def test_the_threshold_is_the_quantile_of_the_out_of_fold_risks_averaged_over_the_members(level, expected):
    scale = RiskScale(FOLDS, ())
    assert scale.threshold(("fold_0",), level) == pytest.approx(expected, abs=0.4)  # half an interval of the grid
    assert scale.threshold(("fold_0", "fold_1"), level) == pytest.approx(expected + 50, abs=0.4)


def test_the_threshold_of_a_refit_is_on_the_scale_of_its_training_risks():
    """All training risks of fold_0 are below its out-of-fold median: the share 1 gives the refit's largest risk."""
    scale = RiskScale({"fold_0": FOLDS["fold_0"], "refit": profile(RISKS[:0], RISKS * 3)}, ("refit",))
    assert scale.threshold(("refit",), 0.5) == pytest.approx(30, abs=2.5)


def test_groups_are_named_from_the_lowest_risk():
    scale = RiskScale(FOLDS, ())
    names = [scale.group({"fold_0": risk}, 4) for risk in (1.0, 4.0, 6.0, 9.0)]
    assert names == ["lowest", "low", "high", "highest"]
    assert scale.percentile(("fold_0",), 5.05) == pytest.approx(50, abs=4)


def test_without_a_reference_profile_there_is_no_group_and_no_percentile():
    scale = RiskScale({}, ())
    assert scale.group({"fold_0": 1.0}, 2) is None
    assert scale.percentile(("fold_0",), 1.0) is None


def test_another_number_of_groups_is_refused():
    with pytest.raises(DataError, match="7 risk groups in risk_groups: one of 2, 3, 4"):
        RiskScale(FOLDS, ()).group({"fold_0": 1.0}, 7)
