"""monitor: new patients against a trained model: the rule that fires, the page, the gauges."""

import json
import re
import shutil

import numpy as np
import pandas as pd
import pytest

from mcti import storage
from mcti.cohort import tables
from mcti.errors import DataError
from mcti.params import MonitorParams, PredictParams
from mcti.steps.monitor import monitor
from mcti.steps.train import train
from tests.steps.test.factories import read, renamed, write
from tests.training.factories import GENES, folders, settings

PARAMS = MonitorParams(min_patients=20, new_events=60, min_events=10, bootstrap=200)


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    """A model of 60 patients, and 50 others drawn from the same population."""
    root = tmp_path_factory.mktemp("a world")
    cohort, features, folds = folders(root, patients=60, folds=3)
    train(cohort, features, folds, settings(epochs=6, workers=1), root / "models")
    later, later_features, _ = folders(root / "later", patients=50, seed=1)
    renamed(later)
    return root / "models", cohort, features, later, later_features


def changed(world, tmp_path, change):
    """The later cohort after `change` to its expression or patients."""
    *_, later, features = world
    whole = read(later)
    change(whole)
    (tmp_path / "changed").mkdir()
    write(tmp_path / "changed", whole)
    return tmp_path / "changed", features


def test_patients_of_the_same_population_fire_no_rule(world, tmp_path):
    models, _, _, later, features = world
    result = monitor(str(models), later, features, PARAMS, tmp_path / "out")
    assert (result.retrain, result.rule, result.fired, result.drifted) == (False, "none", (), ())
    assert result.patients == result.new_patients == 50
    assert result.new_events == int(tables.read_patients(later)["event"].sum())
    assert {"genes", "features", "slides", "risk"} <= set(result.effects)
    assert json.loads((tmp_path / "out" / "result.json").read_text())["rule"] == "none"


def test_the_development_cohort_itself_has_no_new_patient(world, tmp_path):
    models, cohort, features, *_ = world
    result = monitor(str(models), cohort, features, PARAMS, tmp_path / "out")
    assert (result.new_patients, result.new_events, result.rule) == (0, 0, "none")


def test_enough_new_events_fire_the_rule_of_events(world, tmp_path):
    models, _, _, later, features = world
    result = monitor(str(models), later, features, PARAMS.model_copy(update={"new_events": 5}), tmp_path / "out")
    assert (result.retrain, result.rule, result.fired) == (True, "events", ("events",))
    assert "the limit is 5" in result.reasons["events"]


def test_shifted_genes_fire_the_rule_of_drift_and_are_listed(world, tmp_path):
    def shift(whole):
        whole.expression["g1"] += 2

    cohort, features = changed(world, tmp_path, shift)
    result = monitor(str(world[0]), cohort, features, PARAMS, tmp_path / "out")
    assert result.rule == "drift"
    assert "genes" in result.drifted
    columns = json.loads((tmp_path / "out" / "findings.json").read_text())["genes"]["columns"]
    assert columns[0]["column"] == "g1"
    assert columns[0]["shift"] > 1


def test_genes_that_are_no_longer_measured_fire_the_rule_of_drift(world, tmp_path):
    def lose(whole):
        whole.expression.iloc[:30, 2] = np.nan

    cohort, features = changed(world, tmp_path, lose)
    result = monitor(str(world[0]), cohort, features, PARAMS, tmp_path / "out")
    assert result.drifted == ("missingness",)


def test_outcomes_that_contradict_the_risks_fire_the_rule_of_performance(world, tmp_path):
    """The order of the outcomes is reversed: the patients with the lowest risk die first."""
    models, _, _, later, features = world
    (tmp_path / "evaluation").mkdir()
    storage.write_json(
        tmp_path / "evaluation" / "metrics.json", {"mcti": {"uno_c": {"value": 0.8, "low": 0.72, "high": 0.88}}}
    )
    good = monitor(str(models), later, features, PARAMS, tmp_path / "good")
    risks = read_risks(models, later, features, tmp_path)

    def turn(whole):
        order = risks.reindex(whole.patients["patient_id"]).rank().to_numpy()
        whole.patients["time_months"] = 5.0 + order
        whole.patients["event"] = np.ones(len(order), dtype=np.int8)

    cohort, features = changed(world, tmp_path, turn)
    params = PARAMS.model_copy(update={"rules": ("performance",)})
    result = monitor(str(models), cohort, features, params, tmp_path / "bad", evaluation=tmp_path / "evaluation")
    assert result.rule == "performance"
    assert result.uno_c["value"] < 0.1
    assert result.c_loss["low"] > 0.5
    assert good.c_loss is None  # a folder has no registered interval


