"""The pipelines on new patients, under kfp.local on real servers: a cancelled retraining, one to its end, inference.

The champion is made by the commands, in this process: tests/stack/test_whole_way.py runs the training pipeline.
"""

import contextlib
import io
import json
import os
import signal
import subprocess
import time
from pathlib import Path

import pandas as pd
import pytest
import yaml

from mcti import versions
from mcti.cli.app import app
from mcti.cli.command_context import run_app
from mcti.local import settings
from mcti.params import IngestParams
from mcti.registry import tracking
from mcti.registry.gates import NOT_ENOUGH_EVIDENCE, PROMOTE, REJECT
from mcti.steps.retraining import detect
from tests.polling import files
from tests.stack.small_project import BIN, make_raw_data
from tests.training.postgres import Server

pytestmark = [pytest.mark.slow, pytest.mark.stack]
REMOTE, NAME = "s3://mcti-data/pipelines-test", "cluster-made"
PARAMS = {
    "ingest": {
        "name": NAME, "clinical": "data/raw/clinical.csv", "expression": "data/raw/expression.csv",
        "slides": "data/raw/slides.csv", "endpoint": "DMFS", "expression_scale": "log2",
    },
    "validate": {"min_events": 5, "min_patients": 10},
    "split": {"folds": 2, "inner_folds": 2},
    "search": {"trials": 3, "epochs": 1},
    "train": {"preset": "tiny", "epochs": 1, "bins": {"count": 2}, "workers": 1},
    "evaluate": {"bootstrap": 100, "baselines": ["cox_clinical"], "primary_baseline": "cox_clinical"},
    "register": {"name": NAME},
    "promote": {"min_events": 5, "bootstrap": 100},
    "predict": {"workers": 1},
    "explain": {"steps": 8, "clusters": 2},
    "monitor": {"rules": ["events"], "new_events": 1},
    "cluster": {"remote": REMOTE, "extract_shards": 2, "search_workers": 2},
}  # fmt: skip
FIRST, SECOND = (16, 16), (20, 20)  # events, censored
INPUTS = ("--cohort", "data/cohort", "--features", "data/features")
FIRST_MODEL = (
    ("ingest", "--out", "data/cohort"),
    ("validate", "--cohort", "data/cohort", "--out", "reports/validation"),
    ("extract", "--slides", "data/cohort/slides.parquet", "--out", "data/features"),
    ("split", *INPUTS, "--out", "data/folds.csv"),
    ("train", *INPUTS, "--folds", "data/folds.csv", "--out", "models"),
    ("evaluate", *INPUTS, "--folds", "data/folds.csv", "--models", "models", "--out", "reports/evaluation"),
    ("register", "--models", "models", "--evaluation", "reports/evaluation", "--validation", "reports/validation",
     "--out", "reports/registration.json"),
    ("promote",),
)  # fmt: skip


def mcti(folder, *words):
    """A command in this process, in `folder`: its output as JSON."""
    output = io.StringIO()
    with contextlib.chdir(folder), contextlib.redirect_stdout(output):
        code = run_app(app, [*words, "--json"])
    assert code == 0, (words, output.getvalue())
    return json.loads(output.getvalue())


@pytest.fixture(scope="module")
def project(running, tmp_path_factory):
    """A folder with settings and a champion; the newest version of the sources has new patients."""
    settings.activate(Path(running.folder).parent, force=True)  # the environment is restored at the end of the module
    folder = tmp_path_factory.mktemp("a cluster")
    with Server() as postgres:
        tree = {**PARAMS, "search": {**PARAMS["search"], "storage": postgres.url}}
        (folder / "params.yaml").write_text(yaml.safe_dump(tree), encoding="utf-8")
        make_raw_data(folder, *FIRST)
        for words in FIRST_MODEL:
            mcti(folder, *words)
        make_raw_data(folder, *SECOND)
        versions.set_latest_version(REMOTE, NAME, versions.publish(folder / "data" / "raw", REMOTE).md5)
        yield folder


@pytest.fixture(scope="module")
def newest(project):
    """MD5 of the newest version of the sources."""
    return versions.latest_version(REMOTE, NAME).md5


@pytest.fixture(scope="module")
def retrained(project, preloaded):
    """The retraining pipeline to its end: (its output, folder of the run)."""
    return run_local(project, preloaded, "retraining")


