"""Competing events from the user's table to the report, with the commands: init, ingest, validate, split, train,
evaluate, predict."""

import json
from functools import partial

import numpy as np
import pandas as pd
import pytest

from mcti.cohort import tables
from mcti.evaluation.competing import aalen_johansen
from mcti.params import ExplainParams, MonitorParams, PredictParams
from mcti.steps.explain.explanations import CAUSE_SPECIFIC
from mcti.steps.explain.step import explain
from mcti.steps.monitor import monitor
from mcti.steps.predict.step import PatientPages, predict
from mcti.steps.train import train
from tests.evaluation.test_competing import cohort
from tests.steps.gene_cohort import ONE_WORKER, run, write_tables
from tests.steps.test.factories import read, renamed, write
from tests.training.factories import folders, settings

PATIENTS = 240


@pytest.mark.slow
def test_the_commands_give_the_cumulative_incidence(preloaded, tmp_path):
    mcti = partial(run, preloaded)
    x, time, status = cohort(PATIENTS)
    # Relapse 1, death without relapse 2; one gene decides both hazards, in opposite directions.
    write_tables(tmp_path, x, {"DFI_months": time, "DFI": status})
    tables = ["--clinical", "clinical.csv", "--expression", "genes.csv", "--slides", "slides.csv"]
    printed = mcti("init", "project", *tables, "--event-value", "2=2", "--event-confirmed", "--yes", cwd=tmp_path)
    counts = f"{(status == 1).sum()} events, {(status == 2).sum()} competing events"
    assert f"240 patients, {counts}, 6 genes" in printed
    root = tmp_path / "project"
    mcti("ingest", "--out", "data/cohort", cwd=root)
    mcti("validate", "--cohort", "data/cohort", "--out", "reports/validation", cwd=root)
    results = json.loads((root / "reports/validation/results.json").read_text())
    assert results["numbers"]["competing_events"] == (status == 2).sum()
    assert {"competing_is_flag", "competing_without_event"} <= {one["id"] for one in results["expectations"]}
    data = ["--cohort", "data/cohort", "--folds", "data/folds.csv"]
    mcti("split", "--cohort", "data/cohort", "--out", "data/folds.csv", "--set", "split.folds=2", cwd=root)
    settings = ["--set", "train.modalities=genes", "--set", "train.epochs=2", "--set", "train.survival_loss=cox"]
    mcti("train", *data, "--out", "models", *settings, *ONE_WORKER, cwd=root)
    horizons = ["--set", "evaluate.bootstrap=100", "--set", "evaluate.horizons_months=[12.0,36.0]"]
    mcti("evaluate", *data, "--models", "models", "--out", "reports/evaluation", *horizons, cwd=root)
    check_evaluation(root / "reports/evaluation", time, status)
    inputs = ["--model", "models", "--cohort", "data/cohort"]
    mcti("predict", *inputs, "--out", "predictions.csv", *ONE_WORKER, cwd=root)
    predicted = pd.read_csv(root / "predictions.csv").set_index("patient_id")
    scored = pd.read_csv(root / "reports/evaluation/cumulative_incidence.csv")
    scored = scored[scored["model"] == "mcti"].set_index("patient_id").loc[predicted.index]
    # The evaluation has another hazard of the competing event, by patient, and fewer steps of S(t).
    np.testing.assert_allclose(predicted["F_36"], scored["F_36"], atol=0.05)
    assert predicted["F_36"].mean() == pytest.approx(scored["F_36"].mean(), abs=0.02)
    assert (1 - predicted["S_36"] > predicted["F_36"] + 0.03).all()


@pytest.fixture(scope="module")
def small(tmp_path_factory):
    """A model of 40 patients, some with competing events, and 30 others of the same population."""
    root = tmp_path_factory.mktemp("small")
    development, later = folders(root, patients=40), folders(root / "later", patients=30, seed=1)
    for folder in (development[0], later[0]):
        with_competing_events(folder)
    renamed(later[0])
    train(*development, settings(epochs=1, workers=1), root / "models")
    return root / "models", development, later


def with_competing_events(folder):
    whole = read(folder)
    censored = whole.patients["event"] == 0
    whole.patients["competing"] = (censored & (np.arange(len(censored)) % 3 > 0)).astype("int8")
    write(folder, whole)


def test_a_patient_of_the_development_cohort_has_the_incidence_of_the_fold(small, tmp_path):
    models, (cohort, features, _), _ = small
    params = PredictParams(workers=1)
    predict(str(models), cohort, features, params, tmp_path / "out.csv")
    folds = pd.concat([pd.read_csv(file, dtype=str) for file in models.glob("fold_*/predictions.csv")])
    folds = folds.set_index("patient_id").sort_index()
    table = pd.read_csv(tmp_path / "out.csv", dtype=str).set_index("patient_id").sort_index()
    names = [name for name in folds if name.startswith(("F_", "S_"))]
    assert any(name.startswith("F_") for name in names)
    pd.testing.assert_frame_equal(table[names], folds[names])
    one, pages = tmp_path / "one.csv", PatientPages(tmp_path / "p")
    predict(str(models), cohort, features, params, one, pages=pages, patient_ids=["P-000"])
    assert "S(t) is cause-specific" in (tmp_path / "p" / "P-000.html").read_text()


def test_explain_and_monitor_state_that_their_numbers_are_cause_specific(small, tmp_path):
    models, (cohort, features, _), (later, later_features, _) = small
    explain(str(models), cohort, features, ExplainParams(), tmp_path / "explained", patient_ids=["P-000"])
    assert CAUSE_SPECIFIC in (tmp_path / "explained/patients/P-000.html").read_text()
    result = monitor(str(models), later, later_features, MonitorParams(bootstrap=200), tmp_path / "monitored")
    count = int(tables.read_patients(later)["competing"].sum())
    assert result.competing_events == count > 0
    sentence = f"{count} new patients had competing events and count as censored"
    assert sentence in result.lines()[-1]
    assert sentence in (tmp_path / "monitored/report.html").read_text()


def check_evaluation(folder, time, status):
    """The reference is the known incidence; a cause-specific probability is too high, the incidence is not."""
    section = json.loads((folder / "metrics.json").read_text())["mcti"]["competing"]
    models = section["models"]
    assert models["aalen_johansen"]["oe_competing_36"]["value"] == pytest.approx(1, abs=0.15)
    assert models["mcti"]["c_competing"]["value"] > 0.6
    assert models["mcti"]["ibs_skill_competing"]["value"] > 0
    incidence = pd.read_csv(folder / "cumulative_incidence.csv")
    observed = float(aalen_johansen(status == 1, status == 2, time)[0].at(36.0))
    predicted = incidence.groupby("model")["F_36"].mean()
    for name in ("cox_clinical_genes", "cause_specific_cox", "aalen_johansen"):
        assert predicted[name] == pytest.approx(observed, abs=0.03), name
    curves = pd.read_csv(folder / "baselines.csv")
    cause_specific = 1 - curves[curves["model"] == "cox_clinical_genes"]["S_36"]
    assert cause_specific.mean() > observed + 0.08
    assert "competing events" in " ".join(json.loads((folder / "result.json").read_text())["warnings"])
    assert 'id="competing"' in (folder / "report.html").read_text()
