"""Labels of the metrics in reports."""

import pytest

from mcti.registry import metric_labels


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
