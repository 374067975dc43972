"""External validations at a version: the run in MLflow, the tag, and what a promotion reads of them."""

import json

import pytest

from mcti import storage
from mcti.errors import DataError, NotEnoughEvidence
from mcti.params import RegisterParams
from mcti.registry import external_validations, models, tracking
from mcti.steps.promote.step import promote
from mcti.steps.register import register
from mcti.steps.test.step import test as step
from tests.steps.test.factories import EVALUATE, PROMOTE, develop, renamed
from tests.training.factories import folders, settings

pytestmark = [pytest.mark.slow, pytest.mark.stack]


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    """A model of 60 patients with its evaluation, and 50 other patients."""
    root = tmp_path_factory.mktemp("a world")
    develop(root, EVALUATE, settings(epochs=3, workers=1, cox_weight=0.5), 60)
    other, _, _ = folders(root / "other", patients=50, seed=1)
    renamed(other)
    return root


def test_a_validation_is_a_run_of_the_version_that_a_promotion_can_require(world, servers_of, tmp_path):
    import mlflow

    params = RegisterParams(name="external", experiment="tests")
    register(world / "models", world / "evaluation", None, params, tmp_path / "registration.json")
    with pytest.raises(NotEnoughEvidence, match="no external validation; 10 are needed"):
        promote("external", PROMOTE, dry_run=True)
    address, other = "models:/external@challenger", world / "other"
    result = step(address, other / "cohort", other / "features", EVALUATE, tmp_path / "out")
    assert (result.model, result.version) == ("external", "1")
    before = json.loads((world / "evaluation" / "metrics.json").read_text())["mcti"]
    assert result.development_c_index == before["c_index"]["value"]
    assert not result.warnings or not any("no evaluation" in warning for warning in result.warnings)
    with tracking.service() as client:
        version = models.version_at(client, address)
        (validation,) = external_validations.read(client, version, tmp_path / "read")
        run_id = version.tags[f"mcti.external.{result.cohort_md5[:12]}"]
        run = mlflow.get_run(run_id)
    metrics = json.loads((tmp_path / "out" / "metrics.json").read_text())["mcti"]
    assert validation.uno_c == metrics["uno_c"]
    assert (validation.cohort, validation.patients) == ("made", 50)
    assert run.data.metrics["external.c_index.value"] == metrics["c_index"]["value"]
    assert run.data.metrics["external.events"] == result.events
    assert run.info.status == "FINISHED"
    assert [d.dataset.digest for d in run.inputs.dataset_inputs] == [result.cohort_md5]
    promoted = promote("external", PROMOTE, dry_run=True)
    (gate,) = [gate for gate in promoted.gates if gate.name == "external validation"]
    assert gate.verdict == "pass"
    assert gate.numbers["made"]["events"] == result.events


def test_altered_results_and_other_weights_are_refused(world, servers_of, tmp_path):
    params = RegisterParams(name="altered", experiment="tests")
    register(world / "models", world / "evaluation", None, params, tmp_path / "registration.json")
    address, other = "models:/altered@challenger", world / "other"
    result = step(address, other / "cohort", other / "features", EVALUATE, tmp_path / "out")
    written = storage.read_json(tmp_path / "out" / "result.json")
    storage.write_json(tmp_path / "out" / "result.json", written | {"digest": "0" * 64})
    with pytest.raises(DataError, match="other weights than those that were tested"):
        external_validations.log(tmp_path / "out")
    with tracking.service() as client:
        version = models.version_at(client, address)
        run_id = version.tags[f"mcti.external.{result.cohort_md5[:12]}"]
        client.log_dict(run_id, written | {"events": 10_000}, "external/result.json")
        with pytest.raises(DataError, match="the results of the external validation were altered"):
            external_validations.read(client, version, tmp_path / "read")
