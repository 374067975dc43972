"""Which rule asks for a new training, and what is said where nothing could be looked at."""

import math
import re

from mcti.monitoring import drift, monitoring_html, prometheus, rules
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


def verdict(families, not_judged="", age=1.0, **settings):
    return rules.decide(0, families, (), age, MonitorParams(**settings), not_judged)


def test_a_rule_that_could_not_be_tested_is_not_quiet():
    assert verdict([UNTESTED], "3 events").not_tested == ("performance", "drift")
    assert verdict([CALM, UNTESTED]).not_tested == ("drift",)
    assert verdict([CALM]).not_tested == ()
    assert verdict([MOVED, UNTESTED]).not_tested == ()  # it fired
    assert verdict([CALM], age=None).not_tested == ("age",)
    assert verdict([CALM], age=None, max_age_days=0.0).not_tested == ()
    assert verdict([UNTESTED], rules=("events",)).not_tested == ()


def test_complete_values_leave_nothing_to_test_in_missingness():
    complete = Family(drift.GAPS, 0, math.nan, False, (), drift.NOTHING_MISSING)
    assert verdict([CALM, complete]).not_tested == ()


def test_a_rule_that_could_not_be_tested_has_no_gauge_and_is_grey_on_the_page():
    found = verdict([UNTESTED], "3 events")
    (fired,) = [gauge for gauge in prometheus.gauges({}, found, [UNTESTED]) if gauge.name == "mcti_monitor_retrain"]
    assert [labels["rule"] for labels, _ in fired.samples] == ["events", "age"]
    facts = monitoring_html.Facts("m", "c", "", 1, 1, 0, 1, (), "3 events")
    html = monitoring_html.render(facts, found, [UNTESTED], [], MonitorParams())
    cells = dict(re.findall(r"<tr><td>(\w+)</td><td><span class=\"(\w+)\">", html))
    assert cells == {"performance": "unknown", "drift": "unknown", "events": "fine", "age": "fine"}
    assert 'class="verdict unknown"' in html
    assert 'genes <span class="unknown">not tested' in html
