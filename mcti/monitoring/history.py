"""The numbers of the monitoring over its runs: which of them make a trend, and where an alarm begins."""

from collections.abc import Mapping, Sequence

from mcti.monitoring.page import Trend
from mcti.params import MonitorParams

_EFFECT = "effect."


def trends(dates: Sequence[str], runs: Sequence[Mapping[str, float]], params: MonitorParams) -> list[Trend]:
    """A trend of each number that the last run has; dates (n,), runs (n,): oldest first."""
    effects = sorted(name for name in runs[-1] if name.startswith(_EFFECT))
    limits = dict.fromkeys(effects, params.min_effect) | {"new_events": float(params.new_events)}
    if params.max_age_days:
        limits["age_days"] = params.max_age_days
    wanted = ["new_patients", "new_events", *effects, "uno_c.value", "calibration_gap.value", "age_days"]
    return [
        Trend(_words(name), dates, [run.get(name) for run in runs], limits.get(name))
        for name in wanted
        if name in runs[-1]
    ]


def _words(name: str) -> str:
    return name.removesuffix(".value").replace(_EFFECT, "effect: ").replace("_", " ")
