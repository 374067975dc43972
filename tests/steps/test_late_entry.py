"""Late entry from the user's table to the report, with the commands: init, ingest, validate, split, train, evaluate."""

import json
from functools import partial

import numpy as np
import pandas as pd
import pytest

from mcti.evaluation.outcomes import Outcomes
from tests import left_truncated as lt
from tests.steps.gene_cohort import ONE_WORKER, run, write_tables

PATIENTS = 240


def write(folder):
    """Follow-up in days, the entry in months; one gene decides the hazard, five do not. The entries."""
    x, entry, time, event = lt.simulated(PATIENTS, seed=11)
    outcome = {"OS_days": np.round(time * 30.4375, 2), "OS_status": event.astype(int)}
    write_tables(folder, x, outcome | {"months_to_sequencing": np.round(entry, 4)})
    return entry


@pytest.mark.slow
def test_the_commands_count_patients_from_their_entry(preloaded, tmp_path):
    mcti = partial(run, preloaded)
    entry = write(tmp_path)
    tables = ["--clinical", "clinical.csv", "--expression", "genes.csv", "--slides", "slides.csv"]
    printed = mcti("init", "project", *tables, "--event-confirmed", "--yes", cwd=tmp_path)
    assert f"{int((entry > 0).sum())} of 240 patients after the origin" in printed
    root = tmp_path / "project"
    assert "late_entries" in mcti("ingest", "--out", "data/cohort", cwd=root)
    mcti("validate", "--cohort", "data/cohort", "--out", "reports/validation", cwd=root)
    expectations = json.loads((root / "reports/validation/results.json").read_text())["expectations"]
    assert {"entry_filled", "entry_before_end"} <= {one["id"] for one in expectations}
    data = ["--cohort", "data/cohort", "--folds", "data/folds.csv"]
    mcti("split", "--cohort", "data/cohort", "--out", "data/folds.csv", "--set", "split.folds=2", cwd=root)
    settings = ["--set", "train.modalities=genes", "--set", "train.epochs=2", "--set", "train.survival_loss=cox"]
    mcti("train", *data, "--out", "models", *settings, *ONE_WORKER, cwd=root)
    horizons = ["--set", "evaluate.bootstrap=100", "--set", "evaluate.horizons_months=[12.0,36.0]"]
    mcti("evaluate", *data, "--models", "models", "--out", "reports/evaluation", *horizons, cwd=root)
    check_evaluation(root, entry)


def check_evaluation(root, entry):
    """The entry reaches the predictions; the reference curve is the true one; baselines without it are left out."""
    rows = pd.read_csv(root / "reports/evaluation/predictions.csv").sort_values("patient_id")
    np.testing.assert_allclose(rows["entry_months"], entry, atol=2e-4)
    result = json.loads((root / "reports/evaluation/result.json").read_text())
    assert {"cox_genes", "forest", "boosting"} <= result["skipped"].keys()
    assert "no left truncation" in result["skipped"]["forest"]
    assert result["c_index"] > 0.6
    metrics = json.loads((root / "reports/evaluation/metrics.json").read_text())
    assert metrics["kaplan_meier"]["oe_36"]["value"] == pytest.approx(1, abs=0.15)
    # The Kaplan-Meier baseline of each fold is the curve with entries of its training part.
    baselines = pd.read_csv(root / "reports/evaluation/baselines.csv")
    predicted = baselines[baselines["model"] == "kaplan_meier"].groupby("fold")["S_36"].first()
    parts = {fold: list(part["patient_id"]) for fold, part in rows.groupby("fold")}
    folds = {fold: (parts[1 - fold], part) for fold, part in parts.items()}
    for fold in Outcomes.from_folds(rows.reset_index(drop=True), folds).folds:
        assert predicted[fold.number] == pytest.approx(float(fold.survival.at(36.0)), abs=1e-9)
    assert "left truncation" in (root / "reports/evaluation/report.html").read_text()