def trained_with_late_entry(models, copy):
    shutil.copytree(models, copy)
    for path in copy.glob("fold_*/model.json"):
        record = storage.read_json(path)
        storage.write_json(path, record | {"cohort": record["cohort"] | {"late_entries": 9}})
    return copy


def test_without_the_entry_that_the_training_counts_the_performance_is_not_assessed(world, tmp_path):
    models = trained_with_late_entry(world[0], tmp_path / "models")
    result = monitor(str(models), world[3], world[4], PARAMS, tmp_path / "without")
    assert "performance" in result.not_tested
    assert "this cohort has no column entry_months" in result.reasons["performance"]
    assert result.uno_c is None

    def enter(whole):
        whole.patients["entry_months"] = 0.5 * whole.patients["time_months"]

    entered = monitor(str(models), *changed(world, tmp_path, enter), PARAMS, tmp_path / "with")
    from_origin = monitor(str(world[0]), world[3], world[4], PARAMS, tmp_path / "origin")
    assert "performance" not in entered.not_tested
    assert entered.uno_c["value"] != from_origin.uno_c["value"]


def read_risks(models, cohort, features, tmp_path):
    from mcti.steps.predict.step import predict

    predict(str(models), cohort, features, PredictParams(), tmp_path / "risks.csv")
    return pd.read_csv(tmp_path / "risks.csv").set_index("patient_id")["risk"]


def test_the_gauges_follow_the_grammar_of_prometheus(world, tmp_path):
    """The rules of the text format 0.0.4: one HELP and TYPE per metric, samples below, no metric twice."""
    models, _, _, later, features = world
    monitor(str(models), later, features, PARAMS, tmp_path / "out")
    text = (tmp_path / "out" / "metrics.prom").read_text(encoding="utf-8")
    sample = re.compile(r'([a-z_:][a-z0-9_:]*)\{((?:[a-z_]+="(?:[^"\\\n]|\\[\\"n])*",?)+)\} (-?[0-9.e+-]+|NaN)')
    assert text.endswith("\n")
    metrics, current = [], None
    for line in text.splitlines():
        if line.startswith("# HELP "):
            current = line.split()[2]
            assert current not in metrics
            metrics.append(current)
        elif line.startswith("# TYPE "):
            assert line == f"# TYPE {current} gauge"
        else:
            match = sample.fullmatch(line)
            assert match, line
            assert match[1] == current
            float(match[3])
    assert re.search(
        r'^mcti_monitor_retrain\{model="models",rule="drift",version="[0-9a-f]+"\} 0\.0$', text, re.MULTILINE
    )


def test_the_report_is_self_contained_and_escapes_user_input(world, tmp_path):
    def name(whole):
        object.__setattr__(whole.info, "notice", "<script>alert(1)</script>")

    cohort, features = changed(world, tmp_path, name)
    monitor(str(world[0]), cohort, features, PARAMS, tmp_path / "out")
    html = (tmp_path / "out" / "report.html").read_text(encoding="utf-8")
    assert "&lt;script&gt;alert(1)" in html
    assert "<script" not in html
    assert not re.search(r"(src|href)=[\"']?http", html)
    assert "No rule fired" in html


def test_a_model_without_a_reference_profile_is_refused(world, tmp_path):
    import shutil

    models, _, _, later, features = world
    shutil.copytree(models, tmp_path / "old")
    path = tmp_path / "old" / "fold_0" / "model.json"
    spec = json.loads(path.read_text())
    del spec["reference"]
    path.write_text(json.dumps(spec))
    with pytest.raises(DataError, match="no reference profile of its training patients"):
        monitor(str(tmp_path / "old"), later, features, PARAMS, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_the_reference_profile_contains_no_value_of_a_patient_and_only_the_training_part(world):
    models, cohort, *_ = world
    spec = json.loads((models / "fold_0" / "model.json").read_text())
    assert spec["reference"]["patients"] == len(spec["patients"]) == 40
    values = {f"{v:.6g}" for v in tables.read_expression(cohort).to_numpy().ravel()}
    grid = {point.split(":")[0] for g in GENES for point in spec["reference"]["families"]["genes"][g].split()[2:]}
    assert len(grid) == 5 * (40 // 5 - 1)
    assert not {f"{float(k):.6g}" for k in grid} & values
