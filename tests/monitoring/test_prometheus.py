"""The metrics of a monitoring run in the Prometheus text format."""

import math

import pytest
from prometheus_client.parser import text_string_to_metric_families

from mcti.monitoring import prometheus
from mcti.monitoring.drift import ColumnTest, Family
from mcti.monitoring.rules import Verdict

GENES = Family("genes", 1, 0.004, True, (ColumnTest("g1", 40, 0.5, 0.2, 0.001, 0.001),))
UNTESTED = Family("slides", 0, math.nan, False, (), "1 patients; 30 are needed")
VERDICT = Verdict("drift", ("drift",), {"drift": "drift of genes", "age": "unknown", "events": ""}, ("age",))
NUMBERS = {"patients": 60.0, "new_patients": 41.0, "uno_c.value": 0.7, "uno_c.low": 0.6, "uno_c.high": math.nan}


def samples(labels):
    """Oracle: the parser of prometheus_client, {(name, other labels): value}."""
    text = prometheus.text(prometheus.gauges(NUMBERS, VERDICT, [GENES, UNTESTED]), labels)
    families = list(text_string_to_metric_families(text))
    assert {family.type for family in families} == {"gauge"}
    assert all(family.documentation for family in families)
    parsed = [sample for family in families for sample in family.samples]
    assert all(labels.items() <= sample.labels.items() for sample in parsed)
    return {
        (sample.name, *(value for name, value in sample.labels.items() if name not in labels)): sample.value
        for sample in parsed
    }


@pytest.mark.parametrize("model", ["lung-os", 'a "quoted" name \\ with a\nnew line'])
def test_every_known_number_is_one_sample_with_the_labels_of_the_model(model):
    assert samples({"model": model, "version": "3"}) == {
        ("mcti_monitor_patients",): 60,
        ("mcti_monitor_new_patients",): 41,
        ("mcti_monitor_retrain", "drift"): 1,
        ("mcti_monitor_retrain", "events"): 0,
        ("mcti_monitor_drifted", "genes"): 1,
        ("mcti_monitor_drift_effect", "genes"): 0.5,
        ("mcti_monitor_drift_p", "genes"): 0.004,
        ("mcti_monitor_uno_c", "value"): 0.7,
        ("mcti_monitor_uno_c", "low"): 0.6,
    }
