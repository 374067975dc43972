"""The artifacts of an evaluation for the Kubeflow UI."""

import json

import pandas as pd
import pytest

from mcti.evaluation import kubeflow_artifacts


@pytest.fixture
def evaluation(tmp_path):
    """A folder with the files that the pages read."""
    (tmp_path / "plots").mkdir()
    (tmp_path / "figures").mkdir()
    rows = [(months, step / 2, step / 2, step / 2 + months / 1000) for months in (12, 36, 60) for step in range(3)]
    columns = ["months", "threshold", "false_positive_rate", "true_positive_rate"]
    pd.DataFrame(rows, columns=columns).to_csv(tmp_path / "plots" / "roc.csv", index=False)
    drawn = '<?xml version="1.0"?>\n<!DOCTYPE svg>\n<svg xmlns="http://www.w3.org/2000/svg"><path/></svg>'
    (tmp_path / "figures" / "kaplan_meier.svg").write_text(drawn, encoding="utf-8")
    c = {"value": 0.61, "low": 0.5, "high": 0.7}
    models = {"mcti": c, "a|b": {**c, "value": 0.7}, "short": {"value": None, "low": None, "high": None}}
    result = {"patients": 60, "events": 24, "folds": 3, "notice": "<b>painted</b>", "models": models}
    (tmp_path / "result.json").write_text(json.dumps(result), encoding="utf-8")
    return tmp_path


def test_the_roc_curve_is_that_of_the_middle_horizon(evaluation):
    false, true, threshold = kubeflow_artifacts.roc(evaluation)
    assert (false, threshold) == ([0.0, 0.5, 1.0], [0.0, 0.5, 1.0])
    assert true == pytest.approx([0.036, 0.536, 1.036])


def test_without_a_horizon_the_curve_is_empty(evaluation):
    path = evaluation / "plots" / "roc.csv"
    path.write_text(path.read_text(encoding="utf-8").splitlines()[0] + "\n", encoding="utf-8")
    assert kubeflow_artifacts.roc(evaluation) == ([], [], [])


def test_the_page_contains_the_figure_and_escapes_the_notice(evaluation):
    page = kubeflow_artifacts.curves(evaluation)
    assert page.count("<svg") == page.count("</svg>") == 1
    assert "<?xml" not in page
    assert "&lt;b&gt;painted&lt;/b&gt;" in page


def test_the_table_is_sorted_by_c_and_its_cells_are_escaped(evaluation):
    lines = kubeflow_artifacts.scores(evaluation).splitlines()
    assert lines[0] == "**&lt;b&gt;painted&lt;/b&gt;**"
    assert lines[-3:] == [
        "| a&#124;b | 0.700 | 0.500 to 0.700 |",
        "| MCTI | 0.610 | 0.500 to 0.700 |",
        "| short | not defined | not defined to not defined |",
    ]
