"""With `--redact` no file that predict, explain, monitor, evaluate and validate write names a patient."""

import hashlib
import json
from pathlib import Path

import pandas as pd
import pytest

from mcti import redaction
from mcti.cohort import tables
from mcti.params import EvaluateParams, ExplainParams, MonitorParams, PredictParams, ValidateParams
from mcti.steps.evaluate import evaluate
from mcti.steps.explain import explain
from mcti.steps.monitor import monitor
from mcti.steps.predict import predict
from mcti.steps.train import train
from mcti.steps.validate import validate
from tests.training.made import folders, settings

ONE = PredictParams(workers=1)


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    root = tmp_path_factory.mktemp("a world")
    cohort, features, folds = folders(root)
    train(cohort, features, folds, settings(epochs=1, workers=1), root / "models")
    return str(root / "models"), cohort, features, folds


@pytest.fixture
def redacting(monkeypatch):
    monkeypatch.setenv("MCTI_REDACT", "1")
    monkeypatch.setattr(redaction, "_learned", {})


def sha(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


def naming(folder: Path, ids: list[str]) -> list[str]:
    """Files below a folder that name a patient, in their name or in their bytes."""
    files = [path for path in folder.rglob("*") if path.is_file()]
    assert files
    return [
        str(path.relative_to(folder))
        for path in files
        if any(name.encode() in path.read_bytes() or name in str(path.relative_to(folder)) for name in ids)
    ]


def test_predictions_pages_and_explanations_name_nobody_and_still_join(world, tmp_path, redacting):
    models, cohort, features, _ = world
    ids = list(tables.read_patients(cohort)["patient_id"])
    out, why = tmp_path / "out", tmp_path / "why"
    explain(models, cohort, features, ExplainParams(steps=8), why, patients=ids[:2])
    predict(models, cohort, features, out / "risks.csv", ONE, pages=out / "pages", explanation=why)
    predict(models, cohort, features, out / "risks.json", ONE)
    assert naming(tmp_path, ids) == []
    assert list(pd.read_csv(out / "risks.csv")["patient_id"]) == [sha(name) for name in ids]
    page = (out / "pages" / f"{sha(ids[0])}.html").read_text(encoding="utf-8")
    assert "What the risk consists of" in page
    assert "data:image/png" in page, "the map of the slide was found under its hidden name"


def test_the_same_files_without_the_flag_do_name_them(world, tmp_path, monkeypatch):
    """Or the test above would look at files that name nobody anyway."""
    monkeypatch.delenv("MCTI_REDACT", raising=False)
    models, cohort, features, _ = world
    ids = list(tables.read_patients(cohort)["patient_id"])
    explain(models, cohort, features, ExplainParams(steps=8), tmp_path / "why", patients=ids[:1])
    predict(models, cohort, features, tmp_path / "risks.csv", ONE, pages=tmp_path / "pages")
    found = set(naming(tmp_path, ids))
    assert {"risks.csv", f"pages/{ids[0]}.html", "why/contributions.csv", f"why/patients/{ids[0]}.html"} <= found


def test_reports_of_the_watch_the_contract_and_the_evaluation_name_nobody(world, tmp_path, redacting):
    models, cohort, features, folds = world
    ids = list(tables.read_patients(cohort)["patient_id"])
    monitor(models, cohort, features, MonitorParams(), tmp_path / "watch")
    validate(cohort, None, ValidateParams(min_patients=5, min_events=2), tmp_path / "contract")
    evaluate(cohort, features, folds, models, EvaluateParams(bootstrap=100), tmp_path / "evaluation")
    # What later steps join by is kept (docs/security.md); it leaves through `register`, which hides it.
    kept = {"evaluation/predictions.csv", "evaluation/groups.csv", "evaluation/baselines.csv"}
    assert set(naming(tmp_path, ids)) == kept
    assert json.loads((tmp_path / "contract" / "results.json").read_text())["passed"]
