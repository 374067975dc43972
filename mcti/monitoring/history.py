"""The numbers of the monitoring over its runs: the trends of the report and their alarm limits."""

from collections.abc import Mapping, Sequence

from mcti.monitoring.monitoring_html import Trend
from mcti.params import MonitorParams

_EFFECT = "effect."


def trends(dates: Sequence[str], runs: Sequence[Mapping[str, float]], params: MonitorParams) -> list[Trend]:
    """The trend of each number of the last run; dates (n,), runs (n,): oldest first."""
    effects = sorted(name for name in runs[-1] if name.startswith(_EFFECT))
    limits = dict.fromkeys(effects, params.min_effect) | {"new_events": float(params.new_events)}
    if params.max_age_days:
        limits["age_days"] = params.max_age_days
    names = ["new_patients", "new_events", *effects, "uno_c.value", "calibration_gap.value", "age_days"]
    return [
        Trend(_label(name), dates, [run.get(name) for run in runs], limits.get(name))
        for name in names
        if name in runs[-1]
    ]


_LABELS = {
    "uno_c.value": "Uno's C of the new patients",
    "calibration_gap.value": "event probability, observed minus predicted",
    "age_days": "age of the model, days",
}


def _label(name: str) -> str:
    return _LABELS.get(name, name.replace(_EFFECT, "largest effect: ").replace("_", " "))
