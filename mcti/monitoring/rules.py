"""Whether the model is to be trained again, and which rule says so."""

from collections.abc import Sequence
from dataclasses import dataclass

from mcti.monitoring.drift import Family
from mcti.params import MonitorParams

NONE = "none"


@dataclass(frozen=True)
class Verdict:
    """rule: the first rule in force that fired, in the order of `monitor.rules`, or `none`; fired: all that did.

    reasons  {rule: sentence} of every rule, in force or not
    not_tested  rules in force of which at least a part could not be tested, and that did not fire
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
    not_judged: str = "",
) -> Verdict:
    """new_events: of patients that the model never saw; decay: alarms of the performance, not_judged: why there are
    none; age None: not known."""
    drifted = [family.name for family in families if family.drifted]
    old = age_days is not None and 0 < params.max_age_days <= age_days
    fires = {
        "performance": bool(decay),
        "drift": bool(drifted),
        "events": new_events >= params.new_events,
        "age": old,
    }
    reasons = {
        "performance": "; ".join(decay) or (f"not judged: {not_judged}" if not_judged else "no loss shown"),
        "drift": f"drift of {', '.join(drifted)}" if drifted else _no_drift(families),
        "events": f"{new_events} new events; from {params.new_events} on the model is trained again",
        "age": "age not known: the model is in no registry" if age_days is None else f"{age_days:.1f} days old",
    }
    unknown = {
        "performance": bool(not_judged),
        "drift": not families or not all(family.known for family in families),
        "events": False,
        "age": age_days is None and params.max_age_days > 0,
    }
    fired = tuple(rule for rule in params.rules if fires[rule])
    untested = tuple(rule for rule in params.rules if unknown[rule] and not fires[rule])
    return Verdict(fired[0] if fired else NONE, fired, reasons, untested)


def _no_drift(families: Sequence[Family]) -> str:
    """Nothing found is told apart from nothing looked at."""
    tested = [family.name for family in families if family.tested]
    untested = [family for family in families if not family.known]
    if not tested:
        return f"not tested: {untested[0].why_not}" if untested else "not tested"
    left = f"; not tested: {', '.join(family.name for family in untested)}" if untested else ""
    return f"no drift shown in {', '.join(tested)}{left}"
