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
    """

    rule: str
    fired: tuple[str, ...]
    reasons: dict[str, str]

    @property
    def retrain(self) -> bool:
        """Whether any rule fired."""
        return self.rule != NONE


def decide(
    new_events: int, families: Sequence[Family], decay: Sequence[str], age_days: float | None, params: MonitorParams
) -> Verdict:
    """new_events: of patients that the model never saw; decay: alarms of the performance; age None: not known."""
    drifted = [family.name for family in families if family.drifted]
    old = age_days is not None and 0 < params.max_age_days <= age_days
    fires = {
        "performance": bool(decay),
        "drift": bool(drifted),
        "events": new_events >= params.new_events,
        "age": old,
    }
    reasons = {
        "performance": "; ".join(decay) or "no loss shown",
        "drift": f"drift of {', '.join(drifted)}" if drifted else "no drift shown",
        "events": f"{new_events} new events; from {params.new_events} on the model is trained again",
        "age": "age not known: the model is in no registry" if age_days is None else f"{age_days:.1f} days old",
    }
    fired = tuple(rule for rule in params.rules if fires[rule])
    return Verdict(fired[0] if fired else NONE, fired, reasons)
