"""Ready-made features without one slide file: the pages 2, 3 and 5 of the tutorial, and the compiled pipeline.

The search is nested (`search.nested: true`), so that each fold has its own settings.
"""

import csv
import json
from pathlib import Path

import h5py
import numpy as np
import pandas as pd
import pytest
import yaml

from mcti.local import settings, stack
from mcti.registry import tracking
from mcti.storage import tree_md5
from tests import command_blocks
from tests.stack.small_project import ROOT, clone, environment, mcti, shrink_settings

pytestmark = [pytest.mark.slow, pytest.mark.stack]

PATIENTS, WITHOUT_FEATURES = 48, "P-007-A"
NAME, EPOCHS, TRIALS = "lung-os", 3, 2
TUTORIAL, HOW_TO = ROOT / "docs" / "tutorial", ROOT / "docs" / "how-to"
SETTINGS = {
    "validate": {"min_events": 5, "min_patients": 10},
    "split": {"folds": 2, "inner_folds": 2},
    "search": {"trials": TRIALS, "epochs": 1, "nested": True, "parallel_trials": 1, "experiment": NAME},
    "train": {"preset": "tiny", "epochs": EPOCHS, "patience": 5, "bins": {"count": 2}, "workers": 1},
    "evaluate": {
        "bootstrap": 100, "baselines": ["cox_clinical", "cox_slides"], "primary_baseline": "cox_clinical",
        "attribution_patients": 0,
    },
    "promote": {"min_events": 5, "bootstrap": 100},
    "predict": {"workers": 1},
    "monitor": {"min_patients": 20, "bootstrap": 100},
    "cluster": {"extract_shards": 2, "search_workers": 1, "experiment": NAME},
}  # fmt: skip


def make_tables(folder, prefix="P", seed=0):
    """The source tables; the table of slides has no column `path`. Returns the risk of each patient."""
    random = np.random.default_rng(seed)
    ids, risk = [f"{prefix}-{i:03d}" for i in range(PATIENTS)], random.standard_normal(PATIENTS)
    time, censoring = random.exponential(30 * np.exp(-0.8 * risk)) + 1, random.uniform(5, 80, PATIENTS)
    clinical = pd.DataFrame({"patient_id": ids, "cohort": "C", "site": [f"S{i % 5}" for i in range(PATIENTS)]})
    clinical["age"], clinical["is_female"] = random.integers(40, 80, PATIENTS), random.integers(0, 2, PATIENTS)
    clinical["subtype"] = [("A", "B")[i % 2] for i in range(PATIENTS)]
    clinical["time_months"], clinical["event"] = np.minimum(time, censoring).round(2), (time <= censoring).astype(int)
    genes = random.standard_normal((PATIENTS, 12))
    genes[:, 0] += risk
    expression = pd.DataFrame(genes, index=pd.Index(ids, name="patient_id"), columns=[f"GENE{j}" for j in range(12)])
    slides = pd.DataFrame({"patient_id": ids, "slide_id": [f"{name}-A" for name in ids]})
    folder.mkdir(parents=True)
    for name, table in {"clinical": clinical, "expression": expression.reset_index(), "slides": slides}.items():
        table.to_csv(folder / f"{name}.csv", index=False)
    return dict(zip(slides["slide_id"], risk, strict=True))