def start(project, programs, pipeline, *words):
    """(process, folder of its results); all other output goes to a file in that folder, since a pipe would fill."""
    out = project / "runs" / f"{pipeline} {len(list(project.glob('runs/*')))}"
    out.mkdir(parents=True)
    command = [str(programs / "mcti"), "pipeline", "run-local", "--kind", pipeline, "--json", "--out", str(out), *words]
    with (out / "log").open("w") as log:
        process = subprocess.Popen(command, cwd=project, stdout=subprocess.PIPE, stderr=log, text=True)
    return process, out


def run_local(project, programs, pipeline, *words):
    """The output of the command and the folder of the run, after its end."""
    process, out = start(project, programs, pipeline, *words)
    stdout, _ = process.communicate()
    assert process.returncode == 0, (out / "log").read_text(encoding="utf-8")[-5000:]
    result = json.loads(stdout)
    return result, Path(result["folder"])


def wait_for(happened, process, out, seconds=600):
    for _ in range(seconds * 10):
        if happened():
            return
        assert process.poll() is None, (out / "log").read_text(encoding="utf-8")[-5000:]
        time.sleep(0.1)
    raise AssertionError("the condition was not met")


def runs_of(run):
    """The MLflow run of a pipeline run, and its child runs."""
    with tracking.service() as client:
        ids = [experiment.experiment_id for experiment in client.search_experiments()]
        runs = client.search_runs(ids, f"tags.`mcti.kfp_run` = '{run}'")
        (parent,) = [parent for parent in runs if parent.data.tags["mcti.step"] == "pipeline"]
        return parent, [child for child in runs if child.data.tags.get("mlflow.parentRunId") == parent.info.run_id]


def versions_of_the_model():
    with tracking.service() as client:
        return sorted(client.search_model_versions(f"name = '{NAME}'"), key=lambda version: int(version.version))


def tasks_of(run):
    """Processes that are tasks of this run."""
    mark, pids = f"MCTI_RUN={run}".encode(), []
    for path in Path("/proc").glob("[0-9]*/environ"):
        try:
            if mark in path.read_bytes().split(b"\0"):
                pids.append(path.parent.name)
        except OSError:  # ended, or owned by another user
            continue
    return [pid for pid in pids if pid != str(os.getpid())]


def test_a_cancelled_retraining_registers_nothing_and_a_concurrent_one_ends(project):
    process, out = start(project, BIN, "retraining")
    wait_for(lambda: files(out, "*/**/detect-new-data/report"), process, out)
    result, folder = run_local(project, BIN, "retraining")
    verdict = json.loads((folder / "detect-new-data" / "report").read_text(encoding="utf-8"))
    assert not verdict["retrain"]
    assert verdict["reason"].endswith(f"is retraining {NAME}: this run ends")
    assert result["reason"] == verdict["reason"]
    holder = verdict["reason"].split()[1]
    wait_for(lambda: tasks_of(holder) and files(out, "*/**/extract"), process, out)
    process.send_signal(signal.SIGTERM)
    process.communicate()
    output = (out / "log").read_text(encoding="utf-8")
    assert process.returncode == 130, output[-3000:]
    assert output.rstrip().endswith("cancelled: its tasks are stopped")
    assert not tasks_of(holder)
    assert len(versions_of_the_model()) == 1
    parent, below = runs_of(holder)
    assert parent.info.status == "KILLED"
    assert {run.data.tags["mcti.step"] for run in below} <= {"ingest", "validate", "extract"}


def test_a_model_is_trained_on_new_data_and_compared_with_the_champion(retrained, newest, tmp_path):
    result, folder = retrained
    (report,) = folder.glob("**/detect-new-data/report")
    assert json.loads(report.read_text(encoding="utf-8"))["reason"] == f"version {newest} of the source data is new"
    first, second = versions_of_the_model()
    assert "mcti.data.source" not in first.tags
    assert second.tags["mcti.data.source"] == newest
    assert second.tags["mcti.kfp_run"] == result["run"]
    (verdict,) = folder.glob("**/promote/verdict")
    evaluation = json.loads(verdict.read_text(encoding="utf-8"))
    assert result["reason"] == evaluation["reason"]
    assert evaluation["outcome"] in (PROMOTE, REJECT, NOT_ENOUGH_EVIDENCE), evaluation
    again = detect(NAME, IngestParams(**PARAMS["ingest"]), REMOTE, "the next run", 48, tmp_path / "report.json")
    assert again.reason == f"nothing new: version 2 of {NAME} was trained on {newest}"


