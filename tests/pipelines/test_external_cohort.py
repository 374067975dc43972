"""The optional task `test` of the pipelines: the external validation of a new version before the gates."""

import pytest
from google.protobuf import json_format

from mcti import params
from mcti.errors import UsageError
from mcti.pipelines import submit
from tests.pipelines.conftest import DATA, OVERRIDES

EXTERNAL = ("test.cohort=s3://hospital/cohort", "test.features=s3://hospital/features")


@pytest.mark.parametrize(("pipeline", "dag"), [("training", "exit-handler-1"), ("retraining", "condition-5")])
def test_a_new_version_is_tested_on_the_external_cohort_before_the_gates(pipeline, dag):
    settings = params.load(None, [*OVERRIDES, *EXTERNAL])
    spec = json_format.MessageToDict(submit.PIPELINES[pipeline](settings, DATA, "").pipeline_spec)
    tasks = spec["components"][f"comp-{dag}"]["dag"]["tasks"]
    inputs = tasks["test"]["inputs"]
    addresses = {
        name: value["runtimeValue"]["constant"] for name, value in inputs["parameters"].items() if name != "params"
    }
    assert addresses == {"cohort": "s3://hospital/cohort", "features": "s3://hospital/features"}
    assert inputs["artifacts"]["version"]["taskOutputArtifact"]["producerTask"] == "register"
    assert "test" in tasks["promote"]["dependentTasks"]
    assert not tasks["test"]["cachingOptions"].get("enableCache"), "each run validates its own version"


def test_there_is_no_external_test_without_a_cohort(ir):
    assert "comp-test" not in ir[0]["components"]
    tasks = ir[0]["components"]["comp-exit-handler-1"]["dag"]["tasks"]
    assert "test" not in tasks["promote"]["dependentTasks"]


def test_features_of_an_external_cohort_without_the_cohort_are_refused():
    with pytest.raises(UsageError, match=r"features without a cohort in --set, key test: set test\.cohort"):
        params.load(None, ["test.features=s3://hospital/features"])


def test_a_folder_that_no_pod_can_read_is_refused(tmp_path):
    folder = params.load(None, [*OVERRIDES, "test.cohort=../hospital", "test.features=/scratch/../features"])
    with pytest.raises(UsageError) as raised:
        submit.compile_to(folder, DATA, tmp_path / "refused.yaml")
    for text in ("test.cohort '../hospital' is a folder", "test.features '/scratch/../features' is a folder"):
        assert text in str(raised.value)
    assert not list(tmp_path.iterdir())
    mounted = params.load(None, [*OVERRIDES, "test.cohort=/scratch/hospital"])
    submit.compile_to(mounted, DATA, tmp_path / "mounted.yaml")
    submit.compile_to(folder, DATA, tmp_path / "local.yaml", local=True)
