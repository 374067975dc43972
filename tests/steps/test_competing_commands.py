"""Competing events from the user's table to the report, with the commands: init, ingest, validate, split, train,
evaluate."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from mcti.evaluation.competing import aalen_johansen
from tests.evaluation.test_competing import cohort

PATIENTS = 240


def mcti(*arguments, cwd):
    command = [str(Path(sys.executable).parent / "mcti"), *arguments]
    done = subprocess.run(command, cwd=cwd, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def write_tables(folder):
    """Relapse 1, death without relapse 2; one gene decides both hazards, in opposite directions; (time, status)."""
    x, time, status = cohort(PATIENTS)
    random = np.random.default_rng(0)
    ids = [f"Q{number:03d}" for number in range(PATIENTS)]
    clinical = pd.DataFrame({"patient_id": ids, "site": [f"S{number % 5}" for number in range(PATIENTS)]})
    clinical["age"] = np.round(60 + 9 * random.normal(size=PATIENTS))
    clinical["is_female"], clinical["subtype"] = random.integers(0, 2, PATIENTS), random.choice(["A", "B"], PATIENTS)
    clinical["DFI_months"], clinical["DFI"] = time, status
    genes = pd.DataFrame(random.normal(size=(PATIENTS, 6)), columns=[f"G{number}" for number in range(6)])
    genes["G0"] = x
    genes.insert(0, "patient_id", ids)
    slides = pd.DataFrame({"patient_id": ids, "slide_id": [f"{name}-DX1" for name in ids]})
    for name, table in {"clinical": clinical, "genes": genes, "slides": slides}.items():
        table.to_csv(folder / f"{name}.csv", index=False)
    return time, status


@pytest.mark.slow
def test_the_commands_give_the_cumulative_incidence(tmp_path):
    time, status = write_tables(tmp_path)
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
    mcti("train", *data, "--out", "models", *settings, cwd=root)
    horizons = ["--set", "evaluate.bootstrap=100", "--set", "evaluate.horizons_months=[12.0,36.0]"]
    mcti("evaluate", *data, "--models", "models", "--out", "reports/evaluation", *horizons, cwd=root)
    check_evaluation(root / "reports/evaluation", time, status)


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