def test_the_run_is_one_run_of_mlflow_with_its_steps_below(retrained, newest):
    result, _ = retrained
    parent, below = runs_of(result["run"])
    tags = {name: parent.data.tags[f"mcti.{name}"] for name in ("pipeline", "image", "data.source")}
    assert tags == {"pipeline": result["version"], "image": "mcti-python:0.1.0", "data.source": newest}
    assert parent.info.status == "FINISHED"
    once = {"ingest", "validate", "monitor", "split", "evaluate", "register", "promote"}
    steps = [run.data.tags["mcti.step"] for run in below]
    assert {step: steps.count(step) for step in steps} == dict.fromkeys(once, 1) | {
        "extract": 2,
        "search": 1,
        "train": 2,
    }
    assert {run.info.status for run in below} == {"FINISHED"}


def test_a_version_leads_to_its_run_pipeline_image_and_data_and_each_of_them_back(retrained, newest, project):
    result, _ = retrained
    version = f"models:/{NAME}/2"
    chain = mcti(project, "lineage", version, "--remote", REMOTE)
    links = {link["what"]: link for link in chain["links"]}
    assert (links["data source"]["value"], links["data source"]["state"]) == (newest, "verified")
    assert links["KFP run"]["value"] == result["run"]
    assert links["pipeline"]["value"] == result["version"]
    assert links["image"]["value"] == "mcti-python:0.1.0"
    for source in (f"kfp-run:{result['run']}", f"pipeline:{result['version']}", f"data:{newest}"):
        assert mcti(project, "lineage", source)["versions"] == [version]


def test_two_workers_share_the_trials_of_one_study_in_postgresql(retrained):
    tables = {path: pd.read_csv(path) for path in retrained[1].glob("**/best/trials.csv")}
    workers = [path for path in tables if "iteration" in str(path)]
    assert len(workers) == PARAMS["cluster"]["search_workers"]
    (collected,) = [trials for path, trials in tables.items() if path not in workers]
    assert len(collected) == PARAMS["search"]["trials"]
    assert set(collected["state"]) <= {"complete", "pruned"}


def test_kubeflow_displays_roc_curve_survival_and_table(retrained):
    (folder,) = retrained[1].glob("**/visualize")
    assert "<svg" in (folder / "curves").read_text(encoding="utf-8")
    assert "| Cox: clinical |" in (folder / "scores").read_text(encoding="utf-8")
    output = json.loads((folder / "executor_output.json").read_text(encoding="utf-8"))
    points = output["artifacts"]["roc"]["artifacts"][0]["metadata"]["confidenceMetrics"]
    assert (points[0]["recall"], points[-1]["recall"]) == (0, 1)
    assert (points[0]["falsePositiveRate"], points[-1]["falsePositiveRate"]) == (0, 1)


def test_each_result_is_a_separate_version_in_the_remote(retrained):
    published = [json.loads(path.read_text(encoding="utf-8")) for path in retrained[1].glob("**/publish*/version")]
    assert len({version["md5"] for version in published}) == 3, "features, models, evaluation"
    assert [fault for version in published for fault in versions.verify(version["address"])] == []


def test_new_patients_have_predictions_and_a_heatmap_per_slide(project, newest, preloaded):
    _, folder = run_local(project, preloaded, "inference", "--data", newest)
    patients = pd.read_csv(project / "data" / "raw" / "clinical.csv", dtype=str)["patient_id"]
    (path,) = folder.glob("**/predict/predictions/predictions.csv")
    predicted = pd.read_csv(path, dtype={"patient_id": str})
    assert set(predicted["patient_id"]) == set(patients)
    assert predicted["risk"].notna().all()
    slides = pd.read_csv(project / "data" / "raw" / "slides.csv", dtype=str)["slide_id"]
    drawn = sorted(path.parent.name for path in folder.glob("**/heatmaps/images/*/heatmap.png"))
    assert drawn == sorted(slides)
    assert len(list(folder.glob("**/heatmaps/images"))) == PARAMS["cluster"]["extract_shards"]
