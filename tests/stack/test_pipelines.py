"""Whole pipelines under kfp.local, on real servers: training, a cancelled retraining, one to its end, inference."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pandas as pd
import pytest
import yaml

from mcti import versions
from mcti.local import settings
from mcti.registry import tracking
from tests.stack.small_project import make_raw_data
from tests.training.postgres import Server

pytestmark = [pytest.mark.slow, pytest.mark.stack]
REMOTE, NAME = "s3://mcti-data/pipelines-test", "cluster-made"
PARAMS = {
    "ingest": {
        "name": NAME, "clinical": "data/raw/clinical.csv", "expression": "data/raw/expression.csv",
        "slides": "data/raw/slides.csv", "endpoint": "DMFS", "expression_scale": "log2",
    },
    "validate": {"min_events": 5, "min_patients": 10},
    "extract": {"encoder": "hed44", "resolution": 0.5, "tile": 256},
    "split": {"folds": 2, "inner_folds": 2},
    "search": {"trials": 3, "epochs": 1},
    "train": {"preset": "tiny", "epochs": 1, "bins": {"count": 2}},
    "evaluate": {"bootstrap": 100, "baselines": ["cox_clinical"], "primary_baseline": "cox_clinical"},
    "register": {"name": NAME},
    "promote": {"min_events": 5, "bootstrap": 100},
    "explain": {"steps": 8, "clusters": 2},
    "monitor": {"rules": ["events"], "new_events": 1},
    "cluster": {"remote": REMOTE, "extract_shards": 2, "search_workers": 2},
}  # fmt: skip
FIRST, SECOND = (16, 16), (20, 20)  # events, censored


@pytest.fixture(scope="module")
def project(running, tmp_path_factory):
    """A folder with settings and the first version of the sources, which the remote has; the servers are up."""
    settings.activate(Path(running.folder).parent, force=True)  # the environment is put back at the end of the module
    place = tmp_path_factory.mktemp("a cluster")
    make_raw_data(place, *FIRST)
    with Server() as postgres:
        tree = {**PARAMS, "search": {**PARAMS["search"], "storage": postgres.url}}
        (place / "params.yaml").write_text(yaml.safe_dump(tree), encoding="utf-8")
        yield place


@pytest.fixture(scope="module")
def trained(project):
    """The training pipeline on the first version: (MD5 of the sources, what was said, folder of the run)."""
    md5 = versions.publish(project / "data" / "raw", REMOTE).md5
    said = run_local(project, "training", "--data", md5)
    return md5, said, Path(said["folder"])


@pytest.fixture(scope="module")
def newer(project, trained):
    """A second version of the sources, declared the newest."""
    make_raw_data(project, *SECOND)
    md5 = versions.publish(project / "data" / "raw", REMOTE).md5
    versions.set_head(REMOTE, NAME, md5)
    return md5


def started(project, kind, *words):
    """(process, folder of its results); what it says besides its result goes into a file there: a pipe would fill."""
    out = project / "runs" / f"{kind} {len(list(project.glob('runs/*')))}"
    out.mkdir(parents=True)
    command = [sys.executable, "-c", "from mcti.cli import main; main()", "pipeline", "run-local", "--kind", kind]
    with (out / "log").open("w") as log:
        process = subprocess.Popen(
            [*command, "--json", "--out", str(out), *words], cwd=project, stdout=subprocess.PIPE, stderr=log, text=True
        )
    return process, out


def run_local(project, kind, *words):
    """What the command says, once it is done."""
    process, out = started(project, kind, *words)
    stdout, _ = process.communicate()
    assert process.returncode == 0, (out / "log").read_text(encoding="utf-8")[-5000:]
    return json.loads(stdout)


def runs_of(run):
    """The run of MLflow that stands for a pipeline run, and those below it."""
    with tracking.service() as client:
        numbers = [found.experiment_id for found in client.search_experiments()]
        found = client.search_runs(numbers, f"tags.`mcti.kfp_run` = '{run}'")
        (parent,) = [one for one in found if one.data.tags["mcti.step"] == "pipeline"]
        return parent, [one for one in found if one.data.tags.get("mlflow.parentRunId") == parent.info.run_id]


def versions_of_the_model():
    with tracking.service() as client:
        return sorted(client.search_model_versions(f"name = '{NAME}'"), key=lambda version: int(version.version))


def test_the_run_is_one_run_of_mlflow_with_its_steps_below(trained):
    md5, said, _ = trained
    parent, below = runs_of(said["run"])
    tags = {name: parent.data.tags[f"mcti.{name}"] for name in ("pipeline", "image", "data.source")}
    assert tags == {"pipeline": said["version"], "image": "mcti-python:0.1.0", "data.source": md5}
    assert parent.info.status == "FINISHED"
    steps = sorted(run.data.tags["mcti.step"] for run in below)
    assert steps == sorted(
        [
            "ingest",
            "validate",
            "extract",
            "extract",
            "split",
            "search",
            "train",
            "train",
            "evaluate",
            "register",
            "promote",
        ]
    )
    assert {run.info.status for run in below} == {"FINISHED"}


def test_a_version_leads_to_its_run_pipeline_image_and_data_and_each_of_them_back(trained):
    md5, said, _ = trained
    (version,) = versions_of_the_model()
    words = ["lineage", f"models:/{NAME}@champion", "--remote", REMOTE, "--json"]
    chain = json.loads(mcti(*words))
    links = {link["what"]: link for link in chain["links"]}
    assert (links["data source"]["value"], links["data source"]["state"]) == (md5, "verified")
    assert links["KFP run"]["value"] == said["run"]
    assert links["pipeline"]["value"] == said["version"]
    assert links["image"]["value"] == "mcti-python:0.1.0"
    for source in (f"kfp-run:{said['run']}", f"pipeline:{said['version']}", f"data:{md5}"):
        assert json.loads(mcti("lineage", source, "--json"))["versions"] == [f"models:/{NAME}/{version.version}"]


def mcti(*words):
    command = [sys.executable, "-c", "from mcti.cli import main; main()", *words]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_two_workers_share_the_trials_of_one_study_in_postgresql(trained):
    folder = trained[2]
    (collected,) = folder.glob("search*/best/trials.csv")
    trials = pd.read_csv(collected)
    assert len(trials) == PARAMS["search"]["trials"]
    assert set(trials["state"]) <= {"complete", "pruned"}
    workers = {path.parent for path in folder.glob("for-loop-*/search/best")} | set(
        folder.glob("for-loop-*iteration*/search")
    )
    assert len(workers) == PARAMS["cluster"]["search_workers"]


def test_kubeflows_page_gets_a_roc_curve_the_survival_and_a_table(trained):
    shown = trained[2] / "show"
    assert "<svg" in (shown / "curves").read_text(encoding="utf-8")
    assert "| cox_clinical |" in (shown / "scores").read_text(encoding="utf-8")
    told = json.loads((shown / "executor_output.json").read_text(encoding="utf-8"))
    points = told["artifacts"]["roc"]["artifacts"][0]["metadata"]["confidenceMetrics"]
    assert (points[0]["recall"], points[-1]["recall"]) == (0, 1)
    assert (points[0]["falsePositiveRate"], points[-1]["falsePositiveRate"]) == (0, 1)


def test_a_cancelled_retraining_registers_nothing_and_makes_room_and_one_beside_it_yields(project, newer):
    before = [version.version for version in versions_of_the_model()]
    process, out = started(project, "retraining")
    wait_for(lambda: list(out.glob("*/**/detect/report")), process, out)
    said = run_local(project, "retraining")
    verdict = json.loads((Path(said["folder"]) / "detect" / "report").read_text(encoding="utf-8"))
    assert not verdict["go"]
    assert verdict["reason"].endswith(f"is retraining {NAME}: this one yields")
    holder = verdict["reason"].split()[1]
    wait_for(lambda: list(out.glob("*/**/train/model")), process, out)
    process.send_signal(signal.SIGTERM)
    process.communicate()
    told = (out / "log").read_text(encoding="utf-8")
    assert process.returncode == 130, told[-3000:]
    assert told.rstrip().endswith("cancelled: its tasks are stopped")
    assert not tasks_of(holder)
    assert [version.version for version in versions_of_the_model()] == before
    parent, below = runs_of(holder)
    assert parent.info.status == "KILLED"
    assert "register" not in {run.data.tags["mcti.step"] for run in below}


def wait_for(happened, process, out, seconds=600):
    for _ in range(seconds * 10):
        if happened():
            return
        assert process.poll() is None, (out / "log").read_text(encoding="utf-8")[-5000:]
        time.sleep(0.1)
    raise AssertionError("it did not happen")


def tasks_of(run):
    """Processes that are tasks of this run."""
    mark, found = f"MCTI_RUN={run}".encode(), []
    for path in Path("/proc").glob("[0-9]*/environ"):
        try:
            if mark in path.read_bytes().split(b"\0"):
                found.append(path.parent.name)
        except OSError:  # ended, or not ours
            continue
    return [pid for pid in found if pid != str(os.getpid())]


def test_new_data_are_found_trained_on_and_judged_against_the_champion(project, newer):
    said = run_local(project, "retraining")
    folder = Path(said["folder"])
    (found,) = folder.glob("**/detect/report")
    assert json.loads(found.read_text(encoding="utf-8"))["reason"] == f"version {newer} of the sources is new"
    first, second = versions_of_the_model()
    assert second.tags["mcti.data.source"] == newer != first.tags["mcti.data.source"]
    assert second.tags["mcti.kfp_run"] == said["run"]
    (verdict,) = folder.glob("**/promote/verdict")
    judged = json.loads(verdict.read_text(encoding="utf-8"))
    assert judged.get("outcome") or judged.get("reason")
    parent, below = runs_of(said["run"])
    assert parent.data.tags["mcti.data.source"] == newer
    assert {run.data.tags["mcti.step"] for run in below} >= {"monitor", "register", "promote"}
    again = run_local(project, "retraining")
    report = json.loads((Path(again["folder"]) / "detect" / "report").read_text(encoding="utf-8"))
    assert report["reason"].startswith("nothing new"), "the lease was given back, and this version has been used"


def test_new_patients_get_predictions_and_a_heatmap_of_every_slide(project, newer):
    said = run_local(project, "inference", "--data", newer)
    folder = Path(said["folder"])
    patients = pd.read_csv(project / "data" / "raw" / "clinical.csv", dtype=str)["patient_id"]
    (path,) = folder.glob("**/predict/predictions/predictions.csv")
    predicted = pd.read_csv(path, dtype={"patient_id": str})
    assert set(predicted["patient_id"]) == set(patients)
    assert predicted["risk"].notna().all()
    slides = pd.read_csv(project / "data" / "raw" / "slides.csv", dtype=str)["slide_id"]
    drawn = sorted(path.parent.name for path in folder.glob("**/heatmaps/pictures/*/heatmap.png"))
    assert drawn == sorted(slides)
    assert len(list(folder.glob("**/heatmaps/pictures"))) == PARAMS["cluster"]["extract_shards"]
