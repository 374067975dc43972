"""Which rule asks for a new training, and what is said where nothing could be looked at."""

import math

from mcti.monitoring import rules
from mcti.monitoring.drift import Family
from mcti.params import MonitorParams

UNTESTED = Family("genes", 0, math.nan, False, (), "1 patients; 20 are needed")
CALM = Family("risk", 1, 0.5, False, ())
MOVED = Family("features", 3, 1e-6, True, ())


def reasons(families, not_judged=""):
    return rules.decide(0, families, (), None, MonitorParams(), not_judged).reasons


def test_nothing_looked_at_is_not_called_no_drift_and_no_loss():
    told = reasons([UNTESTED], "3 events of new patients; 20 are needed")
    assert told["drift"] == "not tested: 1 patients; 20 are needed"
    assert told["performance"] == "not judged: 3 events of new patients; 20 are needed"


def test_what_was_looked_at_and_what_was_not_are_named():
    assert reasons([CALM, UNTESTED])["drift"] == "no drift shown in risk; not tested: genes"
    assert reasons([CALM])["performance"] == "no loss shown"
    assert reasons([UNTESTED, MOVED])["drift"] == "drift of features"
