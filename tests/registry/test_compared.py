"""The figures that a registration logs, against metrics.json of an evaluation by hand."""

from mcti.registry import compared


def span(value):
    return {"value": value, "low": value - 0.1, "high": value + 0.1}


SCORES = {
    **{name: span(0.6) for name in ("c_index", "uno_c", *compared.SINGLE)},
    **{f"{kind}_{months}": span(months / 100) for kind in compared.AT_LAST_HORIZON for months in (12, 36, 120)},
    "slope_120": {"value": None, "low": None, "high": None},
    "comparison": {"cox_clinical": {"difference": span(0.05)}, "forest": {"difference": span(0.2)}},
    "subgroups": [{"c_index": span(0.5)}],
}
METRICS = {"mcti": SCORES, "cox_clinical": {"c_index": span(0.55)}, "forest": {"c_index": span(0.4)}}


def test_twenty_figures_at_most_and_the_last_horizon_by_number():
    found = compared.figures(METRICS, "cox_clinical")
    assert len(found) == 19  # the slope is not known
    assert len(compared.figures({**METRICS, "mcti": SCORES | {"slope_120": span(1.0)}}, "cox_clinical")) == 20
    assert found["mcti.c_index.low"] == 0.5
    assert found["mcti.brier_120.value"] == 1.2
    assert not [name for name in found if "_12." in name or "_36." in name or "forest" in name]
    assert found["cox_clinical.c_index.value"] == 0.55
    assert found["mcti.difference.value"] == 0.05


def test_an_evaluation_with_a_c_index_alone_has_three_figures():
    assert compared.figures({"mcti": {"c_index": span(0.5)}}, None) == {
        "mcti.c_index.value": 0.5, "mcti.c_index.low": 0.4, "mcti.c_index.high": 0.6,
    }  # fmt: skip
