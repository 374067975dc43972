"""The pipeline `pretraining`: several cohorts to a registered version, without source tables."""

import json

import pytest
from google.protobuf import json_format
from kfp import dsl

from mcti import params
from mcti.components.pretrain import pretrain
from mcti.errors import UsageError
from mcti.pipelines import submit
from tests.pipelines.conftest import DATA, OVERRIDES, SOURCES
from tests.training import factories


def spec_of(*words):
    settings = params.load(None, [*OVERRIDES, SOURCES, *words])
    return json_format.MessageToDict(submit.PIPELINES["pretraining"](settings, "", "").pipeline_spec)


def test_the_model_is_evaluated_registered_and_promoted_from_the_results_of_one_task():
    tasks = spec_of()["components"]["comp-exit-handler-1"]["dag"]["tasks"]
    assert {"pretrain", "validate", "evaluate", "register", "promote", "visualize", "conclude-verdict"} <= set(tasks)
    assert not {"ingest", "extract", "split", "train"} & set(tasks)
    artifacts = tasks["evaluate"]["inputs"]["artifacts"]
    assert {name: value["taskOutputArtifact"]["producerTask"] for name, value in artifacts.items()} == dict.fromkeys(
        ["cohort", "features", "folds", "models"], "pretrain"
    )
    assert tasks["register"]["inputs"]["artifacts"]["validation"]["taskOutputArtifact"]["producerTask"] == "validate"
    assert not tasks["pretrain"]["cachingOptions"].get("enableCache"), "a source may change"


def test_gpus_of_the_task_require_cuda():
    for spec, device in ((spec_of("cluster.steps.pretrain.gpus=1"), "cuda"), (spec_of(), "auto")):
        train = spec["root"]["inputDefinitions"]["parameters"]["train"]["defaultValue"]
        assert json.loads(train)["device"] == device


def test_the_external_cohort_is_tested_before_the_gates():
    tasks = spec_of("test.cohort=s3://hospital/cohort")["components"]["comp-exit-handler-1"]["dag"]["tasks"]
    assert "test" in tasks["promote"]["dependentTasks"]


def test_it_compiles_without_source_tables(tmp_path):
    settings = params.load(None, [*OVERRIDES, SOURCES])
    compiled = submit.compile_to(settings, None, tmp_path / "pretraining.yaml", "pretraining")
    assert (compiled["pipeline"], compiled["data"]) == ("mcti-pretraining", "")
    local = params.load(None, [*OVERRIDES, "train.sources=[{cohort: ../a, features: ../b}]"])
    with pytest.raises(UsageError, match="is a folder that no pod can read"):
        submit.compile_to(local, None, tmp_path / "local.yaml", "pretraining")


def test_sources_without_features_are_refused():
    with pytest.raises(UsageError, match=r"a pretraining without slides in params\.yaml, key train\.sources"):
        submit.PIPELINES["pretraining"](params.load(None, list(OVERRIDES)), "", "")


@pytest.mark.parametrize("pipeline", ["training", "retraining", "pretraining"])
def test_an_evaluation_that_promote_would_refuse_is_refused_before_the_training(pipeline):
    words = ["evaluate.baselines=[kaplan_meier]", "evaluate.primary_baseline=kaplan_meier"]
    settings = params.load(None, [*OVERRIDES, SOURCES, *words])
    with pytest.raises(UsageError, match=r"baseline cox_clinical, which is not listed in params\.yaml, key evaluate"):
        submit.PIPELINES[pipeline](settings, DATA, "")


def test_the_component_writes_every_output_at_its_place(tmp_path):
    sources = [
        {"cohort": str(cohort), "features": str(features)}
        for cohort, features, _ in (make_cohort(tmp_path / name, name) for name in ("A", "B"))
    ]
    train = factories.settings(workers=1, epochs=1, sources=sources)
    split = params.SplitParams(folds=2, inner_folds=2, min_test_events=0)
    outputs = {
        name: dsl.Artifact(uri=str(tmp_path / "out" / name)) for name in ("cohort", "features", "folds", "models")
    }
    pretrain.python_func(train.model_dump_json(), split.model_dump_json(), **outputs)
    assert sorted(path.name for path in (tmp_path / "out").iterdir() if not path.name.endswith("-pool")) == sorted(
        outputs
    )
    assert (tmp_path / "out" / "folds" / "folds.csv").is_file()
    assert (tmp_path / "out" / "models" / "fold_1" / "model.json").is_file()
    assert outputs["models"].metadata["folds"] == 2


def make_cohort(root, name):
    """Folders of a cohort with this name."""
    folders = factories.folders(root, patients=16, prefix=name, seed=ord(name))
    path = folders[0] / "cohort.json"
    path.write_text(path.read_text(encoding="utf-8").replace('"made"', f'"{name}"'), encoding="utf-8")
    return folders
