"""The rules of retraining: whether the model must be trained again, and which rule requires it."""

from collections.abc import Sequence
from dataclasses import dataclass

from mcti.monitoring.drift import Family
from mcti.params import MonitorParams

NONE = "none"


@dataclass(frozen=True)
class Verdict:
    """The result of all rules; a rule is enabled where `monitor.rules` contains it.

    rule        the first enabled rule that fired, in the order of `monitor.rules`, or `none`;  fired: all of them
    reasons     {rule: sentence} of every rule, enabled or not
    not_tested  enabled rules that did not fire and could not be tested completely
    """

    rule: str
    fired: tuple[str, ...]
    reasons: dict[str, str]
    not_tested: tuple[str, ...] = ()

    @property
    def retrain(self) -> bool:
        """Whether any rule fired."""
        return self.rule != NONE


def decide(
    new_events: int,
    families: Sequence[Family],
    decay: Sequence[str],
    age_days: float | None,
    params: MonitorParams,
    not_assessed: str = "",
) -> Verdict:
    """Evaluate all rules.

    new_events    events of patients outside the development cohort
    age_days      age of the model in days, None: unknown
    decay         alarms of the performance;  not_assessed  reason why the performance was not assessed
    """
    drifted = [family.name for family in families if family.drifted]
    old = age_days is not None and 0 < params.max_age_days <= age_days
    fires = {
        "performance": bool(decay),
        "drift": bool(drifted),
        "events": new_events >= params.new_events,
        "age": old,
    }
    reasons = {
        "performance": "; ".join(decay) or (f"not assessed: {not_assessed}" if not_assessed else "no loss shown"),
        "drift": f"drift of {', '.join(drifted)}" if drifted else _no_drift(families),
        "events": f"{new_events} new events; the limit is {params.new_events}",
        "age": "the age is unknown: the model is not in a registry" if age_days is None else f"{age_days:.1f} days old",
    }
    unknown = {
        "performance": bool(not_assessed),
        "drift": not families or not all(family.known for family in families),
        "events": False,
        "age": age_days is None and params.max_age_days > 0,
    }
    fired = tuple(rule for rule in params.rules if fires[rule])
    untested = tuple(rule for rule in params.rules if unknown[rule] and not fires[rule])
    return Verdict(fired[0] if fired else NONE, fired, reasons, untested)


def _no_drift(families: Sequence[Family]) -> str:
    """The reason where no drift was shown: which families were tested, and which were not."""
    tested = [family.name for family in families if family.tested]
    untested = [family for family in families if not family.known]
    if not tested:
        return f"not tested: {untested[0].not_tested}" if untested else "not tested"
    rest = f"; not tested: {', '.join(family.name for family in untested)}" if untested else ""
    return f"no drift shown in {', '.join(tested)}{rest}"
