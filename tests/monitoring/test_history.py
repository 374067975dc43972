"""The trends of the report: which numbers, their labels and their alarm limits."""

from mcti.monitoring import history
from mcti.params import MonitorParams


def test_each_number_of_the_last_run_is_a_trend_with_its_limit():
    runs = [{"new_patients": 5.0, "effect.genes": 0.1}, {"new_patients": 9.0, "new_events": 2.0, "effect.genes": 0.4}]
    params = MonitorParams(new_events=50, min_effect=0.3)
    trends = {trend.name: trend for trend in history.trends(["2026-01-01", "now"], runs, params)}
    assert list(trends) == ["new patients", "new events", "largest effect: genes"]
    assert trends["new events"].values == [None, 2.0]
    assert trends["new events"].limit == 50
    assert trends["largest effect: genes"].limit == 0.3
    assert trends["new patients"].limit is None