def make_features(folder, risk):
    """A set as TRIDENT writes it, without one slide, and with one file that belongs to no slide."""
    random = np.random.default_rng(1)
    folder.mkdir(parents=True)
    corners = np.array([[256 * (i % 5), 256 * (i // 5)] for i in range(20)])
    for name, value in {**risk, "other": 0.0}.items():
        if name == WITHOUT_FEATURES:
            continue
        with h5py.File(folder / f"{name}.h5", "w") as file:
            file["features"] = (random.standard_normal((20, 16)) + 0.5 * value).astype(np.float32)
            file["coords"] = corners
            file["coords"].attrs.update({"patch_size": 256, "patch_size_level0": 256, "target_magnification": 20})


@pytest.fixture(scope="module")
def project(preloaded, tmp_path_factory):
    """A clone in which the settings and commands of the tutorial's pages were applied, with smaller trainings."""
    folder = clone(tmp_path_factory.mktemp("no slides") / "a project", programs=preloaded)
    make_features(folder / "data" / "set", make_tables(folder / "data" / "raw"))
    shrink_settings(folder, SETTINGS)
    pages = [TUTORIAL / "own-tables.md", TUTORIAL / "own-features.md"]
    try:
        for page in pages:
            shrink_settings(folder, yaml.safe_load(command_blocks.settings(page)))
            command_blocks.run(command_blocks.to_run(page), folder, environment(preloaded))
        settings.activate(folder, force=True)  # the environment is restored at the end of the module
        yield folder
    finally:
        stack.down(folder)


def test_the_features_of_47_of_48_slides_are_in_the_store(project):
    slides = pd.read_csv(project / "data" / "features" / "slides.csv", dtype=str)
    assert slides["status"].value_counts().to_dict() == {"OK": 47, "NO_FEATURES": 1}
    assert list(slides["slide_id"][slides["status"] == "NO_FEATURES"]) == [WITHOUT_FEATURES]
    assert len(list((project / "data" / "features").glob("*.h5"))) == 47


def test_the_registered_version_states_encoder_and_resolution(project):
    with tracking.service() as client:
        (version,) = client.search_model_versions(f"name = '{NAME}'")
    tags = {name: version.tags[f"mcti.{name}"] for name in ("encoder", "target_mpp", "target_patch_size")}
    assert tags == {"encoder": "made", "target_mpp": "0.5", "target_patch_size": "256"}


def test_the_report_states_why_the_critical_patches_have_no_image(project):
    page = (project / "reports" / "evaluation" / "report.html").read_text(encoding="utf-8")
    assert "30 of 30 critical patches have no image: the table names no slide file (30)." in page


@pytest.fixture(scope="module")
def external(project, preloaded):
    """Settings of an external cohort of other patients, ingested and extracted by the commands in the clone."""
    make_features(project / "hospital" / "set", make_tables(project / "hospital" / "raw", "H", 5))
    first, _ = command_blocks.to_run(HOW_TO / "external-cohort.md")
    command_blocks.run([first], project, environment(preloaded))
    return ("--set", "test.cohort=hospital/cohort", "--set", "test.features=hospital/features")


@pytest.fixture(scope="module")
def run(project, external, tmp_path_factory):
    """The folder of a run of the local pipeline with a test on the external cohort, which the promotion requires."""
    out = str(tmp_path_factory.mktemp("a run") / "runs")
    # In the experiment of `dvc repro`, its study of the same data and settings would be continued.
    sets = ("register.name=parity", "promote.external=true", "search.experiment=parity")
    words = (*(word for value in sets for word in ("--set", value)), *external)
    done = mcti(project, "pipeline", "run-local", "--out", out, "--json", *words)
    assert done.returncode == 0, done.stderr[-5000:]
    return Path(json.loads(done.stdout)["folder"])


def test_the_local_pipeline_tests_the_new_version_on_the_external_cohort(run):
    result = json.loads((run / "test" / "report" / "result.json").read_text(encoding="utf-8"))
    assert (result["model"], result["version"], result["cohort"]) == ("parity", "1", "hospital")
    assert result["patients"] == PATIENTS
    assert "external validation on hospital" in (run / "test" / "report_html").read_text(encoding="utf-8")
    verdict = json.loads((run / "promote" / "verdict").read_text(encoding="utf-8"))
    (gate,) = [gate for gate in verdict["gates"] if gate["name"] == "external validation"]
    assert gate["numbers"]["hospital"]["events"] == result["events"]
    with tracking.service() as client:
        (version,) = client.search_model_versions("name = 'parity'")
    assert f"mcti.external.{result['cohort_md5'][:12]}" in version.tags


def test_the_local_pipeline_gives_the_same_c(project, run):
    metrics = json.loads((project / "reports" / "evaluation" / "metrics.json").read_text(encoding="utf-8"))
    of_pipeline = json.loads((run / "evaluate" / "report" / "metrics.json").read_text(encoding="utf-8"))
    assert 0 < metrics["mcti"]["c_index"]["value"] < 1
    assert {"mcti", "cox_clinical", "cox_slides"} <= set(metrics)
    assert of_pipeline == metrics
    assert tree_md5(run / "merge-features" / "whole") == tree_md5(project / "data" / "features")
    assert json.loads((run / "outcome" / "report").read_text(encoding="utf-8"))["state"] == "FINISHED"


def below(client, run_id, step):
    """The runs of a step directly below a run of MLflow, in the order of their start."""
    ids = [experiment.experiment_id for experiment in client.search_experiments()]
    runs = client.search_runs(ids, f"tags.`mlflow.parentRunId` = '{run_id}' and tags.`mcti.step` = '{step}'")
    return sorted(runs, key=lambda run: run.info.start_time)


@pytest.fixture(scope="module")
def parent(run):
    """The MLflow run of the pipeline run."""
    with tracking.service() as client:
        number = client.get_experiment_by_name(NAME).experiment_id
        (pipeline,) = client.search_runs([number], "tags.`mcti.step` = 'pipeline'")
        return pipeline


def test_each_fold_is_trained_with_the_settings_of_its_own_search(run):
    best = yaml.safe_load((run / "search" / "best" / "best.yaml").read_text(encoding="utf-8"))["nested"]
    models = sorted(run.glob("merge-models/whole/fold_*/model.json"))
    assert [path.parent.name for path in models] == ["fold_0", "fold_1"]
    for path, (number, part) in zip(models, sorted(best.items()), strict=True):
        model = json.loads(path.read_text(encoding="utf-8"))
        assert model["search"]["nested"]
        assert model["search"]["outer_fold"] == int(number)
        assert {name: model["params"][name] for name in part["settings"]} == part["settings"]


def test_the_searches_and_the_trainings_are_below_the_run_of_the_pipeline(run, parent):
    with tracking.service() as client:
        studies = below(client, parent.info.run_id, "search")
        assert sorted(study.data.params["outer_fold"] for study in studies) == ["0", "1"]
        assert [len(below(client, study.info.run_id, "search")) for study in studies] == [TRIALS, TRIALS]
        trained = below(client, parent.info.run_id, "train")
        assert sorted(fold.info.run_name for fold in trained) == ["train fold_0", "train fold_1"]
        (registered,) = below(client, parent.info.run_id, "register")
        assert below(client, registered.info.run_id, "train") == [], "no curve is logged twice"
        for fold in trained:
            assert_equal_to_files(client, fold, run / "merge-models" / "whole" / fold.data.tags["mcti.fold"])


def assert_equal_to_files(client, logged, fold):
    """Settings and learning curves of a run of MLflow are those of the files of its fold."""
    model = json.loads((fold / "model.json").read_text(encoding="utf-8"))
    assert logged.data.params["learning_rate"] == str(model["params"]["learning_rate"])
    assert logged.data.params["bins.count"] == "2"
    rows = list(csv.DictReader((fold / "history.csv").open(encoding="utf-8", newline="")))
    assert len(rows) == EPOCHS
    names = {"loss": "train/loss", "c_index": "train/c_index", "validation": "validation/loss",
             "validation_c_index": "validation/c_index"}  # fmt: skip
    for column, metric in names.items():
        points = client.get_metric_history(logged.info.run_id, metric)
        assert [(point.step, point.value) for point in points] == [
            (int(row["epoch"]), float(row[column])) for row in rows if row[column]
        ]


@pytest.fixture(scope="module")
def champion(project, external):
    """The page of the tutorial on the promotion was run. From here on each command is a new process."""
    command_blocks.run(command_blocks.to_run(TUTORIAL / "promotion.md"), project, environment())
    return project


def test_the_page_on_the_promotion_makes_a_champion_and_its_dossier(champion):
    with tracking.service() as client:
        assert client.get_model_version_by_alias(NAME, "champion").version == "1"
    assert "lung-os" in (champion / "reports" / "dossier.html").read_text(encoding="utf-8")


def test_the_page_on_clusters_compiles_a_pipeline_that_passes_the_check(champion):
    output = command_blocks.run(command_blocks.to_run(TUTORIAL / "cluster.md"), champion, environment())
    assert "0 violations" in output
    assert (champion / "build" / "training.yaml").is_file()


def test_the_page_on_predictions_writes_them_for_each_patient(champion):
    command_blocks.run(command_blocks.to_run(HOW_TO / "new-patients.md"), champion, environment())
    predicted = pd.read_csv(champion / "reports" / "predictions.csv")
    assert predicted["risk"].notna().sum() == PATIENTS - 1, "one patient has no features"
    assert list((champion / "reports" / "explanations").iterdir())


def test_the_page_on_external_cohorts_tests_the_champion(champion):
    _, last = command_blocks.to_run(HOW_TO / "external-cohort.md")
    command_blocks.run([last], champion, environment())
    result = json.loads((champion / "reports" / "external" / "result.json").read_text(encoding="utf-8"))
    assert (result["model"], result["cohort"], result["patients"]) == (NAME, "hospital", PATIENTS)


def test_the_page_on_monitoring_reports_whether_to_retrain(champion):
    command_blocks.run(command_blocks.to_run(HOW_TO / "monitoring.md"), champion, environment())
    result = json.loads((champion / "reports" / "monitoring" / "result.json").read_text(encoding="utf-8"))
    assert isinstance(result["retrain"], bool)
