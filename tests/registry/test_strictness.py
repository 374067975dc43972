"""Settings of a promotion that are less strict than those of the project."""

import pytest

from mcti.params import PromoteParams
from mcti.registry import strictness

AGREED = PromoteParams(approvals=1, require_baseline=True, external=True)


@pytest.mark.parametrize(
    ("name", "looser", "stricter"),
    [
        ("margin", -0.1, 0.1), ("alpha", 0.2, 0.01), ("looks", 1, 20), ("confidence", 0.8, 0.99),
        ("min_events", 1, 50), ("ibs_margin", 0.5, 0.0), ("calibration_margin", 0.5, 0.0), ("group_margin", 0.5, 0.0),
        ("group_min_events", 500, 10), ("max_latency_ratio", 9.0, 1.0), ("max_memory_ratio", 9.0, 1.0),
        ("require_contract", False, True), ("require_baseline", False, True), ("baseline_margin", 0.1, -0.1),
        ("baseline_ibs_margin", 0.1, -0.1), ("approvals", 0, 2), ("external", False, True),
    ],
)  # fmt: skip
def test_each_limit_has_a_less_strict_direction(name, looser, stricter):
    (phrase,) = strictness.less_strict(AGREED.model_copy(update={name: looser}), AGREED)
    assert phrase.startswith(f"promote.{name} ")
    assert strictness.less_strict(AGREED.model_copy(update={name: stricter}), AGREED) == []


def test_every_limit_has_a_direction():
    """A new setting must be listed with its direction, or in this test."""
    neither = {"bootstrap", "spending", "benchmark_patches"}
    limits = {*strictness.LOOSER_ABOVE, *strictness.LOOSER_BELOW}
    assert limits | neither == set(PromoteParams.model_fields)


def test_the_phrase_names_both_values():
    params = AGREED.model_copy(update={"margin": -0.25})
    assert strictness.less_strict(params, AGREED) == ["promote.margin -0.25 (params.yaml: 0)"]
