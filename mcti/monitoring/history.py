"""The numbers of the monitoring over its runs: which of them make a trend, and where an alarm begins."""

from collections.abc import Mapping, Sequence

from mcti.monitoring.monitoring_html import Trend
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


_WORDS = {
    "uno_c.value": "Uno's C of the new patients",
    "calibration_gap.value": "event probability, observed minus predicted",
    "age_days": "age of the model, days",
}


def _words(name: str) -> str:
    return _WORDS.get(name, name.replace(_EFFECT, "largest effect: ").replace("_", " "))
