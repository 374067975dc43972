"""The pipeline `pretraining`: several cohorts to a registered version, without source tables."""

import json

import pytest
from google.protobuf import json_format

from mcti import params
from mcti.errors import UsageError
from pipelines import submit
from tests.pipelines.conftest import OVERRIDES, SOURCES


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
