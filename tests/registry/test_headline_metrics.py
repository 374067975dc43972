"""The metrics that a registration logs, checked against metrics.json of an evaluation computed manually."""

from mcti.registry import headline_metrics


def span(value):
    return {"value": value, "low": value - 0.1, "high": value + 0.1}


SCORES = {
    **{name: span(0.6) for name in ("c_index", "uno_c", *headline_metrics.VALUE_ONLY)},
    **{
        f"{metric}_{months}": span(months / 100)
        for metric in headline_metrics.AT_LAST_HORIZON
        for months in (12, 36, 120)
    },
    "slope_120": {"value": None, "low": None, "high": None},
    "comparison": {"cox_clinical": {"difference": span(0.05)}, "forest": {"difference": span(0.2)}},
    "subgroups": [{"c_index": span(0.5)}],
}
METRICS = {"mcti": SCORES, "cox_clinical": {"c_index": span(0.55)}, "forest": {"c_index": span(0.4)}}


def test_at_most_twenty_metrics_and_the_last_horizon_only():
    metrics = headline_metrics.select(METRICS, "cox_clinical")
    assert len(metrics) == 19  # the slope is undefined
    assert len(headline_metrics.select({**METRICS, "mcti": SCORES | {"slope_120": span(1.0)}}, "cox_clinical")) == 20
    assert metrics["mcti.c_index.low"] == 0.5
    assert metrics["mcti.brier_120.value"] == 1.2
    assert not [name for name in metrics if "_12." in name or "_36." in name or "forest" in name]
    assert metrics["cox_clinical.c_index.value"] == 0.55
    assert metrics["mcti.difference.value"] == 0.05


def test_an_evaluation_with_only_a_c_index_has_three_metrics():
    assert headline_metrics.select({"mcti": {"c_index": span(0.5)}}, None) == {
        "mcti.c_index.value": 0.5, "mcti.c_index.low": 0.4, "mcti.c_index.high": 0.6,
    }  # fmt: skip
