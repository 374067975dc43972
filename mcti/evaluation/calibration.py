"""Whether a predicted probability of 20 % means that 20 in 100 have the event."""

import math

import numpy as np

from mcti.evaluation.curves import Floats, KaplanMeier
from mcti.evaluation.outcomes import Outcomes


def by_fifths(outcomes: Outcomes, survival: Floats, months: float, groups: int = 5) -> dict[str, Floats]:
    """Predicted and observed event probability by `months` in groups of equal size by predicted risk.

    survival (m,) is S(months). predicted: the group's mean of 1 - S; observed: 1 - Kaplan-Meier of the group at
    `months`, with its 95 % interval on the log-minus-log scale. Groups without followed patients are left out. Each
    array (g,), g <= groups. Groups hide what happens inside them: `recalibration` and the Brier score do not.
    """
    order = np.argsort(-survival, kind="stable")
    rows = [part for part in np.array_split(order, groups) if part.size]
    found: dict[str, list[float]] = {"predicted": [], "observed": [], "low": [], "high": []}
    for part in rows:
        patients = outcomes.patient[part]
        curve = KaplanMeier.of(outcomes.event[patients], outcomes.time_months[patients])
        low, high = curve.band()
        here = int(np.searchsorted(curve.times, months, side="right")) - 1
        found["predicted"].append(float(1 - survival[part].mean()))
        found["observed"].append(1 - float(curve.at(months)))
        found["low"].append(1 - float(high[here]) if here >= 0 else 0.0)
        found["high"].append(1 - float(low[here]) if here >= 0 else math.nan)
    return {name: np.array(values) for name, values in found.items()}
