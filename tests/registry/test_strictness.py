"""Which settings of a promotion let more through than those agreed on."""

import pytest

from mcti.params import PromoteParams
from mcti.registry import strictness

AGREED = PromoteParams(approvals=1)


@pytest.mark.parametrize(
    ("name", "looser", "stricter"),
    [
        ("margin", -0.1, 0.1), ("alpha", 0.2, 0.01), ("looks", 1, 20), ("confidence", 0.8, 0.99),
        ("min_events", 1, 50), ("ibs_margin", 0.5, 0.0), ("calibration_margin", 0.5, 0.0), ("group_margin", 0.5, 0.0),
        ("group_min_events", 500, 10), ("max_latency_ratio", 9.0, 1.0), ("max_memory_ratio", 9.0, 1.0),
        ("require_contract", False, True), ("approvals", 0, 2),
    ],
)  # fmt: skip
def test_each_limit_has_a_loose_side(name, looser, stricter):
    (said,) = strictness.less_strict(AGREED.model_copy(update={name: looser}), AGREED)
    assert said.startswith(f"promote.{name} ")
    assert strictness.less_strict(AGREED.model_copy(update={name: stricter}), AGREED) == []


def test_every_setting_that_is_a_limit_is_looked_at():
    """A new limit must be put on one side, or here, knowingly."""
    neither = {"seed", "bootstrap", "spending", "uno_tau_quantile", "benchmark_patches"}
    looked = {*strictness.LOOSER_ABOVE, *strictness.LOOSER_BELOW}
    assert looked | neither == set(PromoteParams.model_fields)


def test_the_phrase_names_both_values():
    given = AGREED.model_copy(update={"margin": -0.25})
    assert strictness.less_strict(given, AGREED) == ["promote.margin -0.25 (params.yaml: 0)"]
