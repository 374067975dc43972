"""Labels of the metrics in reports."""

import pytest

from mcti.contracts import expectations
from mcti.params import ValidateParams
from mcti.registry import metric_labels
from mcti.registry.dossier_requirements import COHORT_LABELS


@pytest.mark.parametrize(
    ("name", "label"),
    [
        ("auc_36", "time-dependent AUC (1 is best, 0.5 is chance) at 36 months"),
        ("brier_12.5", "Brier score (lower is better) at 12.5 months"),
        ("c_within_subtype", "Harrell's C within subtypes"),
        ("another_metric", "another_metric"),
    ],
)
def test_a_metric_has_a_label_with_its_horizon(name, label):
    assert metric_labels.label(name) == label


def test_every_measurement_of_the_contract_has_a_label():
    """All measured columns of the table `cohort`; the question about the event flag is a text, not a number."""
    params = ValidateParams()
    by_subject = (expectations.cohort_rules, expectations.balance_rules, expectations.expression_rules,
                  expectations.slide_rules, expectations.feature_rules)  # fmt: skip
    rules = [rule for rules in by_subject for rule in rules(params)]
    columns = {rule.arguments["column"] for rule in rules if rule.table == "cohort"} - {"orientation_question"}
    assert columns - (metric_labels.MEASUREMENTS.keys() | COHORT_LABELS.keys()) == set()
    assert not [text for text in metric_labels.MEASUREMENTS.values() if "_" in text]


def test_limits_of_measurements_are_described_in_words():
    rules = {rule.id: rule.description for rule in expectations.cohort_rules(ValidateParams())}
    assert rules["followup_plausible"].startswith("the median follow-up is plausible in months: median follow-up at")
    assert rules["time_plausible"].endswith("time_months at most 1200")  # a column of the user's table
