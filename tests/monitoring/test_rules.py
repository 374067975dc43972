"""Which rule requires a retraining, and the reasons where a rule could not be tested."""

import math
import re

from mcti.monitoring import drift, monitoring_html, prometheus, rules
from mcti.monitoring.drift import Family
from mcti.params import MonitorParams

UNTESTED = Family("genes", 0, math.nan, False, (), "1 patients; 20 are needed")
STABLE = Family("risk", 1, 0.5, False, ())
DRIFTED = Family("features", 3, 1e-6, True, ())


def reasons(families, not_assessed=""):
    return rules.decide(0, families, (), None, MonitorParams(), not_assessed).reasons


def test_an_untested_rule_is_reported_as_untested():
    texts = reasons([UNTESTED], "3 events of new patients; 20 are needed")
    assert texts["drift"] == "not tested: 1 patients; 20 are needed"
    assert texts["performance"] == "not assessed: 3 events of new patients; 20 are needed"


def test_tested_and_untested_families_are_listed():
    assert reasons([STABLE, UNTESTED])["drift"] == "no drift shown in risk; not tested: genes"
    assert reasons([STABLE])["performance"] == "no loss shown"
    assert reasons([UNTESTED, DRIFTED])["drift"] == "drift of features"


def verdict(families, not_assessed="", age=1.0, **settings):
    return rules.decide(0, families, (), age, MonitorParams(**settings), not_assessed)


def test_a_rule_that_could_not_be_tested_is_listed():
    assert verdict([UNTESTED], "3 events").not_tested == ("performance", "drift")
    assert verdict([STABLE, UNTESTED]).not_tested == ("drift",)
    assert verdict([STABLE]).not_tested == ()
    assert verdict([DRIFTED, UNTESTED]).not_tested == ()  # it fired
    assert verdict([STABLE], age=None).not_tested == ("age",)
    assert verdict([STABLE], age=None, max_age_days=0.0).not_tested == ()
    assert verdict([UNTESTED], rules=("events",)).not_tested == ()


def test_complete_values_leave_nothing_to_test_in_missingness():
    complete = Family(drift.MISSINGNESS, 0, math.nan, False, (), drift.NOTHING_MISSING)
    assert verdict([STABLE, complete]).not_tested == ()


def test_an_untested_rule_has_no_sample_and_is_marked_in_the_report():
    result = verdict([UNTESTED], "3 events")
    (fired,) = [gauge for gauge in prometheus.gauges({}, result, [UNTESTED]) if gauge.name == "mcti_monitor_retrain"]
    assert [labels["rule"] for labels, _ in fired.samples] == ["events", "age"]
    header = monitoring_html.ReportHeader("m", "c", "", 1, 1, 0, 1, (), "3 events")
    html = monitoring_html.render(header, result, [UNTESTED], [], MonitorParams())
    cells = dict(re.findall(r"<tr><td>(\w+)</td><td><span class=\"(\w+)\">", html))
    assert cells == {"performance": "unknown", "drift": "unknown", "events": "fine", "age": "fine"}
    assert 'class="verdict unknown"' in html
    assert 'genes <span class="unknown">not tested' in html
